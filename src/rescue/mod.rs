//! A host that nobody sent into its recovery environment finds a manager and asks it for help.
//! Sans-IO.
//!
//! - [`search`]: finding and asking; [`seek`]: whom to call next.
//!
//! What an answer leads to is the environment's ([`crate::environment::stay`]).

pub mod search;
pub mod seek;
