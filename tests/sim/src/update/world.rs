//! One virtual world: a clock, a queue of what happens next, hosts, managers and a network between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::time::Time;
use firmcast_manager::campaign::{Backup, Delivery, Destination, Event, Stage, Transmit};

use crate::chance::Chance;
use crate::network::{Network, Way};
use crate::trace::Trace;
use crate::update::host::{Violation, VirtualHost};
use crate::update::operator::{self, Manager};
use crate::update::scenario::{Scenario, Weather};
use crate::update::truth::Truth;

/// In fair weather every host is confirmed by the first campaign within this time.
pub(crate) const FAIR_MAX: Duration = Duration::from_secs(900);
/// After the faults end, every host is confirmed, or known to need a rescue, within this time.
pub(crate) const FINISH_MAX: Duration = Duration::from_secs(2400);
/// Most datagrams under way at a time, for each host.
const IN_FLIGHT_PER_HOST_MAX: usize = 4_000;
/// Most datagrams that a manager sends at a time, for each host.
const TRANSMITS_PER_HOST_MAX: usize = 32;
/// Most fragments that a manager sends at a time, for a millisecond at the highest rate here.
const BURST_MAX: usize = 500;
/// More steps than any world needs: something spins.
const STEPS_MAX: u64 = 30_000_000;

enum Happening {
    ToHost {
        host: usize,
        from: SocketAddr,
        bytes: Rc<[u8]>,
        by_group: bool,
    },
    ToManager {
        to: SocketAddr,
        from: SocketAddr,
        bytes: Rc<[u8]>,
    },
    HostWakes(usize),
    ManagerWakes(usize),
    HostRestarts(usize),
    /// The disk of a manager took a backup, or did not.
    DiskDone {
        slot: usize,
        backup: Backup,
        works: bool,
    },
    ManagerDies,
    OperatorStarts,
    RogueStarts,
    OperatorInterrupts(u64),
    Forgery,
    FaultsEnd,
}

/// What came out of a world in which no invariant was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) digest: u64,
    pub(crate) steps: u64,
    pub(crate) virtual_time: Duration,
    pub(crate) campaigns: u32,
    /// Hosts that stay in recovery with a chip that could not be written while the faults lasted.
    pub(crate) rescues: usize,
    /// How many ends of each kind the managers saw: whether the faults bite.
    pub(crate) ends: BTreeMap<&'static str, u64>,
}

pub(crate) struct World {
    pub(crate) now: Time,
    scenario: Rc<Scenario>,
    truth: Rc<Truth>,
    chance: Chance,
    network: Network,
    hosts: Vec<VirtualHost>,
    managers: BTreeMap<usize, Manager>,
    /// Who of the hosts the operator has not seen confirmed.
    unconfirmed: Vec<usize>,
    operator_done: bool,
    rogue_to_come: bool,
    started: u32,
    ends: BTreeMap<&'static str, u64>,
    faults_ended: bool,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    host_wakes: Vec<Option<Time>>,
    trace: Trace,
}

