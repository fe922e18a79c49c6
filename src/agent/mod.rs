//! The agent: what firmcastd does in the normal operating system.
//!
//! - [`config`]: the settings.
//! - [`machine`]: what the agent does with each datagram; sans-IO, its computer behind [`HostSystem`].
//! - [`check`]: every precondition of an update, for `firmcastd check` and for the preflight alike.
//! - [`plan`]: what a bundle would change here; [`outlook`]: what its manifest alone tells of that.
//! - [`verdict`]: `firmcastd validate`.
//! - [`system`]: the real computer; [`state`] and [`trust`] are its parts.
//! - [`idle`]: the event loop around it all.
//! - [`logging`]: syslog, or stderr when run by hand; [`log_budget`]: how many lines of it.

pub mod check;
pub mod config;
pub mod idle;
pub mod log_budget;
pub mod logging;
pub mod machine;
pub mod measure;
pub mod outlook;
pub mod plan;
mod preflight;
pub mod provide;
pub mod state;
pub mod system;
pub mod trust;
pub mod verdict;

pub use machine::{Action, Agent, HostSystem, Order};
