//! The recovery environment: from the first call to the manager to the reboot.
//!
//! - [`machine`]: what to do next (sans-IO); `flashing`: the flash job as the manager sees it.
//! - `driver`: both on the real machine; [`platform`]: what PID 1 owes to that machine.
//! - [`mailbox`]: word to the agent in the normal OS.

mod driver;
pub mod flashing;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod mailbox;
pub mod platform;

pub use driver::{RecoveryError, run};
