//! What the store is to be told, until it has taken it. What somebody else has by now is theirs to
//! tell.

use std::collections::VecDeque;

use crate::model::{AttemptId, Look, Stamp};
use crate::store::requests::Outcome;
use crate::store::{Store, StoreError};
use crate::work::drains::Fate;
use crate::work::party::HostEnd;

/// Maximum number of stages that wait to be told; of more the oldest are left out.
pub const STAGES_MAX: usize = 10_000;

/// Maximum number of words on bundles that wait to be told; of more the newest are left out.
const BUNDLES_MAX: usize = 100;

/// How a host ended, or that it is put back.
#[derive(Debug)]
struct Report {
    attempt: AttemptId,
    fate: Fate,
    at: Stamp,
}

/// What the store is to be told.
#[derive(Debug, Default)]
pub(super) struct Reports {
    stages: VecDeque<(AttemptId, String, Stamp)>,
    ends: Vec<Report>,
    /// How bundles fare.
    bundles: Vec<(String, Stamp)>,
    /// What looks at hosts that have soaked came to.
    looks: Vec<(AttemptId, Look)>,
}

impl Reports {
    pub(super) fn stage(&mut self, attempt: AttemptId, stage: &str, at: Stamp) {
        if self.stages.len() == STAGES_MAX {
            self.stages.pop_front();
        }
        self.stages.push_back((attempt, stage.to_owned(), at));
    }

    pub(super) fn end(&mut self, attempt: AttemptId, fate: Fate, at: Stamp) {
        self.ends.push(Report { attempt, fate, at });
    }

    pub(super) fn bundle(&mut self, words: String, at: Stamp) {
        if self.bundles.len() < BUNDLES_MAX {
            self.bundles.push((words, at));
        }
    }

    pub(super) fn look(&mut self, attempt: AttemptId, look: Look) {
        self.looks.push((attempt, look));
    }

    /// Hosts of which something is told that needs their lease.
    pub(super) fn attempts(&self) -> impl Iterator<Item = AttemptId> {
        let ended = self.ends.iter().map(|report| report.attempt);
        ended.chain(self.looks.iter().map(|(attempt, _)| *attempt))
    }

    pub(super) fn have_look(&self, attempt: AttemptId) -> bool {
        self.looks.iter().any(|(seen, _)| *seen == attempt)
    }

    /// Keeps what is told of those hosts alone.
    pub(super) fn retain(&mut self, is_kept: impl Fn(AttemptId) -> bool) {
        self.ends.retain(|report| is_kept(report.attempt));
        self.looks.retain(|(attempt, _)| is_kept(*attempt));
    }

    pub(super) fn forget_looks(&mut self) {
        self.looks.clear();
    }

    /// Forgets all that is told of hosts.
    pub(super) fn forget_hosts(&mut self) {
        self.stages.clear();
        self.ends.clear();
        self.looks.clear();
    }

    /// Tells all of it, for a worker. The store's clock is ahead of the worker's by `ahead_us`.
    pub(super) fn tell(
        &mut self,
        store: &mut dyn Store,
        worker: &str,
        ahead_us: i64,
    ) -> Result<(), StoreError> {
        while let Some((attempt, stage, at)) = self.stages.front() {
            let at = at.saturating_add(ahead_us);
            unless_lost(store.tell_stage(*attempt, worker, stage, at))?;
            self.stages.pop_front();
        }
        while let Some(Report { attempt, fate, at }) = self.ends.last() {
            let at = at.saturating_add(ahead_us);
            match fate {
                Fate::Ended(end) => {
                    unless_lost(store.report(*attempt, worker, &outcome(end), at))?;
                }
                Fate::Back(why) => unless_lost(store.put_back(*attempt, worker, why, at))?,
            }
            self.ends.pop();
        }
        while let Some((words, at)) = self.bundles.first() {
            store.tell_bundle(worker, words, at.saturating_add(ahead_us))?;
            self.bundles.remove(0);
        }
        while let Some((attempt, look)) = self.looks.last() {
            let look = Look { at: look.at.saturating_add(ahead_us), ..look.clone() };
            unless_lost(store.report_look(*attempt, worker, &look))?;
            self.looks.pop();
        }
        Ok(())
    }
}

fn unless_lost<T>(told: Result<T, StoreError>) -> Result<(), StoreError> {
    match told {
        Ok(_) | Err(StoreError::LeaseLost { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the store is told of an end.
pub(super) fn outcome(end: &HostEnd) -> Outcome<'_> {
    let HostEnd { confirmed, reason, flash, detail } = end;
    Outcome { confirmed: *confirmed, reason: Some(reason), flash: Some(flash), detail }
}
