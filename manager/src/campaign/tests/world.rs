//! A virtual network and clock around one campaign and its scripted hosts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use firmcast::keys::{ManagerSecretKey, SecretKey as _};
use firmcast::time::Time;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::host::{Cargo, PIECE_BYTES, Script, ScriptedHost};
use crate::campaign::{
    Backup, Campaign, CampaignEvent, Config, Contents, Deadlines, Delivery, Destination, Host,
    Outcome, Pieces, Purpose, Stage, Target, Transmit,
};

const STABLE_DIGEST: [u8; 32] = [5; 32];

const DELAY: Duration = Duration::from_millis(1);
const TICK_US: u64 = 1_000;
const FRAGMENT_SIZE_BYTES: u16 = 1440;

pub(super) fn payload() -> Vec<u8> {
    let mut bytes = vec![0; 60_000];
    ChaCha20Rng::from_seed([4; 32]).fill_bytes(&mut bytes);
    bytes
}

pub(super) fn manifest() -> Vec<u8> {
    (0..20_000u32).map(|index| index as u8).collect()
}

/// What becomes of backups that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    Good,
    Full,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) campaign: Campaign,
    pub(super) hosts: Vec<ScriptedHost>,
    pub(super) events: Vec<CampaignEvent>,
    /// Strangers and broken software talk to the manager all the time.
    pub(super) chatter: bool,
    pub(super) disk: Disk,
    /// What was stored, in order.
    pub(super) backups: Vec<Backup>,
    /// Most hosts that uploaded at a time.
    pub(super) uploads: usize,
    escrow: Option<Escrow>,
    /// By time of arrival, then in the order of sending.
    in_flight: BTreeMap<(Time, u64), Packet>,
    sent: u64,
    loss: f64,
    rng: ChaCha20Rng,
    manager_address: SocketAddr,
    delivery: Delivery,
    secret: ManagerSecretKey,
}

struct Packet {
    from: SocketAddr,
    /// None for all hosts.
    to: Option<SocketAddr>,
    bytes: Vec<u8>,
}

/// How a campaign with escrow is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escrow {
    pub(super) image_size_bytes: usize,
    pub(super) rate_mbit: u32,
}

impl Default for Escrow {
    fn default() -> Self {
        Self { image_size_bytes: 60_000, rate_mbit: 100 }
    }
}

impl World {
    pub(super) fn new(scripts: Vec<Script>, delivery: Delivery, loss: f64) -> Self {
        Self::with(scripts, delivery, loss, None)
    }

    pub(super) fn with_escrow(scripts: Vec<Script>, loss: f64, escrow: Escrow) -> Self {
        Self::with(scripts, Delivery::Broadcast, loss, Some(escrow))
    }

    /// Returns a campaign that does not go as far as an update.
    pub(super) fn short(
        purpose: Purpose,
        scripts: Vec<Script>,
        loss: f64,
        escrow: Option<Escrow>,
    ) -> Self {
        let mut world = Self::with(scripts, Delivery::Broadcast, loss, escrow);
        let config = config(1, Delivery::Broadcast, escrow, &world.secret);
        world.campaign = campaign(Time::ZERO, Config { purpose, ..config }, escrow, &world.hosts);
        world
    }

    /// Returns a campaign whose stream may leave pieces out.
    pub(super) fn in_pieces(scripts: Vec<Script>, delivery: Delivery, loss: f64) -> Self {
        let mut world = Self::with(scripts, delivery, loss, None);
        let pieces = Pieces { image: payload(), piece_bytes: PIECE_BYTES };
        let contents = Contents { pieces: Some(pieces), ..contents(None) };
        let config = config(1, delivery, None, &world.secret);
        let targets = targets(&world.hosts);
        world.campaign = Campaign::new(Time::ZERO, &config, contents, targets).unwrap();
        world
    }

    fn with(scripts: Vec<Script>, delivery: Delivery, loss: f64, escrow: Option<Escrow>) -> Self {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let secret = ManagerSecretKey::generate(&mut rng);
        let manager_address = SocketAddr::from(([10, 0, 0, 1], 40_000));
        let manager = *secret.public().exchange();
        let cargo = Cargo {
            manifest: manifest(),
            payload: payload(),
            image_size_bytes: escrow.unwrap_or_default().image_size_bytes,
            stable_digest: STABLE_DIGEST,
        };
        let hosts: Vec<_> = (scripts.into_iter().enumerate())
            .map(|(index, script)| ScriptedHost::new(index, script, manager, cargo.clone()))
            .collect();
        let config = config(1, delivery, escrow, &secret);
        let campaign = campaign(Time::ZERO, config, escrow, &hosts);
        Self {
            now: Time::ZERO,
            campaign,
            hosts,
            events: Vec::new(),
            chatter: false,
            disk: Disk::Good,
            backups: Vec::new(),
            uploads: 0,
            escrow,
            in_flight: BTreeMap::new(),
            sent: 0,
            loss,
            rng,
            manager_address,
            delivery,
            secret,
        }
    }

    /// The manager dies, and another one begins for the same hosts, at the same address.
    pub(super) fn restart_manager(&mut self) {
        let (now, delivery, escrow) = (self.now, self.delivery, self.escrow);
        let config = config(2, delivery, escrow, &self.secret);
        self.campaign = campaign(now, config, escrow, &self.hosts);
    }

    pub(super) fn source_fragments(&self) -> u64 {
        payload().len().div_ceil(usize::from(FRAGMENT_SIZE_BYTES)) as u64
    }

    pub(super) fn outcome(&self, host: usize) -> Outcome {
        self.campaign.hosts()[host].outcome().cloned().unwrap()
    }

