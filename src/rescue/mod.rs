//! A host that nobody sent into its recovery environment finds a manager and asks it for help.
//! Sans-IO.
//!
//! - [`search`]: finding and asking; [`seek`]: whom to call next.
//!
//! What an answer leads to is the environment's ([`crate::environment::stay`]).

pub mod search;
pub mod seek;

use std::time::Duration;

/// Rescues within a day without a confirmed stay in between, after which a host asks for no image
/// any more, and a manager brings it none.
pub const RESCUES_IN_VAIN: usize = 3;

/// How long an operating system runs until its stay is confirmed: the rescue has helped then.
pub const CONFIRMED_STAY: Duration = Duration::from_secs(600);
