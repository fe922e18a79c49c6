//! What people do with rollouts, from wherever: the command line, the page, the HTTP API.
//!
//! | file | what it does |
//! | --- | --- |
//! | `course.rs` | starts, pauses, resumes, aborts, tries again |
//! | `again.rs` | what a retry comes to |
//! | `creation.rs` | plans a file, and freezes just that plan |
//! | `prediction.rs` | how long updates take, as far as the store knows |
//! | `approval.rs` | keeps somebody's signed word that a wave may begin |
//! | `error.rs` | why something was not done |
//!
//! Who does it, and when, is the caller's word: the store's events have both.

mod again;
mod approval;
mod course;
mod creation;
mod error;
mod prediction;

pub use again::Again;
pub use approval::approve;
pub use course::{BECAUSE_CHARS_MAX, Deed, Done, Order, carry_out};
pub use creation::{Draft, create, draft, named_release};
pub use error::DeedError;

use crate::store::Store;
use crate::store::requests::RolloutWaves;

/// Returns the rollout of a name.
///
/// # Errors
/// When there is none, and those of the store.
pub fn named(store: &mut dyn Store, name: &str) -> Result<RolloutWaves, DeedError> {
    let found = store.rollout_named(name)?;
    found.ok_or_else(|| DeedError::NoRollout { name: name.to_owned() })
}
