use serde::{Deserialize, Serialize};

use super::Stamp;

/// A worker, as it said of itself last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Worker {
    /// Its name, unique among all workers.
    pub name: String,
    /// The site that it works for.
    pub site: String,
    /// When it said so last.
    pub seen_at: Stamp,
    /// The bundle that it waits for, in words; empty when it has all that it needs.
    pub waits_for: String,
}
