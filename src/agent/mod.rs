//! The agent: what firmcastd does in the normal operating system.
//!
//! - [`config`]: the settings.
//! - [`machine`]: what the agent does with each datagram; sans-IO, its computer behind
//!   [`HostSystem`].
//! - [`check`]: every precondition of an update, for `firmcastd check` and for the preflight alike.
//! - [`plan`]: what a bundle would change here; [`outlook`]: what its manifest alone tells of that.
//! - [`backup`]: what the chip holds, in a file.
//! - [`verdict`]: `firmcastd validate`.
//! - [`preflight`]: looks at them all. [`doubt`]: what the running firmware looks like.
//! - `host_key`: this host's own key; `made_for`: for which machine it was made.
//! - [`local_machine`]: the machine and its settings; [`state`] and [`trust`] are its parts.
//! - [`system`]: what the machine does for the agent.
//! - [`helping`]: what another process does for the confined agent.
//! - [`hooks`]: the administrator's programs before and after an update; `program` runs one,
//!   `drain` says when.
//! - [`idle`]: the event loop around it all.
//! - [`logging`]: syslog, or stderr when run by hand; [`log_budget`]: how many lines of it.

pub mod backup;
pub mod check;
pub mod config;
pub mod doubt;
mod drain;
mod firmware_chip;
pub mod helping;
pub mod hooks;
pub(crate) mod host_key;
pub mod idle;
pub mod learn;
pub mod local_machine;
pub mod log_budget;
pub mod logging;
pub mod machine;
mod made_for;
pub mod measure;
pub mod outlook;
pub mod plan;
pub mod preflight;
mod program;
pub mod provide;
pub mod state;
pub mod system;
pub mod trust;
pub mod verdict;

pub use machine::{Action, Agent, HostSystem, UpdateOrder};
