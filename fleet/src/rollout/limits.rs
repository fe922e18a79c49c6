//! What the limits of a rollout say: how many hosts may be in flight, and after how many failures
//! no further host begins. Nothing here remembers anything: who asks has the counts, and asks
//! before each start and after each end.

mod amount;
mod counts;
mod domain;
mod failures;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::Host;

pub use amount::{Action, Amount};
pub use counts::{Counters, Counts, Ending};
pub use domain::{Domain, Scope};
pub use failures::{Ended, FailureLimit};

/// Maximum number of limits of one rollout.
pub const LIMITS_MAX: usize = 64;

/// How many hosts may be in flight. Further hosts wait; this needs no person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlightLimit {
    /// Whose hosts count together; never [`Scope::Wave`], as one wave runs at a time.
    pub scope: Scope,
    /// How many of the domain's planned hosts.
    pub amount: Amount,
}

/// All limits of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// On hosts in flight.
    pub in_flight: Vec<InFlightLimit>,
    /// On hosts that failed.
    pub failures: Vec<FailureLimit>,
}

/// A limit of failures that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What is to happen.
    pub action: Action,
    /// Why, in words.
    pub reason: String,
}

impl Limits {
    /// Returns whose hosts they count together, each scope once.
    pub fn scopes(&self) -> BTreeSet<&Scope> {
        let in_flight = self.in_flight.iter().map(|limit| &limit.scope);
        in_flight.chain(self.failures.iter().map(|limit| &limit.scope)).collect()
    }

    /// Returns every domain of a host that a limit counts, each once, in their order.
    pub fn domains(&self, wave: u32, host: &Host) -> Vec<Domain> {
        self.scopes().into_iter().map(|scope| Domain::of(scope, wave, host)).collect()
    }

    /// Says whether one more host of these domains may be in flight.
    pub fn have_room(&self, counts: &Counts, domains: &[Domain]) -> bool {
        self.in_flight.iter().all(|limit| {
            let counted = domains.iter().filter(|domain| domain.0 == limit.scope);
            counted.map(|domain| counts.of(domain)).all(|counters| {
                let Counters { planned, in_flight, .. } = counters;
                in_flight < limit.amount.of(planned)
            })
        })
    }

    /// Returns the limit of failures that is reached, *stop* before *pause*. As long as there is
    /// one, no host may begin.
    pub fn reached(&self, counts: &Counts) -> Option<Reached> {
        let mut pause = None;
        for limit in &self.failures {
            let counted = counts.iter().filter(|(domain, _)| domain.0 == limit.scope);
            for (domain, counters) in counted {
                let Some(reason) = limit.reached(domain, counters) else { continue };
                let reached = Reached { action: limit.action, reason };
                if limit.action == Action::Stop {
                    return Some(reached);
                }
                pause = pause.or(Some(reached));
            }
        }
        pause
    }
}

