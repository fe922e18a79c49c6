//! Random workers at random times: all stores do the same, and what must hold does after each step.

use std::collections::BTreeMap;

use firmcast_fleet::model::{
    Attempt, AttemptState, Event, Health, Host, Look, RolloutId, RolloutState, WaveState,
};
use firmcast_fleet::rollout::limits::{Action, Amount, FailureLimit, InFlightLimit, Limits, Scope};
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::{
    ClaimRequest, DrainStep, LookRequest, Open, Outcome, Retry, StateChange, WaveChange,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::samples::{LEASE_US, host, limited, open, release, start};
use super::server::Server;
use super::watch::{UNREACHABLE, Watch};

const HOSTS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const SITES: [&str; 2] = ["north", "south"];
const WORKERS: [&str; 3] = ["w1", "w2", "w3"];
const ROLLOUTS: [RolloutId; 2] = [1, 2];

/// The least and the most that hosts are predicted to take.
const SECONDS: std::ops::RangeInclusive<u32> = 10..=12;

#[derive(Clone, Debug)]
enum Step {
    Pass {
        time_us: i64,
    },
    Claim {
        site: usize,
        worker: usize,
        limit: usize,
        open: Vec<(RolloutId, u32)>,
    },
    Renew {
        worker: usize,
        attempts: Vec<i64>,
    },
    Stage {
        attempt: i64,
        worker: usize,
    },
    /// By the worker that holds the lease, or by another one.
    Report {
        which: prop::sample::Index,
        other: Option<usize>,
        reason: Option<&'static str>,
    },
    /// Its drain programs come this far, or it is put back.
    Drain {
        which: prop::sample::Index,
        other: Option<usize>,
        step: usize,
    },
    Retry {
        rollout: RolloutId,
    },
    NextWave {
        rollout: RolloutId,
    },
    /// The first wave is looked at, or that is over.
    Watched {
        rollout: RolloutId,
        to: WaveState,
    },
    ClaimLooks {
        site: usize,
        worker: usize,
    },
    Look {
        which: prop::sample::Index,
        other: Option<usize>,
        health: Health,
    },
    Change {
        rollout: RolloutId,
        to: RolloutState,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, rollout) = (0..WORKERS.len(), 1..=2_i64);
    let seconds = prop_oneof![1 => SECONDS.prop_map(|least| least - 1), 3 => Just(u32::MAX)];
    let open = prop::collection::vec((rollout.clone(), seconds), 1..5);
    let reason = prop_oneof![
        2 => Just(None),
        2 => Just(Some("write-failed")),
        1 => Just(Some(UNREACHABLE))
    ];
    let to = prop_oneof![
        4 => Just(RolloutState::Paused),
        12 => Just(RolloutState::Running),
        1 => Just(RolloutState::Error)
    ];
    let health = prop_oneof![Just(Health::Healthy), Just(Health::Sick), Just(Health::Unclear)];
    let another = prop::option::weighted(0.1, worker.clone());
    let watched = prop_oneof![2 => Just(WaveState::Looking), 1 => Just(WaveState::Finished)];
    prop_oneof![
        2 => (rollout.clone(), watched)
            .prop_map(|(rollout, to)| Step::Watched { rollout, to }),
        3 => (0..SITES.len(), worker.clone())
            .prop_map(|(site, worker)| Step::ClaimLooks { site, worker }),
        4 => (any::<prop::sample::Index>(), prop::option::weighted(0.1, worker.clone()), health)
            .prop_map(|(which, other, health)| Step::Look { which, other, health }),
        2 => (0..LEASE_US).prop_map(|time_us| Step::Pass { time_us }),
        8 => (0..SITES.len(), worker.clone(), 0..5_usize, open)
            .prop_map(|(site, worker, limit, open)| Step::Claim { site, worker, limit, open }),
        1 => (worker.clone(), prop::collection::vec(1..24_i64, 0..24))
            .prop_map(|(worker, attempts)| Step::Renew { worker, attempts }),
        1 => (1..24_i64, worker.clone())
            .prop_map(|(attempt, worker)| Step::Stage { attempt, worker }),
        12 => (any::<prop::sample::Index>(), prop::option::weighted(0.1, worker), reason)
            .prop_map(|(which, other, reason)| Step::Report { which, other, reason }),
        6 => (any::<prop::sample::Index>(), another, 0..6_usize)
            .prop_map(|(which, other, step)| Step::Drain { which, other, step }),
        1 => rollout.clone().prop_map(|rollout| Step::Retry { rollout }),
        1 => rollout.clone().prop_map(|rollout| Step::NextWave { rollout }),
        3 => (rollout, to).prop_map(|(rollout, to)| Step::Change { rollout, to }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let label = |label: &str| Just(Scope::Label(label.to_owned()));
    let scope = prop_oneof![Just(Scope::All), Just(Scope::Wave), label("site"), label("rack")];
    let amount =
        prop_oneof![(1..4_u32).prop_map(Amount::Hosts), (1..=100_u32).prop_map(Amount::Percent)];
    let action = prop_oneof![4 => Just(Action::Pause), 1 => Just(Action::Stop)];
    let in_flight =
        (scope.clone(), amount.clone()).prop_map(|(scope, amount)| InFlightLimit { scope, amount });
    let failure = (scope, amount, 0..4_u32, any::<bool>(), action).prop_map(
        |(scope, amount, sample, unreachable, action)| FailureLimit {
            scope,
            amount,
            sample,
            unreachable,
            action,
        },
    );
    (prop::collection::vec(in_flight, 0..3), prop::collection::vec(failure, 0..3))
        .prop_map(|(in_flight, failures)| Limits { in_flight, failures })
}

/// Does a step, and returns what the store answered, as text.
fn take(store: &mut dyn Store, step: &Step, at: i64) -> String {
    match step {
        Step::Pass { .. } => String::new(),
        Step::Claim { site, worker, limit, open } => {
            let open: Vec<Open> =
                open.iter().map(|&(rollout, seconds)| Open { rollout, seconds }).collect();
            let (site, worker) = (SITES[*site], WORKERS[*worker]);
            let (lease_us, limit) = (LEASE_US, *limit);
            let request =
                ClaimRequest { site, worker, at, lease_us, limit, open: &open, lacking: &[] };
            format!("{:?}", store.claim(&request).unwrap())
        }
        Step::Renew { worker, attempts } => {
            format!("{:?}", store.renew(WORKERS[*worker], attempts, at, LEASE_US).unwrap())
        }
        Step::Stage { attempt, worker } => {
            format!("{:?}", store.tell_stage(*attempt, WORKERS[*worker], "flashing", at))
        }
        Step::Report { which, other, reason } => {
            let begun = |attempt: &Attempt| attempt.worker.is_some();
            let begun: Vec<Attempt> = attempts(store).into_iter().filter(begun).collect();
            let in_flight = |attempt: &&Attempt| attempt.state == AttemptState::InFlight;
            let mut reported: Vec<&Attempt> = begun.iter().filter(in_flight).collect();
            if other.is_some() || reported.is_empty() {
                reported = begun.iter().collect();
            }
            if reported.is_empty() {
                return String::new();
            }
            let attempt = reported[which.index(reported.len())];
            let worker = other.map_or(attempt.worker.as_deref(), |other| Some(WORKERS[other]));
            let (reason, confirmed) = (*reason, reason.is_none());
            let outcome = Outcome { confirmed, reason, flash: None, detail: "" };
            format!("{:?}", store.report(attempt.id, worker.unwrap(), &outcome, at))
        }
        Step::Drain { which, other, step } => {
            let in_flight = |attempt: &Attempt| attempt.state == AttemptState::InFlight;
            let in_flight: Vec<Attempt> = attempts(store).into_iter().filter(in_flight).collect();
            if in_flight.is_empty() {
                return String::new();
            }
            let attempt = &in_flight[which.index(in_flight.len())];
            let worker = other.map_or(attempt.worker.as_deref(), |other| Some(WORKERS[other]));
            let (confirmed, reason) = (false, Some("write-failed"));
            let outcome = Outcome { confirmed, reason, flash: Some("mixed"), detail: "why" };
            let (id, worker) = (attempt.id, worker.unwrap());
            let step = match step {
                0 => DrainStep::Drain,
                1 => DrainStep::Undrain(Some(outcome)),
                2 => DrainStep::Undrain(None),
                3 => DrainStep::Undrained,
                4 => DrainStep::UndrainFailed("status 1"),
                _ => return format!("{:?}", store.put_back(id, worker, "why", at)),
            };
            format!("{:?}", store.tell_drain(id, worker, &step, at))
        }
        Step::Retry { rollout } => {
            let retry = Retry { by: "ann", at, revision: None, around_s: Some(7) };
            format!("{:?}", store.retry_failed(*rollout, &retry))
        }
        Step::NextWave { rollout } => {
            let from = [WaveState::Waiting];
            let change =
                WaveChange { from: &from, to: WaveState::Running, by: "ann", at, revision: None };
            format!("{:?}", store.change_wave(*rollout, 1, &change))
        }
        Step::Watched { rollout, to } => {
            let from = [WaveState::Running, WaveState::Looking, WaveState::Finished];
            let change = WaveChange { from: &from, to: *to, by: "ann", at, revision: None };
            format!("{:?}", store.change_wave(*rollout, 0, &change))
        }
        Step::ClaimLooks { site, worker } => {
            let (site, worker) = (SITES[*site], WORKERS[*worker]);
            let request =
                LookRequest { site, worker, at, lease_us: LEASE_US, limit: 3, lacking: &[] };
            format!("{:?}", store.claim_looks(&request).unwrap())
        }
        Step::Look { which, other, health } => {
            let is_leased = |attempt: &Attempt| {
                attempt.state == AttemptState::Confirmed && attempt.worker.is_some()
            };
            let leased: Vec<Attempt> = attempts(store).into_iter().filter(is_leased).collect();
            if leased.is_empty() {
                return String::new();
            }
            let attempt = &leased[which.index(leased.len())];
            let worker = other.map_or(attempt.worker.as_deref(), |other| Some(WORKERS[other]));
            let (reason, detail) = ("wrong-digest".to_owned(), "why".to_owned());
            let look = Look { health: *health, at, reason, detail };
            format!("{:?}", store.report_look(attempt.id, worker.unwrap(), &look))
        }
        Step::Change { rollout, to } => {
            let from = [RolloutState::Running, RolloutState::Paused];
            let to = *to;
            let change =
                StateChange { from: &from, to, reason: "why", by: "ann", at, revision: None };
            format!("{:?}", store.change_state(*rollout, &change))
        }
    }
}

fn attempts(store: &mut dyn Store) -> Vec<Attempt> {
    ROLLOUTS.into_iter().flat_map(|rollout| store.attempts(rollout, None, 100).unwrap()).collect()
}

/// Numbers of events may have gaps after what was refused.
fn told(store: &mut dyn Store) -> Vec<Event> {
    let events = store.events(0, 1000).unwrap().into_iter();
    events.map(|event| Event { id: 0, ..event }).collect()
}

/// Hosts at two sites with three racks.
fn hosts() -> Vec<Host> {
    let place = |(index, name): (usize, &&str)| {
        let mut host = host(name, SITES[index % 2]);
        host.labels.insert("rack".to_owned(), format!("r{}", index % 3));
        host
    };
    HOSTS.iter().enumerate().map(place).collect()
}

fn prepare(store: &mut dyn Store, limits: &Limits) {
    let mut hosts = hosts();
    store.put_hosts(&hosts).unwrap();
    store.add_release(&release()).unwrap();
    for name in ["first", "second"] {
        let waves = (0..).map(|index| u32::from(index % 3 == 2));
        let placed: Vec<_> = hosts.iter().cloned().zip(waves).collect();
        let mut new = limited(name, limits.clone(), &placed);
        for (attempt, seconds) in new.attempts.iter_mut().zip(SECONDS.cycle()) {
            attempt.predicted_s = seconds;
        }
        let id = store.create_rollout(&new).unwrap();
        start(store, id);
        hosts.reverse();
        hosts.truncate(6);
    }
}

#[test]
fn limits_hold_after_each_step_and_all_stores_agree() {
    let server = Server::start();
    let hosts: BTreeMap<_, _> = hosts().into_iter().map(|host| (host.name.clone(), host)).collect();
    let config = ProptestConfig { cases: 24, ..ProptestConfig::default() };
    proptest!(config, |(limits in limits(), steps in prop::collection::vec(step(), 1..80))| {
        let folder = TempDir::new().unwrap();
        let mut stores = open(&server, &folder);
        stores.iter_mut().for_each(|(_, store)| prepare(store.as_mut(), &limits));
        let mut watches = [(); 3].map(|()| Watch::new(&hosts, &limits));
        let mut now = 100;
        for step in &steps {
            if let Step::Pass { time_us } = step {
                now += time_us;
            }
            let mut model = None;
            for ((name, store), watch) in stores.iter_mut().zip(&mut watches) {
                let store = store.as_mut();
                let answer = take(store, step, now);
                watch.look(store, &ROLLOUTS);
                let seen = (answer, attempts(store), told(store), store.hosts("", 100).unwrap());
                match &model {
                    None => model = Some(seen),
                    Some(model) => prop_assert_eq!(model, &seen, "{} after {:?}", name, step),
                }
            }
        }
    });
}
