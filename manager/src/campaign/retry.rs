//! When to say something again.

use std::time::Duration;

use firmcast::backoff::Backoff;
use firmcast::time::Time;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

/// The wait before the first repetition: what a lossy network lost is said again before anybody
/// notices. The growing waits keep it small for those who are slow to answer.
const FIRST: Duration = Duration::from_millis(20);

/// The wait after progress, which may come in small steps.
const AFTER_PROGRESS: Duration = Duration::from_millis(100);

/// Longest wait between repetitions.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// Repetitions with growing waits, spread so that many hosts are not asked in the same moment.
#[derive(Debug)]
pub(super) struct Retry {
    next: Time,
    waits: Backoff,
}

impl Retry {
    /// Due at once.
    pub(super) fn starting(now: Time) -> Self {
        Self { next: now, waits: Backoff::new(FIRST, WAIT_MAX) }
    }

    /// Due after `wait`, and each time after another: a sign of life, to which no answer is
    /// awaited.
    pub(super) fn every(now: Time, wait: Duration) -> Self {
        Self { next: now + wait, waits: Backoff::new(wait, WAIT_MAX) }
    }

    /// When it is due next.
    pub(super) fn next(&self) -> Time {
        self.next
    }

    /// Returns whether it is due; then the next repetition is planned.
    pub(super) fn take(&mut self, now: Time, rng: &mut ChaCha20Rng) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + spread(self.waits.next_pause(), rng);
        true
    }

    /// Postpones the next repetition: the peer showed progress.
    pub(super) fn postpone(&mut self, now: Time, rng: &mut ChaCha20Rng) {
        self.waits = Backoff::new(AFTER_PROGRESS, WAIT_MAX);
        self.next = now + spread(AFTER_PROGRESS, rng);
    }
}

/// `wait`, up to a quarter longer.
fn spread(wait: Duration, rng: &mut ChaCha20Rng) -> Duration {
    wait + (wait / 4).mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn waits_grow_up_to_the_limit_and_start_again_after_progress() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut retry = Retry::starting(Time::ZERO);
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let now = retry.next();
            assert!(retry.take(now, &mut rng) && !retry.take(now, &mut rng));
            last = retry.next().since(now);
            assert!(last >= FIRST && last <= WAIT_MAX * 5 / 4);
        }
        assert!(last >= WAIT_MAX);
        let now = retry.next();
        retry.postpone(now, &mut rng);
        assert!(retry.next().since(now) <= AFTER_PROGRESS * 5 / 4);
    }
}
