//! A token bucket.

use crate::time::Time;

/// Lets `per_second` things pass on average and as many at once.
#[derive(Clone, Debug)]
pub struct RateLimit {
    per_second: u32,
    tokens_micro: u64,
    filled: Time,
}

impl RateLimit {
    /// Returns a full bucket.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, tokens_micro: u64::from(per_second) * 1_000_000, filled: Time::ZERO }
    }

    /// Takes one token if there is one.
    pub fn take(&mut self, now: Time) -> bool {
        let micros = u64::try_from(now.since(self.filled).as_micros()).unwrap_or(u64::MAX);
        let full = u64::from(self.per_second) * 1_000_000;
        self.tokens_micro = micros
            .saturating_mul(self.per_second.into())
            .saturating_add(self.tokens_micro)
            .min(full);
        self.filled = self.filled.max(now);
        match self.tokens_micro.checked_sub(1_000_000) {
            Some(left) => {
                self.tokens_micro = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limit = RateLimit::new(10);
        let mut taken = |micros| (0..100).filter(|_| limit.take(Time::from_micros(micros))).count();
        assert_eq!(taken(0), 10);
        assert_eq!(taken(100_000), 1);
        assert_eq!(taken(50_000), 0);
        assert_eq!(taken(60_000_000), 10);
    }
}
