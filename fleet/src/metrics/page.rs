use std::collections::{BTreeMap, BTreeSet};

use super::budget::usages;
use super::exposition::{Exposition, Sample};
use super::family::{
    ATTEMPTS, BUILD_INFO, CALLS, DRAIN_FAILURES, DRAINING, Family, HOSTS, LAST_EVENT,
    LEASES_EXPIRED, LEFT_OUT, LIMIT_MAX, LIMIT_USED, OLDEST_IN_FLIGHT, OVERDUE, ROLLOUT_STATE,
    ROLLOUTS, STORE_READ, STORE_UP, WAVE_STATE, WEBHOOK_FAILING, WEBHOOK_LAG, WEBHOOK_SENDER_UP,
    WORKER_SEEN, WORKERS, WORKERS_WAITING,
};
use crate::model::{AttemptState, Delivery, EventId, RolloutState, Stamp, WaveState};
use crate::store::requests::{Calling, Survey, Surveyed};

const ROLLOUT_STATES: [(RolloutState, &str); 6] = [
    (RolloutState::Ready, "ready"),
    (RolloutState::Scheduled, "scheduled"),
    (RolloutState::Running, "running"),
    (RolloutState::Paused, "paused"),
    (RolloutState::Finished, "finished"),
    (RolloutState::Error, "error"),
];

const WAVE_STATES: [(WaveState, &str); 6] = [
    (WaveState::Waiting, "waiting"),
    (WaveState::AwaitsApproval, "awaits-approval"),
    (WaveState::Running, "running"),
    (WaveState::Soaking, "soaking"),
    (WaveState::Looking, "looking"),
    (WaveState::Finished, "finished"),
];

const ATTEMPT_STATES: [(AttemptState, &str); 5] = [
    (AttemptState::Planned, "planned"),
    (AttemptState::InFlight, "in-flight"),
    (AttemptState::Confirmed, "confirmed"),
    (AttemptState::Failed, "failed"),
    (AttemptState::Skipped, "skipped"),
];

/// What a page is made of.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The program's version.
    pub version: &'a str,
    /// Now.
    pub at: Stamp,
    /// How long reading the store took, in seconds.
    pub took_s: f64,
    /// What the store holds; nothing when it did not answer.
    pub survey: Option<&'a Survey>,
}

/// Returns the page that Prometheus reads.
pub fn page(look: &Look<'_>) -> String {
    let mut page = Exposition::default();
    page.family(&BUILD_INFO, [Sample { labels: vec![("version", look.version)], value: 1.0 }]);
    page.value(&STORE_UP, f64::from(u8::from(look.survey.is_some())));
    page.value(&STORE_READ, look.took_s);
    let Some(survey) = look.survey else { return page.end(&LEFT_OUT, []) };
    page.value(&HOSTS, count(survey.hosts));
    let rollouts = ROLLOUT_STATES.iter().map(|(state, word)| {
        let rollouts = survey.rollouts.get(state).copied().unwrap_or_default();
        Sample { labels: vec![("state", *word)], value: count(rollouts) }
    });
    page.family(&ROLLOUTS, rollouts);
    open_rollouts(&mut page, survey, look.at);
    workers(&mut page, survey, look.at);
    page.value(&LEASES_EXPIRED, count(survey.leases_lost));
    let failures = [("drain", survey.drain_failures), ("undrain", survey.undrain_failures)];
    let failures = failures.map(|(program, failures)| Sample {
        labels: vec![("program", program)],
        value: count(failures),
    });
    page.family(&DRAIN_FAILURES, failures);
    page.family(&LAST_EVENT, survey.last_event.map(|(_, at)| plain(seconds(at))));
    webhooks(&mut page, survey, look.at);
    let open: u64 = (survey.rollouts.iter())
        .filter(|(state, _)| !matches!(state, RolloutState::Finished | RolloutState::Error))
        .map(|(_, rollouts)| rollouts)
        .sum();
    let rollouts = open.saturating_sub(survey.open.len() as u64);
    let series = page.left_out() as u64;
    let left_out = [("rollouts", rollouts), ("series", series)];
    page.end(
        &LEFT_OUT,
        left_out.map(|(what, many)| Sample { labels: vec![("what", what)], value: count(many) }),
    )
}

