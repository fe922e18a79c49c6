//! One world of dead hosts: a clock, a queue of what happens next, hosts, managers and a network between them.

mod managers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::rescue::seek::{Candidate, Source};
use firmcast::time::Time;
use firmcast_manager::rescue::{BundleId, Deposit};

use super::host::VirtualHost;
use super::manager::{Manager, Post, host_name};
use super::places;
use super::scenario::{Rogue, Scenario};
use super::summary::Summary;
use super::traffic::Traffic;
use super::truth::Truth;
use crate::chance::Chance;
use crate::network::{Network, Way};
use crate::trace::Trace;
use crate::update::host::Violation;

/// In fair weather every host is rescued within this time of the last death.
pub(crate) const FAIR_MAX: Duration = Duration::from_secs(900);
/// After the faults end, every host is rescued within this time.
pub(crate) const FINISH_MAX: Duration = Duration::from_secs(1800);
/// Most datagrams under way at a time, for each host.
const IN_FLIGHT_PER_HOST_MAX: usize = 4_000;
/// Most datagrams that a manager sends at a time: for each host, and beside those to all.
const TRANSMITS_PER_HOST_MAX: usize = 32;
const BURST_MAX: usize = 500;
/// More steps than any world needs: something spins.
const STEPS_MAX: u64 = 30_000_000;

pub(super) enum Happening {
    ToHost { host: usize, from: SocketAddr, bytes: Rc<[u8]>, by_group: bool },
    ToManager { to: SocketAddr, from: SocketAddr, bytes: Rc<[u8]> },
    HostWakes(usize),
    ManagerWakes(usize),
    HostDies(usize),
    PowerCut(usize),
    LookedUp { host: usize, life: u64, source: Source, found: Result<Vec<Candidate>, String> },
    Loaded { post: usize, run: u64, id: BundleId, works: bool },
    DiskDone { post: usize, run: u64, deposit: Deposit, works: bool },
    ManagerStarts(usize),
    ManagerDies(usize),
    ManagerHangs(usize),
    Forgery,
    FaultsEnd,
}

pub(crate) struct World {
    pub(crate) now: Time,
    scenario: Rc<Scenario>,
    truth: Rc<Truth>,
    chance: Chance,
    network: Network,
    traffic: Traffic,
    hosts: Vec<VirtualHost>,
    /// Hosts by the names that managers know them by.
    names: BTreeMap<String, usize>,
    posts: Vec<Post>,
    managers: Vec<Option<Manager>>,
    /// The one that hangs, or is going to.
    hung: Option<usize>,
    /// How often a manager was started at each post.
    runs: Vec<u64>,
    deaths_to_come: usize,
    faults_ended: bool,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    host_wakes: Vec<Option<Time>>,
    trace: Trace,
    summary: Summary,
}

