//! All rollouts, a line each.

use serde::Serialize;

use super::progress::Progress;
use crate::model::{Rollout, RolloutState, Stamp};
use crate::store::requests::Count;

/// What is said first of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Headline {
    /// Its name.
    pub name: String,
    /// What it does now.
    pub state: RolloutState,
    /// Why, in words; empty where that is plain.
    pub reason: String,
    /// The version that hosts get; empty when the release is not known here.
    pub version: String,
    /// Who created it.
    pub created_by: String,
    /// When.
    pub created_at: Stamp,
    /// Where its attempts are. In the line of all rollouts a host that was tried again counts for
    /// each try; in the picture of one rollout each host counts once.
    pub progress: Progress,
}

impl Headline {
    /// Returns the line of a rollout.
    pub fn new(rollout: &Rollout, version: &str, progress: Progress) -> Self {
        Self {
            name: rollout.name.clone(),
            state: rollout.state,
            reason: rollout.reason.clone(),
            version: version.to_owned(),
            created_by: rollout.created_by.clone(),
            created_at: rollout.created_at,
            progress,
        }
    }
}

/// Sums up the attempts of a rollout.
pub fn progress(counts: &[Count]) -> Progress {
    let mut progress = Progress::default();
    counts.iter().for_each(|count| progress.add(count.state, count.attempts));
    progress
}
