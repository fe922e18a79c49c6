//! What a stream to very many hosts costs: `cargo run --profile fast --example transfer_crowd`.
//!
//! The real sender in virtual time, under a cap of 100 Mbit/s. Its hosts only count what they get:
//! of a code block any `k` fragments are enough. Each loses on its own, one fragment by itself or
//! several in a row (Gilbert's model). *wire* is what went out, and *time* until every host had
//! enough, both beside the least that a channel of that loss needs. *drawn* is what had gone out
//! when the last host had enough: with the losses that were drawn, no sender could have done with
//! less. Figures of few hosts are medians of some draws.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use firmcast::time::Time;
use firmcast::transfer::{Geometry, HostId, Sender, SenderConfig};
use firmcast::wire::broadcast::{
    Broadcast, BroadcastKind, FecScheme, FragmentStatus, GroupCipher, GroupKey, Missing,
    TransferParameters,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};

const RATE_MBIT: u64 = 100;
const FRAGMENT_BYTES: u16 = 1444;
/// Ethernet, IPv4 and UDP headers, header and tag of a fragment.
const OVERHEAD_BYTES: u32 = 70;
const LATENCY: Duration = Duration::from_micros(200);
const WIRE_GOAL: f64 = 1.02;
const TIME_GOAL: f64 = 1.05;
/// Hosts up to which there are several draws, and how many.
const FEW_HOSTS: usize = 40;
const DRAWS: u64 = 9;

