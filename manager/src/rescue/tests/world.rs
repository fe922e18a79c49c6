//! A virtual network and clock around the service and dead hosts, which are the real machine of the
//! recovery environment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use firmcast::environment::stay::{Conclusion, Patient, Situation, Stay, StayAction};
use firmcast::flash::JobBackup;
use firmcast::image::{
    Board, Bundle, ByteRanges, Description, Manifest, PayloadFormat, SignedManifest,
};
use firmcast::keys::{
    HostSecretKey, ManagerSecretKey, PublicKey as _, ReleaseSecretKey, SecretKey as _,
};
use firmcast::reason::{Condition, Ending, FlashState, Reason};
use firmcast::recovery::machine::{FlashEnd, Permit};
use firmcast::rescue::search::SearchSituation;
use firmcast::rescue::seek::{Candidate, Source};
use firmcast::session;
use firmcast::time::Time;
use firmcast::wire::answer::{Environment, Identity, Phase};
use firmcast::wire::help::{Finding, HelpRequest};
use firmcast::wire::samples;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use super::super::note::{Note, ServiceEvent};
use super::super::service::{Known, Service, Settings};
use super::super::shelf::{Shelf, Shelved};
use super::super::{Line, Policy};
use crate::campaign::{Deadlines, Delivery, Destination};
use crate::news::{HostResult, News};

const DELAY: Duration = Duration::from_millis(1);
const TICK_US: u64 = 1_000;
const FRAGMENT_SIZE_BYTES: u16 = 1440;
const FLASHING: Duration = Duration::from_secs(2);
pub(super) const IMAGE_SIZE_BYTES: usize = 128 << 10;

/// What a host is like, and what goes wrong with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead {
    pub(super) product: &'static str,
    pub(super) up_at: Duration,
    pub(super) floor: u64,
    pub(super) wants_image: bool,
    /// So many attempts to write fail, and leave the chip damaged.
    pub(super) bad_writes: u32,
    /// So often its chip is damaged again after it was rescued.
    pub(super) relapses: u32,
    /// It has the key of this host, as a copy of its disk.
    pub(super) twin_of: Option<usize>,
    /// It loses its power so long after it came up, once.
    pub(super) power_cut: Option<Duration>,
    pub(super) is_known: bool,
    pub(super) finding: Finding,
    /// It holds its upload back, fragment by fragment.
    pub(super) dawdles: bool,
}

/// Time between two fragments of one that dawdles.
const DAWDLING: Duration = Duration::from_secs(30);

impl Default for Dead {
    fn default() -> Self {
        Self {
            product: "P",
            up_at: Duration::ZERO,
            floor: 0,
            wants_image: true,
            bad_writes: 0,
            relapses: 0,
            twin_of: None,
            power_cut: None,
            is_known: true,
            finding: Finding::Invalid,
            dawdles: false,
        }
    }
}

pub(super) struct DeadHost {
    pub(super) address: SocketAddr,
    pub(super) dead: Dead,
    pub(super) machine: Option<Stay>,
    pub(super) conclusion: Option<Conclusion>,
    /// Images that were written, by their digest.
    pub(super) written: Vec<[u8; 32]>,
    pub(super) attempts: u32,
    secret: HostSecretKey,
    boots: u8,
    boot_at: Option<Time>,
    flashing: Option<(Time, [u8; 32])>,
    /// The digest of an image that may not be written yet.
    wants_permit: Option<[u8; 32]>,
    outbox: Vec<session::Transmit>,
    next_fragment: Time,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) service: Option<Service>,
    pub(super) hosts: Vec<DeadHost>,
    pub(super) notes: Vec<(Time, Note)>,
    pub(super) policy: Policy,
    pub(super) loss: f64,
    /// Bytes that the manager sent to everybody, and to single hosts.
    pub(super) stream_bytes: u64,
    pub(super) said: u64,
    pub(super) heard: u64,
    /// Backups that were stored: host, and the file of the bundle that it gets.
    pub(super) backups: Vec<(String, String)>,
    pub(super) delivery: Delivery,
    pub(super) rate_bits_per_s: u64,
    /// Most bytes of streams within a second.
    pub(super) busiest_second: u64,
    second: (u64, u64),
    pub(super) library: BTreeMap<String, Vec<u8>>,
    starts: u8,
    in_flight: BTreeMap<(Time, u64), Packet>,
    sent: u64,
    rng: ChaCha20Rng,
}

