//! How long the update of a host takes, before it has begun.
//!
//! The first of these that is known: what the host itself foresees, with the way there and back;
//! what updates of its board took; [`ASSUMED_S`]. Typical times say how long a rollout takes, and
//! longest times what fits into a window.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{BoardTimes, Foresight, Host, Stamp};

/// How long a host is taken to need when nothing is known of it, in seconds: an hour.
pub const ASSUMED_S: u32 = 3600;

/// How long a host typically needs for all but writing its chip, in seconds: into recovery, the
/// transfer, the boot home, the measurement.
pub const AROUND_TYPICAL_S: u32 = 300;

/// How long a host needs for that at most, in seconds: what the time limits of a campaign allow on
/// the way (`Deadlines` of the manager, about 23 minutes), and several minutes for the transfer.
pub const AROUND_LONGEST_S: u32 = 1800;

/// Minimum number of updates of a board that say something about the next one.
pub const UPDATES_MIN: u64 = 10;

/// How long the update of a host takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Typically, in seconds.
    pub typical_s: u32,
    /// At most, in seconds.
    pub longest_s: u32,
    /// Where that comes from.
    pub source: Source,
}

/// Where a prediction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum Source {
    /// The host foresaw it.
    Host {
        /// When it was asked.
        asked_at: Stamp,
    },
    /// Updates of its board took so long.
    Board,
    /// Nothing is known.
    Assumed,
}

impl Prediction {
    /// With what runs before and after each update, in seconds.
    pub fn with(self, around_s: u32) -> Self {
        Self {
            typical_s: self.typical_s.saturating_add(around_s),
            longest_s: self.longest_s.saturating_add(around_s),
            ..self
        }
    }

    /// Of a host of which nothing is known.
    pub const ASSUMED: Self =
        Self { typical_s: ASSUMED_S, longest_s: ASSUMED_S, source: Source::Assumed };
}

/// What is known of the hosts that may get a release.
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    by_host: BTreeMap<String, Prediction>,
    by_board: BTreeMap<(String, String), Prediction>,
}

impl Predictions {
    /// Takes what hosts foresee of the release, and what updates of boards took.
    pub fn new(foresights: Vec<Foresight>, boards: Vec<BoardTimes>) -> Self {
        let by_host = foresights.into_iter().map(|foresight| {
            let Foresight { host, typical_s, longest_s, at, .. } = foresight;
            let longest_s = longest_s.max(typical_s);
            let prediction = Prediction {
                typical_s: typical_s.saturating_add(AROUND_TYPICAL_S),
                longest_s: longest_s.saturating_add(AROUND_LONGEST_S),
                source: Source::Host { asked_at: at },
            };
            (host, prediction)
        });
        let measured = boards.into_iter().filter(|times| times.updates >= UPDATES_MIN);
        let by_board = measured.map(|times| {
            let BoardTimes { vendor, product, typical_s, longest_s, .. } = times;
            ((vendor, product), Prediction { typical_s, longest_s, source: Source::Board })
        });
        Self { by_host: by_host.collect(), by_board: by_board.collect() }
    }

    /// Returns how long the update of a host takes.
    pub fn of(&self, host: &Host) -> Prediction {
        let Host { name, vendor, product, .. } = host;
        self.known(name, (vendor, product)).unwrap_or(Prediction::ASSUMED)
    }

    /// Returns how long the update of a host of this name, vendor and product takes, if anything is
    /// known of that.
    pub fn known(&self, name: &str, (vendor, product): (&str, &str)) -> Option<Prediction> {
        let board = || self.by_board.get(&(vendor.to_owned(), product.to_owned()));
        self.by_host.get(name).or_else(board).copied()
    }
}

#[cfg(test)]
mod tests {
    use firmcast_manager::campaign::Deadlines;

    use super::*;
    use crate::rollout::samples::host;

    #[test]
    fn no_host_is_longer_on_its_way_than_the_limits_of_its_campaign_allow() {
        let limits = Deadlines::default();
        let Deadlines { connect, manifest, begin, reach, release, boot, measure, .. } = limits;
        let way = connect + manifest + begin + reach + manifest + release + boot + manifest;
        let transfer_s = u64::from(AROUND_LONGEST_S).checked_sub((way + measure).as_secs());
        assert!(transfer_s >= Some(300), "{transfer_s:?}");
        const { assert!(AROUND_TYPICAL_S < AROUND_LONGEST_S) };
    }

    #[test]
    fn what_a_host_foresees_comes_before_its_board_and_that_before_the_assumption() {
        let foresight = Foresight {
            host: "a".to_owned(),
            release: String::new(),
            from_version: String::new(),
            typical_s: 60,
            longest_s: 200,
            at: 7,
        };
        let board = |product: &str, updates| BoardTimes {
            vendor: "ACME".to_owned(),
            product: product.to_owned(),
            updates,
            typical_s: 400,
            longest_s: 900,
        };
        let boards = vec![board("S1", UPDATES_MIN), board("S2", UPDATES_MIN - 1)];
        let predictions = Predictions::new(vec![foresight], boards);
        let of = |name: &str, product: &str| {
            let mut host = host(name, "berlin", "r1", "a");
            host.product = product.to_owned();
            let Prediction { typical_s, longest_s, source } = predictions.of(&host);
            (typical_s, longest_s, source)
        };
        let own = (60 + AROUND_TYPICAL_S, 200 + AROUND_LONGEST_S, Source::Host { asked_at: 7 });
        assert_eq!(of("a", "S1"), own);
        assert_eq!(of("b", "S1"), (400, 900, Source::Board));
        assert_eq!(of("b", "S2"), (ASSUMED_S, ASSUMED_S, Source::Assumed));
    }
}
