//! How often this host was rescued lately: so that it does not ask for an image for ever although
//! none helps. Recovery adds to it, and the agent forgets it after a confirmed stay.

use std::time::{Duration, SystemTime};

use crate::wire::help::RESCUES_IN_VAIN;

/// How long a rescue counts.
pub const RESCUES_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Most rescues that are remembered.
pub const RESCUES_MAX: usize = 8;

/// When this host was rescued since its last confirmed stay, in seconds since 1970 by its own
/// clock, the last rescues last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescues(Vec<u64>);

impl Rescues {
    /// Returns the last [`RESCUES_MAX`] of `times`.
    pub fn of(times: &[u64]) -> Self {
        Self(times[times.len().saturating_sub(RESCUES_MAX)..].to_vec())
    }

    /// Returns when they were.
    pub fn times(&self) -> &[u64] {
        &self.0
    }

    /// Adds a rescue that ends at `now_s`.
    #[must_use]
    pub fn with(mut self, now_s: u64) -> Self {
        self.0.push(now_s);
        Self::of(&self.0)
    }

    /// Returns how many count at `now_s`. One in the future counts: a clock was set back.
    pub fn recent(&self, now_s: u64) -> usize {
        let counts = |time: &&u64| now_s.saturating_sub(**time) < RESCUES_MEMORY.as_secs();
        self.0.iter().filter(counts).count()
    }

    /// Returns whether so many were in vain that another one will not help.
    pub fn are_in_vain(&self, now_s: u64) -> bool {
        self.recent(now_s) >= RESCUES_IN_VAIN
    }
}

/// Returns the time by this machine's clock.
pub fn clock_s() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescues_of_a_day_count_and_no_clock_makes_them_fewer_by_going_back() {
        const DAY: u64 = 24 * 3600;
        let three = Rescues::default().with(1000).with(2000).with(3000);
        assert_eq!((three.recent(3000), three.are_in_vain(3000)), (3, true));
        assert!(!Rescues::of(&[1000, 2000]).are_in_vain(3000));
        assert_eq!(three.recent(1000 + DAY), 2);
        assert!(!three.are_in_vain(1000 + DAY));
        assert_eq!(three.recent(0), 3, "a clock that was set back");
        let many = (0..100).fold(Rescues::default(), Rescues::with);
        assert_eq!((many.times().len(), many.times()[RESCUES_MAX - 1]), (RESCUES_MAX, 99));
        assert!(many.are_in_vain(99), "more than the limit are remembered");
    }
}
