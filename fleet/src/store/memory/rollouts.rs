use std::collections::BTreeMap;

use super::super::error::StoreError;
use super::super::requests::{
    Claim, ClaimRequest, Frozen, NewRollout, RETRIED, Replanned, Retry, RolloutWaves,
    SignedApproval, StateChange, forgives, halted, told_retry, unknown,
};
use super::super::words::word;
use super::MemoryStore;
use super::budget::Budget;
use crate::model::{EventKind, Rollout, RolloutId, RolloutState, Stamp, Wave, WaveState};
use crate::rollout::limits::Reached;
use crate::rollout::prediction::Predictions;

/// A rollout with all that belongs to it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) rollout: Rollout,
    pub(super) waves: Vec<Wave>,
    pub(super) approvals: BTreeMap<(u32, String), SignedApproval>,
    pub(super) budget: Budget,
}

impl Kept {
    pub(super) fn new(id: RolloutId, new: &NewRollout, frozen: Frozen<'_>) -> Self {
        let waves = (0..).zip(&new.waves).map(|(number, wave)| Wave {
            number,
            name: wave.name.clone(),
            state: WaveState::Waiting,
            approval: wave.approval,
            soak_s: wave.soak_s,
            since: new.at,
        });
        let rollout = Rollout {
            id,
            name: new.name.clone(),
            release: new.release.clone(),
            file: new.file.clone(),
            plan_digest: new.plan_digest.clone(),
            state: RolloutState::Ready,
            reason: String::new(),
            created_by: new.created_by.clone(),
            created_at: new.at,
            revision: 0,
        };
        let Frozen { cohorts, counts, .. } = frozen;
        let budget = Budget { limits: new.limits.clone(), counts, cohorts, round: 0 };
        Self { rollout, waves: waves.collect(), approvals: BTreeMap::new(), budget }
    }

    pub(super) fn shown(&self) -> RolloutWaves {
        let (rollout, waves) = (self.rollout.clone(), self.waves.clone());
        RolloutWaves { rollout, waves, limits: self.budget.limits.clone() }
    }
}

impl MemoryStore {
    pub(super) fn kept(&mut self, id: RolloutId) -> Result<&mut Kept, StoreError> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let kept = index.and_then(|index| self.rollouts.get_mut(index));
        kept.ok_or_else(|| unknown("rollout", id))
    }

    pub(super) fn wave(&mut self, rollout: RolloutId, wave: u32) -> Result<&mut Wave, StoreError> {
        let kept = self.kept(rollout)?;
        kept.waves.get_mut(wave as usize).ok_or_else(|| unknown("wave", wave))
    }

    /// Begins with hosts of a rollout, at most `limit`.
    pub(super) fn begin(
        &mut self,
        request: &ClaimRequest<'_>,
        open: (RolloutId, u32),
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        let (id, attempts) = (open.0, &mut self.attempts);
        let Some(kept) = self.rollouts.iter_mut().find(|kept| kept.rollout.id == id) else {
            return Ok(Vec::new());
        };
        let waves = kept.waves.iter().filter(|wave| wave.state == WaveState::Running);
        let waves: Vec<u32> = waves.map(|wave| wave.number).collect();
        let waits = waves.iter().any(|wave| attempts.wait(request.site, id, *wave));
        if kept.rollout.state != RolloutState::Running || !waits {
            return Ok(Vec::new());
        }
        if let Some(reached) = kept.budget.reached() {
            self.halt(id, &reached, request.worker, request.at)?;
            return Ok(Vec::new());
        }
        let claims = attempts.begin(request, open, &waves, limit, &mut kept.budget);
        for claim in &claims {
            self.tell_of(&claim.attempt, EventKind::Claimed, request.worker, request.at, "");
        }
        Ok(claims)
    }

    /// Pauses or stops a rollout that a limit of failures says it of.
    pub(super) fn halt(
        &mut self,
        id: RolloutId,
        reached: &Reached,
        by: &str,
        at: Stamp,
    ) -> Result<(), StoreError> {
        let from = self.kept(id)?.rollout.state;
        let Some(to) = halted(from, reached.action) else { return Ok(()) };
        let reason = &reached.reason;
        self.set_state(id, &StateChange { from: &[from], to, reason, by, at, revision: None })
    }

    /// Plans the hosts of a rollout again that failed.
    pub(super) fn plan_again(
        &mut self,
        id: RolloutId,
        retry: &Retry<'_>,
    ) -> Result<Vec<Replanned>, StoreError> {
        let Retry { by, at, .. } = *retry;
        let Rollout { name, state, revision, release, .. } = &self.kept(id)?.rollout;
        retry.judge((name, *state, *revision))?;
        let release = release.clone();
        let foreseen = self.foreseen(&release, "", usize::MAX);
        let known = Predictions::new(foreseen, self.times_by_board());
        let hosts = &self.hosts;
        let planned = self.attempts.retry_failed(id, |failed| {
            let board = hosts.get(&failed.host).map(|host| (&*host.vendor, &*host.product));
            retry.predict(&known, (&failed.host, board.unwrap_or_default()), failed.predicted_s)
        });
        if !planned.is_empty() {
            self.tell(at, id, by, EventKind::State, &told_retry(&planned));
            self.open_again(id, by, at)?;
        }
        Ok(planned)
    }

    /// Lets waves run again that have planned hosts, and the rollout, if it had finished.
    fn open_again(&mut self, id: RolloutId, by: &str, at: Stamp) -> Result<(), StoreError> {
        let waves = self.kept(id)?.waves.clone();
        let was_over =
            |state| matches!(state, WaveState::Soaking | WaveState::Looking | WaveState::Finished);
        for wave in waves.iter().filter(|wave| was_over(wave.state)) {
            if self.attempts.are_planned(id, wave.number) {
                let kept = self.wave(id, wave.number)?;
                (kept.state, kept.since) = (WaveState::Running, at);
                let detail = format!("{}: {}", wave.name, word(&WaveState::Running));
                self.tell(at, id, by, EventKind::Wave, &detail);
            }
        }
        if self.kept(id)?.rollout.state != RolloutState::Finished {
            self.kept(id)?.rollout.revision += 1;
            return Ok(());
        }
        let (from, to) = (&[RolloutState::Finished], RolloutState::Running);
        let change = StateChange { from, to, reason: RETRIED, by, at, revision: None };
        self.set_state(id, &change)
    }

    pub(super) fn set_state(
        &mut self,
        id: RolloutId,
        change: &StateChange<'_>,
    ) -> Result<(), StoreError> {
        let kept = self.kept(id)?;
        if forgives(kept.rollout.state, change.to) {
            kept.budget.forgive();
        }
        kept.rollout.state = change.to;
        change.reason.clone_into(&mut kept.rollout.reason);
        kept.rollout.revision += 1;
        if change.to == RolloutState::Error {
            self.attempts.skip_planned(id, change.at);
        }
        let to = word(&change.to);
        let detail = if change.reason.is_empty() { to } else { format!("{to}: {}", change.reason) };
        self.tell(change.at, id, change.by, EventKind::State, &detail);
        Ok(())
    }
}