fn open_rollouts(page: &mut Exposition, survey: &Survey, at: Stamp) {
    let open = &survey.open;
    page.family(
        &ROLLOUT_STATE,
        open.iter().flat_map(|rollout| {
            ROLLOUT_STATES.iter().map(|(state, word)| {
                let labels = vec![("rollout", rollout.name.as_str()), ("state", *word)];
                Sample { labels, value: one_if(rollout.state == *state) }
            })
        }),
    );
    let waves =
        open.iter().flat_map(|rollout| rollout.waves.iter().map(move |wave| (rollout, wave)));
    page.family(
        &WAVE_STATE,
        waves.flat_map(|(rollout, wave)| {
            WAVE_STATES.iter().map(|(state, word)| {
                let labels = vec![
                    ("rollout", rollout.name.as_str()),
                    ("wave", wave.name.as_str()),
                    ("state", *word),
                ];
                Sample { labels, value: one_if(wave.state == *state) }
            })
        }),
    );
    page.family(&ATTEMPTS, open.iter().flat_map(attempts));
    let by_site: Vec<(&Surveyed, BTreeMap<&str, InFlight>)> =
        open.iter().map(|rollout| (rollout, in_flight(rollout))).collect();
    let sites = |family: &Family, page: &mut Exposition, value: &dyn Fn(&InFlight) -> f64| {
        let samples = by_site.iter().flat_map(|(rollout, sites)| {
            sites.iter().map(|(site, in_flight)| {
                let labels = vec![("rollout", rollout.name.as_str()), ("site", *site)];
                Sample { labels, value: value(in_flight) }
            })
        });
        page.family(family, samples);
    };
    sites(&OLDEST_IN_FLIGHT, page, &|site| {
        site.oldest_started_at.map_or(0.0, |begun| seconds(at.saturating_sub(begun)).max(0.0))
    });
    sites(&OVERDUE, page, &|site| count(site.overdue));
    let drained = by_site.iter().flat_map(|(rollout, sites)| {
        sites.iter().flat_map(|(site, in_flight)| {
            let programs = [("drain", in_flight.draining), ("undrain", in_flight.undraining)];
            programs.map(|(program, hosts)| Sample {
                labels: vec![
                    ("rollout", rollout.name.as_str()),
                    ("site", *site),
                    ("program", program),
                ],
                value: count(hosts),
            })
        })
    });
    page.family(&DRAINING, drained);
    let budgets: Vec<_> = open.iter().map(|rollout| (&rollout.name, usages(rollout))).collect();
    for (family, is_used) in [(&LIMIT_USED, true), (&LIMIT_MAX, false)] {
        let samples = budgets.iter().flat_map(|(rollout, limits)| {
            limits.iter().map(move |(limit, usage)| Sample {
                labels: vec![
                    ("rollout", rollout.as_str()),
                    ("limit", limit.kind),
                    ("scope", &limit.scope),
                    ("allows", &limit.allows),
                    ("then", limit.then),
                ],
                value: f64::from(if is_used { usage.used } else { usage.max }),
            })
        });
        page.family(family, samples);
    }
}

/// Attempts of every wave and site that has some, also of those states that are empty there.
fn attempts(rollout: &Surveyed) -> impl Iterator<Item = Sample<'_>> {
    let mut places = BTreeMap::<(u32, &str), [u64; ATTEMPT_STATES.len()]>::new();
    for tally in &rollout.tallies {
        let counts = places.entry((tally.wave, tally.site.as_str())).or_default();
        let states = ATTEMPT_STATES.iter().zip(counts);
        states
            .filter(|((state, _), _)| *state == tally.state)
            .for_each(|(_, count)| *count += tally.attempts);
    }
    places.into_iter().flat_map(move |((wave, site), counts)| {
        let wave = rollout.waves.get(wave as usize).map_or("", |wave| wave.name.as_str());
        ATTEMPT_STATES.iter().zip(counts).map(move |((_, word), attempts)| Sample {
            labels: vec![
                ("rollout", rollout.name.as_str()),
                ("wave", wave),
                ("site", site),
                ("state", *word),
            ],
            value: count(attempts),
        })
    })
}

/// Hosts of a rollout in flight at a site.
#[derive(Default)]
struct InFlight {
    oldest_started_at: Option<Stamp>,
    overdue: u64,
    draining: u64,
    undraining: u64,
}

