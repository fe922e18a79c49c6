use std::collections::{BTreeMap, BTreeSet};

use super::{MemoryStore, events, foresights, hosts, rollouts};
use crate::model::{Attempt, AttemptId, AttemptState, EventKind, Health, RolloutId, Stamp};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, Count, Outcome, Place, lease_lost};
use crate::store::text;
use crate::store::words::word;

pub(super) fn page(
    store: &MemoryStore,
    rollout: RolloutId,
    after: Option<Place>,
    limit: usize,
) -> Vec<Attempt> {
    let later = |attempt: &&Attempt| Some(Place::from(*attempt)) > after;
    store.attempts.of(rollout).filter(later).take(limit).cloned().collect()
}

pub(super) fn in_flight(store: &MemoryStore, after: &str, limit: usize) -> Vec<String> {
    store.attempts.hosts_in_flight(after).take(limit).cloned().collect()
}

/// Those of a host, the last one first.
pub(super) fn of_host(store: &MemoryStore, host: &str, limit: usize) -> Vec<Attempt> {
    let is_wanted = |attempt: &&Attempt| attempt.host == host;
    store.attempts.all().iter().rev().filter(is_wanted).take(limit).cloned().collect()
}

pub(super) fn counts(store: &MemoryStore, rollout: RolloutId) -> Vec<Count> {
    let mut counts = BTreeMap::<(u32, &str, String), Count>::new();
    for attempt in store.attempts.of(rollout) {
        let Attempt { wave, state, ref site, .. } = *attempt;
        let none = || Count { wave, site: site.clone(), state, attempts: 0, healthy: 0 };
        let count = counts.entry((wave, site, word(&state))).or_insert_with(none);
        count.attempts += 1;
        count.healthy += u64::from(is_healthy(attempt));
    }
    counts.into_values().collect()
}

pub(super) fn is_healthy(attempt: &Attempt) -> bool {
    attempt.look.as_ref().is_some_and(|look| look.health == Health::Healthy)
}

/// Renews leases on hosts in flight, and on those that are looked at.
pub(super) fn renew(
    store: &mut MemoryStore,
    worker: &str,
    attempts: &[AttemptId],
    until: Stamp,
) -> Vec<AttemptId> {
    let mut held = Vec::new();
    for id in attempts.iter().copied().collect::<BTreeSet<_>>() {
        if let Ok(attempt) = store.attempts.one_mut(id)
            && attempt.worker.as_deref() == Some(worker)
            && attempt.lease_until.is_some()
        {
            attempt.lease_until = Some(until);
            held.push(id);
        }
    }
    held
}

pub(super) fn tell_stage(
    store: &mut MemoryStore,
    id: AttemptId,
    worker: &str,
    stage: &str,
    at: Stamp,
) -> Result<(), StoreError> {
    let attempt = store.attempts.one_mut(id)?;
    if attempt.state != AttemptState::InFlight || attempt.worker.as_deref() != Some(worker) {
        return Err(lease_lost(attempt, worker));
    }
    attempt.stage = Some(text::detail(stage));
    let attempt = attempt.clone();
    events::about(store, &attempt, EventKind::Stage, worker, at, stage);
    Ok(())
}

/// Ends an attempt, and asks the limits.
pub(super) fn report(
    store: &mut MemoryStore,
    id: AttemptId,
    worker: &str,
    outcome: &Outcome<'_>,
    at: Stamp,
) -> Result<Changed, StoreError> {
    let attempt = store.attempts.one(id)?.clone();
    if outcome.judge(&attempt, worker)? == Changed::Before {
        return Ok(Changed::Before);
    }
    let round = rollouts::kept(store, attempt.rollout)?.budget.round;
    store.attempts.set_round(id, round);
    let ended = store.attempts.set_state(id, outcome.state())?;
    ended.lease_until = None;
    ended.reason = outcome.reason.map(str::to_owned);
    ended.flash = outcome.flash.map(str::to_owned);
    ended.detail = text::detail(outcome.detail);
    ended.ended_at = Some(at);
    if outcome.may_have_changed() {
        foresights::forget(store, &attempt.host);
    }
    if outcome.confirmed {
        let release = rollouts::kept(store, attempt.rollout)?.rollout.release.clone();
        hosts::has(store, &attempt.host, &release);
    }
    events::about(store, &attempt, EventKind::Ended, worker, at, &outcome.told());
    let cohort = store.attempts.cohort(id);
    let kept = rollouts::kept(store, attempt.rollout)?;
    if let Some(reached) = kept.budget.end(cohort, outcome.ending()) {
        rollouts::halt(store, attempt.rollout, &reached, worker, at)?;
    }
    Ok(Changed::Now)
}
