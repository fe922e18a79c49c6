//! One rollout.

use std::collections::BTreeMap;

use serde::Serialize;

use super::budget::{Budget, budgets};
use super::next::{self, Next};
use super::overview::Headline;
use super::progress::Progress;
use super::seen::Seen;
use super::wave::WavePicture;
use crate::model::Stamp;

/// What is shown of a rollout beside its grid ([`super::grid::Grid`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RolloutPicture {
    /// What is said first.
    pub headline: Headline,
    /// Digest of the release.
    pub release: String,
    /// Digest of the plan.
    pub plan_digest: String,
    /// Changes with each change of the rollout's state.
    pub revision: i64,
    /// What happens next, the most important first; never empty.
    pub next: Vec<Next>,
    /// The waves, in their order.
    pub waves: Vec<WavePicture>,
    /// The limits, those on failures first.
    pub budgets: Vec<Budget>,
}

impl RolloutPicture {
    /// Returns the picture of a rollout at a moment.
    pub fn new(seen: &Seen, now: Stamp) -> Self {
        let mut by_wave: BTreeMap<u32, Progress> = BTreeMap::new();
        let mut all = Progress::default();
        for attempt in &seen.attempts {
            by_wave.entry(attempt.wave).or_default().add(attempt.state, 1);
            all.add(attempt.state, 1);
        }
        let found = &seen.found;
        let waves = found.waves.iter().map(|wave| WavePicture {
            number: wave.number,
            name: wave.name.clone(),
            state: wave.state,
            since: wave.since,
            approval: wave.approval,
            soak_s: wave.soak_s,
            progress: by_wave.get(&wave.number).copied().unwrap_or_default(),
        });
        let waves: Vec<WavePicture> = waves.collect();
        Self {
            headline: Headline::new(&found.rollout, &seen.version, all),
            release: found.rollout.release.clone(),
            plan_digest: found.rollout.plan_digest.clone(),
            revision: found.rollout.revision,
            next: next::next(seen, &waves, now),
            budgets: budgets(&found.limits, &seen.counters),
            waves,
        }
    }
}

#[cfg(test)]
mod tests;
