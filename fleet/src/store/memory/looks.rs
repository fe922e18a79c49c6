use super::attempts::is_healthy;
use super::{MemoryStore, events, hosts, rollouts};
use crate::model::{
    Attempt, AttemptId, AttemptState, EventKind, Health, Look, RolloutId, RolloutState, WaveState,
};
use crate::store::error::StoreError;
use crate::store::requests::{
    Changed, LookRequest, WaveChange, judge_look, last_look, sick_detail, told_look,
};
use crate::store::text;

/// Claims looks.
pub(super) fn claim(
    store: &mut MemoryStore,
    request: &LookRequest<'_>,
) -> Result<Vec<Attempt>, StoreError> {
    let may = |state| matches!(state, RolloutState::Running | RolloutState::Paused);
    let lacks = |release: &String| request.lacking.contains(release);
    let under_way = store.rollouts.iter().filter(|kept| may(kept.rollout.state));
    let under_way = under_way.filter(|kept| !lacks(&kept.rollout.release));
    let looking = under_way.flat_map(|kept| {
        let waves = kept.waves.iter().filter(|wave| wave.state == WaveState::Looking);
        waves.map(|wave| (kept.rollout.id, wave.number))
    });
    let is_due = |attempt: &&Attempt| {
        attempt.site == request.site
            && attempt.lease_until.is_none_or(|until| until <= request.at)
            && !store.attempts.is_in_flight(&attempt.host)
    };
    let due = looking.flat_map(|(rollout, wave)| unseen(store, rollout, wave)).filter(is_due);
    let due: Vec<AttemptId> = due.take(request.limit).map(|attempt| attempt.id).collect();
    let mut claimed = Vec::with_capacity(due.len());
    for id in due {
        let attempt = store.attempts.one_mut(id)?;
        attempt.worker = Some(request.worker.to_owned());
        attempt.lease_until = Some(request.until());
        claimed.push(attempt.clone());
    }
    Ok(claimed)
}

/// The confirmed hosts of a wave that nobody has seen healthy, by place.
pub(super) fn unseen(
    store: &MemoryStore,
    rollout: RolloutId,
    wave: u32,
) -> impl Iterator<Item = &Attempt> {
    let is_unseen =
        |attempt: &&Attempt| attempt.state == AttemptState::Confirmed && !is_healthy(attempt);
    store.attempts.of_wave(rollout, wave).filter(is_unseen)
}

/// Keeps what a look came to.
pub(super) fn report(
    store: &mut MemoryStore,
    id: AttemptId,
    worker: &str,
    look: &Look,
) -> Result<Changed, StoreError> {
    let attempt = store.attempts.one(id)?.clone();
    if judge_look(&attempt, worker, look)? == Changed::Before {
        return Ok(Changed::Before);
    }
    keep(store, &attempt, worker, look)?;
    if look.health == Health::Sick {
        hosts::forget_version(store, &attempt.host);
        let cohort = store.attempts.cohort(id);
        let kept = rollouts::kept(store, attempt.rollout)?;
        if let Some(reached) = kept.budget.reached_by(cohort) {
            rollouts::halt(store, attempt.rollout, &reached, worker, look.at)?;
        }
    }
    Ok(Changed::Now)
}

/// The time for looks is over in a wave: who was not seen healthy is sick.
pub(super) fn end_all(
    store: &mut MemoryStore,
    rollout: RolloutId,
    wave: u32,
    change: &WaveChange<'_>,
) -> Result<(), StoreError> {
    let unseen: Vec<Attempt> = unseen(store, rollout, wave).cloned().collect();
    if unseen.is_empty() {
        return Ok(());
    }
    for attempt in unseen {
        keep(store, &attempt, change.by, &last_look(attempt.look.as_ref(), change.at))?;
    }
    match rollouts::kept(store, rollout)?.budget.reached() {
        Some(reached) => rollouts::halt(store, rollout, &reached, change.by, change.at),
        None => Ok(()),
    }
}

fn keep(
    store: &mut MemoryStore,
    attempt: &Attempt,
    by: &str,
    look: &Look,
) -> Result<(), StoreError> {
    let id = attempt.id;
    let looked = match look.health {
        Health::Sick => {
            let sick = store.attempts.set_state(id, AttemptState::Failed)?;
            sick.reason = Some(look.reason.clone());
            sick.flash = Some("unknown".to_owned());
            sick.detail = sick_detail(look);
            sick
        }
        Health::Healthy | Health::Unclear => store.attempts.one_mut(id)?,
    };
    if look.health != Health::Unclear {
        looked.lease_until = None;
    }
    looked.look = Some(Look { detail: text::detail(&look.detail), ..look.clone() });
    events::about(store, attempt, EventKind::Looked, by, look.at, &told_look(look));
    if look.health == Health::Sick {
        let (cohort, round) = (store.attempts.cohort(id), store.attempts.round(id));
        rollouts::kept(store, attempt.rollout)?.budget.fall_sick(cohort, round);
    }
    Ok(())
}
