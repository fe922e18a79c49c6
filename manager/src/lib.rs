//! The manager's library: what the command line is made of.
//!
//! - [`state`]: where the manager keeps what outlives one run.

pub mod state;