impl World {
    pub(crate) fn new(scenario: Scenario, verbose: bool) -> Self {
        let scenario = Rc::new(scenario);
        let truth = Rc::new(Truth::new(&scenario));
        let mut chance = Chance::new(scenario.seed, 3);
        let host = |number| {
            let is_current = chance.happens(scenario.current);
            VirtualHost::new(number, scenario.clone(), truth.clone(), is_current)
        };
        let hosts: Vec<VirtualHost> = (0..scenario.hosts).map(host).collect();
        let mut world = Self {
            now: Time::ZERO,
            network: Network::new(Chance::new(scenario.seed, 1), &scenario.conditions()),
            unconfirmed: (0..hosts.len()).collect(),
            host_wakes: vec![None; hosts.len()],
            hosts,
            truth,
            chance,
            managers: BTreeMap::new(),
            operator_done: false,
            rogue_to_come: scenario.rogue.is_some(),
            started: 0,
            ends: BTreeMap::new(),
            faults_ended: scenario.faults_end.is_zero(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            trace: Trace::new(verbose),
            scenario,
        };
        world.plan();
        world
    }

    /// Everything that will happen whatever the hosts and managers do.
    fn plan(&mut self) {
        let (scenario, end) = (self.scenario.clone(), self.scenario.faults_end);
        // A rogue may come first.
        let start = Duration::from_secs(if scenario.rogue.is_some() { 60 } else { 1 });
        let start = self.chance.span(Duration::ZERO..start);
        self.at(start, Happening::OperatorStarts);
        if scenario.adversary.is_some() {
            self.at(Duration::ZERO, Happening::Forgery);
        }
        if scenario.weather == Weather::Fair {
            return;
        }
        self.at(end, Happening::FaultsEnd);
        if scenario.rogue.is_some() {
            let latest = *self.chance.pick(&[Duration::from_secs(1), Duration::from_secs(40), end]);
            let at = self.chance.span(Duration::ZERO..latest);
            self.at(at, Happening::RogueStarts);
        }
        for _ in 0..scenario.restarts {
            let at = self.chance.span(Duration::ZERO..end);
            let host = self.chance.within(0..scenario.hosts as u64) as usize;
            self.at(at, Happening::HostRestarts(host));
        }
        let mut death = Duration::ZERO;
        while let Some(life) = scenario.manager_life {
            death += self.chance.span(Duration::from_secs(1)..life * 2);
            if death >= end {
                break;
            }
            self.at(death, Happening::ManagerDies);
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self) -> Result<Summary, Violation> {
        let limit = match self.scenario.weather {
            Weather::Fair => FAIR_MAX,
            Weather::Stormy => self.scenario.faults_end + FINISH_MAX,
        };
        let mut steps = 0;
        while !self.is_finished() {
            let Some(Reverse((at, sequence))) = self.queue.pop() else {
                return Err(format!("nothing will happen any more: {}", self.stragglers()));
            };
            self.now = at;
            if at > Time::ZERO + limit {
                return Err(format!("not finished after {limit:?}: {}", self.stragglers()));
            }
            steps += 1;
            if steps > STEPS_MAX {
                return Err("more steps than any world needs".into());
            }
            if let Some(happening) = self.happenings.remove(&sequence) {
                self.trace.count(at.as_micros());
                self.happen(happening)?;
            }
        }
        Ok(Summary {
            digest: self.trace.digest(),
            steps,
            virtual_time: self.now.since(Time::ZERO),
            campaigns: self.started,
            rescues: self.hosts.iter().filter(|host| host.needs_rescue()).count(),
            ends: std::mem::take(&mut self.ends),
        })
    }

    fn is_finished(&self) -> bool {
        self.operator_done
            && self.managers.is_empty()
            && !self.rogue_to_come
            && self.faults_ended
            && self.hosts.iter().all(|host| host.is_confirmed() || host.needs_rescue())
    }

    /// Who is not where it should be, for a person.
    fn stragglers(&self) -> String {
        let mut found: Vec<String> = (self.managers.values())
            .map(|manager| {
                let ended =
                    manager.campaign.hosts().iter().filter(|host| host.stage() == Stage::Ended);
                format!(
                    "campaign {:x}: {} of {} ended",
                    manager.number,
                    ended.count(),
                    manager.targets.len()
                )
            })
            .collect();
        let missing = |host: &&VirtualHost| !host.is_confirmed() && !host.needs_rescue();
        let hosts = self.hosts.iter().filter(missing).take(5);
        found.extend(hosts.map(|host| {
            let holds = host.computer.holds();
            format!(
                "host{} {} holds {holds:?}, last end {:?}",
                host.computer.number,
                host.describe(),
                host.last_end
            )
        }));
        found.join("; ")
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
            Happening::ToManager { to, from, bytes } => {
                let found = self.managers.iter().find(|(_, manager)| manager.address == to);
                if let Some(slot) = found.map(|(slot, _)| *slot) {
                    self.trace.bytes(&bytes);
                    if let Some(manager) = self.managers.get_mut(&slot) {
                        manager.campaign.handle_datagram(manager.local(self.now), from, &bytes);
                    }
                    self.manager_moved(slot)?;
                }
            }
            Happening::HostWakes(host) => {
                if self.host_wakes[host] == Some(self.now) {
                    self.host_wakes[host] = None;
                    let result = self.hosts[host].handle_timeout(self.now);
                    self.host_moved(host, result)?;
                }
            }
            Happening::ManagerWakes(slot) => {
                if let Some(manager) = self.managers.get_mut(&slot)
                    && manager.wake == Some(self.now)
                {
                    manager.wake = None;
                    manager.campaign.handle_timeout(manager.local(self.now));
                    self.manager_moved(slot)?;
                }
            }
            other => self.disturb(other)?,
        }
        Ok(())
    }

    /// What comes from outside of the protocol.
    fn disturb(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::OperatorStarts => self.operator_starts()?,
            Happening::RogueStarts => {
                self.rogue_to_come = false;
                self.start_manager(true, (0..self.hosts.len()).collect())?;
            }
            Happening::HostRestarts(host) => {
                let place = self.hosts[host].describe();
                if self.hosts[host].restart(self.now) {
                    self.trace.line(self.now, format_args!("host{host} loses power in {place}"));
                    self.host_moved(host, Ok(()))?;
                }
            }
            Happening::DiskDone { slot, backup, works } => self.disk_done(slot, &backup, works)?,
            Happening::ManagerDies => self.manager_dies(),
            Happening::OperatorInterrupts(number) => self.interrupt(number)?,
            Happening::Forgery => self.forge(),
            Happening::FaultsEnd => {
                self.trace.line(self.now, format_args!("the faults end"));
                self.faults_ended = true;
                self.network.calm_down();
                for host in &mut self.hosts {
                    host.faults_end();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn operator_starts(&mut self) -> Result<(), Violation> {
        let hosts = &self.hosts;
        self.unconfirmed.retain(|host| !hosts[*host].needs_rescue());
        if self.unconfirmed.is_empty() {
            self.operator_done = true;
            return Ok(());
        }
        self.start_manager(false, self.unconfirmed.clone())
    }

    fn start_manager(&mut self, is_rogue: bool, targets: Vec<usize>) -> Result<(), Violation> {
        let manager = Manager::start(
            self.now,
            &self.scenario,
            &self.truth,
            &mut self.chance,
            is_rogue,
            &self.hosts,
            targets,
        )?;
        let (slot, number) = (self.started as usize, manager.number);
        self.trace.line(
            self.now,
            format_args!(
                "campaign {number:x} starts for {} hosts, rogue: {is_rogue}",
                manager.targets.len()
            ),
        );
        self.started += 1;
        self.managers.insert(slot, manager);
        if !is_rogue && !self.faults_ended && self.chance.happens(self.scenario.interrupt) {
            for _ in 0..self.chance.within(1..3) {
                let span = self.chance.span(Duration::from_secs(1)..Duration::from_secs(150));
                self.after(span, Happening::OperatorInterrupts(number));
            }
        }
        self.manager_moved(slot)
    }

    fn manager_dies(&mut self) {
        let slots: Vec<usize> = self.managers.keys().copied().collect();
        if slots.is_empty() {
            return;
        }
        let slot = *self.chance.pick(&slots);
        let Some(manager) = self.managers.remove(&slot) else { return };
        self.trace
            .line(self.now, format_args!("the manager of campaign {:x} dies", manager.number));
        if !manager.is_rogue {
            let pause = operator::pause(&mut self.chance);
            self.after(pause, Happening::OperatorStarts);
        }
    }

    fn interrupt(&mut self, number: u64) -> Result<(), Violation> {
        let found = self.managers.iter().find(|(_, manager)| manager.number == number);
        let Some(slot) = found.map(|(slot, _)| *slot).filter(|_| !self.faults_ended) else {
            return Ok(());
        };
        self.trace.line(self.now, format_args!("campaign {number:x} is interrupted"));
        if let Some(manager) = self.managers.get_mut(&slot) {
            manager.campaign.interrupt(manager.local(self.now));
        }
        self.manager_moved(slot)
    }

    fn forge(&mut self) {
        let (from, bytes) = self.network.forge();
        let managers: Vec<SocketAddr> =
            self.managers.values().map(|manager| manager.address).collect();
        match managers.is_empty() || self.chance.happens(0.5) {
            true => {
                let host = self.chance.within(0..self.hosts.len() as u64) as usize;
                self.after(
                    Duration::ZERO,
                    Happening::ToHost { host, from, bytes, by_group: false },
                );
            }
            false => {
                let to = *self.chance.pick(&managers);
                self.after(Duration::ZERO, Happening::ToManager { to, from, bytes });
            }
        }
        if let Some(pause) = self.scenario.adversary {
            let pause = self.chance.span(Duration::from_millis(1)..pause * 2);
            self.after(pause, Happening::Forgery);
        }
    }

    /// After every step of a host: its datagrams leave, and its next wake is planned.
    fn host_moved(&mut self, host: usize, result: Result<(), Violation>) -> Result<(), Violation> {
        let moved = &mut self.hosts[host];
        result.map_err(|violation| format!("host{host} ({}): {violation}", moved.describe()))?;
        let (from, wake) = (moved.address, moved.poll_timeout());
        for transmit in std::mem::take(&mut moved.outbox) {
            let bytes: Rc<[u8]> = transmit.bytes.into();
            for (at, bytes) in self.network.carry(self.now, host, Way::FromHost, &bytes) {
                self.enqueue(at, Happening::ToManager { to: transmit.to, from, bytes });
            }
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

    /// After every step of a manager: its news are checked, its datagrams leave, its next wake is planned.
    fn manager_moved(&mut self, slot: usize) -> Result<(), Violation> {
        let Some(mut manager) = self.managers.remove(&slot) else { return Ok(()) };
        while let Some(event) = manager.campaign.poll_event() {
            self.take_news(&manager, &event)?;
        }
        while let Some(backup) = manager.campaign.poll_backup() {
            let span = self.chance.span(Duration::from_millis(1)..Duration::from_secs(2));
            let works = self.faults_ended || !self.chance.happens(self.scenario.disk_faults);
            self.after(span, Happening::DiskDone { slot, backup, works });
        }
        let local = manager.local(self.now);
        let mut count = 0;
        while let Some(transmit) = manager.campaign.poll_transmit(local) {
            count += 1;
            self.carry_from_manager(manager.address, transmit);
        }
        if count > BURST_MAX + TRANSMITS_PER_HOST_MAX * manager.targets.len() {
            return Err(format!("the manager sends {count} datagrams at once"));
        }
        if self.happenings.len() > IN_FLIGHT_PER_HOST_MAX * (self.hosts.len() + 4) {
            return Err(format!("{} datagrams are under way", self.happenings.len()));
        }
        if manager.campaign.is_finished() {
            return self.manager_ends(&manager);
        }
        let wake = manager.poll_timeout().map(|at| at.max(self.now));
        if wake != manager.wake {
            manager.wake = wake;
            if let Some(at) = wake {
                self.enqueue(at, Happening::ManagerWakes(slot));
            }
        }
        self.managers.insert(slot, manager);
        Ok(())
    }

    /// Slots are never used again, so this is still the manager that was given the backup.
    fn disk_done(&mut self, slot: usize, backup: &Backup, works: bool) -> Result<(), Violation> {
        let Some(manager) = self.managers.get_mut(&slot) else { return Ok(()) };
        let local = manager.local(self.now);
        if works {
            let host = manager.targets[backup.host];
            self.hosts[host]
                .check_backup(manager.number, &backup.bytes)
                .map_err(|violation| format!("host{host}: {violation}"))?;
            manager.campaign.backup_stored(local, backup.host, backup.digest);
        } else {
            let why = "no space left on device".into();
            manager.campaign.backup_not_stored(local, backup.host, why);
        }
        self.manager_moved(slot)
    }

    fn take_news(&mut self, manager: &Manager, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Stage { host, stage } => {
                let host = manager.targets[*host];
                self.trace.count(*stage as u64);
                self.trace.line(self.now, format_args!("host{host} {}", stage.name()));
                match stage {
                    Stage::Escrow => self.hosts[host].escrows.push(manager.number),
                    Stage::Commit => self.hosts[host].commits.push(manager.number),
                    _ => {}
                }
            }
            Event::Ended { host: index, outcome } => {
                let host = manager.targets[*index];
                self.trace.count(outcome.ending.reason.code().into());
                *self.ends.entry(outcome.ending.reason.name()).or_default() += 1;
                self.trace.line(
                    self.now,
                    format_args!(
                        "host{host} ended: {} {:?} {}",
                        outcome.ending.reason.name(),
                        outcome.ending.flash,
                        outcome.ending.detail
                    ),
                );
                operator::check_outcome(manager, *index, &mut self.hosts[host], outcome)
                    .map_err(|violation| format!("host{host}: {violation}"))?;
                if self.scenario.weather == Weather::Fair && !outcome.is_confirmed() {
                    return Err(format!(
                        "host{host} is not confirmed in fair weather: {outcome:?}"
                    ));
                }
                if !manager.is_rogue && outcome.is_confirmed() {
                    self.unconfirmed.retain(|other| *other != host);
                }
            }
            Event::Progress { .. } | Event::TransferStarted { .. } => {}
        }
        Ok(())
    }

    fn manager_ends(&mut self, manager: &Manager) -> Result<(), Violation> {
        self.trace.line(self.now, format_args!("campaign {:x} is over", manager.number));
        if manager.campaign.hosts().iter().any(|host| host.outcome().is_none()) {
            return Err("the campaign is over, but not for every host".into());
        }
        if !manager.is_rogue {
            let pause = operator::pause(&mut self.chance);
            self.after(pause, Happening::OperatorStarts);
        }
        Ok(())
    }

    fn carry_from_manager(&mut self, from: SocketAddr, transmit: Transmit) {
        let bytes: Rc<[u8]> = transmit.bytes.into();
        let by_group = matches!(self.scenario.delivery, Delivery::Group(_));
        match transmit.destination {
            Destination::Group => {
                for host in 0..self.hosts.len() {
                    self.carry_to_host(host, from, &bytes, by_group);
                }
            }
            Destination::Host(address) => {
                // Addresses are given in the order of the hosts.
                let SocketAddr::V4(v4) = address else { return };
                let [_, _, high, low] = v4.ip().octets();
                let number = (usize::from(high) << 8 | usize::from(low)).wrapping_sub(256);
                if self.hosts.get(number).is_some_and(|host| host.address == address) {
                    self.carry_to_host(number, from, &bytes, false);
                }
            }
        }
    }

    fn carry_to_host(&mut self, host: usize, from: SocketAddr, bytes: &Rc<[u8]>, by_group: bool) {
        for (at, bytes) in self.network.carry(self.now, host, Way::ToHost, bytes) {
            self.enqueue(at, Happening::ToHost { host, from, bytes, by_group });
        }
    }
}
