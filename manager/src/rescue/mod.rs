//! Answering the recovery requests of dead hosts, sans-IO.
//!
//! The drive rule: after every call that takes `now`, take all of [`Service::poll_transmit`],
//! [`Service::poll_load`], [`Service::poll_backup`] and [`Service::poll_note`], then wait for a
//! datagram until [`Service::poll_timeout`]. Early or repeated timeouts are harmless.
//!
//! - [`policy`]: what the operator allows; [`shelf`]: the bundles, and which one is for a host.
//! - `caller`: what is remembered of a host that called.
//! - [`service`]: all sessions over one endpoint; `campaigns`: a course for each bundle that is
//!   wanted; `requests`: what a host that asks for help is told.
//! - `known`: the inventory and its floors of security versions; `strangers`: room for hosts
//!   outside the inventory.
//! - [`note`]: what it tells its driver, and the log; [`snapshot`] and `summary`: what `firmcast
//!   status` shows.
//!
//! Nothing is kept on disk, and nothing has to be: a host whose manager was restarted calls again.
//! What it then says of a campaign that nobody does any more is answered with that campaign's
//! release, and it asks for help again.

mod caller;
mod campaigns;
mod known;
pub mod note;
pub mod policy;
mod requests;
pub mod service;
mod sharing;
pub mod shelf;
pub mod snapshot;
mod strangers;
mod summary;

pub use campaigns::Deposit;
pub use known::{KNOWN_MAX, Known};
pub use note::{Line, Note};
pub use policy::{Policy, PolicyError};
pub use service::{Load, Service, Settings};
pub use shelf::{BundleId, Shelf, Shelved};
pub use snapshot::Snapshot;

#[cfg(test)]
mod tests;
