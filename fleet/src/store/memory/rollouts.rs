use std::collections::BTreeMap;

use super::domains::Budget;
use super::{MemoryStore, events};
use crate::model::{
    Attempt, AttemptId, AttemptState, EventKind, Rollout, RolloutId, RolloutState, Stamp, Wave,
    WaveState,
};
use crate::rollout::limits::Reached;
use crate::store::error::StoreError;
use crate::store::requests::{
    Changed, Frozen, NewRollout, RolloutWaves, SignedApproval, StateChange, forgives, halted,
    unknown,
};
use crate::store::words::word;

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

    fn shown(&self) -> RolloutWaves {
        let (rollout, waves) = (self.rollout.clone(), self.waves.clone());
        RolloutWaves { rollout, waves, limits: self.budget.limits.clone() }
    }
}

pub(super) fn kept(store: &mut MemoryStore, id: RolloutId) -> Result<&mut Kept, StoreError> {
    let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
    let kept = index.and_then(|index| store.rollouts.get_mut(index));
    kept.ok_or_else(|| unknown("rollout", id))
}

pub(super) fn page(store: &MemoryStore, after: RolloutId, limit: usize) -> Vec<Rollout> {
    let rollouts = store.rollouts.iter().map(|kept| &kept.rollout);
    rollouts.filter(|rollout| rollout.id > after).take(limit).cloned().collect()
}

pub(super) fn under_way(store: &MemoryStore, after: RolloutId, limit: usize) -> Vec<RolloutId> {
    let moves = |state| matches!(state, RolloutState::Scheduled | RolloutState::Running);
    let rollouts = store.rollouts.iter().map(|kept| &kept.rollout);
    let under_way = rollouts.filter(|rollout| rollout.id > after && moves(rollout.state));
    under_way.take(limit).map(|rollout| rollout.id).collect()
}

/// Finds a rollout.
pub(super) fn find(
    store: &MemoryStore,
    is_wanted: impl Fn(&Rollout) -> bool,
) -> Option<RolloutWaves> {
    store.rollouts.iter().find(|kept| is_wanted(&kept.rollout)).map(Kept::shown)
}

pub(super) fn change_state(
    store: &mut MemoryStore,
    id: RolloutId,
    change: &StateChange<'_>,
) -> Result<Changed, StoreError> {
    if change.judge(&kept(store, id)?.rollout)? == Changed::Before {
        return Ok(Changed::Before);
    }
    set_state(store, id, change)?;
    Ok(Changed::Now)
}

/// Pauses or stops a rollout that a limit of failures says it of.
pub(super) fn halt(
    store: &mut MemoryStore,
    id: RolloutId,
    reached: &Reached,
    by: &str,
    at: Stamp,
) -> Result<(), StoreError> {
    let from = kept(store, id)?.rollout.state;
    let Some(to) = halted(from, reached.action) else { return Ok(()) };
    let reason = &reached.reason;
    set_state(store, id, &StateChange { from: &[from], to, reason, by, at, revision: None })
}

pub(super) fn set_state(
    store: &mut MemoryStore,
    id: RolloutId,
    change: &StateChange<'_>,
) -> Result<(), StoreError> {
    let kept = kept(store, id)?;
    if forgives(kept.rollout.state, change.to) {
        kept.budget.forgive();
    }
    kept.rollout.state = change.to;
    change.reason.clone_into(&mut kept.rollout.reason);
    kept.rollout.revision += 1;
    if change.to == RolloutState::Error {
        let is_planned = |attempt: &&Attempt| attempt.state == AttemptState::Planned;
        let planned = store.attempts.of(id).filter(is_planned).map(|attempt| attempt.id);
        for attempt in planned.collect::<Vec<AttemptId>>() {
            let skipped = store.attempts.set_state(attempt, AttemptState::Skipped)?;
            skipped.ended_at = Some(change.at);
        }
    }
    let to = word(&change.to);
    let detail = if change.reason.is_empty() { to } else { format!("{to}: {}", change.reason) };
    events::append(store, change.at, Some(id), change.by, EventKind::State, &detail);
    Ok(())
}