fn main() {
    println!("goals: wire {WIRE_GOAL}; time {TIME_GOAL} for 8 and 40 hosts");
    println!("  hosts   MiB  loss %  burst   wire  drawn   time      s");
    for (hosts, mib, loss, burst) in [
        (8, 16, 0.05, 10.0),
        (8, 16, 0.2, 10.0),
        (40, 16, 0.1, 10.0),
        (8, 64, 0.0, 1.0),
        (8, 64, 0.1, 1.0),
        (8, 64, 0.2, 1.0),
        (1_000, 16, 0.01, 1.0),
        (1_000, 16, 0.1, 1.0),
        (10_000, 16, 0.0, 1.0),
        (10_000, 16, 0.01, 1.0),
        (10_000, 16, 0.05, 1.0),
        (10_000, 16, 0.1, 1.0),
        (10_000, 16, 0.2, 1.0),
        (10_000, 64, 0.1, 1.0),
        (10_000, 64, 0.2, 1.0),
    ] {
        let begun = Instant::now();
        let draws = 1..=if hosts <= FEW_HOSTS { DRAWS } else { 1 };
        let costs: Vec<Cost> =
            draws.map(|seed| Crowd::new(hosts, mib << 20, loss, burst, seed).run()).collect();
        let (percent, seconds) = (loss * 100.0, begun.elapsed().as_secs_f64());
        print!("{hosts:7} {mib:5} {percent:7.0} {burst:6.0}");
        for figure in [|cost: &Cost| cost.wire, |cost: &Cost| cost.drawn, |cost: &Cost| cost.time] {
            print!("  {:.3}", median(costs.iter().map(figure)));
        }
        println!(" {seconds:6.1}");
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Everything beside the least.
struct Cost {
    wire: f64,
    drawn: f64,
    time: f64,
}

struct Host {
    /// Fragments of each block.
    have: Vec<u32>,
    received: u32,
    in_burst: bool,
    is_complete: bool,
}

struct Crowd {
    now: Time,
    sender: Sender,
    geometry: Geometry,
    cipher: GroupCipher,
    campaign: u64,
    hosts: Vec<Host>,
    loss: f64,
    burst: f64,
    random: ChaCha8Rng,
    /// When which host answers, which round, and how much it had received when it was asked.
    answers: BinaryHeap<Reverse<(Time, usize, u32, u32)>>,
}

impl Crowd {
    fn new(hosts: usize, payload_bytes: usize, loss: f64, burst: f64, seed: u64) -> Self {
        let parameters = TransferParameters {
            campaign: 7,
            group_key: GroupKey::new([7; 32]),
            payload_size_bytes: payload_bytes as u32,
            fragment_size_bytes: FRAGMENT_BYTES,
            fec: FecScheme::Fitted,
        };
        let config = SenderConfig { rate_cap_bits_per_s: RATE_MBIT * 1_000_000, is_polite: false };
        let geometry = Geometry::new(&parameters).expect("parameters");
        let mut sender =
            Sender::new(vec![0; payload_bytes], &parameters, config).expect("parameters");
        let blocks = usize::from(geometry.block_count());
        let host = |number| {
            sender.add_host(Time::ZERO, HostId(number)).expect("room for a host");
            Host { have: vec![0; blocks], received: 0, in_burst: false, is_complete: false }
        };
        let hosts = (0..hosts as u32).map(host).collect();
        Self {
            now: Time::ZERO,
            sender,
            geometry,
            cipher: GroupCipher::new(parameters.campaign, &parameters.group_key),
            campaign: parameters.campaign,
            hosts,
            loss,
            burst,
            random: ChaCha8Rng::seed_from_u64(seed),
            answers: BinaryHeap::new(),
        }
    }

    fn run(mut self) -> Cost {
        let (mut complete_at, mut drawn_bytes) = (self.now, 0);
        self.sender.start(self.now);
        while !self.sender.is_done() {
            while let Some(datagram) = self.sender.poll_transmit(self.now) {
                if self.broadcast(&datagram) {
                    (complete_at, drawn_bytes) = (self.now, self.sender.stats().wire_bytes);
                }
            }
            while self.sender.poll_event().is_some() {}
            let answer_at = self.answers.peek().map(|Reverse((at, ..))| *at);
            let next = answer_at.into_iter().chain(self.sender.poll_timeout()).min();
            self.now = self.now.max(next.expect("a sender that is not done waits for something"));
            while let Some(Reverse((at, ..))) = self.answers.peek()
                && *at <= self.now
            {
                self.answer();
            }
        }
        let fragments = f64::from(self.geometry.source_total());
        let frame_bytes = f64::from(u32::from(FRAGMENT_BYTES) + OVERHEAD_BYTES);
        let least_bytes = fragments * frame_bytes / (1.0 - self.loss);
        let least_s = least_bytes * 8.0 / (RATE_MBIT * 1_000_000) as f64;
        Cost {
            wire: self.sender.stats().wire_bytes as f64 / least_bytes,
            drawn: drawn_bytes as f64 / least_bytes,
            time: complete_at.as_micros() as f64 / 1e6 / least_s,
        }
    }

    /// True when a host has enough by this.
    fn broadcast(&mut self, datagram: &[u8]) -> bool {
        let sealed = Broadcast::parse(datagram).expect("a datagram of the sender");
        let request = self.cipher.open_status_request(&sealed).ok();
        let mut completes = false;
        for index in 0..self.hosts.len() {
            if self.loses(index) {
                continue;
            }
            let host = &mut self.hosts[index];
            match (sealed.kind, &request) {
                (BroadcastKind::Fragment { block, .. }, _) => {
                    host.received += 1;
                    if !host.is_complete {
                        host.have[usize::from(block)] += 1;
                        host.is_complete =
                            lacks(&self.geometry, host).iter().all(|lack| *lack == 0);
                        completes |= host.is_complete;
                    }
                }
                (BroadcastKind::StatusRequest { round }, Some(request)) => {
                    let window_us = u64::from(request.answer_window_ms) * 1000;
                    let delay_us = self.random.next_u64() % window_us.max(1);
                    let at = self.now + LATENCY * 2 + Duration::from_micros(delay_us);
                    self.answers.push(Reverse((at, index, round, host.received)));
                }
                _ => {}
            }
        }
        completes
    }

    fn answer(&mut self) {
        let Some(Reverse((_, index, round, received))) = self.answers.pop() else { return };
        if self.chance(self.loss) {
            return;
        }
        let lacks = lacks(&self.geometry, &self.hosts[index]);
        let status = FragmentStatus {
            campaign: self.campaign,
            round,
            missing_total: lacks.iter().map(|lack| u32::from(*lack)).sum(),
            received,
            corrupt: 0,
            duplicate: 0,
            foreign: 0,
            out_of_range: 0,
            missing: Missing::Counts(lacks),
        };
        let id = HostId(index as u32);
        self.sender.handle_status(self.now, id, &status).expect("an honest status");
    }

    fn loses(&mut self, index: usize) -> bool {
        if self.burst <= 1.0 {
            return self.chance(self.loss);
        }
        let stays = 1.0 - 1.0 / (self.burst * (1.0 - self.loss));
        let before = f64::from(u8::from(self.hosts[index].in_burst));
        let is_lost = self.chance(self.loss + (before - self.loss) * stays);
        self.hosts[index].in_burst = is_lost;
        is_lost
    }

    fn chance(&mut self, probability: f64) -> bool {
        f64::from(self.random.next_u32()) < probability * 4_294_967_296.0
    }
}

/// What a host lacks of each block.
fn lacks(geometry: &Geometry, host: &Host) -> Vec<u16> {
    let lack =
        |(block, have): (u16, &u32)| geometry.source_count(block).saturating_sub(*have) as u16;
    (0..).zip(&host.have).map(lack).collect()
}
