//! Pauses between repetitions of what a network may lose.

use std::time::Duration;

/// Pauses that grow from a first one to a longest one: each length comes twice, the next is twice
/// as long. Where every third attempt is lost, a few early repetitions more spare most hosts the
/// long pauses; under load they grow all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pause: Duration,
    longest: Duration,
    is_repeated: bool,
}

impl Backoff {
    /// Begins with `first`. Pauses are never longer than the longer one of both.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { pause: first, longest, is_repeated: false }
    }

    /// Always the same pause.
    pub const fn steady(pause: Duration) -> Self {
        Self::new(pause, pause)
    }

    /// Returns the next pause.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        if self.is_repeated {
            self.pause = pause.saturating_mul(2).min(self.longest.max(pause));
        }
        self.is_repeated = !self.is_repeated;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_comes_twice_and_the_longest_one_for_ever() {
        let pauses = |mut backoff: Backoff| -> Vec<u128> {
            (0..9).map(|_| backoff.next_pause().as_millis()).collect()
        };
        let [short, long] = [20, 100].map(Duration::from_millis);
        assert_eq!(pauses(Backoff::new(short, long)), [20, 20, 40, 40, 80, 80, 100, 100, 100]);
        assert_eq!(pauses(Backoff::new(long, short)), [100; 9]);
        assert_eq!(pauses(Backoff::steady(short)), [20; 9]);
    }
}
