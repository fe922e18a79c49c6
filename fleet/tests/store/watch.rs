//! What must hold after each step, worked out from the attempts alone, with formulas of its own.

use std::collections::{BTreeMap, BTreeSet};

use firmcast_fleet::model::{Attempt, AttemptId, AttemptState, Host, RolloutId, RolloutState};
use firmcast_fleet::rollout::limits::{Amount, Counters, Counts, Domain, Limits};
use firmcast_fleet::store::Store;

pub(crate) const UNREACHABLE: &str = "host-unreachable";

/// A rollout as it was seen last.
#[derive(Default)]
struct Seen {
    state: Option<RolloutState>,
    attempts: Vec<Attempt>,
    /// Those that had ended when the rollout was resumed.
    forgiven: BTreeSet<(AttemptId, AttemptState)>,
    reached: bool,
}

/// Looks at rollouts after each step.
pub(crate) struct Watch<'a> {
    hosts: &'a BTreeMap<String, Host>,
    limits: &'a Limits,
    seen: BTreeMap<RolloutId, Seen>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(hosts: &'a BTreeMap<String, Host>, limits: &'a Limits) -> Self {
        Self { hosts, limits, seen: BTreeMap::new() }
    }

    /// Looks at some rollouts; to be called after each step.
    pub(crate) fn look(&mut self, store: &mut dyn Store, rollouts: &[RolloutId]) {
        let mut busy = BTreeSet::new();
        for id in rollouts {
            let attempts = store.attempts(*id, None, 1000).unwrap();
            for attempt in attempts.iter().filter(|each| each.state == AttemptState::InFlight) {
                assert!(busy.insert(attempt.host.clone()), "{} is in flight twice", attempt.host);
            }
            let state = store.rollout(*id).unwrap().unwrap().rollout.state;
            let is_planned = |attempt: &Attempt| attempt.state == AttemptState::Planned;
            let is_wrong = state == RolloutState::Error && attempts.iter().any(is_planned);
            assert!(!is_wrong, "rollout {id} was aborted, and yet somebody is planned");
            let before = self.seen.remove(id).unwrap_or_default();
            let planned = before.attempts.iter().filter(|attempt| is_planned(attempt));
            let planned: BTreeSet<AttemptId> = planned.map(|attempt| attempt.id).collect();
            let mut begun = attempts
                .iter()
                .filter(|now| now.state == AttemptState::InFlight && planned.contains(&now.id));
            let first = begun.next().filter(|_| before.reached);
            assert!(first.is_none(), "a limit of failures was reached: {first:?}");
            let mut now = Seen { state: Some(state), attempts, ..before };
            if before.state == Some(RolloutState::Paused) && state == RolloutState::Running {
                now.forgiven
                    .extend(now.attempts.iter().filter(|a| is_over(a)).map(|a| (a.id, a.state)));
            }
            let counts = count(self.hosts, self.limits, &now.attempts, &now.forgiven);
            assert_eq!(store.counters(*id).unwrap(), counts, "counters of rollout {id}");
            assert_within(self.limits, &counts);
            now.reached = is_reached(self.limits, &counts);
            assert!(!now.reached || state != RolloutState::Running, "{id} runs, {counts:?}");
            self.seen.insert(*id, now);
        }
    }
}

fn is_over(attempt: &Attempt) -> bool {
    matches!(attempt.state, AttemptState::Confirmed | AttemptState::Failed)
}

/// Counts attempts by domain.
pub(crate) fn count(
    hosts: &BTreeMap<String, Host>,
    limits: &Limits,
    attempts: &[Attempt],
    forgiven: &BTreeSet<(AttemptId, AttemptState)>,
) -> Counts {
    let mut counts = BTreeMap::<Domain, Counters>::new();
    for attempt in attempts {
        for domain in limits.domains(attempt.wave, &hosts[&attempt.host]) {
            let counters = counts.entry(domain).or_default();
            counters.planned += u32::from(attempt.retry == 0);
            let ended = u32::from(!forgiven.contains(&(attempt.id, attempt.state)));
            match attempt.state {
                AttemptState::Planned | AttemptState::Skipped => {}
                AttemptState::InFlight => counters.in_flight += 1,
                AttemptState::Confirmed => counters.confirmed += ended,
                AttemptState::Failed if attempt.reason.as_deref() == Some(UNREACHABLE) => {
                    counters.unreachable += ended;
                }
                AttemptState::Failed => counters.failed += ended,
            }
        }
    }
    counts.into_iter().collect()
}

/// No domain has more hosts in flight than a limit says.
pub(crate) fn assert_within(limits: &Limits, counts: &Counts) {
    for limit in &limits.in_flight {
        for (domain, counters) in counts.iter().filter(|(domain, _)| domain.0 == limit.scope) {
            let most = match limit.amount {
                Amount::Hosts(hosts) => hosts,
                Amount::Percent(percent) => (counters.planned * percent / 100).max(1),
            };
            assert!(counters.in_flight <= most, "{counters:?} in {domain:?}, expected {most}");
        }
    }
}

/// Says whether a limit of failures is reached somewhere.
pub(crate) fn is_reached(limits: &Limits, counts: &Counts) -> bool {
    limits.failures.iter().any(|limit| {
        counts.iter().filter(|(domain, _)| domain.0 == limit.scope).any(|(_, counters)| {
            let failed = counters.failed + if limit.unreachable { counters.unreachable } else { 0 };
            let ended = failed + counters.confirmed;
            match limit.amount {
                Amount::Hosts(hosts) => failed >= hosts,
                Amount::Percent(percent) => {
                    failed > 0 && ended >= limit.sample && failed * 100 >= ended * percent
                }
            }
        })
    })
}