struct Packet {
    from: SocketAddr,
    /// None for all hosts.
    to: Option<SocketAddr>,
    bytes: Vec<u8>,
}

fn manager_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 9848))
}

fn manager_key() -> ManagerSecretKey {
    ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([1; 32]))
}

fn release_key() -> ReleaseSecretKey {
    ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([2; 32]))
}

/// A signed bundle with an image of its own.
pub(super) fn bundle(product: &str, version: &str, security_version: u64, image: u8) -> Vec<u8> {
    let mut bytes = vec![0; IMAGE_SIZE_BYTES];
    ChaCha20Rng::from_seed([image; 32]).fill_bytes(&mut bytes);
    let description = Description {
        version: version.into(),
        security_version,
        vendor: "V".into(),
        products: vec![product.into()],
        ..Description::default()
    };
    let manifest = Manifest::describe(description, &bytes, PayloadFormat::Raw, &bytes).unwrap();
    let signed = SignedManifest::sign(&manifest, &release_key()).unwrap();
    Bundle { manifest: &signed, payload: &bytes }.emit().unwrap()
}

pub(super) fn shelf(library: &BTreeMap<String, Vec<u8>>) -> Shelf {
    let shelved = |(file, bytes): (&String, &Vec<u8>)| {
        Shelved::new(file.clone(), Bundle::parse(bytes).unwrap().manifest, false).unwrap()
    };
    Shelf::new(library.iter().map(shelved).collect(), Vec::new())
}

