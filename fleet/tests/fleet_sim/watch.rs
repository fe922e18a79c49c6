//! What must hold after each step, from events and attempts alone, and from what the hosts really
//! are. Panics where it does not.

use std::collections::{BTreeMap, BTreeSet};

use firmcast_fleet::model::{
    AttemptState, Event, EventId, EventKind, Health, Host, RolloutId, RolloutState, Stamp,
    WaveState,
};
use firmcast_fleet::rollout::file::RolloutFile;
use firmcast_fleet::rollout::limits::{Counts, Domain, Ending, Limits};
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::{NewRollout, PAGE_MAX, Place};
use firmcast_fleet::work::crew::Sight;

use super::chance::SECOND;
use super::computer::{Computer, Place as Where};
use super::counting::{UNREACHABLE, assert_within, is_reached};
use super::scenario::WINDOWS;

const MINUTE: i64 = 60 * SECOND;

/// A rollout, as its events tell of it.
struct Told {
    limits: Limits,
    has_windows: bool,
    drains: bool,
    /// Wave and predicted seconds of each planned host.
    planned: BTreeMap<String, (u32, u32)>,
    counts: Counts,
    is_running: bool,
    /// A limit of failures was reached, and nobody has resumed since.
    is_reached: bool,
    /// Of each wave with soak time: its name, and what it does since when.
    waves: Vec<(String, WaveState, Stamp)>,
    soaks: Vec<bool>,
    within_us: i64,
    /// Hosts that were confirmed since it was resumed last.
    counted: BTreeSet<String>,
}

/// What has happened in a world.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) begun: u64,
    pub(crate) confirmed: u64,
    pub(crate) failed: u64,
    pub(crate) taken_over: u64,
    pub(crate) halted: u64,
    pub(crate) healthy: u64,
    pub(crate) sick: u64,
    pub(crate) fetched: u64,
    pub(crate) drained: u64,
    pub(crate) not_drained: u64,
    pub(crate) undrained: u64,
    pub(crate) not_undrained: u64,
    pub(crate) put_back: u64,
    /// Of these: their worker ended their `drain`.
    pub(crate) cut_off: u64,
    pub(crate) in_flight_max: usize,
}

pub(crate) struct Watch {
    hosts: BTreeMap<String, (usize, Host)>,
    rollouts: BTreeMap<RolloutId, Told>,
    in_flight: BTreeMap<String, RolloutId>,
    /// Hosts of which somebody was told that they may be drained still.
    not_undrained: BTreeSet<usize>,
    /// Hosts whose `drain` (true) or `undrain` has failed by itself since they were claimed last.
    pub(crate) failed_programs: BTreeSet<(usize, bool)>,
    /// Hosts of which a campaign has told the end since they were claimed last.
    pub(crate) measured: BTreeSet<usize>,
    /// Hosts that are undrained, whose end was measured before.
    kept: BTreeSet<usize>,
    /// What hosts held when a campaign saw them last, since they were claimed last. Undraining
    /// takes its time, and much may happen to a chip meanwhile.
    pub(crate) held: BTreeMap<usize, Option<usize>>,
    /// What the last look at a host for a release saw.
    pub(crate) seen: BTreeMap<(usize, usize), Sight>,
    last: EventId,
    pub(crate) tally: Tally,
}

