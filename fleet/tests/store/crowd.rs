//! Real workers at once, each with a connection of its own, and a person who pauses, resumes and
//! retries meanwhile. Events are numbered in the order in which transactions ended, so what must
//! hold at every moment is checked by going through them afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use firmcast_fleet::model::{AttemptState, Event, EventKind, Host, RolloutId, RolloutState};
use firmcast_fleet::rollout::limits::{
    Action, Amount, Counts, Ending, FailureLimit, InFlightLimit, Limits, Scope,
};
use firmcast_fleet::store::requests::{Outcome, Retry, StateChange};
use firmcast_fleet::store::{Backup, PostgresStore, SqliteStore, Store, StoreError};
use tempfile::TempDir;

use super::samples::{LEASE_US, claim, host, limited, release, start};
use super::server::Server;
use super::watch::{UNREACHABLE, assert_within, count, is_reached};

const SITES: [&str; 2] = ["north", "south"];
const HOSTS: usize = 60;
const ROLLOUTS: [RolloutId; 2] = [1, 2];
const WORKERS: u64 = 4;
/// Maximum number of calls of one worker.
const CALLS_MAX: u32 = 20_000;
/// Between two looks of who has nothing to do.
const PAUSE: Duration = Duration::from_millis(2);
/// By how much each call of a worker moves the clock on.
const CALL_US: i64 = LEASE_US / 50;
/// How many calls of workers the person lets pass between two rounds: who forgives more often than
/// hosts fail would keep every limit from being reached.
const CALLS_BETWEEN: i64 = 16;

/// Numbers that look random, from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn limits() -> Limits {
    let in_flight = |scope, hosts| InFlightLimit { scope, amount: Amount::Hosts(hosts) };
    let failures = |scope, amount| FailureLimit {
        scope,
        amount,
        sample: 5,
        unreachable: true,
        action: Action::Pause,
    };
    let rack = Scope::Label("rack".to_owned());
    Limits {
        in_flight: vec![in_flight(Scope::All, 7), in_flight(rack.clone(), 2)],
        failures: vec![failures(Scope::All, Amount::Percent(40)), failures(rack, Amount::Hosts(3))],
    }
}

fn hosts() -> Vec<Host> {
    let place = |index: usize| {
        let mut host = host(&format!("host{index:02}"), SITES[index % 2]);
        host.labels.insert("rack".to_owned(), format!("r{}", index / 2 % 3));
        host
    };
    (0..HOSTS).map(place).collect()
}

#[test]
fn limits_hold_at_every_moment_with_workers_at_once_in_sqlite() {
    let folder = TempDir::new().unwrap();
    crowd(&|| Box::new(SqliteStore::open(folder.path()).unwrap()));
}

#[test]
fn limits_hold_at_every_moment_with_workers_at_once_in_postgres() {
    let server = Server::start();
    let url = server.database();
    crowd(&|| Box::new(PostgresStore::open(&url, Backup::Unconfirmed).unwrap()));
}

fn crowd(open: &(dyn Fn() -> Box<dyn Store> + Sync)) {
    let (limits, hosts) = (limits(), hosts());
    let mut store = open();
    store.put_hosts(&hosts).unwrap();
    store.add_release(&release()).unwrap();
    let mut placed: Vec<_> = hosts.iter().map(|host| (host.clone(), 0)).collect();
    for name in ["first", "second"] {
        let id = store.create_rollout(&limited(name, limits.clone(), &placed)).unwrap();
        start(store.as_mut(), id);
        placed.reverse();
    }
    let (clock, done) = (AtomicI64::new(100), AtomicBool::new(false));
    let (clock, done) = (&clock, &done);
    std::thread::scope(|scope| {
        let person = scope.spawn(|| govern(open().as_mut(), clock, done));
        let listener = scope.spawn(|| listen(open().as_mut(), done));
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| scope.spawn(move || work(open().as_mut(), number, clock)))
            .collect();
        let results: Vec<_> =
            workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        person.join().unwrap();
        assert!(results.iter().all(Result::is_ok), "a worker failed");
        let (heard, mut all) = (listener.join().unwrap(), all_events(store.as_mut()));
        all.truncate(heard.len());
        assert_eq!(heard, all, "an event was missed");
    });
    let hosts: BTreeMap<_, _> = hosts.into_iter().map(|host| (host.name.clone(), host)).collect();
    replay(store.as_mut(), &hosts, &limits);
}

