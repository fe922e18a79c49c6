//! One world of dead hosts: a clock, a queue of what happens next, hosts, managers and a network
//! between them.

mod managers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::rescue::seek::{Candidate, Source};
use firmcast::time::Time;
use firmcast::wire::help::RESCUES_IN_VAIN;
use firmcast_manager::rescue::{BundleId, Deposit};

use super::host::VirtualHost;
use super::manager::{Manager, Post, host_name};
use super::places;
use super::scenario::{Rogue, Scenario};
use super::summary::Summary;
use super::traffic::Traffic;
use super::truth::Truth;
use crate::chance::Chance;
use crate::engine::{Alarm, Engine, Simulated, Violation};
use crate::network::{Network, Way, number_of};

/// In fair weather every host is rescued within this time of the last death.
pub(crate) const FAIR_MAX: Duration = Duration::from_secs(900);
/// After the faults end, every host is rescued within this time.
pub(crate) const FINISH_MAX: Duration = Duration::from_secs(1800);

pub(crate) enum Happening {
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
    engine: Engine<Happening>,
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
    host_wakes: Vec<Alarm>,
    summary: Summary,
}

impl Simulated for World {
    type Happening = Happening;

    fn engine(&mut self) -> &mut Engine<Happening> {
        &mut self.engine
    }

    fn is_finished(&self) -> bool {
        self.faults_ended
            && self.deaths_to_come == 0
            && self.hosts.iter().all(|host| host.is_over || self.is_forsaken(host))
    }