impl Watch {
    pub(crate) fn new(hosts: &[Host]) -> Self {
        let numbered = hosts.iter().cloned().enumerate();
        Self {
            hosts: numbered.map(|(index, host)| (host.name.clone(), (index, host))).collect(),
            rollouts: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            not_undrained: BTreeSet::new(),
            failed_programs: BTreeSet::new(),
            measured: BTreeSet::new(),
            kept: BTreeSet::new(),
            held: BTreeMap::new(),
            seen: BTreeMap::new(),
            last: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) fn nobody_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether a host is not owed `undrain`, or somebody was told that it failed.
    pub(crate) fn is_settled(&self, index: usize, computer: &Computer) -> bool {
        !computer.is_owed || self.not_undrained.contains(&index)
    }

    pub(crate) fn is_in_flight(&self, index: usize) -> bool {
        self.rollout_of(index).is_some()
    }

    /// Whether the rollout in which a host is in flight drains it.
    pub(crate) fn drains(&self, index: usize) -> bool {
        self.rollout_of(index).is_some_and(|rollout| self.rollouts[&rollout].drains)
    }

    fn rollout_of(&self, index: usize) -> Option<RolloutId> {
        let of = |(name, rollout): (&String, &RolloutId)| {
            (self.hosts[name].0 == index).then_some(*rollout)
        };
        self.in_flight.iter().find_map(of)
    }

    pub(crate) fn index(&self, host: &str) -> usize {
        self.hosts[host].0
    }

    pub(crate) fn add(
        &mut self,
        id: RolloutId,
        new: &NewRollout,
        has_windows: bool,
        file: &RolloutFile,
    ) {
        let mut told = Told {
            limits: new.limits.clone(),
            has_windows,
            drains: file.drain.is_some(),
            planned: BTreeMap::new(),
            counts: Counts::default(),
            is_running: false,
            is_reached: false,
            waves: (new.waves.iter())
                .map(|wave| (wave.name.clone(), WaveState::Waiting, 0))
                .collect(),
            soaks: new.waves.iter().map(|wave| wave.soak_s > 0).collect(),
            within_us: i64::from(file.healthy_within_s) * SECOND,
            counted: BTreeSet::new(),
        };
        for attempt in &new.attempts {
            let host = &self.hosts[&attempt.host].1;
            told.counts.plan(&told.limits.domains(attempt.wave, host));
            told.planned.insert(attempt.host.clone(), (attempt.wave, attempt.predicted_s));
        }
        self.rollouts.insert(id, told);
    }

    /// Looks at what happened since the last look; to be called after each step.
    pub(crate) fn look(
        &mut self,
        store: &mut dyn Store,
        computers: &[Computer],
        trace: &dyn Fn(&Event),
    ) {
        loop {
            let events = store.events(self.last, PAGE_MAX).unwrap();
            let Some(last) = events.last() else { return };
            self.last = last.id;
            for event in &events {
                trace(event);
                self.follow(event, computers);
            }
        }
    }

    fn follow(&mut self, event: &Event, computers: &[Computer]) {
        if event.kind == EventKind::Bundle {
            self.tally.fetched += u64::from(event.detail.starts_with("has "));
            return;
        }
        let rollout = event.rollout.unwrap();
        let told = self.rollouts.get_mut(&rollout).unwrap();
        let Some(host) = &event.host else {
            if event.kind == EventKind::State {
                told.follow_state(event);
                self.tally.halted += u64::from(event.detail.contains("failed in"));
            }
            if event.kind == EventKind::Wave {
                told.follow_wave(event);
            }
            return;
        };
        let (index, known) = &self.hosts[host];
        let (wave, predicted_s) = *told.planned.get(host).expect("the host is not in the plan");
        let domains = told.limits.domains(wave, known);
        let is_settled = !computers[*index].is_owed || self.not_undrained.contains(index);
        match event.kind {
            EventKind::Claimed => {
                let other = self.in_flight.insert(host.clone(), rollout);
                assert!(other.is_none(), "{host} is in flight in {other:?}: {event:?}");
                assert!(told.is_running && !told.is_reached, "no host may begin: {event:?}");
                assert!(!told.has_windows || fits(event.at, predicted_s), "closed: {event:?}");
                told.counts.begin(&domains);
                assert_within(&told.limits, &part(&told.counts, &domains));
                self.measured.remove(index);
                self.kept.remove(index);
                self.held.remove(index);
                self.failed_programs.retain(|(failed, _)| failed != index);
                self.tally.begun += 1;
                let in_flight = self.in_flight.len();
                self.tally.in_flight_max = self.tally.in_flight_max.max(in_flight);
            }
            EventKind::LeaseLost => {
                assert_eq!(self.in_flight.get(host), Some(&rollout), "{event:?}");
                // What it came to is kept while it is undrained, and told by whoever does that.
                if !self.kept.contains(index) {
                    self.measured.remove(index);
                }
                self.tally.taken_over += 1;
            }
            EventKind::Stage => {
                assert_eq!(self.in_flight.get(host), Some(&rollout), "{event:?}");
                if event.detail == "draining" {
                    self.not_undrained.remove(index);
                }
                if event.detail == "undraining" && self.measured.contains(index) {
                    self.kept.insert(*index);
                }
            }
            EventKind::UndrainFailed => {
                assert_eq!(self.in_flight.get(host), Some(&rollout), "{event:?}");
                assert!(self.failed_programs.contains(&(*index, false)), "it did not: {event:?}");
                self.not_undrained.insert(*index);
            }
            EventKind::PutBack => {
                assert_eq!(self.in_flight.remove(host), Some(rollout), "{event:?}");
                assert!(is_settled, "it was not undrained: {event:?}");
                told.counts.put_back(&domains);
                self.tally.put_back += 1;
                self.tally.cut_off += u64::from(event.detail.contains("could not renew"));
            }
            EventKind::Ended => {
                assert_eq!(self.in_flight.remove(host), Some(rollout), "{event:?}");
                assert!(is_settled, "it was not undrained: {event:?}");
                let ending = ending(&event.detail);
                let is_refused = event.detail == "failed: drain-failed";
                let has_failed = self.failed_programs.contains(&(*index, true));
                assert!(has_failed || !is_refused, "its drain did not fail by itself: {event:?}");
                told.counts.end(&domains, ending);
                told.is_reached |= is_reached(&told.limits, &part(&told.counts, &domains));
                let is_measured = self.measured.contains(index);
                let held = self.held.get(index).copied().flatten();
                check_end(event, ending, (&computers[*index], held), is_measured, rollout);
                match ending {
                    Ending::Confirmed => {
                        told.counted.insert(host.clone());
                        self.tally.confirmed += 1;
                    }
                    _ => self.tally.failed += 1,
                }
            }
            EventKind::Looked => {
                let release = (rollout as usize - 1) % 2;
                let seen = self.seen.get(&(*index, release)).copied();
                match event.detail.split(':').next() {
                    Some("healthy") => {
                        assert_eq!(seen, Some(Sight::Holds), "{event:?}");
                        self.tally.healthy += 1;
                    }
                    Some("sick") => {
                        let lacks = seen == Some(Sight::Lacks);
                        assert!(lacks || told.is_time_over(wave, event.at), "{event:?} {seen:?}");
                        told.counts.fall_sick(&domains, told.counted.remove(host));
                        told.is_reached |= is_reached(&told.limits, &part(&told.counts, &domains));
                        self.tally.sick += 1;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// All has ended: nobody was forgotten, nobody else was touched, everybody has a reason.
    pub(crate) fn look_at_end(&self, store: &mut dyn Store) {
        assert!(self.in_flight.is_empty(), "still in flight: {:?}", self.in_flight);
        for (id, told) in &self.rollouts {
            let state = store.rollout(*id).unwrap().unwrap().rollout.state;
            let (mut seen, mut after) = (BTreeSet::new(), None);
            loop {
                let page = store.attempts(*id, after, PAGE_MAX).unwrap();
                let Some(last) = page.last() else { break };
                after = Some(Place::from(last));
                for attempt in page {
                    let is_well = match attempt.state {
                        AttemptState::Planned | AttemptState::InFlight => false,
                        AttemptState::Confirmed | AttemptState::Failed => attempt.reason.is_some(),
                        AttemptState::Skipped => state == RolloutState::Error,
                    };
                    assert!(is_well, "rollout {id} is {state:?}: {attempt:?}");
                    let is_watched = state == RolloutState::Finished
                        && told.soaks[attempt.wave as usize]
                        && attempt.state == AttemptState::Confirmed;
                    let health = attempt.look.as_ref().map(|look| look.health);
                    let is_healthy = health == Some(Health::Healthy);
                    assert!(!is_watched || is_healthy, "nobody has seen it: {attempt:?}");
                    seen.insert(attempt.host);
                }
            }
            assert!(seen.iter().eq(told.planned.keys()), "rollout {id}: other hosts than planned");
        }
    }
}

impl Told {
    fn follow_state(&mut self, event: &Event) {
        let was_paused = !self.is_running;
        match event.detail.split(':').next() {
            Some("running") => {
                self.is_running = true;
                if was_paused {
                    self.counts.forgive();
                    self.counted.clear();
                    self.is_reached = false;
                }
            }
            Some("paused" | "error" | "finished") => self.is_running = false,
            _ => {}
        }
    }
}

impl Told {
    fn follow_wave(&mut self, event: &Event) {
        let (name, state) = event.detail.split_once(": ").unwrap();
        let wave = self.waves.iter_mut().find(|wave| wave.0 == name).unwrap();
        match state {
            "looking" => (wave.1, wave.2) = (WaveState::Looking, event.at),
            // Until when it had looked.
            "finished" if wave.1 == WaveState::Looking => wave.1 = WaveState::Finished,
            _ => wave.1 = WaveState::Waiting,
        }
    }

    /// Whether the time for looks was over in a wave that has just finished.
    fn is_time_over(&self, wave: u32, at: Stamp) -> bool {
        let (_, state, since) = self.waves[wave as usize];
        state == WaveState::Finished && at - since >= self.within_us
    }
}

/// What these domains count.
fn part(counts: &Counts, domains: &[Domain]) -> Counts {
    domains.iter().map(|domain| (domain.clone(), counts.of(domain))).collect()
}

/// Says whether a host that begins then has ended before a window closes.
fn fits(at: Stamp, predicted_s: u32) -> bool {
    let of_day = at.rem_euclid(1440 * MINUTE);
    let ends = of_day + i64::from(predicted_s) * SECOND;
    WINDOWS.iter().any(|(from, to)| from * MINUTE <= of_day && ends <= to * MINUTE)
}

fn ending(detail: &str) -> Ending {
    match detail.split_once(": ") {
        Some(("confirmed", _)) | None => Ending::Confirmed,
        Some((_, UNREACHABLE)) => Ending::Unreachable,
        Some(_) => Ending::Failed,
    }
}

/// Compares what is said of a host with what it is.
fn check_end(
    event: &Event,
    ending: Ending,
    (host, held): (&Computer, Option<usize>),
    is_measured: bool,
    id: RolloutId,
) {
    let release = (id as usize - 1) % 2;
    if event.detail == "failed: drain-failed" {
        // It was not touched, and not looked at.
    } else if ending == Ending::Confirmed {
        assert_eq!(held, Some(release), "{event:?}");
    } else {
        let is_new = host.firmware == Some(release) || matches!(host.place, Where::Flashing(_));
        assert!(!is_new || is_measured, "nobody has looked, it is {host:?}: {event:?}");
    }
}