impl DeadHost {
    fn new(index: usize, dead: Dead) -> Self {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&(dead.twin_of.unwrap_or(index) as u64).to_be_bytes());
        let octets = (index as u16 + 2).to_be_bytes();
        Self {
            address: SocketAddr::from(([10, 0, octets[0], octets[1]], 9847)),
            dead,
            machine: None,
            conclusion: None,
            written: Vec::new(),
            attempts: 0,
            secret: HostSecretKey::generate(&mut ChaCha20Rng::from_seed(seed)),
            boots: if dead.twin_of.is_some() { 100 } else { 0 },
            boot_at: Some(Time::ZERO + dead.up_at),
            flashing: None,
            wants_permit: None,
            outbox: Vec::new(),
            next_fragment: Time::ZERO,
        }
    }

    pub(super) fn key(&self) -> [u8; 32] {
        *self.secret.public().exchange()
    }

    pub(super) fn name(&self) -> String {
        match self.dead.is_known {
            true => self.address.to_string(),
            false => self.secret.public().fingerprint().to_string(),
        }
    }

    pub(super) fn is_rescued(&self) -> bool {
        matches!(self.conclusion, Some(Conclusion::Repaired { .. }))
    }

    fn boot(&mut self, now: Time) {
        self.boots += 1;
        let identity = Identity {
            environment: Environment::Recovery,
            boot_id: [self.boots; 16],
            flash_size_bytes: IMAGE_SIZE_BYTES as u64,
            security_version_floor: self.dead.floor,
            product: self.dead.product.into(),
            ..samples::identity()
        };
        let request = HelpRequest {
            wants_image: self.dead.wants_image,
            finding: self.dead.finding,
            offset_bytes: 7,
            why: "torn".into(),
            identity,
        };
        let board = Board {
            vendor: "V".into(),
            product: self.dead.product.into(),
            flash_size_bytes: IMAGE_SIZE_BYTES as u64,
            security_version_floor: self.dead.floor,
            host: Some(self.secret.public().fingerprint()),
            ..Board::default()
        };
        let patient = Patient {
            host_key: self.secret.clone(),
            managers: vec![manager_key().public()],
            releases: vec![release_key().public()],
            board,
            request,
            flash: FlashState::Untouched(match self.dead.finding {
                Finding::Invalid => Condition::Broken,
                _ => Condition::Whole,
            }),
            patience: (!self.dead.wants_image).then_some(Duration::from_secs(30)),
        };
        let mut seed = [self.boots; 32];
        seed[16..].copy_from_slice(&self.key()[..16]);
        self.machine = Some(Stay::by_itself(now, patient, seed));
        self.boot_at = self.dead.power_cut.take().map(|after| now + after);
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.boot_at.is_some_and(|at| at <= now) {
            (self.flashing, self.wants_permit) = (None, None);
            self.boot(now);
        }
        let Some(machine) = &mut self.machine else { return };
        machine.handle_timeout(now);
        if let (Some((end, digest)), Some(recovery)) = (self.flashing, machine.recovery()) {
            let bad = self.dead.bad_writes > 0;
            if end > now {
                recovery.flash_progress(now, Phase::Writing, 1, 3);
            } else {
                self.flashing = None;
                self.dead.bad_writes = self.dead.bad_writes.saturating_sub(1);
                let (flash, reason) = match bad {
                    true => (FlashState::Mixed, Reason::WriteFailed),
                    false => (FlashState::Updated, Reason::Updated),
                };
                if !bad {
                    self.written.push(digest);
                }
                let end = FlashEnd { ending: Ending::new(reason, flash, ""), digests: None };
                recovery.flash_ended(now, end);
            }
        }
        self.act(now);
    }

    fn act(&mut self, now: Time) {
        let Some(machine) = &mut self.machine else { return };
        // As the driver does it: what is to be said is said before anything is done.
        self.outbox.extend(std::iter::from_fn(|| machine.poll_transmit()));
        while let Some(action) = machine.poll_action(now) {
            match action {
                StayAction::LookUp(source) => {
                    let (address, broadcast) = (manager_address(), false);
                    let candidate = Candidate { address, broadcast, key: None };
                    let is_stored = source == Source::Stored;
                    let found = if is_stored { vec![candidate] } else { Vec::new() };
                    machine.found(now, source, Ok(found));
                }
                StayAction::Flash { image, .. } => {
                    self.attempts += 1;
                    self.wants_permit = Some(*image.digest());
                }
                StayAction::JoinGroup(_) => {}
                StayAction::Conclude(Conclusion::Repaired { .. }) if self.dead.relapses > 0 => {
                    self.dead.relapses -= 1;
                    self.boot_at = Some(now + Duration::from_secs(20));
                }
                StayAction::Conclude(conclusion) => self.conclusion = Some(conclusion),
            }
        }
        self.ask_permit(now);
    }

    /// No byte is written before the backup is in keeping, where that is wanted.
    fn ask_permit(&mut self, now: Time) {
        let Some(digest) = self.wants_permit else { return };
        let Some(recovery) = self.machine.as_mut().and_then(Stay::recovery) else { return };
        let old = std::sync::Arc::new(vec![0x5a; IMAGE_SIZE_BYTES]);
        let closed = ByteRanges::default();
        let backup = JobBackup { bytes: &old, digest: Some(sha256(&old)), closed: &closed };
        match recovery.may_change(now, Some(backup)) {
            Permit::Given => {
                self.wants_permit = None;
                self.flashing = Some((now + FLASHING, digest));
            }
            Permit::Wait => {}
            Permit::Refused(refusal) if self.dead.dawdles => {
                self.wants_permit = None;
                let flash = FlashState::Untouched(Condition::Whole);
                let ending = Ending::new(refusal.reason, flash, refusal.detail);
                recovery.flash_ended(now, FlashEnd { ending, digests: None });
            }
            Permit::Refused(refusal) => panic!("{refusal}"),
        }
    }

    fn lets_out(&mut self, now: Time, bytes: &[u8]) -> bool {
        if !self.dead.dawdles || bytes[0] != 6 {
            return true;
        }
        let is_due = self.next_fragment <= now;
        if is_due {
            self.next_fragment = now + DAWDLING;
        }
        is_due
    }

    fn poll_timeout(&self) -> Option<Time> {
        let machine = self.machine.as_ref().and_then(Stay::poll_timeout);
        [machine, self.boot_at, self.flashing.map(|(end, _)| end)].into_iter().flatten().min()
    }

    pub(super) fn held(&self) -> Option<&str> {
        match self.machine.as_ref()?.situation() {
            Situation::Searching(SearchSituation::Asking { held, .. }) => held,
            _ => None,
        }
    }
}

