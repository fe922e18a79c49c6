//! The operator's rate cap, and the rate below it.

use std::time::Duration;

use super::congestion::Step;
use crate::time::Time;

/// How far the rate may fall below the cap: to this part of it.
const FLOOR_DIVISOR: u64 = 16;

/// How little it creeps back: by this part of itself.
const CREEP_DIVISOR: u64 = 32;

/// Bursts are no longer than what the rate allows in this time: enough for batched sending and a 1
/// ms timer.
const BURST_MS: u64 = 2;

/// ... but long enough for this many of the largest frames, whatever the rate.
const BURST_FRAMES_MIN: u64 = 2;

/// A token bucket whose rate never exceeds the cap. It counts whole frames; credit is in bits times
/// 10^-6.
#[derive(Debug)]
pub(super) struct Pacing {
    cap_bits_per_s: u64,
    rate_bits_per_s: u64,
    frame_size_max: u64,
    credit: u64,
    filled_at: Option<Time>,
}

impl Pacing {
    /// Returns a full bucket. `frame_size_max` is the largest frame in bytes, headers included.
    pub(super) fn new(cap_bits_per_s: u64, frame_size_max: usize) -> Self {
        let cap_bits_per_s = cap_bits_per_s.max(1);
        let mut pacing = Self {
            cap_bits_per_s,
            rate_bits_per_s: cap_bits_per_s,
            frame_size_max: frame_size_max as u64,
            credit: 0,
            filled_at: None,
        };
        pacing.credit = pacing.burst();
        pacing
    }

    /// Returns the present rate, at most the cap.
    pub(super) fn rate_bits_per_s(&self) -> u64 {
        self.rate_bits_per_s
    }

    /// Another cap from now on; the rate keeps its share of it. What was earned until now is cut to
    /// the new burst.
    pub(super) fn set_cap(&mut self, now: Time, cap_bits_per_s: u64) {
        self.is_ready(now);
        let cap_bits_per_s = cap_bits_per_s.max(1);
        let scaled = u128::from(self.rate_bits_per_s) * u128::from(cap_bits_per_s)
            / u128::from(self.cap_bits_per_s);
        self.cap_bits_per_s = cap_bits_per_s;
        self.set_rate(u64::try_from(scaled).unwrap_or(u64::MAX));
        self.credit = self.credit.min(self.burst());
    }

    /// Returns whether a frame may be sent now.
    pub(super) fn is_ready(&mut self, now: Time) -> bool {
        let elapsed = now.since(self.filled_at.unwrap_or(now)).as_micros() as u64;
        self.filled_at = Some(self.filled_at.map_or(now, |filled| filled.max(now)));
        let earned = elapsed.saturating_mul(self.rate_bits_per_s);
        self.credit = self.credit.saturating_add(earned).min(self.burst());
        self.credit >= cost(self.frame_size_max)
    }

    /// Pays for a frame of that size.
    pub(super) fn spend(&mut self, frame_size: usize) {
        self.credit = self.credit.saturating_sub(cost(frame_size as u64));
    }

    /// When the next frame may be sent.
    pub(super) fn ready_at(&self) -> Time {
        let lacking = cost(self.frame_size_max).saturating_sub(self.credit);
        let wait = Duration::from_micros(lacking.div_ceil(self.rate_bits_per_s));
        self.filled_at.unwrap_or(Time::ZERO) + wait
    }

    /// The rate falls or grows, between the floor and the cap.
    pub(super) fn take_step(&mut self, step: Step) {
        let rate = self.rate_bits_per_s;
        self.set_rate(match step {
            Step::Halve => rate / 2,
            Step::Stay => rate,
            Step::Creep => rate.saturating_add(rate / CREEP_DIVISOR + 1),
            Step::Grow => rate.saturating_add(rate / 2),
            Step::Double => rate.saturating_mul(2),
        });
    }

    /// The least rate that there is under this cap.
    pub(super) fn fall_to_floor(&mut self) {
        self.set_rate(0);
    }

    fn set_rate(&mut self, rate_bits_per_s: u64) {
        let floor = (self.cap_bits_per_s / FLOOR_DIVISOR).max(1);
        self.rate_bits_per_s = rate_bits_per_s.clamp(floor, self.cap_bits_per_s);
    }

    fn burst(&self) -> u64 {
        let by_time = self.rate_bits_per_s.saturating_mul(BURST_MS * 1000);
        by_time.max(cost(BURST_FRAMES_MIN * self.frame_size_max))
    }
}

fn cost(bytes: u64) -> u64 {
    bytes * 8 * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the driver's calls are spaced, no interval carries more than the cap and one
        /// burst.
        #[test]
        fn the_cap_always_holds(
            cap in 1_000_000u64..2_000_000_000,
            steps in proptest::collection::vec((0u64..5000, 0usize..1600), 1..300),
        ) {
            let mut pacing = Pacing::new(cap, 1600);
            let burst_bits = (cap / 500).max(2 * 1600 * 8);
            let (mut now, mut sent_bits) = (Time::ZERO, 0);
            for (wait_us, size) in steps {
                now += Duration::from_micros(wait_us);
                while pacing.is_ready(now) {
                    pacing.spend(size.max(60));
                    sent_bits += size.max(60) as u64 * 8;
                }
                prop_assert!(pacing.ready_at() > now);
                prop_assert!(sent_bits <= burst_bits + 1 + cap * now.as_micros() / 1_000_000);
            }
        }

        /// Also when the cap changes: what goes out is at most what the caps allowed, and one burst
        /// of the highest.
        #[test]
        fn a_changed_cap_holds_from_then_on(
            caps in proptest::collection::vec((1_000_000u64..2_000_000_000, 0u64..5000), 1..100),
        ) {
            let mut pacing = Pacing::new(caps[0].0, 1600);
            let highest = caps.iter().map(|(cap, _)| *cap).max().unwrap_or(0);
            let burst_bits = (highest / 500).max(2 * 1600 * 8);
            let (mut now, mut sent_bits, mut allowed_bits) = (Time::ZERO, 0, 0);
            for (cap, wait_us) in caps {
                pacing.set_cap(now, cap);
                now += Duration::from_micros(wait_us);
                allowed_bits += cap * wait_us / 1_000_000 + 1;
                while pacing.is_ready(now) {
                    pacing.spend(1600);
                    sent_bits += 1600 * 8;
                }
                prop_assert!(pacing.rate_bits_per_s() <= cap);
                prop_assert!(sent_bits <= burst_bits + allowed_bits);
            }
        }
    }

    #[test]
    fn a_changed_cap_keeps_the_share_that_loss_left() {
        let mut pacing = Pacing::new(1600, 1514);
        pacing.take_step(Step::Halve);
        pacing.set_cap(Time::ZERO, 800);
        assert_eq!(pacing.rate_bits_per_s(), 400);
        pacing.set_cap(Time::ZERO, 1600);
        assert_eq!(pacing.rate_bits_per_s(), 800);
    }

    #[test]
    fn waiting_as_told_reaches_the_cap() {
        let mut pacing = Pacing::new(100_000_000, 1514);
        let (mut now, mut sent) = (Time::ZERO, 0u64);
        while now < Time::from_micros(1_000_000) {
            while pacing.is_ready(now) {
                pacing.spend(1514);
                sent += 1514 * 8;
            }
            now = pacing.ready_at();
        }
        assert!(sent > 99_900_000, "{sent}");
    }
}
