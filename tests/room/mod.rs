//! A room of virtual receivers around one sender, with a virtual clock and a network that loses,
//! doubles, damages and reorders datagrams by a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use firmcast::time::Time;
use firmcast::transfer::{HostId, Received, Receiver, Sender, SenderConfig, TransferEvent};
use firmcast::wire::broadcast::{FecScheme, FragmentStatus, GroupKey, TransferParameters};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest as _, Sha256};

const LATENCY_US: u64 = 200;
/// The time that a datagram of 1500 bytes takes at 100 Mbit/s.
const BURST_STEP_US: f64 = 120.0;
const STEPS_MAX: u64 = 50_000_000;

/// What the network does, each with the given probability.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss: f64,
    /// How many datagrams in a row are lost on average (Gilbert's model); 0: each by itself.
    pub(crate) burst: f64,
    pub(crate) answer_loss: f64,
    pub(crate) duplication: f64,
    pub(crate) corruption: f64,
    /// Datagrams are delayed by up to this.
    pub(crate) jitter_us: u64,
}

pub(crate) struct Host {
    pub(crate) receiver: Receiver,
    pub(crate) faults: Faults,
    pub(crate) is_present: bool,
    /// How often it has done a part of its work while fragments arrived.
    pub(crate) worked: u32,
    in_burst: bool,
    looked_at: Time,
}

enum Happening {
    Datagram { host: usize, bytes: Rc<[u8]> },
    Wake { host: usize },
    Status { host: usize, status: FragmentStatus },
}

pub(crate) struct Room {
    pub(crate) now: Time,
    pub(crate) parameters: TransferParameters,
    pub(crate) payload: Vec<u8>,
    pub(crate) sender: Sender,
    pub(crate) hosts: Vec<Host>,
    pub(crate) events: Vec<TransferEvent>,
    /// When hosts said that they have enough, for the first time.
    pub(crate) complete_at: std::collections::BTreeMap<HostId, Time>,
    random: ChaCha20Rng,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: std::collections::HashMap<u64, Happening>,
    sequence: u64,
}

impl Room {
    pub(crate) fn new(payload_size: usize, fragment_size: u16, rate_mbit: u64, seed: u64) -> Self {
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let mut payload = vec![0; payload_size];
        random.fill_bytes(&mut payload);
        let parameters = TransferParameters {
            campaign: seed ^ 0xf00d,
            group_key: GroupKey::new([seed as u8; 32]),
            payload_size_bytes: payload_size as u32,
            fragment_size_bytes: fragment_size,
            fec: FecScheme::Fitted,
        };
        let config = SenderConfig { rate_cap_bits_per_s: rate_mbit * 1_000_000, is_polite: false };
        Self {
            now: Time::ZERO,
            sender: Sender::new(payload.clone(), &parameters, config).expect("parameters"),
            parameters,
            payload,
            hosts: Vec::new(),
            events: Vec::new(),
            complete_at: std::collections::BTreeMap::new(),
            random,
            queue: BinaryHeap::new(),
            happenings: std::collections::HashMap::new(),
            sequence: 0,
        }
    }

    pub(crate) fn add_hosts(&mut self, count: usize, faults: Faults) {
        for _ in 0..count {
            let receiver =
                Receiver::new(&self.parameters, self.random.next_u64()).expect("parameters");
            self.sender.add_host(self.now, HostId(self.hosts.len() as u32)).expect("room");
            self.hosts.push(Host {
                receiver,
                faults,
                is_present: true,
                worked: 0,
                in_burst: false,
                looked_at: self.now,
            });
        }
    }

    /// Runs until the sender has served everyone, or until `limit`. True when it has.
    pub(crate) fn run(&mut self, limit: Duration) -> bool {
        let end = self.now + limit;
        self.sender.start(self.now);
        for _ in 0..STEPS_MAX {
            while let Some(datagram) = self.sender.poll_transmit(self.now) {
                self.broadcast(&datagram);
            }
            self.sender.work();
            while let Some(event) = self.sender.poll_event() {
                if let TransferEvent::Complete(host) = event {
                    self.complete_at.entry(host).or_insert(self.now);
                }
                self.events.push(event);
            }
            if self.sender.is_done() {
                return true;
            }
            let happens_at = self.queue.peek().map(|Reverse((at, _))| *at);
            let next = happens_at.into_iter().chain(self.sender.poll_timeout()).min();
            let next = next.expect("a sender that is not done waits for something");
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            self.process_due();
        }
        panic!("the sender spins");
    }

