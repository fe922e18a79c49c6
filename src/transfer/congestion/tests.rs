use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};

use super::*;
use crate::time::Time;
use crate::transfer::pacing::Pacing;

const FRAME_BYTES: usize = 1514;
const MBIT: u64 = 1_000_000;
const TICK_MS: u64 = 1;
/// How long an elastic sender takes to hear of a loss.
const ROUND_TRIP_MS: u64 = 5;

#[test]
fn much_loss_halves_the_rate_but_not_for_long_when_that_does_not_help() {
    let mut pacing = Pacing::new(1600, FRAME_BYTES);
    let mut halving = Halving::default();
    let mut rate_after = |loss| {
        pacing.take_step(halving.step(loss));
        pacing.rate_bits_per_s()
    };
    assert_eq!(rate_after(0.6), 800);
    assert_eq!(rate_after(0.35), 400);
    assert_eq!([rate_after(0.0), rate_after(0.0)], [600, 900]);
    assert_eq!([0.0; 4].map(&mut rate_after)[3], 1600);
    assert_eq!([rate_after(0.5), rate_after(0.5)], [800, 1600], "halving did not help");
    assert_eq!(rate_after(0.5), 1600, "and is not tried again at once");
    let mut jammed = Pacing::new(1600, FRAME_BYTES);
    let mut halving = Halving::default();
    for loss in [0.99, 0.7, 0.5, 0.36, 0.31, 0.305] {
        jammed.take_step(halving.step(loss));
    }
    assert!(jammed.rate_bits_per_s() >= 100);
}

/// What others send over the link.
#[derive(Clone, Copy, Debug)]
enum Others {
    /// So many bits per second, whatever happens.
    Steady(u64),
    /// Like TCP: more and more until something is lost, then half.
    Elastic,
}

/// A link with a queue that a polite stream shares with others.
struct Link {
    capacity: u64,
    queue_ms: u64,
    base_loss: f64,
    others: Others,
    elastic_rate: u64,
    deaf_ms: u64,
    queued_bits: u64,
    /// Fragments since the rate was adapted.
    sent: u32,
    lost: u32,
    random: ChaCha20Rng,
    pacing: Pacing,
    congestion: Congestion,
    /// Bits of the stream that were sent, and bits of others that arrived.
    ours: u64,
    theirs: f64,
}

impl Link {
    fn new(capacity: u64, cap: u64, queue_ms: u64, base_loss: f64, others: Others) -> Self {
        let mut pacing = Pacing::new(cap, FRAME_BYTES);
        pacing.fall_to_floor();
        Self {
            capacity,
            queue_ms,
            base_loss,
            others,
            elastic_rate: capacity,
            deaf_ms: 0,
            queued_bits: 0,
            sent: 0,
            lost: 0,
            random: ChaCha20Rng::seed_from_u64(7),
            pacing,
            congestion: Congestion::new(true),
            ours: 0,
            theirs: 0.0,
        }
    }

