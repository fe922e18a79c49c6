//! The page: what an operator looks at in a browser. Looking needs no login; what
//! changes something does.
//!
//! | file | what it does |
//! | --- | --- |
//! | `server.rs` | connections: how many, how long they may take, how all of them end |
//! | `guard.rs` | what holds for every request: who is addressed, how long it may take |
//! | `router.rs` | the routes, one line for each |
//! | `site.rs` | what the pages work with |
//! | `pool.rs` | threads that ask the store, so that a slow store delays its own answers only |
//! | `live/` | what keeps open pages up to date |
//! | `seen.rs` | what was read of rollouts lately |
//! | `names.rs` | names of rollouts |
//! | `link.rs`, `query.rs` | links, and what stands in them |
//! | `door/` | who may act: sessions, tokens, a proxy's word |
//! | `acting.rs` | the routes that change something |
//! | `api/` | the same for programs |
//! | `trouble.rs` | why a page cannot be shown, and what to do then |
//! | `assets.rs`, `assets/` | style and script, as they are sent |
//! | `layout.rs` | what all pages have around them |
//! | `pages/` | one file for each page |
//! | `limits.rs` | the limits of all of these |
//!
//! A new page is a file in `pages/` and a line in `router.rs`. What it asks of the store goes
//! through [`StorePool::ask`].

mod acting;
mod api;
mod assets;
mod door;
mod guard;
mod layout;
pub mod limits;
mod link;
mod live;
mod names;
mod pages;
mod pool;
mod query;
mod router;
mod seen;
mod server;
mod site;
mod trouble;

#[cfg(test)]
mod tests;

pub use axum::http::HeaderName;
pub use door::{Door, Front};
pub use guard::Names;
pub use live::Live;
pub use pool::{OpenStore, StorePool};
pub use router::router;
pub use seen::SeenCache;
pub use server::serve;
pub use site::Site;
