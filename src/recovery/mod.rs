//! The recovery environment: from the first call to the manager to the reboot.
//!
//! - [`machine`]: what to do next (sans-IO); `flashing`: the flash job as the manager sees it.
//! - `driver`: what it is started for; `stay`: its loop on the real machine; [`platform`]: what PID 1 owes to that machine.
//! - [`mailbox`]: word to the agent in the normal OS.

mod driver;
pub mod flashing;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod mailbox;
pub mod platform;
pub(crate) mod stay;

pub use driver::{RecoveryError, run};
pub(crate) use driver::{disable_ctrl_alt_del, find_flash, identity, leave_word};