impl World {
    pub(crate) fn new(scenario: Scenario, verbose: bool) -> Self {
        let scenario = Rc::new(scenario);
        let truth = Rc::new(Truth::new(&scenario));
        let mut chance = Chance::new(scenario.seed, 13);
        let host = |number| VirtualHost::new(number, scenario.clone(), truth.clone());
        let hosts: Vec<VirtualHost> = (0..scenario.hosts).map(host).collect();
        let fingerprint = |host| {
            use firmcast::keys::{PublicKey as _, SecretKey as _};
            truth.host_key(host).public().fingerprint().to_string()
        };
        let names = (0..scenario.hosts)
            .flat_map(|host| [(host_name(host), host), (fingerprint(host), host)]);
        let posts = Post::all(&scenario, &mut chance);
        let mut world = Self {
            now: Time::ZERO,
            network: Network::new(Chance::new(scenario.seed, 11), &scenario.conditions()),
            traffic: Traffic::new(hosts.len()),
            names: names.collect(),
            host_wakes: vec![None; hosts.len()],
            deaths_to_come: hosts.len(),
            hosts,
            truth,
            chance,
            managers: posts.iter().map(|_| None).collect(),
            hung: None,
            runs: vec![0; posts.len()],
            posts,
            faults_ended: scenario.faults_end.is_zero(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            trace: Trace::new(verbose),
            summary: Summary::default(),
            scenario,
        };
        world.plan();
        world
    }

    /// Everything that will happen whatever hosts and managers do.
    fn plan(&mut self) {
        let (scenario, end) = (self.scenario.clone(), self.scenario.faults_end);
        for host in 0..scenario.hosts {
            let at = scenario
                .deaths
                .map_or(Duration::ZERO, |deaths| self.chance.span(Duration::ZERO..deaths));
            self.at(at, Happening::HostDies(host));
        }
        if scenario.adversary.is_some() {
            self.at(Duration::ZERO, Happening::Forgery);
        }
        if !end.is_zero() {
            self.at(end, Happening::FaultsEnd);
        }
        for _ in 0..scenario.power_cuts {
            let at = self.chance.span(Duration::ZERO..end);
            let host = self.chance.within(0..scenario.hosts as u64) as usize;
            self.at(at, Happening::PowerCut(host));
        }
        for post in 0..self.posts.len() {
            self.plan_manager(post);
        }
    }

    /// When managers are there. While there are faults, they come late, and go.
    fn plan_manager(&mut self, post: usize) {
        let end = self.scenario.faults_end;
        let is_genuine = self.posts[post].is_genuine();
        let latest = if end.is_zero() { Duration::from_secs(1) } else { end / 2 };
        let start = self.chance.span(Duration::ZERO..latest);
        self.at(start, Happening::ManagerStarts(post));
        let mut death = start;
        while let Some(life) = self.scenario.manager_life {
            death += self.chance.span(Duration::from_secs(1)..life * 2);
            if death >= end {
                break;
            }
            self.at(death, Happening::ManagerDies(post));
            death += self.chance.span(Duration::ZERO..Duration::from_secs(60));
            self.at(death.min(end), Happening::ManagerStarts(post));
        }
        if !is_genuine && !self.scenario.rogue_stays {
            self.at(end, Happening::ManagerDies(post));
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self) -> Result<Summary, Violation> {
        let deaths = self.scenario.deaths.unwrap_or_default();
        let limit = match self.scenario.faults_end.is_zero() {
            true => deaths + FAIR_MAX,
            false => deaths.max(self.scenario.faults_end) + FINISH_MAX,
        };
        while !self.is_finished() {
            let Some(Reverse((at, sequence))) = self.queue.pop() else {
                return Err(format!("nothing will happen any more: {}", self.stragglers()));
            };
            self.now = at;
            if at > Time::ZERO + limit {
                return Err(format!("not finished after {limit:?}: {}", self.stragglers()));
            }
            self.summary.steps += 1;
            if self.summary.steps > STEPS_MAX {
                return Err("more steps than any world needs".into());
            }
            if let Some(happening) = self.happenings.remove(&sequence) {
                self.trace.count(at.as_micros());
                self.happen(happening)?;
            }
        }
        Ok(self.sum_up())
    }

    fn sum_up(&mut self) -> Summary {
        for post in 0..self.posts.len() {
            self.manager_dies(post);
        }
        Summary {
            digest: self.trace.digest(),
            virtual_time: self.now.since(Time::ZERO),
            hosts: self.hosts.len(),
            image_bytes: self.scenario.chip_bytes * self.scenario.boards,
            attempts: self.hosts.iter().map(|host| host.attempts).sum(),
            answers: self.traffic.answers_total,
            requests: self.traffic.requests_total,
            stream: self.traffic.stream_total,
            answers_max: self.traffic.answers_max,
            requests_max: self.traffic.requests_max,
            ..self.summary.clone()
        }
    }

    fn is_finished(&self) -> bool {
        self.faults_ended
            && self.deaths_to_come == 0
            && self.hosts.iter().all(|host| host.is_over || self.is_forsaken(host))
    }

    /// Nobody may help it.
    fn is_forsaken(&self, host: &VirtualHost) -> bool {
        !self.scenario.helps_strangers && self.is_stranger(host.computer.number)
    }

    fn is_stranger(&self, host: usize) -> bool {
        self.truth.is_stranger(host, self.scenario.strangers)
    }

    /// Who is not where it should be, for a person.
    fn stragglers(&self) -> String {
        let missing = |host: &&VirtualHost| !host.is_over && !self.is_forsaken(host);
        let all: Vec<&VirtualHost> = self.hosts.iter().filter(missing).collect();
        let some = all.iter().take(4).map(|host| {
            let right = host.computer.is_repaired();
            format!("host{} ({}), chip right: {right}", host.computer.number, host.describe())
        });
        format!("{} hosts: {}", all.len(), some.collect::<Vec<_>>().join("; "))
    }

    fn after(&mut self, span: Duration, happening: Happening) {
        self.enqueue(self.now + span, happening);
    }

    fn at(&mut self, span: Duration, happening: Happening) {
        self.enqueue(Time::ZERO + span, happening);
    }

    fn enqueue(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((at.max(self.now), self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::ToHost { host, from, bytes, by_group } => {
                if !by_group || self.hosts[host].hears_group() {
                    self.trace.count(host as u64);
                    self.trace.bytes(&bytes);
                    let result = self.hosts[host].handle_datagram(self.now, from, &bytes);
                    self.host_moved(host, result)?;
                }
            }
            Happening::ToManager { to, from, bytes } => self.reach_managers(to, from, &bytes)?,
            Happening::HostWakes(host) => {
                if self.host_wakes[host] == Some(self.now) {
                    self.host_wakes[host] = None;
                    let result = self.hosts[host].handle_timeout(self.now);
                    self.host_moved(host, result)?;
                }
            }
            Happening::ManagerWakes(post) => {
                if let Some(manager) = &mut self.managers[post]
                    && manager.wake == Some(self.now)
                {
                    manager.wake = None;
                    manager.handle_timeout(self.now);
                    self.manager_moved(post)?;
                }
            }
            Happening::LookedUp { host, life, source, found } => {
                if self.hosts[host].life == life {
                    let result = self.hosts[host].found(self.now, source, found);
                    self.host_moved(host, result)?;
                }
            }
            other => self.disturb(other)?,
        }
        Ok(())
    }

    /// What comes from outside of the protocol.
    fn disturb(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::HostDies(host) => {
                self.deaths_to_come -= 1;
                self.hosts[host].boot(self.now);
                self.host_moved(host, Ok(()))?;
            }
            Happening::PowerCut(host) => {
                let place = self.hosts[host].describe();
                let result = self.hosts[host].cut(self.now);
                if *result.as_ref().unwrap_or(&true) {
                    self.summary.power_cuts += 1;
                    self.trace.line(self.now, format_args!("host{host} loses power: {place}"));
                    self.host_moved(host, result.map(drop))?;
                }
            }
            Happening::Loaded { post, run, id, works } => self.loaded(post, run, &id, works)?,
            Happening::DiskDone { post, run, deposit, works } => {
                self.disk_done(post, run, &deposit, works)?;
            }
            Happening::ManagerStarts(post) => self.manager_starts(post)?,
            Happening::ManagerDies(post) if self.hung != Some(post) => self.manager_dies(post),
            Happening::ManagerHangs(post) => {
                self.manager_dies(post);
                self.posts[post].rogue = Some(Rogue::Mute);
                self.start_manager(post)?;
            }
            Happening::Forgery => self.forge(),
            Happening::FaultsEnd => self.faults_end()?,
            _ => {}
        }
        Ok(())
    }

    fn faults_end(&mut self) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("the faults end"));
        self.faults_ended = true;
        self.network.calm_down();
        for host in &mut self.hosts {
            host.faults_end();
        }
        for post in 0..self.posts.len() {
            if let Some(manager) = self.managers[post].as_mut() {
                manager.reread_policy(&self.scenario, &self.truth);
                self.manager_moved(post)?;
            }
        }
        Ok(())
    }

