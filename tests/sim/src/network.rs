//! The network: every host has a link to the one segment on which the managers are.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::time::Time;

use crate::chance::Chance;
use crate::engine::Violation;

/// What every datagram takes at least.
const LATENCY: Duration = Duration::from_micros(200);
/// Datagrams that the adversary remembers.
const MEMORY_MAX: usize = 256;

/// Maximum number of datagrams under way at a time, for each host.
const IN_FLIGHT_PER_HOST_MAX: usize = 4_000;
/// Maximum number of datagrams that a manager sends at a time, for each host that it looks after.
const TRANSMITS_PER_HOST_MAX: usize = 32;
/// Maximum number of fragments that a manager sends at a time, for a millisecond at the highest
/// rate here.
const BURST_MAX: usize = 500;

/// Returns the host with an address; addresses are given in the order of the hosts.
pub(crate) fn number_of(address: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(v4) = address else { return None };
    let [_, _, high, low] = v4.ip().octets();
    (usize::from(high) << 8 | usize::from(low)).checked_sub(256)
}

/// Checks that a manager, which looks after so many hosts, does not send too much at once.
pub(crate) fn check_burst(sent: usize, hosts: usize) -> Result<(), Violation> {
    match sent > BURST_MAX + TRANSMITS_PER_HOST_MAX * hosts {
        true => Err(format!("the manager sends {sent} datagrams at once")),
        false => Ok(()),
    }
}

/// Checks that not too much is under way in a world of so many hosts.
pub(crate) fn check_under_way(under_way: usize, hosts: usize) -> Result<(), Violation> {
    match under_way > IN_FLIGHT_PER_HOST_MAX * (hosts + 4) {
        true => Err(format!("{under_way} datagrams are under way")),
        false => Ok(()),
    }
}

/// Which way a datagram goes on a host's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToHost,
    FromHost,
}

/// Probabilities for each datagram on each host's link.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkFaults {
    pub(crate) loss: f64,
    /// That a burst begins in which all is lost.
    pub(crate) burst: f64,
    pub(crate) burst_max: Duration,
    pub(crate) corruption: f64,
    pub(crate) duplication: f64,
    /// That it takes up to `reorder_max` longer.
    pub(crate) reorder: f64,
    pub(crate) reorder_max: Duration,
    pub(crate) jitter_max: Duration,
}

#[derive(Clone, Debug, Default)]
struct Link {
    faults: LinkFaults,
    burst_until: Time,
}

/// Some hosts hear or reach nobody for a while.
#[derive(Clone, Debug)]
struct Partition {
    from: Time,
    until: Time,
    /// Every host with a number below this, cut off.
    hosts_below: usize,
    /// Both ways when none.
    way: Option<Way>,
}

/// What a network is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    pub(crate) hosts: usize,
    pub(crate) link: LinkFaults,
    /// Share of hosts whose link is worse by far.
    pub(crate) bad_links: f64,
    pub(crate) partitions: usize,
    /// Before this the partitions begin.
    pub(crate) faults_end: Duration,
}

#[derive(Debug)]
pub(crate) struct Network {
    chance: Chance,
    links: Vec<Link>,
    partitions: Vec<Partition>,
    memory: Vec<Overheard>,
}

impl Network {
    pub(crate) fn new(mut chance: Chance, conditions: &Conditions) -> Self {
        let links = (0..conditions.hosts)
            .map(|_| {
                let mut faults = conditions.link;
                if chance.happens(conditions.bad_links) {
                    faults.loss = (faults.loss * 2.0 + 0.3).min(0.8);
                }
                Link { faults, burst_until: Time::ZERO }
            })
            .collect();
        let end = conditions.faults_end.max(Duration::from_secs(1));
        let partitions = (0..conditions.partitions)
            .map(|_| {
                let from = Time::ZERO + chance.span(Duration::ZERO..end);
                let longest = Duration::from_secs(*chance.pick(&[5, 60, 600]));
                Partition {
                    from,
                    until: from + chance.span(Duration::from_secs(1)..longest),
                    hosts_below: chance.within(1..conditions.hosts as u64 + 1) as usize,
                    way: *chance.pick(&[None, None, Some(Way::ToHost), Some(Way::FromHost)]),
                }
            })
            .collect();
        Self { chance, links, partitions, memory: Vec::new() }
    }