impl World {
    pub(super) fn new(dead: Vec<Dead>, bundles: &[(&str, Vec<u8>)]) -> Self {
        let library = bundles.iter().map(|(f, b)| ((*f).to_owned(), b.clone())).collect();
        let hosts = dead.into_iter().enumerate().map(|(i, d)| DeadHost::new(i, d)).collect();
        Self {
            now: Time::ZERO,
            service: None,
            hosts,
            notes: Vec::new(),
            policy: Policy::default(),
            loss: 0.0,
            stream_bytes: 0,
            said: 0,
            heard: 0,
            backups: Vec::new(),
            delivery: Delivery::Broadcast,
            rate_bits_per_s: 100_000_000,
            busiest_second: 0,
            second: (0, 0),
            library,
            starts: 0,
            in_flight: BTreeMap::new(),
            sent: 0,
            rng: ChaCha20Rng::from_seed([8; 32]),
        }
    }

    /// The service starts, also again after its end; nothing of the last one is left.
    pub(super) fn start(&mut self) {
        self.starts += 1;
        let settings = Settings {
            delivery: self.delivery,
            rate_bits_per_s: self.rate_bits_per_s,
            fragment_size_bytes: FRAGMENT_SIZE_BYTES,
            deadlines: Deadlines { reach: Duration::from_secs(60), ..Deadlines::default() },
            exchange_secret: *manager_key().exchange(),
            seed: [self.starts; 32],
        };
        let known = self.hosts.iter().filter(|host| host.dead.is_known);
        let known = known.map(|host| Known { name: host.name(), key: host.key() }).collect();
        let shelf = shelf(&self.library);
        self.service = Some(Service::new(settings, self.policy.clone(), shelf, known));
    }

