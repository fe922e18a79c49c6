//! How long it takes: the plan is run through in virtual time.
//!
//! Each host begins as soon as its limits let it and its longest time fits into a window, in the
//! order of the plan, and takes its typical time. A wave begins when the one before it is over,
//! soak time included. What is ignored: failures, the time that people take to approve, how many
//! hosts a worker can serve at a time, how fast a bundle crosses to a site, and other rollouts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::super::file::RolloutFile;
use super::super::limits::Domain;
use super::super::prediction::Prediction;
use super::super::window::Openings;
use super::Planned;
use crate::model::Stamp;

/// Maximum number of looks at a host; what has not begun by then is not foreseen.
const LOOKS_MAX: u64 = 10_000_000;

/// When a host begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    At(Stamp),
    /// No window is ever long enough.
    Never,
    /// Later than was looked.
    Unknown,
}

/// What is needed of a host.
struct Seat {
    typical_s: u32,
    longest_s: u32,
    site: usize,
    /// Places in [`Schedule::room`], one for each limit.
    places: Vec<usize>,
}

/// The state of affairs at one moment.
pub(super) struct Schedule {
    seats: Vec<Seat>,
    openings: Vec<Openings>,
    /// For each limit and domain, how many more hosts may begin.
    room: Vec<u32>,
    looks_left: u64,
}

impl Schedule {
    /// Takes all hosts of all waves, as percentages are of them.
    pub(super) fn new(file: &RolloutFile, hosts: &[Planned<'_>]) -> Self {
        let mut sites: BTreeMap<&str, usize> = BTreeMap::new();
        let mut places: BTreeMap<(usize, Domain), (usize, u32)> = BTreeMap::new();
        let mut openings = Vec::new();
        let mut seats = Vec::with_capacity(hosts.len());
        for planned in hosts {
            let site = *sites.entry(planned.host.site()).or_insert_with(|| {
                openings.push(Openings::new(file.windows_of(planned.host.site())));
                openings.len() - 1
            });
            let limits = file.limits.in_flight.iter().enumerate();
            let own = limits.map(|(index, limit)| {
                let domain = Domain::of(&limit.scope, planned.wave, planned.host);
                let next = places.len();
                let (place, count) = places.entry((index, domain)).or_insert((next, 0));
                *count += 1;
                *place
            });
            let places = own.collect();
            let Prediction { typical_s, longest_s, .. } = planned.prediction;
            seats.push(Seat { typical_s, longest_s, site, places });
        }
        let mut room = vec![0; places.len()];
        for ((limit, _), (place, count)) in places {
            room[place] = file.limits.in_flight[limit].amount.of(count);
        }
        Self { seats, openings, room, looks_left: LOOKS_MAX }
    }

    /// Runs through one wave, whose hosts have these places among all: when each begins.
    pub(super) fn wave(&mut self, from: Stamp, hosts: std::ops::Range<usize>) -> Vec<Begin> {
        let first = hosts.start;
        let mut wave = WaveRun {
            begins: vec![Begin::Unknown; hosts.len()],
            first,
            now: from,
            ready: hosts.collect(),
            parked: vec![BTreeSet::new(); self.room.len()],
            later: BinaryHeap::new(),
            flying: BinaryHeap::new(),
        };
        loop {
            while let Some(host) = wave.ready.pop_first() {
                if self.looks_left == 0 {
                    self.land(&mut wave, Stamp::MAX);
                    return wave.begins;
                }
                self.looks_left -= 1;
                self.look(&mut wave, host);
            }
            let next = [wave.flying.peek(), wave.later.peek()].into_iter().flatten();
            let Some(next) = next.map(|Reverse((at, _))| *at).min() else { return wave.begins };
            wave.now = next;
            self.land(&mut wave, next);
            while let Some(Reverse((at, host))) = wave.later.peek().copied()
                && at <= next
            {
                wave.later.pop();
                wave.ready.insert(host);
            }
        }
    }

    /// Lets a host begin, or puts it where it waits.
    fn look(&mut self, wave: &mut WaveRun, host: usize) {
        let seat = &self.seats[host];
        if let Some(full) = seat.places.iter().find(|place| self.room[**place] == 0) {
            wave.parked[*full].insert(host);
        } else {
            let start = self.openings[seat.site].next_start(wave.now, seat.longest_s);
            match start {
                None => wave.begins[host - wave.first] = Begin::Never,
                Some(at) if at > wave.now => wave.later.push(Reverse((at, host))),
                Some(at) => {
                    wave.begins[host - wave.first] = Begin::At(at);
                    let takes_us = i64::from(seat.typical_s) * 1_000_000;
                    wave.flying.push(Reverse((at.saturating_add(takes_us), host)));
                    for place in &seat.places {
                        self.room[*place] -= 1;
                    }
                }
            }
        }
        self.call_next(wave, host);
    }

    /// Ends the hosts that end until then.
    fn land(&mut self, wave: &mut WaveRun, until: Stamp) {
        while let Some(Reverse((at, host))) = wave.flying.peek().copied()
            && at <= until
        {
            wave.flying.pop();
            for place in &self.seats[host].places {
                self.room[*place] += 1;
            }
            self.call_next(wave, host);
        }
    }

    /// Has the next host looked at in each domain of this one that has room. So a host that waits
    /// for something else keeps no room from others.
    fn call_next(&self, wave: &mut WaveRun, host: usize) {
        for place in &self.seats[host].places {
            if self.room[*place] > 0
                && let Some(next) = wave.parked[*place].pop_first()
            {
                wave.ready.insert(next);
            }
        }
    }
}

/// One wave being run through. Hosts are places among all.
struct WaveRun {
    begins: Vec<Begin>,
    first: usize,
    now: Stamp,
    /// To be looked at now.
    ready: BTreeSet<usize>,
    /// Those that wait for room, by where.
    parked: Vec<BTreeSet<usize>>,
    /// Those that wait for a window, by when it opens.
    later: BinaryHeap<Reverse<(Stamp, usize)>>,
    /// Those that have begun, by when they end.
    flying: BinaryHeap<Reverse<(Stamp, usize)>>,
}