    fn run(&mut self, time: Duration) {
        let interval_ms = self.congestion.interval().as_millis() as u64;
        for _ in 0..time.as_millis() as u64 / interval_ms {
            let (mut overflowed, ticks) = (0.0, interval_ms / TICK_MS);
            for _ in 0..ticks {
                overflowed += self.tick() / ticks as f64;
            }
            let rate = self.pacing.rate_bits_per_s();
            let expected = self.base_loss + (1.0 - self.base_loss) * overflowed;
            let is_lost = |_: &u64| f64::from(self.random.next_u32()) < expected * 4_294_967_296.0;
            let sent = rate * interval_ms / 1000 / 8 / FRAME_BYTES as u64;
            self.lost += (0..sent).filter(is_lost).count() as u32;
            self.sent += sent as u32;
            if self.sent < self.congestion.fragments_min() {
                continue;
            }
            let (sent, lost) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.lost));
            let queued = Duration::from_micros(self.queued_bits * 1_000_000 / self.capacity);
            self.pacing.take_step(self.congestion.step(Sample {
                loss: f64::from(lost) / f64::from(sent),
                fragments: sent,
                delay: Some(Duration::from_millis(1) + queued),
            }));
        }
    }

    /// Gives the part of what was offered that found the queue full.
    fn tick(&mut self) -> f64 {
        let theirs = match self.others {
            Others::Steady(rate) => rate,
            Others::Elastic => self.elastic_rate,
        };
        let ours = self.pacing.rate_bits_per_s();
        let offered = (ours + theirs) * TICK_MS / 1000;
        let room = self.capacity * (TICK_MS + self.queue_ms) / 1000;
        let lost = (self.queued_bits + offered).saturating_sub(room);
        let carried = self.capacity * TICK_MS / 1000;
        self.queued_bits = (self.queued_bits + offered - lost).saturating_sub(carried);
        let part_lost = lost as f64 / offered.max(1) as f64;
        self.deaf_ms = self.deaf_ms.saturating_sub(TICK_MS);
        match lost {
            0 => self.elastic_rate = self.capacity.min(self.elastic_rate + self.capacity / 500),
            _ if self.deaf_ms > 0 => {}
            _ => {
                self.elastic_rate = (self.elastic_rate / 2).max(self.capacity / 100);
                self.deaf_ms = ROUND_TRIP_MS;
            }
        }
        self.ours += ours * TICK_MS / 1000;
        self.theirs += (theirs * TICK_MS / 1000) as f64 * (1.0 - part_lost);
        part_lost
    }
}

proptest! {
    /// What is lost at any rate does not slow it, and what is free is taken.
    #[test]
    fn alone_it_takes_the_cap(
        cap_mbit in 10u64..2000,
        queue_ms in 1u64..100,
        base_loss in 0.0..0.25,
    ) {
        let cap = cap_mbit * MBIT;
        let mut link = Link::new(cap, cap, queue_ms, base_loss, Others::Steady(0));
        link.run(Duration::from_secs(2));
        let before = link.ours;
        link.run(Duration::from_secs(10));
        prop_assert!(link.ours - before >= cap * 9, "{} of {}", link.ours - before, cap * 10);
    }

    /// Who sends no more than half of the link loses little of it, however high the cap is.
    #[test]
    fn steady_others_keep_what_they_send(
        capacity_mbit in 10u64..1000,
        percent in 5u64..=50,
        cap_percent in 100u64..400,
        queue_ms in 1u64..100,
        base_loss in 0.0..0.1,
    ) {
        let capacity = capacity_mbit * MBIT;
        let rate = capacity * percent / 100;
        let cap = capacity * cap_percent / 100;
        let mut link = Link::new(capacity, cap, queue_ms, base_loss, Others::Steady(rate));
        link.run(Duration::from_secs(10));
        let kept = link.theirs / (rate * 10) as f64;
        prop_assert!(kept > 0.85, "kept {kept:.3}");
        let free = (capacity - rate) * 10;
        prop_assert!(link.ours > free / 3, "took {} of {free}", link.ours);
    }

    /// Who takes whatever is free keeps at least half of a link whose queue is long enough to be
    /// noticed, whatever is lost besides. (Shorter ones drop as kernels do it: `make bench`.)
    #[test]
    fn elastic_others_keep_half(
        capacity_mbit in 10u64..1000,
        cap_percent in 100u64..400,
        queue_ms in 7u64..100,
        base_loss in 0.0..0.1,
    ) {
        let (capacity, cap) = (capacity_mbit * MBIT, capacity_mbit * MBIT * cap_percent / 100);
        let mut alone = Link::new(capacity, 1, queue_ms, base_loss, Others::Elastic);
        alone.run(Duration::from_secs(20));
        let mut link = Link::new(capacity, cap, queue_ms, base_loss, Others::Elastic);
        link.run(Duration::from_secs(20));
        let kept = link.theirs / alone.theirs;
        prop_assert!(kept >= 0.5, "kept {kept:.3}");
    }
}

/// Nobody answers: it slows down to the floor, and no further.
#[test]
fn silence_slows_a_polite_stream_down() {
    let (mut pacing, congestion) = (Pacing::new(1600, FRAME_BYTES), Congestion::new(true));
    (0..10).for_each(|_| pacing.take_step(congestion.step_in_silence()));
    assert_eq!(pacing.rate_bits_per_s(), 100);
    assert!(pacing.ready_at() >= Time::ZERO);
}
