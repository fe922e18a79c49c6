//! What keeps open pages up to date: one thread follows the store's events and tells all streams.
//!
//! | file | what it does |
//! | --- | --- |
//! | `bulletin.rs` | what open pages are told at once, as a server-sent event |
//! | `feed.rs` | what was told lately, and who listens |
//! | `follower.rs` | the thread |

mod bulletin;
mod feed;
mod follower;

#[cfg(test)]
mod tests;

pub(super) use bulletin::sent;
pub use feed::Live;
pub(super) use feed::{Listener, Message};
