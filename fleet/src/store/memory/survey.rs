use std::collections::BTreeMap;

use firmcast::reason::Reason;

use super::rollouts::Kept;
use super::webhooks;
use super::{MemoryStore, calls};
use crate::model::{
    Attempt, AttemptState, DRAINING, EventKind, RolloutState, Stamp, UNDRAINING, Worker,
};
use crate::store::requests::{
    Outcome, SURVEYED_MAX, Survey, Surveyed, Tally, WORKER_KEPT_US, WORKERS_MAX, calling, is_open,
};
use crate::store::text;

/// Keeps that a worker was seen, and forgets those that were not seen for long.
pub(super) fn see_worker(store: &mut MemoryStore, worker: &Worker) {
    let forgotten = worker.seen_at.saturating_sub(WORKER_KEPT_US);
    store.workers.retain(|_, known| known.seen_at >= forgotten);
    let waits_for = text::detail(&worker.waits_for);
    store.workers.insert(worker.name.clone(), Worker { waits_for, ..worker.clone() });
}

/// Counts what the store holds.
pub(super) fn survey(store: &MemoryStore, at: Stamp) -> Survey {
    let mut rollouts = BTreeMap::<RolloutState, u64>::new();
    for kept in &store.rollouts {
        *rollouts.entry(kept.rollout.state).or_default() += 1;
    }
    let open = store.rollouts.iter().filter(|kept| is_open(kept.rollout.state));
    let mut open: Vec<Surveyed> =
        open.rev().take(SURVEYED_MAX).map(|kept| surveyed(store, kept, at)).collect();
    open.reverse();
    let of_kind = |kind| store.events.iter().filter(move |event| event.kind == kind);
    let drain_failed = Outcome {
        confirmed: false,
        reason: Some(Reason::DrainFailed.name()),
        flash: None,
        detail: "",
    };
    let drain_failed = drain_failed.told();
    let drain_failures = of_kind(EventKind::Ended).filter(|end| end.detail == drain_failed);
    Survey {
        hosts: store.hosts.len() as u64,
        rollouts,
        open,
        workers: workers(store),
        calls: calling(&calls::all(store, at)),
        leases_lost: of_kind(EventKind::LeaseLost).count() as u64,
        drain_failures: drain_failures.count() as u64,
        undrain_failures: of_kind(EventKind::UndrainFailed).count() as u64,
        last_event: store.events.last().map(|event| (event.id, event.at)),
        webhooks: webhooks::deliveries(store),
        sender_until: webhooks::held_until(store),
    }
}

pub(super) fn workers(store: &MemoryStore) -> Vec<Worker> {
    let mut workers: Vec<Worker> = store.workers.values().cloned().collect();
    workers.sort_by_key(|worker| std::cmp::Reverse(worker.seen_at));
    workers.truncate(WORKERS_MAX);
    workers.sort_unstable();
    workers
}

fn surveyed(store: &MemoryStore, kept: &Kept, at: Stamp) -> Surveyed {
    let mut tallies = BTreeMap::<(u32, &str, AttemptState), Tally>::new();
    for attempt in store.attempts.of(kept.rollout.id) {
        let key = (attempt.wave, attempt.site.as_str(), attempt.state);
        let tally = tallies.entry(key).or_insert_with(|| Tally {
            wave: attempt.wave,
            site: attempt.site.clone(),
            state: attempt.state,
            attempts: 0,
            oldest_started_at: None,
            overdue: 0,
            draining: 0,
            undraining: 0,
        });
        tally.attempts += 1;
        let oldest = tally.oldest_started_at.into_iter().chain(attempt.started_at).min();
        tally.oldest_started_at = oldest;
        tally.overdue += u64::from(is_overdue(attempt, at));
        let in_stage = |stage: &str| {
            let is_there = attempt.stage.as_deref() == Some(stage);
            u64::from(is_there && attempt.state == AttemptState::InFlight)
        };
        tally.draining += in_stage(DRAINING);
        tally.undraining += in_stage(UNDRAINING);
    }
    Surveyed {
        id: kept.rollout.id,
        name: kept.rollout.name.clone(),
        state: kept.rollout.state,
        waves: kept.waves.clone(),
        tallies: tallies.into_values().collect(),
        limits: kept.budget.limits.clone(),
        counts: kept.budget.counts.clone(),
    }
}

fn is_overdue(attempt: &Attempt, at: Stamp) -> bool {
    let until = |begun: Stamp| begun.saturating_add(i64::from(attempt.predicted_s) * 1_000_000);
    attempt.state == AttemptState::InFlight
        && attempt.started_at.is_some_and(|begun| until(begun) < at)
}
