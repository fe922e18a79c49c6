//! How much of each limit is used, and what happens when it is reached.

use serde::Serialize;

use super::words::hosts;
use crate::rollout::limits::{
    Action, Counters, Counts, Domain, Ended, FailureLimit, InFlightLimit, Limits, Scope,
};
use crate::rollout::plan::{amount_words, failure_words, place_words};

/// Maximum number of bars of one limit.
pub const BARS_MAX: usize = 6;

/// What happens when a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Further hosts wait until others have ended.
    Wait,
    /// No host begins until a person resumes the rollout.
    Pause,
    /// The rollout ends.
    Stop,
}

/// A limit of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// What it says, in words.
    pub words: String,
    /// What happens when it is reached.
    pub then: Then,
    /// Where it is used, the nearest to the limit first; at most [`BARS_MAX`].
    pub bars: Vec<Bar>,
    /// How many further places use it, none of them nearer to the limit.
    pub others: usize,
}

/// Hosts that a limit counts together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Which, in words.
    pub domain: String,
    /// How much of it is used, in words.
    pub words: String,
    /// How many are in flight, or failed.
    pub used: u32,
    /// How many more until the limit is reached; none when further failures alone cannot do that.
    pub left: Option<u32>,
}

impl Bar {
    /// Whether the limit is reached.
    pub fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// How much of the limit is used, from 0 to 1000.
    pub fn filled_permille(&self) -> u32 {
        let Some(left) = self.left else { return 0 };
        let (used, of) = (u64::from(self.used), u64::from(self.used) + u64::from(left));
        u32::try_from((used * 1000).checked_div(of).unwrap_or(0)).unwrap_or(1000)
    }
}

/// Returns all limits, those on failures first.
pub fn budgets(limits: &Limits, counts: &Counts) -> Vec<Budget> {
    let failures = limits.failures.iter().map(|limit| Budget {
        words: failure_words(limit),
        then: match limit.action {
            Action::Pause => Then::Pause,
            Action::Stop => Then::Stop,
        },
        ..filled(counts, &limit.scope, |domain, counters| failure_bar(limit, domain, counters))
    });
    let in_flight = limits.in_flight.iter().map(|limit| {
        let (amount, place) = (amount_words(limit.amount), place_words(&limit.scope));
        Budget {
            words: format!("at most {amount} in flight {place}; further hosts wait"),
            then: Then::Wait,
            ..filled(counts, &limit.scope, |domain, counters| flight_bar(limit, domain, counters))
        }
    });
    failures.chain(in_flight).collect()
}

/// The bars of a limit; its words are still to be said.
fn filled(counts: &Counts, scope: &Scope, bar: impl Fn(&Domain, &Counters) -> Bar) -> Budget {
    let counted = counts.iter().filter(|(domain, _)| domain.0 == *scope);
    let bars = counted.map(|(domain, counters)| bar(domain, counters));
    // What counts all hosts is shown from the beginning.
    let mut bars: Vec<Bar> = bars.filter(|bar| bar.used > 0 || *scope == Scope::All).collect();
    bars.sort_by_key(|bar| std::cmp::Reverse((bar.filled_permille(), bar.used)));
    let others = bars.len().saturating_sub(BARS_MAX);
    bars.truncate(BARS_MAX);
    Budget { words: String::new(), then: Then::Wait, bars, others }
}

fn flight_bar(limit: &InFlightLimit, domain: &Domain, counters: &Counters) -> Bar {
    let Counters { planned, in_flight, .. } = *counters;
    let most = limit.amount.of(planned).min(planned.max(1));
    let left = most.saturating_sub(in_flight);
    let more = match left {
        0 => "further hosts wait".to_owned(),
        _ => format!("{left} more may begin"),
    };
    let words = format!("{in_flight} of {most} in flight, {more}");
    Bar { domain: domain.words(), words, used: in_flight, left: Some(left) }
}

fn failure_bar(limit: &FailureLimit, domain: &Domain, counters: &Counters) -> Bar {
    let ended = limit.counted(counters);
    let (Ended { failed, all }, left) = (ended, limit.left(ended));
    let acts = match limit.action {
        Action::Pause => "pauses the rollout",
        Action::Stop => "stops the rollout",
    };
    let more = match left {
        None => "far from the limit".to_owned(),
        Some(0) => format!("the limit is reached: it {acts}"),
        Some(1) => format!("1 more failure {acts}"),
        Some(left) => format!("{left} more failures {acts}", acts = acts.replacen("s ", " ", 1)),
    };
    let words = format!("{failed} of {} failed, {more}", hosts(all.into()));
    Bar { domain: domain.words(), words, used: failed, left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::limits::Amount;

    fn domain(value: &str) -> Domain {
        Domain(Scope::Label("rack".into()), value.into())
    }

    #[test]
    fn the_worst_comes_first_and_the_rest_is_counted() {
        let counts = (0..20_u32).map(|index| {
            let failed = if index == 13 { 2 } else { u32::from(index % 2 == 0) };
            let counters =
                Counters { planned: 9, in_flight: 3, confirmed: 4, failed, unreachable: 1 };
            (domain(&format!("riga/r{index}")), counters)
        });
        let scope = Scope::Label("rack".into());
        let amount = Amount::Hosts(3);
        let action = Action::Stop;
        let failures =
            FailureLimit { scope: scope.clone(), amount, sample: 0, unreachable: false, action };
        let in_flight = InFlightLimit { scope, amount: Amount::Percent(34) };
        let all = InFlightLimit { scope: Scope::All, amount: Amount::Hosts(2) };
        let limits = Limits { in_flight: vec![in_flight, all], failures: vec![failures] };
        let [failures, in_flight, all] =
            budgets(&limits, &counts.collect()).try_into().expect("three");
        let words = "at most 34 % in flight in one rack; further hosts wait";
        assert_eq!(in_flight.words, words);
        assert_eq!(all.words, "at most 2 hosts in flight in all; further hosts wait");
        assert_eq!((failures.bars.len(), failures.others), (BARS_MAX, 5));
        assert_eq!(failures.bars[0].domain, "rack \"riga/r13\"");
        let words = "2 of 6 hosts failed, 1 more failure stops the rollout";
        assert_eq!(
            (failures.bars[0].words.as_str(), failures.bars[0].filled_permille()),
            (words, 666)
        );
        assert!(failures.bars[1].words.ends_with("2 more failures stop the rollout"));
        assert_eq!(in_flight.bars[0].words, "3 of 3 in flight, further hosts wait");
        assert_eq!((in_flight.then, in_flight.others), (Then::Wait, 20 - BARS_MAX));
    }
}
