//! Where the predicted times of a plan come from.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::super::duration::duration_words;
use super::super::prediction::{ASSUMED_S, Source};
use super::Planned;
use crate::model::Stamp;

/// Of how many planned hosts the times come from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// Hosts that foresaw their own.
    pub foreseen: usize,
    /// When the first of these was asked; none when no host was.
    pub foreseen_since: Option<Stamp>,
    /// Hosts whose board is known from other updates.
    pub measured: usize,
    /// Hosts of which nothing is known.
    pub assumed: usize,
}

impl Times {
    pub(super) fn of(hosts: &[Planned<'_>]) -> Self {
        let mut times = Self::default();
        for planned in hosts {
            match planned.prediction.source {
                Source::Host { asked_at } => {
                    times.foreseen += 1;
                    let first = times.foreseen_since.map_or(asked_at, |since| since.min(asked_at));
                    times.foreseen_since = Some(first);
                }
                Source::Board => times.measured += 1,
                Source::Assumed => times.assumed += 1,
            }
        }
        times
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { foreseen, foreseen_since, measured, assumed } = self;
        write!(f, "{foreseen} foreseen by their hosts")?;
        let since = foreseen_since.and_then(|at| Timestamp::from_microsecond(at).ok());
        if let Some(since) = since {
            write!(f, " since {}", since.strftime("%m-%d %H:%M UTC"))?;
        }
        let hour = duration_words(u64::from(ASSUMED_S));
        write!(f, ", {measured} measured on their board (~), {assumed} taken for {hour} (?)")
    }
}
