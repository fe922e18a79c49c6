//! What managers do in a world, and whether they may.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use firmcast::wire::broadcast::Broadcast;
use firmcast_manager::campaign::{Delivery, Destination, Stage, Transmit};
use firmcast_manager::news::News;
use firmcast_manager::rescue::note::ServiceEvent;
use firmcast_manager::rescue::{BundleId, Deposit, Line, Note};

use super::{Happening, World};
use crate::engine::Violation;
use crate::network::{Way, check_burst, check_under_way};
use crate::rescue::computer::Kind;
use crate::rescue::manager::Manager;
use crate::rescue::scenario::Rogue;

impl World {
    pub(super) fn manager_starts(&mut self, post: usize) -> Result<(), Violation> {
        let dies_anyway = !self.posts[post].is_genuine() && !self.scenario.rogue_stays;
        if self.managers[post].is_some() || (self.faults_ended && dies_anyway) {
            return Ok(());
        }
        self.start_manager(post)
    }

    pub(super) fn start_manager(&mut self, post: usize) -> Result<(), Violation> {
        let at = self.posts[post];
        self.engine.line(format_args!("{at:?} starts"));
        let holds = !self.faults_ended;
        self.managers[post] = Some(Manager::start(
            self.engine.now(),
            at,
            &self.scenario,
            &self.truth,
            &mut self.chance,
            holds,
        ));
        self.runs[post] += 1;
        self.manager_moved(post)
    }

    pub(super) fn manager_dies(&mut self, post: usize) {
        let Some(manager) = self.managers[post].take() else { return };
        self.engine.line(format_args!("{:?} dies", manager.post));
        self.summary.held_bytes_max = self.summary.held_bytes_max.max(manager.held_bytes_max);
        self.summary.held_bytes_left = manager.held_bytes;
        self.summary.manager_deaths += 1;
        let off = manager.die();
        self.engine.line(format_args!("its memory was counted {off} bytes off"));
    }

    pub(super) fn loaded(
        &mut self,
        post: usize,
        run: u64,
        id: &BundleId,
        works: bool,
    ) -> Result<(), Violation> {
        let Some(manager) = self.managers[post].as_mut().filter(|_| self.runs[post] == run) else {
            return Ok(());
        };
        let payload = self.truth.payload(!manager.post.is_genuine(), id).filter(|_| works);
        manager.loaded(self.engine.now(), id, &payload.ok_or("input/output error".to_owned()));
        self.manager_moved(post)
    }

    pub(super) fn disk_done(
        &mut self,
        post: usize,
        run: u64,
        deposit: &Deposit,
        works: bool,
    ) -> Result<(), Violation> {
        let Some(manager) = self.managers[post].as_mut().filter(|_| self.runs[post] == run) else {
            return Ok(());
        };
        let host = manager.depositor(deposit).and_then(|name| self.names.get(name)).copied();
        if let Some(host) = host.filter(|_| works) {
            self.hosts[host]
                .check_backup(deposit.campaign, &deposit.backup)
                .map_err(|violation| format!("host{host}: {violation}"))?;
        }
        let stored = if works { Ok(()) } else { Err("no space left on device".to_owned()) };
        manager.stored(self.engine.now(), deposit, &stored);
        self.manager_moved(post)
    }

    /// After every step of a manager: its notes are checked, its datagrams leave, its disk is
    /// asked, its next wake is planned.
    pub(super) fn manager_moved(&mut self, post: usize) -> Result<(), Violation> {
        let Some(mut manager) = self.managers[post].take() else { return Ok(()) };
        let (run, wishes) = (self.runs[post], manager.wishes(self.engine.now()));
        for note in &wishes.notes {
            self.take_note(&mut manager, note)?;
        }
        check_burst(wishes.transmits.len(), self.hosts.len())?;
        for transmit in wishes.transmits {
            self.carry_from_manager(&mut manager, transmit)?;
        }
        check_under_way(self.engine.planned(), self.hosts.len())?;
        for load in wishes.loads {
            let span = self.chance.span(Duration::from_millis(1)..Duration::from_millis(200));
            self.engine.after(span, Happening::Loaded { post, run, id: load.id, works: true });
        }
        for deposit in wishes.deposits {
            let span = self.chance.span(Duration::from_millis(1)..Duration::from_secs(2));
            let works = self.faults_ended || !self.chance.happens(self.scenario.disk_faults);
            self.engine.after(span, Happening::DiskDone { post, run, deposit, works });
        }
        let wake = manager.poll_timeout();
        manager.wake.set(wake, &mut self.engine, Happening::ManagerWakes(post));
        self.managers[post] = Some(manager);
        Ok(())
    }