    fn stragglers(&self) -> String {
        let missing = |host: &&VirtualHost| !host.is_over && !self.is_forsaken(host);
        let all: Vec<&VirtualHost> = self.hosts.iter().filter(missing).collect();
        let some = all.iter().take(4).map(|host| {
            let right = host.computer.is_repaired();
            format!("host{} ({}), chip right: {right}", host.computer.number, host.describe())
        });
        format!("{} hosts: {}", all.len(), some.collect::<Vec<_>>().join("; "))
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::ToHost { host, from, bytes, by_group } => {
                if !by_group || self.hosts[host].hears_group() {
                    self.engine.trace.count(host as u64);
                    self.engine.trace.bytes(&bytes);
                    let result = self.hosts[host].handle_datagram(self.engine.now(), from, &bytes);
                    self.host_moved(host, result)?;
                }
            }
            Happening::ToManager { to, from, bytes } => self.reach_managers(to, from, &bytes)?,
            Happening::HostWakes(host) => {
                if self.host_wakes[host].rings(self.engine.now()) {
                    let result = self.hosts[host].handle_timeout(self.engine.now());
                    self.host_moved(host, result)?;
                }
            }
            Happening::ManagerWakes(post) => {
                if let Some(manager) = &mut self.managers[post]
                    && manager.wake.rings(self.engine.now())
                {
                    manager.handle_timeout(self.engine.now());
                    self.manager_moved(post)?;
                }
            }
            Happening::LookedUp { host, life, source, found } => {
                if self.hosts[host].life == life {
                    let result = self.hosts[host].found(self.engine.now(), source, found);
                    self.host_moved(host, result)?;
                }
            }
            other => self.disturb(other)?,
        }
        Ok(())
    }
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
            engine: Engine::new(verbose),
            network: Network::new(Chance::new(scenario.seed, 11), &scenario.conditions()),
            traffic: Traffic::new(hosts.len()),
            names: names.collect(),
            host_wakes: vec![Alarm::default(); hosts.len()],
            deaths_to_come: hosts.len(),
            hosts,
            truth,
            chance,
            managers: posts.iter().map(|_| None).collect(),
            hung: None,
            runs: vec![0; posts.len()],
            posts,
            faults_ended: scenario.faults_end.is_zero(),
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
            self.engine.after_start(at, Happening::HostDies(host));
        }
        if scenario.adversary.is_some() {
            self.engine.after_start(Duration::ZERO, Happening::Forgery);
        }
        if !end.is_zero() {
            self.engine.after_start(end, Happening::FaultsEnd);
        }
        for _ in 0..scenario.power_cuts {
            let at = self.chance.span(Duration::ZERO..end);
            let host = self.chance.within(0..scenario.hosts as u64) as usize;
            self.engine.after_start(at, Happening::PowerCut(host));
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
        self.engine.after_start(start, Happening::ManagerStarts(post));
        let mut death = start;
        while let Some(life) = self.scenario.manager_life {
            death += self.chance.span(Duration::from_secs(1)..life * 2);
            if death >= end {
                break;
            }
            self.engine.after_start(death, Happening::ManagerDies(post));
            death += self.chance.span(Duration::ZERO..Duration::from_secs(60));
            self.engine.after_start(death.min(end), Happening::ManagerStarts(post));
        }
        if !is_genuine && !self.scenario.rogue_stays {
            self.engine.after_start(end, Happening::ManagerDies(post));
        }
    }

    /// Runs the world to its end.
    pub(crate) fn run(mut self) -> Result<Summary, Violation> {
        let deaths = self.scenario.deaths.unwrap_or_default();
        // One after the other, where a rescue does not help.
        let rescues = if self.scenario.relapsing > 0.0 { RESCUES_IN_VAIN as u32 + 1 } else { 1 };
        let limit = match self.scenario.faults_end.is_zero() {
            true => deaths + FAIR_MAX * rescues,
            false => deaths.max(self.scenario.faults_end) + FINISH_MAX * rescues,
        };
        self.run_until(limit)?;
        Ok(self.sum_up())
    }

    fn sum_up(&mut self) -> Summary {
        for post in 0..self.posts.len() {
            self.manager_dies(post);
        }
        let mut joined_after: Vec<_> =
            self.hosts.iter().flat_map(|host| host.joined_after.clone()).collect();
        joined_after.sort();
        let last =
            |time: fn(&VirtualHost) -> Option<Time>| self.hosts.iter().filter_map(time).max();
        let last_word = last(|host| host.first_word).unwrap_or(Time::ZERO);
        let verified_after_last_word =
            last(|host| host.verified).map_or(Duration::ZERO, |last| last.since(last_word));
        Summary {
            digest: self.engine.trace.digest(),
            steps: self.engine.steps(),
            virtual_time: self.engine.now().since(Time::ZERO),
            hosts: self.hosts.len(),
            image_bytes: self.scenario.chip_bytes * self.scenario.boards,
            attempts: self.hosts.iter().map(|host| host.attempts).sum(),
            joined_after,
            verified_after_last_word,
            answers: self.traffic.answers_total,
            requests: self.traffic.requests_total,
            stream: self.traffic.stream_total,
            answers_max: self.traffic.answers_max,
            requests_max: self.traffic.requests_max,
            ..self.summary.clone()
        }
    }

    /// Nobody may help it.
    fn is_forsaken(&self, host: &VirtualHost) -> bool {
        !self.scenario.helps_strangers && self.is_stranger(host.computer.number)
    }

    fn is_stranger(&self, host: usize) -> bool {
        self.truth.is_stranger(host, self.scenario.strangers)
    }

    /// Returns what comes from outside of the protocol.
    fn disturb(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::HostDies(host) => {
                self.deaths_to_come -= 1;
                self.hosts[host].boot(self.engine.now());
                self.host_moved(host, Ok(()))?;
            }
            Happening::PowerCut(host) => {
                let place = self.hosts[host].describe();
                let result = self.hosts[host].cut(self.engine.now());
                if *result.as_ref().unwrap_or(&true) {
                    self.summary.power_cuts += 1;
                    self.engine.line(format_args!("host{host} loses power: {place}"));
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
        self.engine.line(format_args!("the faults end"));
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
                self.engine.after(
                    Duration::ZERO,
                    Happening::ToHost { host, from, bytes, by_group: false },
                );
            }
            false => {
                let to = self.chance.pick(&self.posts).address;
                self.engine.after(Duration::ZERO, Happening::ToManager { to, from, bytes });
            }
        }
        if let Some(pause) = self.scenario.adversary {
            let pause = self.chance.span(Duration::from_millis(1)..pause * 2);
            self.engine.after(pause, Happening::Forgery);
        }
    }

    /// After every step of a host: its datagrams leave, its places are looked up, its next wake is
    /// planned.
    fn host_moved(&mut self, host: usize, result: Result<(), Violation>) -> Result<(), Violation> {
        let moved = &mut self.hosts[host];
        result.map_err(|violation| format!("host{host} ({}): {violation}", moved.describe()))?;
        let (from, life, wake) = (moved.address, moved.life, moved.poll_timeout());
        let outbox = moved.outbox.take();
        let lookups = moved.stay().map(|stay| std::mem::take(&mut stay.lookups));
        for transmit in outbox {
            self.traffic.host_says(self.engine.now(), host, &transmit.bytes)?;
            let bytes: Rc<[u8]> = transmit.bytes.into();
            for (at, bytes) in self.network.carry(self.engine.now(), host, Way::FromHost, &bytes) {
                self.engine.at(at, Happening::ToManager { to: transmit.to, from, bytes });
            }
        }
        for source in lookups.unwrap_or_default() {
            let found =
                places::look_up(source, &self.scenario, &self.truth, &self.posts, &mut self.chance);
            let span = self.chance.span(Duration::from_millis(1)..self.scenario.lookup_max);
            self.engine.line(format_args!("host{host} looks up {source}: {found:?}"));
            self.engine.after(span, Happening::LookedUp { host, life, source, found });
        }
        self.host_wakes[host].set(wake, &mut self.engine, Happening::HostWakes(host));
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
            self.engine.trace.bytes(bytes);
            match host {
                Some(host) => manager.heard[host] += 1,
                None => {
                    self.traffic.stranger_says(from, bytes);
                    // It is answered as if the host had been heard, once.
                    if let Some(host) = self.network.take_speaker(bytes) {
                        manager.heard[host] += 1;
                    }
                }
            }
            manager.handle_datagram(self.engine.now(), from, bytes);
            self.manager_moved(post)?;
        }
        Ok(())
    }

    fn host_at(&self, address: SocketAddr) -> Option<usize> {
        let is_there =
            |host: &usize| self.hosts.get(*host).is_some_and(|host| host.address == address);
        number_of(address).filter(is_there)
    }
}
