use std::collections::BTreeMap;

use super::table::order;
use super::{MemoryStore, events, foresights, rollouts, waves};
use crate::model::{
    Attempt, AttemptState, Drain, EventKind, Rollout, RolloutId, RolloutState, Stamp, WaveState,
};
use crate::rollout::prediction::Predictions;
use crate::store::error::StoreError;
use crate::store::requests::{RETRIED, Replanned, Retry, StateChange, WaveChange, told_retry};

pub(super) fn retry_failed(
    store: &mut MemoryStore,
    id: RolloutId,
    retry: &Retry<'_>,
) -> Result<Vec<Replanned>, StoreError> {
    let Retry { by, at, .. } = *retry;
    let Rollout { name, state, revision, release, .. } = rollouts::kept(store, id)?.rollout.clone();
    retry.judge((&name, state, revision))?;
    let failed = failed(store, id);
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let foreseen = foresights::page(store, &release, "", usize::MAX);
    let known = Predictions::new(foreseen, foresights::boards(store));
    let mut planned = Vec::with_capacity(failed.len());
    for attempt in failed {
        let cohort = store.attempts.cohort(attempt.id);
        let board = store.hosts.get(&attempt.host).map(|host| (&*host.vendor, &*host.product));
        let (before_s, of) = (attempt.predicted_s, (&*attempt.host, board.unwrap_or_default()));
        let predicted_s = retry.predict(&known, of, before_s);
        let (host, site) = (attempt.host.clone(), attempt.site.clone());
        planned.push(Replanned { host, site, before_s, predicted_s });
        store.attempts.insert(again(attempt, predicted_s), cohort);
    }
    events::append(store, at, Some(id), by, EventKind::State, &told_retry(&planned));
    open_again(store, id, by, at)?;
    Ok(planned)
}

/// The last attempts of hosts that failed, by wave and position.
fn failed(store: &MemoryStore, rollout: RolloutId) -> Vec<Attempt> {
    let mut last = BTreeMap::<&str, &Attempt>::new();
    for attempt in store.attempts.of(rollout) {
        let known = last.entry(&attempt.host).or_insert(attempt);
        if attempt.retry > known.retry {
            *known = attempt;
        }
    }
    let has_failed = |attempt: &&Attempt| attempt.state == AttemptState::Failed;
    let mut failed: Vec<Attempt> = last.into_values().filter(has_failed).cloned().collect();
    failed.sort_by_key(order);
    failed
}

/// The next attempt of a host that failed.
fn again(attempt: Attempt, predicted_s: u32) -> Attempt {
    Attempt {
        predicted_s,
        retry: attempt.retry + 1,
        state: AttemptState::Planned,
        stage: None,
        worker: None,
        lease_until: None,
        reason: None,
        flash: None,
        detail: String::new(),
        started_at: None,
        ended_at: None,
        drain: Drain::NotStarted,
        look: None,
        ..attempt
    }
}

/// Lets waves run again that have planned hosts, and the rollout, if it had finished.
fn open_again(
    store: &mut MemoryStore,
    id: RolloutId,
    by: &str,
    at: Stamp,
) -> Result<(), StoreError> {
    let from = &[WaveState::Soaking, WaveState::Looking, WaveState::Finished];
    for wave in rollouts::kept(store, id)?.waves.clone() {
        if from.contains(&wave.state) && store.attempts.are_planned(id, wave.number) {
            let change = WaveChange { from, to: WaveState::Running, by, at, revision: None };
            waves::set_state(store, id, wave.number, &change)?;
        }
    }
    let rollout = &mut rollouts::kept(store, id)?.rollout;
    if rollout.state != RolloutState::Finished {
        rollout.revision += 1;
        return Ok(());
    }
    let (from, to) = (&[RolloutState::Finished], RolloutState::Running);
    let change = StateChange { from, to, reason: RETRIED, by, at, revision: None };
    rollouts::set_state(store, id, &change)
}
