//! What limits do to the planned hosts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::file::per_word;
use super::super::limits::{Action, Amount, Domain, FailureLimit, Limits, Scope};
use super::Planned;

/// What a limit on hosts in flight does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Whose hosts it counts together, as the file has it.
    pub per: String,
    /// How much it allows, as the file has it: `4 hosts`, `25 %`.
    pub amount: String,
    /// What that comes to.
    pub groups: Vec<Group>,
}

/// Domains of the same size, in which a limit allows the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How many hosts at a time.
    pub at_a_time: u32,
    /// Of how many planned ones.
    pub of: u32,
    /// Where, in words.
    pub domains: Vec<String>,
}

/// Returns what each limit on hosts in flight does.
pub(super) fn in_flight(limits: &Limits, hosts: &[Planned<'_>]) -> Vec<Effect> {
    let effects = limits.in_flight.iter().map(|limit| {
        let mut planned: BTreeMap<Domain, u32> = BTreeMap::new();
        for host in hosts {
            *planned.entry(Domain::of(&limit.scope, host.wave, host.host)).or_default() += 1;
        }
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        for (domain, of) in planned {
            let at_a_time = limit.amount.of(of).min(of);
            let group = groups.entry(of).or_insert(Group { at_a_time, of, domains: Vec::new() });
            group.domains.push(domain.words());
        }
        let groups = groups.into_values().rev().collect();
        Effect { per: per_word(&limit.scope), amount: amount(limit.amount), groups }
    });
    effects.collect()
}

/// Returns an amount of hosts, as the file has it.
pub fn amount(amount: Amount) -> String {
    match amount {
        Amount::Hosts(1) => "1 host".to_owned(),
        Amount::Hosts(hosts) => format!("{hosts} hosts"),
        Amount::Percent(percent) => format!("{percent} %"),
    }
}

/// Returns where hosts count together, in words.
pub fn place(scope: &Scope) -> String {
    match scope {
        Scope::All => "in all".to_owned(),
        Scope::Wave | Scope::Label(_) => format!("in one {}", per_word(scope)),
    }
}

/// Returns what a limit on failures does, in words.
pub fn failures(limit: &FailureLimit) -> String {
    let then = match limit.action {
        Action::Pause => "pauses",
        Action::Stop => "stops for good",
    };
    let place = place(&limit.scope);
    let much = match limit.amount {
        Amount::Hosts(1) => format!("the first host fails {place}"),
        Amount::Hosts(hosts) => format!("{hosts} hosts have failed {place}"),
        Amount::Percent(percent) => {
            let sample = limit.sample;
            format!("{percent} % of those that ended {place} have failed, {sample} or more ended")
        }
    };
    let unreachable = if limit.unreachable { "count" } else { "do not count" };
    format!("{then} when {much}; unreachable hosts {unreachable}")
}
