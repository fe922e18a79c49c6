//! How many failures are too many: one arithmetic, for what decides and for what is shown.

use serde::{Deserialize, Serialize};

use super::amount::{Action, Amount};
use super::counts::Counters;
use super::domain::Scope;

/// How many hosts may fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureLimit {
    /// Whose hosts count together.
    pub scope: Scope,
    /// The count, or the part of ended hosts, that is too much. One failure is the least.
    pub amount: Amount,
    /// A percentage is not looked at before this many hosts have ended.
    pub sample: u32,
    /// Whether hosts that never answered count as failed. Else they count as nothing.
    pub unreachable: bool,
    /// What then happens.
    pub action: Action,
}

/// Hosts of a domain that have ended, as one limit counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How many failed.
    pub failed: u32,
    /// How many ended in all.
    pub all: u32,
}

impl FailureLimit {
    /// Returns how it counts the hosts of a domain.
    pub fn counted(&self, counters: &Counters) -> Ended {
        let unreachable = if self.unreachable { counters.unreachable } else { 0 };
        let failed = counters.failed.saturating_add(unreachable);
        Ended { failed, all: failed.saturating_add(counters.confirmed) }
    }

    /// Returns how many failures are too many when so many hosts have ended, or the sample.
    pub fn most(&self, ended: Ended) -> u32 {
        let most = match self.amount {
            Amount::Hosts(hosts) => hosts,
            Amount::Percent(percent) => {
                let of = u64::from(ended.all.max(self.sample));
                let share = (u64::from(percent) * of).div_ceil(100);
                u32::try_from(share).unwrap_or(u32::MAX)
            }
        };
        most.max(1)
    }

    /// Says whether so many failures are too many.
    pub fn is_reached(&self, ended: Ended) -> bool {
        let has_sample = matches!(self.amount, Amount::Hosts(_)) || ended.all >= self.sample;
        has_sample && ended.failed >= self.most(ended)
    }

    /// Returns how many more failures are too many, if nothing else ends: 0 when there are too many
    /// already, none when failures alone never are.
    pub fn left(&self, ended: Ended) -> Option<u32> {
        let percent = match self.amount {
            Amount::Hosts(_) => return Some(self.most(ended).saturating_sub(ended.failed)),
            Amount::Percent(percent) => u64::from(percent),
        };
        let (failed, all) = (u64::from(ended.failed), u64::from(ended.all));
        // failed + n is at least percent of all + n.
        let missing = (percent * all).saturating_sub(100 * failed);
        let for_share = match 100_u64.saturating_sub(percent) {
            _ if missing == 0 => 0,
            0 => return None,
            rest => missing.div_ceil(rest),
        };
        let for_sample = u64::from(self.sample).saturating_sub(all);
        let for_first = u64::from(failed == 0);
        u32::try_from(for_share.max(for_sample).max(for_first)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rollout::limits::{Counts, Domain, Ending, Limits};

    /// More failures than any limit of these tests needs.
    const FAILURES_MAX: u32 = 5000;

    proptest! {
        /// What decides, what is full, and what is left say the same, failure after failure.
        #[test]
        fn a_limit_is_reached_when_it_is_full_and_nothing_is_left(
            amount in prop_oneof![
                (0..30_u32).prop_map(Amount::Hosts), (1..=100_u32).prop_map(Amount::Percent)
            ],
            sample in 0..30_u32,
            unreachable: bool,
            (confirmed, failed, silent) in (0..40_u32, 0..10_u32, 0..10_u32),
        ) {
            let scope = Scope::All;
            let limit = FailureLimit { scope, amount, sample, unreachable, action: Action::Pause };
            let limits = Limits { failures: vec![limit.clone()], ..Limits::default() };
            let all = [Domain(Scope::All, String::new())];
            let mut counts = Counts::default();
            counts.plan(&all);
            for (ending, count) in [
                (Ending::Confirmed, confirmed),
                (Ending::Failed, failed),
                (Ending::Unreachable, silent),
            ] {
                (0..count).for_each(|_| counts.end(&all, ending));
            }
            let left = limit.left(limit.counted(&counts.of(&all[0])));
            let mut needed = 0;
            loop {
                let ended = limit.counted(&counts.of(&all[0]));
                let is_reached = limits.reached(&counts).is_some();
                prop_assert_eq!(is_reached, limit.left(ended) == Some(0));
                if ended.all >= sample || matches!(amount, Amount::Hosts(_)) {
                    prop_assert_eq!(is_reached, ended.failed >= limit.most(ended));
                }
                if is_reached || needed == FAILURES_MAX {
                    break;
                }
                counts.end(&all, Ending::Failed);
                needed += 1;
            }
            prop_assert_eq!(left, (needed < FAILURES_MAX).then_some(needed));
        }

        /// In plain words: so many hosts, or so large a part of those that ended.
        #[test]
        fn a_limit_is_reached_as_its_words_say(
            percent in 1..=100_u32,
            sample in 0..30_u32,
            (failed, confirmed) in (0..50_u32, 0..50_u32),
        ) {
            let limit = |amount| FailureLimit {
                scope: Scope::All, amount, sample, unreachable: false, action: Action::Stop,
            };
            let ended = Ended { failed, all: failed + confirmed };
            let part = f64::from(failed) / f64::from((failed + confirmed).max(1));
            let is_much = failed > 0 && part >= f64::from(percent) / 100.0 - 1e-9;
            let is_reached = limit(Amount::Percent(percent)).is_reached(ended);
            prop_assert_eq!(is_reached, is_much && ended.all >= sample);
            prop_assert_eq!(limit(Amount::Hosts(percent)).is_reached(ended), failed >= percent);
        }
    }
}
