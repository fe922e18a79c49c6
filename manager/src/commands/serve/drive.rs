//! The loop around the rescue service: sockets, clock, signals, files and log.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use firmcast::time::Time;
use firmcast_manager::campaign::Delivery;
use firmcast_manager::news::{BundleFacts, Entry, Kind, News};
use firmcast_manager::rescue::note::ServiceEvent;
use firmcast_manager::rescue::{Deposit, Line, Note, Service};
use firmcast_manager::store::flash_backups::{BackupStore, RegionFacts};
use firmcast_manager::store::inventory::Inventory;
use mio::net::UdpSocket;

use super::{Files, directory, known};
use crate::driver::mouth::Mouth;
use crate::driver::sender::Sender;
use crate::driver::socket;
use crate::driver::status_socket::StatusSocket;
use crate::driver::wait::Waiter;

/// Longest sleep, when nothing is due.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// How long the last datagrams, to hosts that are let go, may take to leave.
const LINGER: Duration = Duration::from_millis(300);

/// Everything outside the service that it reads or writes.
pub(crate) struct ServiceIo {
    pub(super) mouth: Mouth,
    pub(super) waiter: Waiter,
    pub(super) socket: UdpSocket,
    pub(super) status: StatusSocket,
    pub(super) files: Files,
    pub(super) backups: BackupStore,
}

/// How the service was started.
pub(super) struct Facts {
    pub(super) address: SocketAddr,
    pub(super) delivery: Delivery,
    pub(super) rate_mbit: u32,
}

/// The service at work.
pub(crate) struct Drive {
    service: Service,
    io: ServiceIo,
    sender: Sender,
    facts: Facts,
}

impl Drive {
    pub(super) fn new(
        service: Service,
        io: ServiceIo,
        group: Option<SocketAddr>,
        facts: Facts,
    ) -> Self {
        Self { service, io, sender: Sender::new(group), facts }
    }

    /// Runs it until it is told to stop.
    pub(crate) fn run(mut self) -> anyhow::Result<ExitCode> {
        let worked = self.work();
        self.io.mouth.display().wait(|| true);
        worked.map(|()| ExitCode::SUCCESS)
    }

    fn work(&mut self) -> anyhow::Result<()> {
        self.tell_bundles();
        self.event(ServiceEvent::Serving {
            address: self.facts.address.to_string(),
            delivery: self.facts.delivery.name().to_owned(),
            rate_mbit: self.facts.rate_mbit,
            hosts: self.service.known_hosts(),
            bundles: self.service.shelf().bundles().len(),
        });
        while !self.turn(None)? {}
        let now = self.io.waiter.now();
        self.service.stop(now);
        while self.io.waiter.now() < now + LINGER {
            self.turn(Some(now + LINGER))?;
        }
        self.tell_notes();
        self.event(ServiceEvent::Stopped);
        Ok(())
    }

    /// Sends, waits and takes what came. True when it was told to stop.
    fn turn(&mut self, until: Option<Time>) -> anyhow::Result<bool> {
        let now = self.io.waiter.now();
        self.do_io(now);
        let service = &mut self.service;
        let source = &mut |now| service.poll_transmit(now);
        if let Some(warning) = self.sender.send(now, source, &self.io.socket) {
            self.io.mouth.warn(None, warning);
        }
        self.service.work();
        let due = [self.service.poll_timeout(), self.sender.poll_timeout(), until];
        let due = due.into_iter().flatten().min().unwrap_or(now + SLEEP_MAX);
        self.io.waiter.wait(due)?;
        let now = self.io.waiter.now();
        let signals = self.io.waiter.signals()?;
        if signals.hangups > 0 {
            self.service.pardon();
        }
        if signals.hangups > 0 || signals.refreshes > 0 {
            self.reload();
        }
        let service = &mut self.service;
        let trouble = socket::receive(&self.io.socket, |from, bytes| {
            service.handle_datagram(now, from, bytes);
        });
        if let Some(trouble) = trouble {
            self.io.mouth.warn(None, trouble);
        }
        if self.service.poll_timeout().is_some_and(|due| due <= now) {
            self.service.handle_timeout(now);
        }
        let service = &self.service;
        let answer = || serde_json::to_vec(&service.status(now)).unwrap_or_default();
        self.io.status.serve(&self.io.waiter, answer)?;
        Ok(signals.stops > 0)
    }

