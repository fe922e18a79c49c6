use super::{MemoryStore, events, rollouts};
use crate::model::{AttemptId, AttemptState, EventKind, Stamp};
use crate::store::error::StoreError;
use crate::store::requests::{DrainStep, check_held, put_back_state, told_put_back};
use crate::store::text;

pub(super) fn tell(
    store: &mut MemoryStore,
    id: AttemptId,
    worker: &str,
    step: &DrainStep<'_>,
    at: Stamp,
) -> Result<(), StoreError> {
    let attempt = store.attempts.one_mut(id)?;
    check_held(attempt, worker)?;
    attempt.drain = step.drain();
    if let Some(stage) = step.stage() {
        attempt.stage = Some(stage.to_owned());
    }
    if let Some(outcome) = step.outcome() {
        attempt.reason = outcome.reason.map(str::to_owned);
        attempt.flash = outcome.flash.map(str::to_owned);
        attempt.detail = text::detail(outcome.detail);
    }
    let attempt = attempt.clone();
    if let Some((kind, words)) = step.told() {
        events::about(store, &attempt, kind, worker, at, words);
    }
    Ok(())
}

pub(super) fn put_back(
    store: &mut MemoryStore,
    id: AttemptId,
    worker: &str,
    (why, at): (&str, Stamp),
) -> Result<(), StoreError> {
    let attempt = store.attempts.one(id)?.clone();
    check_held(&attempt, worker)?;
    let state = put_back_state(rollouts::kept(store, attempt.rollout)?.rollout.state);
    let back = store.attempts.set_state(id, state)?;
    (back.worker, back.lease_until, back.stage) = (None, None, None);
    back.started_at = None;
    back.ended_at = (state == AttemptState::Skipped).then_some(at);
    let told = told_put_back(state, why);
    events::about(store, &attempt, EventKind::PutBack, worker, at, &told);
    let cohort = store.attempts.cohort(id);
    rollouts::kept(store, attempt.rollout)?.budget.put_back(cohort);
    Ok(())
}