/// Works until every host is confirmed in both rollouts.
fn work(store: &mut dyn Store, number: u64, clock: &AtomicI64) {
    let (name, site) = (format!("w{number}"), SITES[number as usize % 2]);
    let mut dice = Dice(number);
    for _ in 0..CALLS_MAX {
        let now = clock.fetch_add(CALL_US, Ordering::Relaxed);
        let limit = dice.below(4) as usize + 1;
        let claims = store.claim(&claim(site, &name, now, limit)).unwrap();
        if claims.is_empty() {
            std::thread::sleep(PAUSE);
        }
        let attempts: Vec<_> = claims.iter().map(|claim| claim.attempt.id).collect();
        store.renew(&name, &attempts, now, LEASE_US).unwrap();
        for claim in claims {
            let reason = match dice.below(10) {
                // Its lease runs out.
                0 => continue,
                1 => Some("write-failed"),
                2 => Some(UNREACHABLE),
                _ => None,
            };
            let outcome = Outcome { confirmed: reason.is_none(), reason, flash: None, detail: "" };
            match store.report(claim.attempt.id, &name, &outcome, now) {
                Ok(_) | Err(StoreError::LeaseLost { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if ROLLOUTS.iter().all(|rollout| confirmed(store, *rollout) == HOSTS as u64) {
            return;
        }
    }
    panic!("not finished after {CALLS_MAX} calls");
}

fn confirmed(store: &mut dyn Store, rollout: RolloutId) -> u64 {
    let counts = store.counts(rollout).unwrap();
    let confirmed = counts.iter().filter(|count| count.state == AttemptState::Confirmed);
    confirmed.map(|count| count.attempts).sum()
}

/// Pauses, resumes what is paused, and retries, until all is done.
fn govern(store: &mut dyn Store, clock: &AtomicI64, done: &AtomicBool) {
    let (mut dice, mut acted_at) = (Dice(99), 0);
    while !done.load(Ordering::Relaxed) {
        let at = clock.load(Ordering::Relaxed);
        if at < acted_at + CALLS_BETWEEN * CALL_US {
            std::thread::sleep(PAUSE);
            continue;
        }
        acted_at = at;
        for rollout in ROLLOUTS {
            let to = if dice.below(6) == 0 { RolloutState::Paused } else { RolloutState::Running };
            let from = [RolloutState::Running, RolloutState::Paused];
            let change = StateChange { from: &from, to, reason: "", by: "ann", at, revision: None };
            store.change_state(rollout, &change).unwrap();
            let retry = Retry { by: "ann", at, revision: None, around_s: Some(7) };
            store.retry_failed(rollout, &retry).unwrap();
        }
    }
}

/// What the events of a rollout came to so far.
#[derive(Default)]
struct Replayed {
    counts: Counts,
    is_running: bool,
    /// A limit of failures was reached, and the next event of the rollout has to say so.
    is_reached: bool,
}

/// Goes through all events. At every moment, no host is in flight twice, limits hold, and after a
/// limit of failures nobody begins until the rollout was resumed.
fn replay(store: &mut dyn Store, hosts: &BTreeMap<String, Host>, limits: &Limits) {
    let mut rollouts = BTreeMap::<RolloutId, Replayed>::new();
    for id in ROLLOUTS {
        let replayed = rollouts.entry(id).or_default();
        hosts.values().for_each(|host| replayed.counts.plan(&limits.domains(0, host)));
    }
    let (mut busy, mut claims, mut halts) = (BTreeSet::new(), 0, 0);
    for event in all_events(store) {
        let replayed = rollouts.get_mut(&event.rollout.unwrap()).unwrap();
        let host = event.host.as_ref();
        let domains = host.map(|name| limits.domains(0, &hosts[name])).unwrap_or_default();
        match event.kind {
            EventKind::Claimed => {
                claims += 1;
                assert!(busy.insert(event.host.clone()), "{host:?} is in flight twice");
                assert!(replayed.is_running && !replayed.is_reached, "{event:?}");
                replayed.counts.begin(&domains);
                assert_within(limits, &replayed.counts);
            }
            EventKind::Ended => {
                assert!(busy.remove(&event.host), "{host:?} was not in flight");
                replayed.counts.end(&domains, ending(&event.detail));
                replayed.is_reached = is_reached(limits, &replayed.counts);
            }
            EventKind::State => {
                let was_running = replayed.is_running;
                match event.detail.split(':').next() {
                    Some("running") => replayed.is_running = true,
                    Some("paused") => replayed.is_running = false,
                    _ => {}
                }
                if !was_running && replayed.is_running {
                    replayed.counts.forgive();
                    replayed.is_reached = false;
                }
                halts += usize::from(event.by != "ann");
            }
            _ => {}
        }
    }
    assert!(claims > 2 * HOSTS && halts > 0, "{claims} claims, {halts} halts by limits");
    for (id, replayed) in rollouts {
        assert_eq!(store.counters(id).unwrap(), replayed.counts, "counters of rollout {id}");
        let attempts = store.attempts(id, None, 10_000).unwrap();
        let counted =
            count(hosts, limits, &attempts, &attempts.iter().map(|a| (a.id, a.state)).collect());
        let mut now = replayed.counts;
        now.forgive();
        assert_eq!(counted, now, "attempts of rollout {id}");
    }
}

fn ending(detail: &str) -> Ending {
    match detail.split_once(": ") {
        None => Ending::Confirmed,
        Some((_, UNREACHABLE)) => Ending::Unreachable,
        Some(_) => Ending::Failed,
    }
}

/// Reads events as they come.
fn listen(store: &mut dyn Store, done: &AtomicBool) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let was_done = done.load(Ordering::Relaxed);
        while read_on(store, &mut events) {}
        if was_done {
            return events;
        }
        store.wait(PAUSE).unwrap();
    }
}

fn all_events(store: &mut dyn Store) -> Vec<Event> {
    let mut events = Vec::new();
    while read_on(store, &mut events) {}
    events
}

/// Appends the events after the last one, and says whether there were any.
fn read_on(store: &mut dyn Store, events: &mut Vec<Event>) -> bool {
    let after = events.last().map_or(0, |event| event.id);
    let page = store.events(after, 1000).unwrap();
    let any = !page.is_empty();
    events.extend(page);
    any
}