    /// Everyone who is there holds the payload.
    pub(crate) fn assert_all_have_the_payload(&mut self) {
        let digest = Sha256::digest(&self.payload);
        for (index, host) in self.hosts.iter_mut().enumerate().filter(|(_, host)| host.is_present) {
            let payload = host.receiver.take_payload().unwrap_or_else(|error| {
                panic!("host {index}: {error}");
            });
            assert!(payload.bytes == self.payload, "host {index} holds another payload");
            assert_eq!(payload.digest[..], digest[..], "host {index}");
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && f64::from(self.random.next_u32()) < probability * 4_294_967_296.0
    }

    /// Whether a host loses the next datagram.
    fn loses(&mut self, host: usize) -> bool {
        let Faults { loss, burst, .. } = self.hosts[host].faults;
        if burst <= 1.0 {
            return self.chance(loss);
        }
        // Bursts last as long as their datagrams take at 100 Mbit/s, however many are sent then.
        let elapsed_us = self.now.since(self.hosts[host].looked_at).as_micros() as f64;
        let steps = (elapsed_us / BURST_STEP_US).max(1.0);
        let stays = (1.0 - 1.0 / (burst * (1.0 - loss))).powf(steps);
        let before = f64::from(u8::from(self.hosts[host].in_burst));
        let is_lost = self.chance(loss + (before - loss) * stays);
        (self.hosts[host].in_burst, self.hosts[host].looked_at) = (is_lost, self.now);
        is_lost
    }

    fn after(&mut self, delay_us: u64, happening: Happening) {
        self.sequence += 1;
        let at = self.now + Duration::from_micros(delay_us);
        self.queue.push(Reverse((at, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    fn broadcast(&mut self, datagram: &[u8]) {
        let shared: Rc<[u8]> = datagram.into();
        for host in 0..self.hosts.len() {
            let faults = self.hosts[host].faults;
            let copies = 1 + u32::from(self.chance(faults.duplication));
            for _ in 0..copies {
                if !self.hosts[host].is_present || self.loses(host) {
                    continue;
                }
                let mut bytes = shared.clone();
                if self.chance(faults.corruption) {
                    let mut damaged = shared.to_vec();
                    let position = self.random.next_u32() as usize % damaged.len();
                    damaged[position] ^= 1 << (self.random.next_u32() % 8);
                    bytes = damaged.into();
                }
                let jitter = self.random.next_u64() % (faults.jitter_us + 1);
                self.after(LATENCY_US + jitter, Happening::Datagram { host, bytes });
            }
        }
    }

    fn process_due(&mut self) {
        while let Some(Reverse((at, sequence))) = self.queue.peek().copied() {
            if at > self.now {
                break;
            }
            self.queue.pop();
            if let Some(happening) = self.happenings.remove(&sequence) {
                self.process(happening);
            }
        }
    }

    fn process(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram { host, bytes } => {
                let receiver = &mut self.hosts[host].receiver;
                if receiver.handle_datagram(self.now, &bytes) == Received::StatusRequest {
                    let due = receiver.poll_timeout().expect("an answer is due");
                    let delay_us = due.since(self.now).as_micros() as u64;
                    self.after(delay_us, Happening::Wake { host });
                }
                // Another datagram may wait already, or none; what is sealed is random.
                if bytes.last().is_some_and(|byte| byte % 4 == 0) {
                    let host = &mut self.hosts[host];
                    host.worked += u32::from(host.receiver.work(self.now));
                }
            }
            Happening::Wake { host } => {
                if let Some(status) = self.hosts[host].receiver.poll_status(self.now) {
                    assert!(status.emit().len() <= 1100);
                    assert_eq!(FragmentStatus::parse(&status.emit()), Ok(status.clone()));
                    if !self.chance(self.hosts[host].faults.answer_loss) {
                        self.after(LATENCY_US, Happening::Status { host, status });
                    }
                }
            }
            Happening::Status { host, status } => {
                let id = HostId(host as u32);
                self.sender.handle_status(self.now, id, &status).expect("an honest status");
            }
        }
    }
}
