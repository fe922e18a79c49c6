//! A virtual network and clock around the service and dead hosts, which are the real machine of the
//! recovery environment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use firmcast::image::{Bundle, Description, Manifest, PayloadFormat, SignedManifest};
use firmcast::keys::{ManagerSecretKey, ReleaseSecretKey};
use firmcast::time::Time;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};

use super::super::known::Known;
use super::super::note::{Note, ServiceEvent};
use super::super::service::{Service, Settings};
use super::super::shelf::{Shelf, Shelved};
use super::super::{Line, Policy};
use super::dead_host::{Dead, DeadHost, IMAGE_SIZE_BYTES};
use crate::campaign::{Deadlines, Delivery, Destination};
use crate::news::{HostResult, News};

const DELAY: Duration = Duration::from_millis(1);
const TICK_US: u64 = 1_000;
const FRAGMENT_SIZE_BYTES: u16 = 1440;

pub(super) struct World {
    pub(super) now: Time,
    pub(super) service: Option<Service>,
    pub(super) hosts: Vec<DeadHost>,
    /// Hosts of the inventory that need no help: any of them may call yet.
    pub(super) well: u8,
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

pub(super) fn manager_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 9848))
}

pub(super) fn manager_key() -> ManagerSecretKey {
    ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([1; 32]))
}

pub(super) fn release_key() -> ReleaseSecretKey {
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

impl World {
    pub(super) fn new(dead: Vec<Dead>, bundles: &[(&str, Vec<u8>)]) -> Self {
        let library = bundles.iter().map(|(f, b)| ((*f).to_owned(), b.clone())).collect();
        let hosts = dead.into_iter().enumerate().map(|(i, d)| DeadHost::new(i, d)).collect();
        Self {
            now: Time::ZERO,
            service: None,
            hosts,
            well: 1,
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
            is_polite: false,
            fragment_size_bytes: FRAGMENT_SIZE_BYTES,
            deadlines: Deadlines { reach: Duration::from_secs(60), ..Deadlines::default() },
            exchange_secret: *manager_key().exchange(),
            seed: [self.starts; 32],
        };
        let known = self.hosts.iter().filter(|host| host.dead.is_known);
        let known = known.map(|host| Known {
            name: host.name(),
            key: host.key(),
            security_version_floor: host.dead.known_floor,
        });
        let well = (0..self.well).map(|number| Known {
            name: format!("well{number}"),
            key: [number + 1; 32],
            security_version_floor: 0,
        });
        let known = known.chain(well).collect();
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
                let delay = self.hosts[index].delay();
                if self.loss == 0.0 || unit(&mut self.rng) >= self.loss {
                    self.post_late(delay, from, Some(sent.to), sent.bytes);
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
        self.post_late(Duration::ZERO, from, to, bytes);
    }

    fn post_late(
        &mut self,
        late: Duration,
        from: SocketAddr,
        to: Option<SocketAddr>,
        bytes: Vec<u8>,
    ) {
        self.sent += 1;
        let at = self.now + DELAY + late;
        self.in_flight.insert((at, self.sent), Packet { from, to, bytes });
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

fn unit(rng: &mut ChaCha20Rng) -> f64 {
    f64::from(rng.next_u32()) / f64::from(u32::MAX)
}
