use std::collections::BTreeSet;

use super::domains::Budget;
use super::table::{Attempts, Order, order};
use super::{MemoryStore, bundles, events, rollouts};
use crate::model::{
    Attempt, AttemptId, AttemptState, EventKind, RolloutId, RolloutState, WaveState,
};
use crate::store::error::StoreError;
use crate::store::requests::{Claim, ClaimRequest};

/// Claims hosts.
pub(super) fn claim(
    store: &mut MemoryStore,
    request: &ClaimRequest<'_>,
) -> Result<Vec<Claim>, StoreError> {
    let lacking = bundles::lacking(store, request.lacking);
    let mut claims = take_over(store, request, &lacking)?;
    for (rollout, seconds) in request.opened() {
        let limit = request.limit - claims.len();
        if limit > 0 && !lacking.contains(&rollout) {
            claims.extend(start(store, request, (rollout, seconds), limit)?);
        }
    }
    Ok(claims)
}

/// Takes over attempts whose lease ran out, but for those of some rollouts.
fn take_over(
    store: &mut MemoryStore,
    request: &ClaimRequest<'_>,
    lacking: &BTreeSet<RolloutId>,
) -> Result<Vec<Claim>, StoreError> {
    let is_lost = |attempt: &&Attempt| {
        attempt.site == request.site
            && !lacking.contains(&attempt.rollout)
            && attempt.lease_until.is_some_and(|until| until <= request.at)
    };
    let mut lost: Vec<Order> = store.attempts.in_flight().filter(is_lost).map(order).collect();
    lost.sort_unstable();
    lost.truncate(request.limit);
    let mut claims = Vec::with_capacity(lost.len());
    for (.., id) in lost {
        let attempt = store.attempts.one_mut(id)?;
        let before = attempt.worker.take().unwrap_or_default();
        hold(attempt, request);
        let attempt = attempt.clone();
        events::about(store, &attempt, EventKind::LeaseLost, request.worker, request.at, &before);
        claims.push(Claim { attempt, taken_from: Some(before) });
    }
    Ok(claims)
}

/// Begins with hosts of a rollout, at most `limit`, whose window is open for so many seconds.
fn start(
    store: &mut MemoryStore,
    request: &ClaimRequest<'_>,
    (id, seconds): (RolloutId, u32),
    limit: usize,
) -> Result<Vec<Claim>, StoreError> {
    let MemoryStore { rollouts, attempts, .. } = store;
    let Some(kept) = rollouts.iter_mut().find(|kept| kept.rollout.id == id) else {
        return Ok(Vec::new());
    };
    let waves = kept.waves.iter().filter(|wave| wave.state == WaveState::Running);
    let waves: Vec<u32> = waves.map(|wave| wave.number).collect();
    let site = request.site;
    let mut waiting = waves.iter().flat_map(|wave| attempts.planned(site, id, *wave)).peekable();
    if kept.rollout.state != RolloutState::Running || waiting.peek().is_none() {
        return Ok(Vec::new());
    }
    if let Some(reached) = kept.budget.reached() {
        drop(waiting);
        rollouts::halt(store, id, &reached, request.worker, request.at)?;
        return Ok(Vec::new());
    }
    let fitting = waiting.filter(|attempt| attempt.predicted_s <= seconds);
    let begun = choose(attempts, fitting, &mut kept.budget, limit);
    begun.into_iter().map(|id| begin(store, request, id)).collect()
}

/// Chooses who begins, and counts them: none of a full domain, none that is in flight.
fn choose<'a>(
    attempts: &Attempts,
    waiting: impl Iterator<Item = &'a Attempt>,
    budget: &mut Budget,
    limit: usize,
) -> Vec<AttemptId> {
    let (mut begun, mut full) = (Vec::new(), BTreeSet::new());
    for attempt in waiting {
        if begun.len() == limit {
            break;
        }
        let cohort = attempts.cohort(attempt.id);
        if full.contains(&cohort) || attempts.is_in_flight(&attempt.host) {
            continue;
        }
        match budget.begin(cohort) {
            true => begun.push(attempt.id),
            false => drop(full.insert(cohort)),
        }
    }
    begun
}

fn begin(
    store: &mut MemoryStore,
    request: &ClaimRequest<'_>,
    id: AttemptId,
) -> Result<Claim, StoreError> {
    let attempt = store.attempts.set_state(id, AttemptState::InFlight)?;
    attempt.started_at = Some(request.at);
    hold(attempt, request);
    let attempt = attempt.clone();
    events::about(store, &attempt, EventKind::Claimed, request.worker, request.at, "");
    Ok(Claim { attempt, taken_from: None })
}

fn hold(attempt: &mut Attempt, request: &ClaimRequest<'_>) {
    attempt.worker = Some(request.worker.to_owned());
    attempt.lease_until = Some(request.until());
}
