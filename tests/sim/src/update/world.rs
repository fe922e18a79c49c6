//! One virtual world: a clock, a queue of what happens next, hosts, managers and a network between
//! them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::reason::Reason;
use firmcast::time::Time;
use firmcast_manager::campaign::{
    Backup, CampaignEvent, Delivery, Destination, Purpose, Stage, Transmit,
};

use crate::chance::Chance;
use crate::engine::{Alarm, Engine, Simulated, Violation};
use crate::network::{Network, Way, check_burst, check_under_way, number_of};
use crate::update::host::VirtualHost;
use crate::update::operator::{self, Manager};
use crate::update::scenario::{Scenario, Weather};
use crate::update::summary::Summary;
use crate::update::truth::Truth;

/// In fair weather every host is confirmed by the first campaign within this time.
pub(crate) const FAIR_MAX: Duration = Duration::from_secs(900);
/// After the faults end, every host is confirmed, or known to need a rescue, within this time.
pub(crate) const FINISH_MAX: Duration = Duration::from_secs(2400);

pub(crate) enum Happening {
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

pub(crate) struct World {
    engine: Engine<Happening>,
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
    streams: u64,
    excerpts: u64,
    faults_ended: bool,
    host_wakes: Vec<Alarm>,
}

impl Simulated for World {
    type Happening = Happening;

    fn engine(&mut self) -> &mut Engine<Happening> {
        &mut self.engine
    }

