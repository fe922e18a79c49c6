//! When hosts of a site may begin, by the clock on its wall.

use std::ops::Range;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};

use crate::model::Stamp;

/// How far ahead an opening is looked for, in days: any day of the week comes twice.
const DAYS_AHEAD_MAX: usize = 15;

/// After how long [`Openings`] are looked up anew, in microseconds: 5 days, so that a whole week is
/// always ahead.
const LOOK_AGAIN_US: i64 = 5 * 86_400 * 1_000_000;

/// A time of each of some days in which hosts may begin and must have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it opens.
    pub days: Vec<Weekday>,
    /// When it opens.
    pub from: Time,
    /// When it closes; on the next day when this is not after `from`.
    pub to: Time,
    /// Whose time.
    pub zone: TimeZone,
}

/// Returns the time zone with this IANA name, from the bundled data.
///
/// # Errors
/// There is none of this name.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZoneDatabase::bundled()
        .get(name)
        .map_err(|_| format!("no time zone is called {name:?}: write for example Europe/Berlin"))
}

impl Window {
    /// When it is open on the day on which it opens, if it is.
    ///
    /// A time that the clock shows twice, or skips, is taken so that the window is the shorter
    /// one: it opens at the later moment and closes at the earlier.
    fn on(&self, day: Date) -> Option<(Stamp, Stamp)> {
        if !self.days.contains(&day.weekday()) {
            return None;
        }
        let last = if self.to > self.from { day } else { day.tomorrow().ok()? };
        let opens = self.zone.to_ambiguous_timestamp(day.to_datetime(self.from)).later().ok()?;
        let closes = self.zone.to_ambiguous_timestamp(last.to_datetime(self.to)).earlier().ok()?;
        (opens < closes).then(|| (opens.as_microsecond(), closes.as_microsecond()))
    }

    /// Its openings from the day before `now` on.
    fn openings(&self, now: Stamp) -> Vec<(Stamp, Stamp)> {
        let Ok(now) = Timestamp::from_microsecond(now) else { return Vec::new() };
        let today = self.zone.to_datetime(now).date();
        let Ok(first) = today.checked_sub(1.day()) else { return Vec::new() };
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok());
        days.take(DAYS_AHEAD_MAX + 1).filter_map(|day| self.on(day)).collect()
    }
}

/// The openings of some windows, looked up for two weeks at a time: for whoever asks often.
#[derive(Clone, Debug)]
pub struct Openings {
    windows: Vec<Window>,
    /// In their order, none touching the next.
    known: Vec<(Stamp, Stamp)>,
    /// From when on, and until when, they are used without another look.
    used: Range<Stamp>,
}

impl Openings {
    /// Returns the openings of these windows.
    pub fn new(windows: Vec<Window>) -> Self {
        Self { windows, known: Vec::new(), used: 0..0 }
    }

    /// Returns the first moment, `now` or later, at which a host that takes `seconds` may begin so
    /// that it ends in the same opening; openings that touch are one. Without windows that is
    /// `now`. `None` when nothing within 15 days is long enough.
    pub fn next_start(&mut self, now: Stamp, seconds: u32) -> Option<Stamp> {
        if self.windows.is_empty() {
            return Some(now);
        }
        if self.used.contains(&now)
            && let Some(start) = self.find(now, seconds)
        {
            return Some(start);
        }
        if self.used.start != now || self.used.is_empty() {
            self.look(now);
        }
        self.find(now, seconds)
    }

    fn find(&self, now: Stamp, seconds: u32) -> Option<Stamp> {
        let takes_us = i64::from(seconds) * 1_000_000;
        let first = self.known.partition_point(|(_, closes)| *closes <= now);
        let begins = self.known[first..].iter().map(|(opens, closes)| (*opens.max(&now), *closes));
        let fits = |(begin, closes): &(Stamp, Stamp)| begin.saturating_add(takes_us) <= *closes;
        { begins }.find(fits).map(|(begin, _)| begin)
    }