    /// Looks at what a manager says that it does.
    fn take_note(&mut self, manager: &mut Manager, note: &Note) -> Result<(), Violation> {
        match (&note.line, note.campaign) {
            (Line::Campaign(News::Stage { host, stage }), Some(campaign)) => {
                let host = *self.names.get(host).ok_or("a host with an unknown name")?;
                self.engine.line(format_args!("host{host} {stage}"));
                self.check_stage(manager, host)?;
                if *stage == Stage::Enlist.name() {
                    self.hosts[host].is_enlisted(self.engine.now(), campaign);
                } else if *stage == Stage::Transfer.name() {
                    self.perhaps_hang(manager);
                } else if *stage == Stage::Commit.name() {
                    self.hosts[host].is_told(campaign, false);
                } else if *stage == Stage::Escrow.name() {
                    self.hosts[host].is_told(campaign, true);
                }
            }
            (Line::Campaign(News::Result(result)), Some(campaign)) => {
                self.engine.line(format_args!("{result:?}"));
                let host = *self.names.get(&result.host).ok_or("a host with an unknown name")?;
                self.hosts[host]
                    .check_result(campaign, result)
                    .map_err(|violation| format!("host{host}: {violation}"))?;
                *self.summary.ends.entry(result.reason.clone()).or_default() += 1;
            }
            (Line::Campaign(News::Progress { .. }), _) => {}
            (Line::Service(event), _) => {
                self.engine.line(format_args!("{}", event.to_text()));
                match event {
                    ServiceEvent::Held { reason, .. } => {
                        *self.summary.held.entry(reason.clone()).or_default() += 1;
                    }
                    ServiceEvent::Parked { .. } => self.summary.parked += 1,
                    ServiceEvent::Recalled { .. } => self.summary.recalled += 1,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The first good manager that has a host receive hangs, where that belongs to the world.
    fn perhaps_hang(&mut self, manager: &Manager) {
        let address = manager.post.address;
        let post = self.posts.iter().position(|post| post.address == address);
        let hangs = self.scenario.hangs && manager.post.is_genuine() && self.hung.is_none();
        if let Some(post) = post.filter(|_| hangs) {
            self.hung = Some(post);
            let span = self.chance.span(Duration::ZERO..Duration::from_secs(3));
            self.engine.after(span, Happening::ManagerHangs(post));
        }
    }

    /// Only hosts that may be helped are.
    fn check_stage(&mut self, manager: &mut Manager, host: usize) -> Result<(), Violation> {
        let who = || format!("host{host}, by {:?}", manager.post);
        if manager.post.rogue == Some(Rogue::UntrustedManager) {
            return Err(format!("a host listens to a manager that nobody trusts: {}", who()));
        }
        if manager.post.is_genuine() {
            if self.is_forsaken(&self.hosts[host]) {
                return Err(format!("a stranger takes part: {}", who()));
            }
            let is_second = self.truth.boards.len() > 1 && host % 2 == 1;
            if is_second && self.scenario.holds_second_board && !self.faults_ended {
                return Err(format!("a host takes part that the policy holds: {}", who()));
            }
        }
        if self.hosts[host].computer.kind == Kind::Telling {
            return Err(format!("a host takes part that only told something: {}", who()));
        }
        manager.enlisted[host] = true;
        Ok(())
    }

    fn carry_from_manager(
        &mut self,
        manager: &mut Manager,
        transmit: Transmit,
    ) -> Result<(), Violation> {
        let bytes: Rc<[u8]> = transmit.bytes.into();
        let from = manager.post.address;
        let by_group = matches!(self.scenario.delivery, Delivery::Group(_));
        match transmit.destination {
            Destination::Group => {
                self.traffic.stream(&bytes);
                for host in 0..self.hosts.len() {
                    self.carry_to_host(host, from, &bytes, by_group);
                }
            }
            Destination::Host(address) => {
                let is_stream = Broadcast::parse(&bytes).is_ok();
                let Some(host) = self.host_at(address) else {
                    if is_stream {
                        self.traffic.stream(&bytes);
                        return Ok(());
                    }
                    return self.traffic.manager_says_to_stranger(address, &bytes);
                };
                if is_stream {
                    self.traffic.stream(&bytes);
                } else {
                    self.traffic.manager_says(self.engine.now(), host, &bytes)?;
                    manager.said[host] += 1;
                    if !manager.enlisted[host] && manager.said[host] > manager.heard[host] {
                        return Err(format!("host{host} gets more answers than it asked for"));
                    }
                }
                self.carry_to_host(host, from, &bytes, false);
            }
        }
        Ok(())
    }

    fn carry_to_host(&mut self, host: usize, from: SocketAddr, bytes: &Rc<[u8]>, by_group: bool) {
        for (at, bytes) in self.network.carry(self.engine.now(), host, Way::ToHost, bytes) {
            self.engine.at(at, Happening::ToHost { host, from, bytes, by_group });
        }
    }
}