fn in_flight(rollout: &Surveyed) -> BTreeMap<&str, InFlight> {
    let mut sites = BTreeMap::<&str, InFlight>::new();
    for tally in &rollout.tallies {
        let site = sites.entry(tally.site.as_str()).or_default();
        if tally.state == AttemptState::InFlight {
            let known = site.oldest_started_at.into_iter();
            site.oldest_started_at = known.chain(tally.oldest_started_at).min();
            site.overdue += tally.overdue;
            site.draining += tally.draining;
            site.undraining += tally.undraining;
        }
    }
    sites
}

/// Workers of a site.
#[derive(Default)]
struct Crowd {
    /// Those that were seen lately.
    workers: u64,
    /// Those of them that wait for a bundle.
    waiting: u64,
    last_seen_at: Option<Stamp>,
}

/// Workers of every site that has some, or hosts of an open rollout.
fn workers(page: &mut Exposition, survey: &Survey, at: Stamp) {
    let tallies = survey.open.iter().flat_map(|rollout| &rollout.tallies);
    let sites: BTreeSet<&str> = (tallies.map(|tally| tally.site.as_str()))
        .chain(survey.workers.iter().map(|worker| worker.site.as_str()))
        .chain(survey.calls.keys().map(String::as_str))
        .collect();
    let mut there = BTreeMap::<&str, Crowd>::new();
    for worker in &survey.workers {
        let crowd = there.entry(&worker.site).or_default();
        crowd.last_seen_at = crowd.last_seen_at.max(Some(worker.seen_at));
        if worker.is_there(at) {
            crowd.workers += 1;
            crowd.waiting += u64::from(!worker.waits_for.is_empty());
        }
    }
    let of_site = |value: fn(&Crowd) -> u64| {
        let there = &there;
        sites.iter().map(move |site| Sample {
            labels: vec![("site", *site)],
            value: count(there.get(site).map_or(0, value)),
        })
    };
    page.family(&WORKERS, of_site(|crowd| crowd.workers));
    page.family(&WORKERS_WAITING, of_site(|crowd| crowd.waiting));
    let seen = there.iter().filter_map(|(site, crowd)| {
        let last = crowd.last_seen_at?;
        Some(Sample { labels: vec![("site", *site)], value: seconds(last) })
    });
    page.family(&WORKER_SEEN, seen);
    let calls = sites.iter().flat_map(|site| {
        let Calling { hosts, parked } = survey.calls.get(*site).copied().unwrap_or_default();
        let states = [("answered", hosts.saturating_sub(parked)), ("parked", parked)];
        states.map(|(state, hosts)| Sample {
            labels: vec![("site", *site), ("state", state)],
            value: count(hosts),
        })
    });
    page.family(&CALLS, calls);
}

/// How far each webhook is, where there are some.
fn webhooks(page: &mut Exposition, survey: &Survey, at: Stamp) {
    if survey.webhooks.is_empty() {
        return;
    }
    let is_sending = survey.sender_until.is_some_and(|until| until > at);
    page.value(&WEBHOOK_SENDER_UP, one_if(is_sending));
    let last = survey.last_event.map_or(0, |(id, _)| id);
    let of_each = |value: fn(&Delivery, EventId) -> f64| {
        survey.webhooks.iter().map(move |(name, delivery)| Sample {
            labels: vec![("webhook", name.as_str())],
            value: value(delivery, last),
        })
    };
    page.family(&WEBHOOK_FAILING, of_each(|delivery, _| one_if(delivery.is_failing())));
    let lag = |delivery: &Delivery, last: EventId| {
        count(last.saturating_sub(delivery.delivered).try_into().unwrap_or_default())
    };
    page.family(&WEBHOOK_LAG, of_each(lag));
}

fn plain(value: f64) -> Sample<'static> {
    Sample { labels: Vec::new(), value }
}

fn one_if(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Exact below 2^53, as all numbers of Prometheus.
#[allow(clippy::cast_precision_loss)]
fn count(number: u64) -> f64 {
    number as f64
}

/// Microseconds as seconds; exact to a microsecond for some centuries.
#[allow(clippy::cast_precision_loss)]
fn seconds(stamp: Stamp) -> f64 {
    stamp as f64 / 1e6
}
