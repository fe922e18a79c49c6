//! Workers, each with a connection of its own, that claim hosts and say how they ended.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use firmcast_fleet::model::RolloutId;
use firmcast_fleet::store::requests::{ClaimRequest, Open};
use firmcast_fleet::store::{Store, StoreError};
use serde_json::{Value, json};

use super::fleet::{CONFIRMED, LEASE_US, site};

/// How long who got no host waits until it asks again.
const PAUSE: Duration = Duration::from_millis(1);

/// What a worker did.
#[derive(Default)]
struct Done {
    hosts: usize,
    busy: usize,
    /// How long each claim that got a host took.
    claims: Vec<Duration>,
    reports: Vec<Duration>,
    last: Duration,
}

/// Lets a worker work with each of the stores, for some time or until no host is left.
pub(crate) fn run(
    stores: Vec<Box<dyn Store>>,
    rollout: RolloutId,
    at_once: usize,
    time: Duration,
) -> Value {
    let workers = stores.len();
    let start = &Barrier::new(workers);
    let done: Vec<Done> = thread::scope(|scope| {
        let begin = |(number, store)| {
            let worker = Worker { store, number, rollout, at_once, done: Done::default() };
            scope.spawn(move || {
                start.wait();
                worker.work(time)
            })
        };
        let threads: Vec<_> = stores.into_iter().enumerate().map(begin).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |count: fn(&Done) -> usize| done.iter().map(count).sum::<usize>();
    let seconds = done.iter().map(|done| done.last).max().unwrap_or_default().as_secs_f64();
    let (claims, reports) = (sum(|done| done.claims.len()), sum(|done| done.reports.len()));
    json!({
        "hosts": sum(|done| done.hosts),
        "seconds": seconds,
        "claims": claims,
        "commits": claims + reports,
        "busy": sum(|done| done.busy),
        "claim_ms": middle_and_worst(done.iter().flat_map(|done| &done.claims)),
        "report_ms": middle_and_worst(done.iter().flat_map(|done| &done.reports)),
    })
}

pub(crate) fn middle_and_worst<'a>(times: impl Iterator<Item = &'a Duration>) -> [f64; 2] {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    [at(times.len() / 2), at(times.len().saturating_sub(1))]
}

struct Worker {
    store: Box<dyn Store>,
    number: usize,
    rollout: RolloutId,
    at_once: usize,
    done: Done,
}

impl Worker {
    fn work(mut self, time: Duration) -> Done {
        let (begun, name) = (Instant::now(), format!("worker{}", self.number));
        let (site, open) = (site(self.number), [Open { rollout: self.rollout, seconds: u32::MAX }]);
        while begun.elapsed() < time {
            let at = self.store.now().unwrap();
            let request = ClaimRequest {
                site: &site,
                worker: &name,
                at,
                lease_us: LEASE_US,
                limit: self.at_once,
                open: &open,
                lacking: &[],
            };
            let asked = Instant::now();
            let claims = self.patient(|store| store.claim(&request));
            if claims.is_empty() {
                thread::sleep(PAUSE);
                continue;
            }
            self.done.claims.push(asked.elapsed());
            for claim in claims {
                let asked = Instant::now();
                self.patient(|store| store.report(claim.attempt.id, &name, &CONFIRMED, at));
                self.done.reports.push(asked.elapsed());
                self.done.hosts += 1;
            }
            self.done.last = begun.elapsed();
        }
        self.done
    }

    /// Asks again while others are in the way.
    fn patient<T>(&mut self, ask: impl Fn(&mut dyn Store) -> Result<T, StoreError>) -> T {
        loop {
            match ask(self.store.as_mut()) {
                Err(StoreError::Busy { .. }) => self.done.busy += 1,
                answer => return answer.unwrap(),
            }
        }
    }
}
