//! The recovery environment: from the first call to the manager to the reboot.

pub mod flashing;
pub mod machine;
#[cfg(test)]
mod machine_tests;