    fn look(&mut self, now: Stamp) {
        let mut openings: Vec<_> =
            self.windows.iter().flat_map(|each| each.openings(now)).collect();
        openings.sort_unstable();
        self.known.clear();
        for (opens, closes) in openings {
            match self.known.last_mut() {
                Some((_, last)) if opens <= *last => *last = closes.max(*last),
                _ => self.known.push((opens, closes)),
            }
        }
        self.used = now..now.saturating_add(LOOK_AGAIN_US);
    }
}

/// As [`Openings::next_start`], for whoever asks once.
pub fn next_start(windows: &[Window], now: Stamp, seconds: u32) -> Option<Stamp> {
    Openings::new(windows.to_vec()).next_start(now, seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn window(days: &[Weekday], from: i8, to: i8) -> Window {
        let hour = |hour| Time::constant(hour, 30, 0, 0);
        let zone = time_zone("Europe/Berlin").unwrap();
        Window { days: days.to_vec(), from: hour(from), to: hour(to), zone }
    }

    fn at(text: &str) -> Stamp {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn a_host_begins_only_if_it_fits() {
        let nights = [window(&[Weekday::Friday], 22, 4)];
        let begins = |now, seconds| next_start(&nights, at(now), seconds);
        // 2026-01-02 is a Friday; Berlin is an hour ahead.
        assert_eq!(begins("2026-01-02T12:00Z", 3600), Some(at("2026-01-02T21:30Z")));
        assert_eq!(begins("2026-01-03T02:30Z", 3600), Some(at("2026-01-03T02:30Z")));
        assert_eq!(begins("2026-01-03T02:31Z", 3600), Some(at("2026-01-09T21:30Z")));
        assert_eq!(begins("2026-01-02T12:00Z", 6 * 3600 + 1), None);
        assert_eq!(
            next_start(&[], at("2026-01-02T12:00Z"), u32::MAX),
            Some(at("2026-01-02T12:00Z"))
        );
    }

    #[test]
    fn openings_that_touch_are_one() {
        let days = [Weekday::Friday, Weekday::Saturday];
        let windows = [window(&days, 4, 22), window(&days[..1], 22, 4)];
        // From Friday 04:30 to Saturday 22:30.
        let begins = next_start(&windows, at("2026-01-02T12:00Z"), 33 * 3600);
        assert_eq!(begins, Some(at("2026-01-02T12:00Z")));
        let begins = next_start(&windows, at("2026-01-02T12:00Z"), 42 * 3600);
        assert_eq!(begins, Some(at("2026-01-09T03:30Z")));
        assert_eq!(next_start(&windows, at("2026-01-02T12:00Z"), 42 * 3600 + 1), None);
    }

    #[test]
    fn a_night_in_which_the_clock_changes_is_as_long_as_it_is() {
        let hours = 3600;
        // Spring, 2026-03-29: 02:00 to 03:00 is skipped.
        let begins = |from, to, now, seconds| {
            next_start(&[window(&[Weekday::Saturday], from, to)], at(now), seconds)
        };
        let spring = "2026-03-28T12:00Z";
        assert_eq!(begins(22, 4, spring, 5 * hours), Some(at("2026-03-28T21:30Z")));
        assert_eq!(begins(22, 4, spring, 5 * hours + 1), Some(at("2026-04-04T20:30Z")));
        // It closes at 02:30, which is skipped: at 01:30.
        assert_eq!(begins(22, 2, spring, 3 * hours), Some(at("2026-03-28T21:30Z")));
        // Autumn, 2026-10-25: 02:00 to 03:00 comes twice.
        let autumn = "2026-10-24T12:00Z";
        assert_eq!(begins(22, 4, autumn, 7 * hours), Some(at("2026-10-24T20:30Z")));
        // It closes at the first 02:30.
        assert_eq!(begins(22, 2, autumn, 4 * hours), Some(at("2026-10-24T20:30Z")));
        assert_eq!(begins(22, 2, autumn, 4 * hours + 1), None);
    }
}