    fn forge(&mut self) {
        let (from, bytes) = self.network.forge();
        match self.chance.happens(0.5) {
            true => {
                let host = self.chance.within(0..self.hosts.len() as u64) as usize;
                self.after(
                    Duration::ZERO,
                    Happening::ToHost { host, from, bytes, by_group: false },
                );
            }
            false => {
                let to = self.chance.pick(&self.posts).address;
                self.after(Duration::ZERO, Happening::ToManager { to, from, bytes });
            }
        }
        if let Some(pause) = self.scenario.adversary {
            let pause = self.chance.span(Duration::from_millis(1)..pause * 2);
            self.after(pause, Happening::Forgery);
        }
    }

    /// After every step of a host: its datagrams leave, its places are looked up, its next wake is planned.
    fn host_moved(&mut self, host: usize, result: Result<(), Violation>) -> Result<(), Violation> {
        let moved = &mut self.hosts[host];
        result.map_err(|violation| format!("host{host} ({}): {violation}", moved.describe()))?;
        let (from, life, wake) = (moved.address, moved.life, moved.poll_timeout());
        let outbox = std::mem::take(&mut moved.outbox);
        let lookups = moved.stay().map(|stay| std::mem::take(&mut stay.lookups));
        for transmit in outbox {
            self.traffic.host_says(self.now, host, &transmit.bytes)?;
            let bytes: Rc<[u8]> = transmit.bytes.into();
            for (at, bytes) in self.network.carry(self.now, host, Way::FromHost, &bytes) {
                self.enqueue(at, Happening::ToManager { to: transmit.to, from, bytes });
            }
        }
        for source in lookups.unwrap_or_default() {
            let found =
                places::look_up(source, &self.scenario, &self.truth, &self.posts, &mut self.chance);
            let span = self.chance.span(Duration::from_millis(1)..self.scenario.lookup_max);
            self.trace.line(self.now, format_args!("host{host} looks up {source}: {found:?}"));
            self.after(span, Happening::LookedUp { host, life, source, found });
        }
        let wake = wake.map(|at| at.max(self.now));
        if wake != self.host_wakes[host] {
            self.host_wakes[host] = wake;
            if let Some(at) = wake {
                self.enqueue(at, Happening::HostWakes(host));
            }
        }
        Ok(())
    }

    /// A datagram arrives at one address, or at everybody's.
    fn reach_managers(
        &mut self,
        to: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let host = self.host_at(from);
        for post in 0..self.posts.len() {
            if to != places::everybody() && to != self.posts[post].address {
                continue;
            }
            let Some(manager) = &mut self.managers[post] else { continue };
            self.trace.bytes(bytes);
            match host {
                Some(host) => manager.heard[host] += 1,
                None => self.traffic.stranger_says(from, bytes),
            }
            manager.handle_datagram(self.now, from, bytes);
            self.manager_moved(post)?;
        }
        Ok(())
    }

    /// The host with this address; addresses are given in their order.
    fn host_at(&self, address: SocketAddr) -> Option<usize> {
        let SocketAddr::V4(v4) = address else { return None };
        let [_, _, high, low] = v4.ip().octets();
        let number = (usize::from(high) << 8 | usize::from(low)).wrapping_sub(256);
        self.hosts.get(number).filter(|host| host.address == address).map(|_| number)
    }
}
