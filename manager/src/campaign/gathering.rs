//! How long those who are there wait for others.

use std::time::Duration;

use firmcast::time::Time;

/// Dead hosts wait until nobody has come for this many times the time that lies between two of
/// them on average. When they come at random times, one gap in three thousand is longer.
const GAPS: u32 = 8;

/// So many must be there before the time between two of them says something.
const CAME_MIN: u32 = 8;

/// The shortest wait for another one.
const QUIET_MIN: Duration = Duration::from_millis(50);

/// The longest wait of the first one; hosts bear two minutes without a fragment.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Who may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Hosts that are known: they have this long from the first on.
    Known(Duration),
    /// Nobody knows who. After a single one this long is waited, and less when they come thick and
    /// fast.
    Anybody(Duration),
}

/// Hosts that come at about the same time are gathered, so that one pass serves them all.
#[derive(Debug)]
pub(super) struct Gathering {
    expected: Expected,
    /// When the first and the newest one came, since it was closed last.
    came: Option<(Time, Time)>,
    count: u32,
}

impl Gathering {
    pub(super) fn new(expected: Expected) -> Self {
        Self { expected, came: None, count: 0 }
    }

    /// A host is there.
    pub(super) fn came(&mut self, now: Time) {
        let first = self.came.map_or(now, |(first, _)| first);
        self.came = Some((first, now));
        self.count = self.count.saturating_add(1);
    }

    /// Until when others are waited for; nothing while nobody has come.
    pub(super) fn until(&self) -> Option<Time> {
        let (first, newest) = self.came?;
        Some(match self.expected {
            Expected::Known(window) => first + window,
            Expected::Anybody(wait) => {
                let gap = newest.since(first) / self.count.saturating_sub(1).max(1);
                let quiet = match self.count >= CAME_MIN {
                    true => (gap * GAPS).max(QUIET_MIN).min(wait),
                    false => wait,
                };
                (newest + quiet).min(first + WAIT_MAX.max(wait))
            }
        })
    }

    /// The next one is the first of another gathering.
    pub(super) fn close(&mut self) {
        (self.came, self.count) = (None, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn anybody() -> Gathering {
        Gathering::new(Expected::Anybody(Duration::from_secs(5)))
    }

    #[test]
    fn known_hosts_have_a_window_from_the_first_on() {
        let mut gathering = Gathering::new(Expected::Known(Duration::from_secs(3)));
        assert_eq!(gathering.until(), None);
        gathering.came(at(1_000));
        gathering.came(at(2_000));
        assert_eq!(gathering.until(), Some(at(4_000)));
    }

    #[test]
    fn the_wait_for_anybody_follows_how_thick_they_come() {
        let mut gathering = anybody();
        gathering.came(at(0));
        gathering.came(at(4_000));
        assert_eq!(gathering.until(), Some(at(9_000)), "two say nothing");
        gathering.close();
        assert_eq!(gathering.until(), None);
        for number in 0..1_000 {
            gathering.came(at(number * 40));
        }
        assert_eq!(gathering.until(), Some(at(999 * 40 + 320)));
    }

    #[test]
    fn the_first_one_does_not_wait_for_ever() {
        let mut gathering = anybody();
        let mut number = 0;
        while gathering.until().is_none_or(|until| at(number * 1_000) < until) {
            gathering.came(at(number * 1_000));
            number += 1;
        }
        assert_eq!(number, 60);
    }
}