    pub(super) fn run_to_end(&mut self, limit: Duration) {
        self.run_until(limit, Campaign::is_finished);
        assert!(self.campaign.is_finished(), "not finished after {limit:?}");
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    pub(super) fn run_until(&mut self, limit: Duration, done: impl Fn(&Campaign) -> bool) {
        let end = self.now + limit;
        loop {
            self.collect();
            if done(&self.campaign) {
                return;
            }
            match self.next_step() {
                Some(next) if next <= end => self.now = next.max(self.now),
                _ => return,
            }
            self.step();
        }
    }

    fn next_step(&self) -> Option<Time> {
        let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
        let hosts = self.hosts.iter().filter_map(ScriptedHost::poll_timeout).min();
        let next = [arrival, hosts, self.campaign.poll_timeout()].into_iter().flatten().min()?;
        // Everything waits for the next tick: fewer steps, and timeouts that are served late.
        Some(Time::from_micros(next.as_micros().div_ceil(TICK_US) * TICK_US))
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now) {
            let packet = entry.remove();
            self.deliver(&packet);
        }
        if self.campaign.poll_timeout().is_some_and(|at| at <= now) {
            self.campaign.handle_timeout(now);
        }
        for host in &mut self.hosts {
            if host.poll_timeout().is_some_and(|at| at <= now) {
                host.handle_timeout(now);
            }
        }
        if self.chatter {
            self.chatter();
        }
        if self.escrow.is_some() {
            self.keep_backups();
        }
    }

    /// No host changes its flash before its backup is stored.
    fn keep_backups(&mut self) {
        let uploads = |host: &&Host| host.stage() == Stage::Escrow && !host.is_waiting();
        let uploads = self.campaign.hosts().iter().filter(uploads).count();
        self.uploads = self.uploads.max(uploads);
        for (index, host) in self.hosts.iter().enumerate() {
            let stored = || self.backups.iter().any(|backup| backup.host == index);
            assert!(!host.is_changing() || stored(), "host {index}");
        }
        while let Some(backup) = self.campaign.poll_backup() {
            match self.disk {
                Disk::Good => {
                    self.campaign.backup_stored(self.now, backup.host, backup.digest);
                    self.backups.push(backup);
                }
                Disk::Full => {
                    let why = "no space left on device".into();
                    self.campaign.backup_not_stored(self.now, backup.host, why);
                }
            }
        }
    }

    fn chatter(&mut self) {
        let mut bytes = vec![0; (self.rng.next_u32() % 1500) as usize];
        self.rng.fill_bytes(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first %= 9;
        }
        let from = self.hosts[0].address;
        self.campaign.handle_datagram(self.now, from, &bytes);
    }

    fn deliver(&mut self, packet: &Packet) {
        if packet.to == Some(self.manager_address) {
            self.campaign.handle_datagram(self.now, packet.from, &packet.bytes);
            return;
        }
        for host in &mut self.hosts {
            if packet.to.is_some_and(|to| to != host.address) || self.loss > unit(&mut self.rng) {
                continue;
            }
            host.handle_datagram(self.now, packet.from, &packet.bytes);
        }
    }

    fn collect(&mut self) {
        while let Some(Transmit { destination, bytes }) = self.campaign.poll_transmit(self.now) {
            let to = match destination {
                Destination::Host(address) => Some(address),
                Destination::Group => None,
            };
            self.post(Packet { from: self.manager_address, to, bytes });
        }
        for index in 0..self.hosts.len() {
            for (to, bytes) in self.hosts[index].take_outbox() {
                let from = self.hosts[index].address;
                if self.loss <= unit(&mut self.rng) {
                    self.post(Packet { from, to: Some(to), bytes });
                }
            }
        }
        while let Some(event) = self.campaign.poll_event() {
            self.events.push(event);
        }
    }

    fn post(&mut self, packet: Packet) {
        self.sent += 1;
        self.in_flight.insert((self.now + DELAY, self.sent), packet);
    }
}

fn config(
    number: u8,
    delivery: Delivery,
    escrow: Option<Escrow>,
    secret: &ManagerSecretKey,
) -> Config {
    Config {
        campaign: u64::from(number),
        delivery,
        rate_mbit: escrow.unwrap_or_default().rate_mbit,
        is_polite: false,
        fragment_size_bytes: FRAGMENT_SIZE_BYTES,
        escrow: escrow.is_some(),
        purpose: Purpose::Update,
        accepted: Default::default(),
        deadlines: Deadlines::default(),
        exchange_secret: *secret.exchange(),
        // The scripted hosts take stamps for what they are: growing from run to run.
        stamp: u64::from(number) << 32,
        seed: [number; 32],
    }
}

fn campaign(now: Time, config: Config, escrow: Option<Escrow>, hosts: &[ScriptedHost]) -> Campaign {
    Campaign::new(now, &config, contents(escrow), targets(hosts)).unwrap()
}

fn targets(hosts: &[ScriptedHost]) -> Vec<Target> {
    let target = |host: &ScriptedHost| Target {
        name: host.address.to_string(),
        key: Some(host.key()),
        address: host.address,
    };
    hosts.iter().map(target).collect()
}

fn contents(escrow: Option<Escrow>) -> Contents {
    let expect_version = Some("2.0".into());
    Contents {
        manifest: manifest(),
        payload: payload(),
        pieces: None,
        image_size_bytes: escrow.unwrap_or_default().image_size_bytes,
        expect_version,
        is_part: false,
        stable_digest: STABLE_DIGEST,
    }
}

fn unit(rng: &mut ChaCha20Rng) -> f64 {
    f64::from(rng.next_u32()) / f64::from(u32::MAX)
}
