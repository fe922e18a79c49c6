use super::{MemoryStore, events, looks, rollouts};
use crate::model::{EventKind, Rollout, RolloutId, Wave, WaveState};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, SignedApproval, WaveChange, unknown};
use crate::store::words::word;

fn one(store: &mut MemoryStore, rollout: RolloutId, wave: u32) -> Result<&mut Wave, StoreError> {
    let kept = rollouts::kept(store, rollout)?;
    kept.waves.get_mut(wave as usize).ok_or_else(|| unknown("wave", wave))
}

pub(super) fn change_wave(
    store: &mut MemoryStore,
    rollout: RolloutId,
    number: u32,
    change: &WaveChange<'_>,
) -> Result<Changed, StoreError> {
    let Rollout { name, state, revision, .. } = rollouts::kept(store, rollout)?.rollout.clone();
    let wave = one(store, rollout, number)?;
    if change.judge((&name, state, revision), number, wave.state)? == Changed::Before {
        return Ok(Changed::Before);
    }
    let is_end = (wave.state, change.to) == (WaveState::Looking, WaveState::Finished);
    set_state(store, rollout, number, change)?;
    if is_end {
        looks::end_all(store, rollout, number, change)?;
    }
    Ok(Changed::Now)
}

pub(super) fn set_state(
    store: &mut MemoryStore,
    rollout: RolloutId,
    number: u32,
    change: &WaveChange<'_>,
) -> Result<(), StoreError> {
    let wave = one(store, rollout, number)?;
    (wave.state, wave.since) = (change.to, change.at);
    let detail = format!("{}: {}", wave.name, word(&change.to));
    events::append(store, change.at, Some(rollout), change.by, EventKind::Wave, &detail);
    Ok(())
}

pub(super) fn approve(
    store: &mut MemoryStore,
    rollout: RolloutId,
    approval: &SignedApproval,
) -> Result<Changed, StoreError> {
    let name = one(store, rollout, approval.wave)?.name.clone();
    let approvals = &mut rollouts::kept(store, rollout)?.approvals;
    let key = (approval.wave, approval.key.clone());
    if approvals.contains_key(&key) {
        return Ok(Changed::Before);
    }
    approvals.insert(key, approval.clone());
    let SignedApproval { at, by, .. } = approval;
    events::append(store, *at, Some(rollout), by, EventKind::Approved, &name);
    Ok(Changed::Now)
}

pub(super) fn approvals(store: &mut MemoryStore, rollout: RolloutId) -> Vec<SignedApproval> {
    let kept = rollouts::kept(store, rollout);
    kept.map_or(Vec::new(), |kept| kept.approvals.values().cloned().collect())
}