    pub(super) fn service(&mut self) -> &mut Service {
        self.service.as_mut().unwrap()
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    pub(super) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.collect();
            if done(self) {
                return true;
            }
            match self.next_step() {
                Some(next) if next <= end => self.now = next.max(self.now),
                _ => break,
            }
            self.step();
        }
        self.now = end;
        false
    }

    fn next_step(&self) -> Option<Time> {
        let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
        let hosts = self.hosts.iter().filter_map(DeadHost::poll_timeout).min();
        let service = self.service.as_ref().and_then(Service::poll_timeout);
        let next = [arrival, hosts, service].into_iter().flatten().min()?;
        // Everything waits for the next tick: fewer steps, and timeouts that are served late.
        Some(Time::from_micros(next.as_micros().div_ceil(TICK_US) * TICK_US))
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now) {
            let Packet { from, to, bytes } = entry.remove();
            self.deliver(from, to, &bytes);
        }
        if let Some(service) = &mut self.service
            && service.poll_timeout().is_some_and(|at| at <= now)
        {
            service.handle_timeout(now);
        }
        for host in &mut self.hosts {
            if host.poll_timeout().is_some_and(|at| at <= now) {
                host.handle_timeout(now);
            }
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: Option<SocketAddr>, bytes: &[u8]) {
        let now = self.now;
        if to == Some(manager_address()) {
            if let Some(service) = &mut self.service {
                self.heard += 1;
                service.handle_datagram(now, from, bytes);
            }
            return;
        }
        for host in &mut self.hosts {
            let is_meant = to.is_none_or(|to| to == host.address);
            if is_meant && (self.loss == 0.0 || unit(&mut self.rng) >= self.loss) {
                if let Some(machine) = &mut host.machine {
                    machine.handle_datagram(now, from, bytes);
                }
                host.act(now);
            }
        }
    }

    fn collect(&mut self) {
        let now = self.now;
        let mut out = Vec::new();
        if let Some(service) = &mut self.service {
            while let Some(load) = service.poll_load() {
                let payload = match self.library.get(&load.file) {
                    Some(bytes) => Ok(Bundle::parse(bytes).unwrap().payload.to_vec()),
                    None => Err("it is gone".to_owned()),
                };
                service.loaded(now, &load.id, payload);
            }
            while let Some(transmit) = service.poll_transmit(now) {
                let to = match transmit.destination {
                    Destination::Host(address) => Some(address),
                    Destination::Group => None,
                };
                let is_stream = matches!(transmit.bytes[0], 6 | 7);
                out.push((manager_address(), to, transmit.bytes, is_stream));
            }
            while let Some(deposit) = service.poll_backup() {
                let (host, bundle) = service.depositor(&deposit).unwrap();
                self.backups.push((host.target().name.clone(), bundle.file.clone()));
                service.backup_stored(now, &deposit, Ok(()));
            }
            while let Some(note) = service.poll_note() {
                self.notes.push((now, note));
            }
        }
        for (from, to, bytes, is_stream) in out {
            if is_stream {
                self.count(bytes.len() as u64 + 42);
            } else {
                self.said += 1;
            }
            self.post(from, to, bytes);
        }
        for index in 0..self.hosts.len() {
            let from = self.hosts[index].address;
            let host = &mut self.hosts[index];
            let mut outbox = std::mem::take(&mut host.outbox);
            if let Some(machine) = &mut host.machine {
                outbox.extend(std::iter::from_fn(|| machine.poll_transmit()));
            }
            let now = self.now;
            outbox.retain(|sent| host.lets_out(now, &sent.bytes));
            for sent in outbox {
                if self.loss == 0.0 || unit(&mut self.rng) >= self.loss {
                    self.post(from, Some(sent.to), sent.bytes);
                }
            }
        }
    }

    fn count(&mut self, bytes: u64) {
        self.stream_bytes += bytes;
        let second = self.now.as_micros() / 1_000_000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += bytes;
        self.busiest_second = self.busiest_second.max(self.second.1);
    }

    pub(super) fn post(&mut self, from: SocketAddr, to: Option<SocketAddr>, bytes: Vec<u8>) {
        self.sent += 1;
        self.in_flight.insert((self.now + DELAY, self.sent), Packet { from, to, bytes });
    }

    pub(super) fn all_rescued(&self) -> bool {
        self.hosts.iter().all(DeadHost::is_rescued)
    }

    pub(super) fn send(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        self.post(from, Some(manager_address()), bytes);
    }

    /// What was told of the service itself.
    pub(super) fn events(&self) -> impl Iterator<Item = &ServiceEvent> {
        self.notes.iter().filter_map(|(_, note)| match &note.line {
            Line::Service(event) => Some(event),
            Line::Campaign(_) => None,
        })
    }

    /// What was told of campaigns.
    pub(super) fn news(&self) -> impl Iterator<Item = (Time, &News)> {
        self.notes.iter().filter_map(|(at, note)| match &note.line {
            Line::Campaign(news) => Some((*at, news)),
            Line::Service(_) => None,
        })
    }

    pub(super) fn results(&self, host: usize) -> Vec<&HostResult> {
        let name = self.hosts[host].name();
        let mut results = Vec::new();
        for (_, news) in self.news() {
            if let News::Result(result) = news
                && result.host == name
            {
                results.push(&**result);
            }
        }
        results
    }

    pub(super) fn campaigns(&self) -> usize {
        self.events().filter(|event| matches!(event, ServiceEvent::CampaignStarted { .. })).count()
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn unit(rng: &mut ChaCha20Rng) -> f64 {
    f64::from(rng.next_u32()) / f64::from(u32::MAX)
}