    /// Does what the service wants of disk and log.
    fn do_io(&mut self, now: Time) {
        while let Some(load) = self.service.poll_load() {
            let Files { bundles, trusted, .. } = &self.io.files;
            let payload = directory::payload(bundles, &load.file, &load.id, trusted);
            self.service.loaded(now, &load.id, payload.map_err(|error| format!("{error:#}")));
        }
        while let Some(deposit) = self.service.poll_backup() {
            let stored = self.store(&deposit).map_err(|error| format!("{error:#}"));
            self.service.backup_stored(now, &deposit, stored);
        }
        self.keep_floors();
        self.tell_notes();
    }

    /// What was confirmed on hosts outlives this service.
    fn keep_floors(&mut self) {
        let floors: Vec<_> = std::iter::from_fn(|| self.service.poll_floor()).collect();
        if floors.is_empty() {
            return;
        }
        let kept = Inventory::change(&self.io.files.state, |inventory| {
            floors.iter().for_each(|(key, floor)| inventory.raise_floor(key, *floor));
        });
        if let Err(error) = kept {
            let error = anyhow::Error::from(error);
            self.io.mouth.warn(None, format!("the hosts' floors are not kept: {error:#}"));
        }
    }

    fn tell_notes(&mut self) {
        while let Some(note) = self.service.poll_note() {
            let begun = match &note {
                Note {
                    campaign: Some(campaign),
                    line: Line::Service(ServiceEvent::CampaignStarted { bundle, escrow }),
                } => Some((*campaign, self.started(*campaign, bundle.clone(), *escrow))),
                _ => None,
            };
            self.io.mouth.tell(note);
            if let Some((campaign, started)) = begun {
                self.io.mouth.begin_rescue(campaign, &started);
            }
        }
        self.io.mouth.keep();
    }

    /// Returns what the record of a rescue begins with. Its hosts call one after the other.
    fn started(&self, campaign: u64, bundle: BundleFacts, escrow: bool) -> Entry {
        let started = News::Started {
            kind: Kind::Rescue,
            bundle,
            delivery: self.facts.delivery.name().to_owned(),
            rate_mbit: self.facts.rate_mbit,
            escrow,
            dry_run: false,
            accepted: Vec::new(),
            hosts: Vec::new(),
        };
        Entry::now(campaign, started)
    }

    fn event(&mut self, event: ServiceEvent) {
        self.io.mouth.tell(Note::of(event));
    }

    /// Makes a backup durable.
    fn store(&self, deposit: &Deposit) -> anyhow::Result<()> {
        let Some((host, bundle)) = self.service.depositor(deposit) else { return Ok(()) };
        let regions = RegionFacts::of(&bundle.manifest);
        Ok(self.io.backups.keep(deposit.campaign, host, &deposit.backup, regions)?)
    }

    /// Reads policy, bundles and inventory again. What cannot be read stays as it was.
    fn reload(&mut self) {
        let files = &self.io.files;
        let (policy, shelf) = (files.policy(), files.shelf());
        let known = files.inventory().map(|inventory| known(&inventory));
        let mouth = &mut self.io.mouth;
        let mut kept = |what: &str, error: anyhow::Error| {
            mouth.warn(None, format!("{error:#}; the {what} stays as it was"));
        };
        match policy {
            Ok(policy) => self.service.set_policy(policy),
            Err(error) => kept("policy", error),
        }
        match known {
            Ok(known) => self.service.set_known(known),
            Err(error) => kept("inventory", error),
        }
        match shelf {
            Ok(shelf) => self.service.set_shelf(shelf),
            Err(error) => kept("list of bundles", error),
        }
        self.tell_bundles();
        self.event(ServiceEvent::Reloaded {
            hosts: self.service.known_hosts(),
            bundles: self.service.shelf().bundles().len(),
        });
    }

    fn tell_bundles(&mut self) {
        let shelf = self.service.shelf();
        for refused in shelf.refused() {
            let (file, why) = (refused.file.clone(), refused.why.clone());
            self.io.mouth.tell(Note::of(ServiceEvent::BundleRefused { file, why }));
        }
        for bundle in shelf.bundles() {
            self.io.mouth.tell(Note::of(ServiceEvent::Bundle(bundle.facts())));
        }
    }
}
