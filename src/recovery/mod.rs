//! A host's part in one campaign, in the recovery environment: from the first call to the manager
//! to the end. Sans-IO.
//!
//! - [`machine`]: what to do next; [`flashing`]: the flash job as the manager sees it; [`memory`]:
//!   what the image takes of the host's memory meanwhile.

pub mod flashing;
pub mod machine;
pub mod memory;
