//! Who is told of events over HTTP: CloudEvents, signed as Standard Webhooks are, at least once and
//! in order. The store's events are the outbox; each webhook keeps the last one that it was told.
//!
//! | file | what it does |
//! | --- | --- |
//! | `message.rs` | an event as a CloudEvent |
//! | `signature.rs` | secrets, and what they sign |
//! | `courier.rs` | when what failed is tried again |
//! | `address.rs` | which URLs are taken |
//! | `post.rs` | one HTTP request |
//! | `sender.rs` | who delivers: its lease, its rounds |
//!
//! A message is delivered when the receiver has answered with a status of 2xx. Only after that the
//! store is told, so whoever dies in between sends it again, with the same `id`.

mod address;
mod courier;
mod message;
mod post;
mod sender;
mod signature;

pub use address::check_url;
pub use courier::{PAUSE_FIRST_US, PAUSE_MAX_US};
pub use message::Message;
pub use post::{PostError, Postman, REQUEST_MAX};
pub use sender::{LEASE_US, Sender};
pub use signature::{SECRETS_MAX, SecretError, check_secret, new_secret};
