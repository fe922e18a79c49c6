//! A computer that comes up in its recovery environment with nobody having told it to: is its firmware whole, who can help,
//! and what then.
//!
//! - [`provision`]: what was built into the environment: keys, managers, the record of good firmware; [`options`]: what the
//!   kernel's command line adds.
//! - [`machine`]: finding a manager, asking it, and the campaign that it answers with (sans-IO); [`seek`]: whom to call next.
//! - [`sources`]: the places that know a manager's address, looked up on the real machine; [`screen`]: the host's display.
//! - `driver`: all of it on the real machine; [`verdict`]: `firmcastd validate`.

mod driver;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod options;
pub mod provision;
pub mod screen;
pub mod seek;
mod sources;
pub mod verdict;

pub use driver::{hook, run};