    /// From now on nothing is lost, damaged or doubled any more.
    pub(crate) fn calm_down(&mut self) {
        for link in &mut self.links {
            let jitter_max = link.faults.jitter_max.min(Duration::from_millis(5));
            *link = Link {
                faults: LinkFaults { jitter_max, ..LinkFaults::default() },
                ..Link::default()
            };
        }
        self.partitions.clear();
    }

    /// When, and as what, a datagram arrives at the other end of a host's link.
    pub(crate) fn carry(
        &mut self,
        now: Time,
        host: usize,
        way: Way,
        bytes: &Rc<[u8]>,
    ) -> Vec<(Time, Rc<[u8]>)> {
        self.remember(host, way, bytes);
        let (faults, chance) = (self.links[host].faults, &mut self.chance);
        let burst_until = &mut self.links[host].burst_until;
        if now >= *burst_until && chance.happens(faults.burst) {
            *burst_until = now + chance.span(Duration::from_millis(20)..faults.burst_max);
        }
        let cut = self.partitions.iter().any(|partition| {
            (partition.from..partition.until).contains(&now)
                && host < partition.hosts_below
                && partition.way.is_none_or(|cut| cut == way)
        });
        let copies = 1 + usize::from(chance.happens(faults.duplication));
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            if cut || now < *burst_until || chance.happens(faults.loss) {
                continue;
            }
            let mut at = now + LATENCY + chance.span(Duration::ZERO..faults.jitter_max + LATENCY);
            if chance.happens(faults.reorder) {
                at += chance.span(Duration::ZERO..faults.reorder_max);
            }
            let damaged = chance.happens(faults.corruption);
            arrivals.push((at, if damaged { damage(chance, bytes) } else { bytes.clone() }));
        }
        arrivals
    }

    /// Returns what somebody sends who has no keys: an old datagram as it was, damaged or cut, or
    /// any bytes.
    pub(crate) fn forge(&mut self) -> (SocketAddr, Rc<[u8]>) {
        let chance = &mut self.chance;
        let from = SocketAddr::from(([10, 9, 9, chance.within(0..250) as u8], 9847));
        let fresh = self.memory.is_empty() || chance.happens(0.3);
        if fresh {
            let size = chance.within(0..1500) as usize;
            let mut bytes = chance.bytes(size);
            if let Some(first) = bytes.first_mut() {
                *first %= 10;
            }
            return (from, bytes.into());
        }
        let old = chance.pick(&self.memory).bytes.clone();
        let bytes = match chance.within(0..3) {
            0 => damage(chance, &old),
            1 => old[..chance.within(0..old.len() as u64 + 1) as usize].into(),
            _ => old,
        };
        (from, bytes)
    }

    /// Returns the host that said this, if somebody overheard it: who relays it for the first time
    /// speaks for the host.
    pub(crate) fn take_speaker(&mut self, bytes: &[u8]) -> Option<usize> {
        let is_it = |overheard: &&mut Overheard| *overheard.bytes == *bytes;
        self.memory.iter_mut().find(is_it).and_then(|overheard| overheard.from_host.take())
    }

    fn remember(&mut self, host: usize, way: Way, bytes: &Rc<[u8]>) {
        let from_host = (way == Way::FromHost).then_some(host);
        let overheard = Overheard { from_host, bytes: bytes.clone() };
        if self.memory.len() < MEMORY_MAX {
            self.memory.push(overheard);
        } else if self.chance.happens(0.02) {
            let place = self.chance.within(0..MEMORY_MAX as u64) as usize;
            self.memory[place] = overheard;
        }
    }
}

/// A datagram that somebody without keys has heard.
#[derive(Debug)]
struct Overheard {
    /// Who said it; nobody when a host did not, or it was relayed already.
    from_host: Option<usize>,
    bytes: Rc<[u8]>,
}

fn damage(chance: &mut Chance, bytes: &[u8]) -> Rc<[u8]> {
    let mut damaged = bytes.to_vec();
    if !damaged.is_empty() {
        let place = chance.within(0..damaged.len() as u64) as usize;
        damaged[place] ^= 1 << chance.within(0..8);
    }
    damaged.into()
}
