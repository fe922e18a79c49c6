use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Stamp;

/// How long a worker may be silent and still counts as there, in microseconds: some times as long
/// as the pause between two of its signs.
const WORKER_SILENT_US: i64 = 60_000_000;

/// A worker, as it said of itself last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its name, unique among all workers.
    pub name: String,
    /// The site that it works for.
    pub site: String,
    /// When it said so last.
    pub seen_at: Stamp,
    /// The bundle that it waits for, in words; empty when it has all that it needs.
    pub waits_for: String,
    /// Digests of the releases whose bundles it lacks, and hosts of its site need; those for which
    /// it waits.
    pub lacking: Vec<String>,
}

impl Worker {
    /// Says whether it was seen lately.
    pub fn is_there(&self, now: Stamp) -> bool {
        self.seen_at >= now.saturating_sub(WORKER_SILENT_US)
    }

    /// Says whether it waits for the bundle of a release.
    pub fn lacks(&self, release: &str) -> bool {
        self.lacking.iter().any(|lacking| lacking == release)
    }
}
