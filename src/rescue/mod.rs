//! A host that nobody sent into its recovery environment: who can help? Sans-IO.
//!
//! - [`machine`]: finding a manager, asking it, and the campaign that it answers with; [`seek`]: whom to call next.

pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod seek;