impl FailureLimit {
    /// Why this is too much, in words; nothing when it is not.
    fn reached(&self, domain: &Domain, counters: &Counters) -> Option<String> {
        let ended = self.counted(counters);
        let limit = match self.amount {
            Amount::Hosts(hosts) => hosts.to_string(),
            Amount::Percent(percent) => format!("{percent} %"),
        };
        let (Ended { failed, all }, domain) = (ended, domain.words());
        self.is_reached(ended)
            .then(|| format!("{failed} of {all} hosts failed in {domain}; the limit is {limit}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{RACK, SITE};
    use crate::rollout::samples::host;

    fn failures(scope: Scope, amount: Amount, sample: u32, action: Action) -> FailureLimit {
        FailureLimit { scope, amount, sample, unreachable: false, action }
    }

    #[test]
    fn a_small_part_still_moves_one_host() {
        assert_eq!(Amount::Percent(10).of(0), 1);
        assert_eq!(Amount::Percent(10).of(9), 1);
        assert_eq!(Amount::Percent(10).of(29), 2);
        assert_eq!(Amount::Percent(100).of(u32::MAX), u32::MAX);
    }

    #[test]
    fn failures_pause_stop_and_are_forgiven() {
        let rack = Scope::Label(RACK.into());
        let limits = Limits {
            in_flight: Vec::new(),
            failures: vec![
                failures(Scope::All, Amount::Percent(50), 4, Action::Pause),
                failures(rack, Amount::Hosts(3), 0, Action::Stop),
            ],
        };
        let domains = limits.domains(0, &host("a", "berlin", "r1", "a"));
        let mut counts = Counts::default();
        let ends = |counts: &mut Counts, ending| {
            counts.begin(&domains);
            counts.end(&domains, ending);
            limits.reached(counts)
        };
        assert_eq!(ends(&mut counts, Ending::Failed), None);
        assert_eq!(ends(&mut counts, Ending::Unreachable), None);
        assert_eq!(ends(&mut counts, Ending::Confirmed), None);
        assert_eq!(ends(&mut counts, Ending::Confirmed), None);
        let reason = "2 of 4 hosts failed in the rollout; the limit is 50 %".to_owned();
        let pause = Reached { action: Action::Pause, reason };
        assert_eq!(ends(&mut counts, Ending::Failed), Some(pause));
        let stop = ends(&mut counts, Ending::Failed).expect("a third failure");
        assert_eq!(stop.action, Action::Stop);
        counts.forgive();
        assert_eq!(limits.reached(&counts), None);
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let amount =
            prop_oneof![(1..5u32).prop_map(Amount::Hosts), (1..=100u32).prop_map(Amount::Percent)];
        let scope = prop_oneof![
            Just(Scope::All),
            Just(Scope::Label(SITE.into())),
            Just(Scope::Label(RACK.into())),
            Just(Scope::Label("role".into())),
        ];
        let one = (scope, amount).prop_map(|(scope, amount)| InFlightLimit { scope, amount });
        prop::collection::vec(one, 1..4)
            .prop_map(|in_flight| Limits { in_flight, failures: Vec::new() })
    }

    /// How many of `hosts` count in `domain`.
    fn within(domain: &Domain, hosts: &[&Host]) -> usize {
        hosts.iter().filter(|host| Domain::of(&domain.0, 0, host) == *domain).count()
    }

    proptest! {
        /// Counts anew after each step, from the hosts alone.
        #[test]
        fn hosts_in_flight_never_exceed_a_limit(
            limits in limits(),
            places in prop::collection::vec((0..3u8, 0..4u8), 1..30),
            ends in prop::collection::vec((any::<prop::sample::Index>(), 1..4usize), 1..60),
        ) {
            let hosts: Vec<Host> = places.iter().enumerate().map(|(index, (site, rack))| {
                host(&format!("h{index}"), &format!("s{site}"), &format!("r{rack}"), "a")
            }).collect();
            let all: Vec<&Host> = hosts.iter().collect();
            let mut counts = Counts::default();
            hosts.iter().for_each(|host| counts.plan(&limits.domains(0, host)));
            let (mut waiting, mut flying) = (all.clone(), Vec::<&Host>::new());
            for (which, most) in ends {
                let mut begun = 0;
                waiting.retain(|host| {
                    let domains = limits.domains(0, host);
                    let begins = begun < most && limits.have_room(&counts, &domains);
                    if begins {
                        begun += 1;
                        counts.begin(&domains);
                        flying.push(host);
                    }
                    !begins
                });
                prop_assert!(!flying.is_empty() || waiting.is_empty(), "somebody can begin");
                for limit in &limits.in_flight {
                    for domain in flying.iter().map(|host| Domain::of(&limit.scope, 0, host)) {
                        let most = match limit.amount {
                            Amount::Hosts(most) => most as usize,
                            Amount::Percent(percent) => {
                                (within(&domain, &all) * percent as usize / 100).max(1)
                            }
                        };
                        let flies = within(&domain, &flying);
                        prop_assert!(flies <= most, "{flies} of {most} in {domain:?}");
                    }
                }
                if !flying.is_empty() {
                    let host = flying.swap_remove(which.index(flying.len()));
                    counts.end(&limits.domains(0, host), Ending::Failed);
                }
            }
        }
    }
}
