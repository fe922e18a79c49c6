//! The recovery environment on the real machine: what it is started for, its loop, and what it came to.
//!
//! - `errand`: an agent sent this host for a campaign; `alone`: nobody did: assess the chip, find help, repair, go on.
//! - [`options`]: what the kernel's command line adds to the provision ([`crate::handover`]).
//! - `drive`: the loop around one socket, one flash chip and one state machine ([`crate::rescue`], [`crate::recovery`]).
//! - `sources`: the places that know a manager's address; [`screen`]: the host's display.

mod alone;
mod drive;
mod errand;
pub mod options;
pub mod screen;
mod sources;

pub use alone::hook;
pub use errand::{RecoveryError, run};