    fn is_finished(&self) -> bool {
        self.operator_done
            && self.managers.is_empty()
            && !self.rogue_to_come
            && self.faults_ended
            && self.hosts.iter().all(|host| host.is_confirmed() || host.needs_rescue())
    }

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
            Happening::ToManager { to, from, bytes } => {
                let found = self.managers.iter().find(|(_, manager)| manager.address == to);
                if let Some(slot) = found.map(|(slot, _)| *slot) {
                    self.engine.trace.bytes(&bytes);
                    if let Some(manager) = self.managers.get_mut(&slot) {
                        manager.campaign.handle_datagram(
                            manager.local(self.engine.now()),
                            from,
                            &bytes,
                        );
                    }
                    self.manager_moved(slot)?;
                }
            }
            Happening::HostWakes(host) => {
                if self.host_wakes[host].rings(self.engine.now()) {
                    let result = self.hosts[host].handle_timeout(self.engine.now());
                    self.host_moved(host, result)?;
                }
            }
            Happening::ManagerWakes(slot) => {
                if let Some(manager) = self.managers.get_mut(&slot)
                    && manager.wake.rings(self.engine.now())
                {
                    manager.campaign.handle_timeout(manager.local(self.engine.now()));
                    self.manager_moved(slot)?;
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
        let mut chance = Chance::new(scenario.seed, 3);
        let host = |number| {
            let is_current = chance.happens(scenario.current);
            VirtualHost::new(number, scenario.clone(), truth.clone(), is_current)
        };
        let hosts: Vec<VirtualHost> = (0..scenario.hosts).map(host).collect();
        let mut world = Self {
            engine: Engine::new(verbose),
            network: Network::new(Chance::new(scenario.seed, 1), &scenario.conditions()),
            unconfirmed: (0..hosts.len()).collect(),
            host_wakes: vec![Alarm::default(); hosts.len()],
            hosts,
            truth,
            chance,
            managers: BTreeMap::new(),
            operator_done: false,
            rogue_to_come: scenario.rogue.is_some(),
            started: 0,
            ends: BTreeMap::new(),
            streams: 0,
            excerpts: 0,
            faults_ended: scenario.faults_end.is_zero(),
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
        self.engine.after_start(start, Happening::OperatorStarts);
        if scenario.adversary.is_some() {
            self.engine.after_start(Duration::ZERO, Happening::Forgery);
        }
        if scenario.weather == Weather::Fair {
            return;
        }
        self.engine.after_start(end, Happening::FaultsEnd);
        if scenario.rogue.is_some() {
            let latest = *self.chance.pick(&[Duration::from_secs(1), Duration::from_secs(40), end]);
            let at = self.chance.span(Duration::ZERO..latest);
            self.engine.after_start(at, Happening::RogueStarts);
        }
        for _ in 0..scenario.restarts {
            let at = self.chance.span(Duration::ZERO..end);
            let host = self.chance.within(0..scenario.hosts as u64) as usize;
            self.engine.after_start(at, Happening::HostRestarts(host));
        }
        let mut death = Duration::ZERO;
        while let Some(life) = scenario.manager_life {
            death += self.chance.span(Duration::from_secs(1)..life * 2);
            if death >= end {
                break;
            }
            self.engine.after_start(death, Happening::ManagerDies);
        }
    }

    /// Runs the world to its end.
    pub(crate) fn run(mut self) -> Result<Summary, Violation> {
        let limit = match self.scenario.weather {
            Weather::Fair => FAIR_MAX,
            Weather::Stormy => self.scenario.faults_end + FINISH_MAX,
        };
        self.run_until(limit)?;
        Ok(Summary {
            digest: self.engine.trace.digest(),
            steps: self.engine.steps(),
            virtual_time: self.engine.now().since(Time::ZERO),
            campaigns: self.started.into(),
            rescues: self.hosts.iter().filter(|host| host.needs_rescue()).count(),
            streams: self.streams,
            excerpts: self.excerpts,
            ends: self.ends,
        })
    }

    /// Returns what comes from outside of the protocol.
    fn disturb(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::OperatorStarts => self.operator_starts()?,
            Happening::RogueStarts => {
                self.rogue_to_come = false;
                self.start_manager(true, (0..self.hosts.len()).collect())?;
            }
            Happening::HostRestarts(host) => {
                let place = self.hosts[host].describe();
                if self.hosts[host].restart(self.engine.now()) {
                    self.engine.line(format_args!("host{host} loses power in {place}"));
                    self.host_moved(host, Ok(()))?;
                }
            }
            Happening::DiskDone { slot, backup, works } => self.disk_done(slot, &backup, works)?,
            Happening::ManagerDies => self.manager_dies(),
            Happening::OperatorInterrupts(number) => self.interrupt(number)?,
            Happening::Forgery => self.forge(),
            Happening::FaultsEnd => {
                self.engine.line(format_args!("the faults end"));
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
        let may_answer = |host: &usize| !self.hosts[*host].needs_rescue();
        let targets: Vec<usize> = self.unconfirmed.iter().copied().filter(may_answer).collect();
        if !targets.is_empty() {
            return self.start_manager(false, targets);
        }
        // While there are faults, a power cut may yet bring a host home.
        self.operator_done = self.unconfirmed.is_empty() || self.faults_ended;
        if !self.operator_done {
            let pause = operator::pause(&mut self.chance);
            self.engine.after(pause, Happening::OperatorStarts);
        }
        Ok(())
    }

    fn start_manager(&mut self, is_rogue: bool, targets: Vec<usize>) -> Result<(), Violation> {
        let may_drill = !is_rogue && (self.started == 0 || !self.faults_ended);
        let purpose = match may_drill && self.chance.happens(self.scenario.drills) {
            true => Purpose::Drill,
            false => Purpose::Update,
        };
        let manager = Manager::start(
            self.engine.now(),
            &self.scenario,
            &self.truth,
            &mut self.chance,
            (is_rogue, purpose),
            &self.hosts,
            targets,
        )?;
        let (slot, number) = (self.started as usize, manager.number);
        self.engine.line(format_args!(
            "campaign {number:x} starts for {} hosts, {purpose:?}, rogue: {is_rogue}",
            manager.targets.len()
        ));
        self.started += 1;
        self.managers.insert(slot, manager);
        if !is_rogue && !self.faults_ended && self.chance.happens(self.scenario.interrupt) {
            for _ in 0..self.chance.within(1..3) {
                let span = self.chance.span(Duration::from_secs(1)..Duration::from_secs(150));
                self.engine.after(span, Happening::OperatorInterrupts(number));
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
        self.engine.line(format_args!("the manager of campaign {:x} dies", manager.number));
        if !manager.is_rogue {
            let pause = operator::pause(&mut self.chance);
            self.engine.after(pause, Happening::OperatorStarts);
        }
    }

    fn interrupt(&mut self, number: u64) -> Result<(), Violation> {
        let found = self.managers.iter().find(|(_, manager)| manager.number == number);
        let Some(slot) = found.map(|(slot, _)| *slot).filter(|_| !self.faults_ended) else {
            return Ok(());
        };
        self.engine.line(format_args!("campaign {number:x} is interrupted"));
        if let Some(manager) = self.managers.get_mut(&slot) {
            manager.campaign.interrupt(manager.local(self.engine.now()));
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
                self.engine.after(
                    Duration::ZERO,
                    Happening::ToHost { host, from, bytes, by_group: false },
                );
            }
            false => {
                let to = *self.chance.pick(&managers);
                self.engine.after(Duration::ZERO, Happening::ToManager { to, from, bytes });
            }
        }
        if let Some(pause) = self.scenario.adversary {
            let pause = self.chance.span(Duration::from_millis(1)..pause * 2);
            self.engine.after(pause, Happening::Forgery);
        }
    }

    /// After every step of a host: its datagrams leave, and its next wake is planned.
    fn host_moved(&mut self, host: usize, result: Result<(), Violation>) -> Result<(), Violation> {
        let moved = &mut self.hosts[host];
        result.map_err(|violation| format!("host{host} ({}): {violation}", moved.describe()))?;
        let (from, wake) = (moved.address, moved.poll_timeout());
        for transmit in moved.outbox.take() {
            let bytes: Rc<[u8]> = transmit.bytes.into();
            for (at, bytes) in self.network.carry(self.engine.now(), host, Way::FromHost, &bytes) {
                self.engine.at(at, Happening::ToManager { to: transmit.to, from, bytes });
            }
        }
        self.host_wakes[host].set(wake, &mut self.engine, Happening::HostWakes(host));
        Ok(())
    }

    /// After every step of a manager: its news are checked, its datagrams leave, its next wake is
    /// planned.
    fn manager_moved(&mut self, slot: usize) -> Result<(), Violation> {
        let Some(mut manager) = self.managers.remove(&slot) else { return Ok(()) };
        while let Some(event) = manager.campaign.poll_event() {
            self.take_news(&manager, &event)?;
        }
        while let Some(backup) = manager.campaign.poll_backup() {
            let span = self.chance.span(Duration::from_millis(1)..Duration::from_secs(2));
            let works = self.faults_ended || !self.chance.happens(self.scenario.disk_faults);
            self.engine.after(span, Happening::DiskDone { slot, backup, works });
        }
        let local = manager.local(self.engine.now());
        let mut count = 0;
        manager.campaign.work();
        while let Some(transmit) = manager.campaign.poll_transmit(local) {
            count += 1;
            self.carry_from_manager(manager.address, transmit);
        }
        check_burst(count, manager.targets.len())?;
        check_under_way(self.engine.planned(), self.hosts.len())?;
        if manager.campaign.is_finished() {
            return self.manager_ends(&manager);
        }
        let wake = manager.poll_timeout();
        manager.wake.set(wake, &mut self.engine, Happening::ManagerWakes(slot));
        self.managers.insert(slot, manager);
        Ok(())
    }

    /// Slots are never used again, so this is still the manager that was given the backup.
    fn disk_done(&mut self, slot: usize, backup: &Backup, works: bool) -> Result<(), Violation> {
        let Some(manager) = self.managers.get_mut(&slot) else { return Ok(()) };
        let local = manager.local(self.engine.now());
        if works {
            let host = manager.targets[backup.host];
            self.hosts[host]
                .check_backup(manager.number, backup)
                .map_err(|violation| format!("host{host}: {violation}"))?;
            manager.campaign.backup_stored(local, backup.host, backup.digest);
        } else {
            let why = "no space left on device".into();
            manager.campaign.backup_not_stored(local, backup.host, why);
        }
        self.manager_moved(slot)
    }

    fn take_news(&mut self, manager: &Manager, event: &CampaignEvent) -> Result<(), Violation> {
        match event {
            CampaignEvent::Stage { host, stage } => {
                let host = manager.targets[*host];
                self.engine.trace.count(*stage as u64);
                self.engine.line(format_args!("host{host} {}", stage.name()));
                match stage {
                    Stage::Escrow | Stage::Commit if manager.purpose == Purpose::Drill => {
                        self.hosts[host].rehearsals.push(manager.number);
                    }
                    Stage::Escrow => self.hosts[host].escrows.push(manager.number),
                    Stage::Commit => self.hosts[host].commits.push(manager.number),
                    Stage::Recall => self.hosts[host].recalled(),
                    _ => {}
                }
            }
            CampaignEvent::Ended { host: index, outcome } => {
                let host = manager.targets[*index];
                self.engine.trace.count(outcome.ending.reason.code().into());
                *self.ends.entry(outcome.ending.reason.name()).or_default() += 1;
                self.engine.line(format_args!(
                    "host{host} ended: {} {:?} {}",
                    outcome.ending.reason.name(),
                    outcome.ending.flash,
                    outcome.ending.detail
                ));
                operator::check_outcome(manager, *index, &mut self.hosts[host], outcome)
                    .map_err(|violation| format!("host{host}: {violation}"))?;
                if self.scenario.weather == Weather::Fair && !outcome.is_confirmed() {
                    return Err(format!(
                        "host{host} is not confirmed in fair weather: {outcome:?}"
                    ));
                }
                if !manager.is_rogue && outcome.ending.reason == Reason::Confirmed {
                    self.unconfirmed.retain(|other| *other != host);
                }
            }
            // Answers that were held back for long may look like a twin's; no more than told.
            CampaignEvent::Twins { .. } | CampaignEvent::Progress { .. } => {}
            CampaignEvent::TransferStarted { pieces, .. } => {
                self.streams += 1;
                self.excerpts += u64::from(pieces.is_some());
            }
        }
        Ok(())
    }

    fn manager_ends(&mut self, manager: &Manager) -> Result<(), Violation> {
        self.engine.line(format_args!("campaign {:x} is over", manager.number));
        if manager.campaign.hosts().iter().any(|host| host.outcome().is_none()) {
            return Err("the campaign is over, but not for every host".into());
        }
        if !manager.is_rogue {
            let pause = operator::pause(&mut self.chance);
            self.engine.after(pause, Happening::OperatorStarts);
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
                let is_there = |host: &usize| {
                    self.hosts.get(*host).is_some_and(|host| host.address == address)
                };
                if let Some(host) = number_of(address).filter(is_there) {
                    self.carry_to_host(host, from, &bytes, false);
                }
            }
        }
    }

    fn carry_to_host(&mut self, host: usize, from: SocketAddr, bytes: &Rc<[u8]>, by_group: bool) {
        for (at, bytes) in self.network.carry(self.engine.now(), host, Way::ToHost, bytes) {
            self.engine.at(at, Happening::ToHost { host, from, bytes, by_group });
        }
    }
}
