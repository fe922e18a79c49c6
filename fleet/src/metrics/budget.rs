use std::collections::BTreeMap;

use crate::rollout::limits::{Action, Amount, Counters, FailureLimit, Scope};
use crate::store::requests::Surveyed;

/// What a limit counts where it is fullest, and how much reaches it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) used: u32,
    pub(super) max: u32,
}

/// A limit, as labels say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Limit {
    /// `in-flight` or `failures`.
    pub(super) kind: &'static str,
    /// Whose hosts count together: `all`, `wave` or a label's name.
    pub(super) scope: String,
    /// How much it allows: `5`, or `5%`.
    pub(super) allows: String,
    /// What happens when it is reached: `wait`, `pause` or `stop`.
    pub(super) then: &'static str,
}

/// Returns how full each limit of a rollout is.
pub(super) fn usages(rollout: &Surveyed) -> BTreeMap<Limit, Usage> {
    let mut usages = BTreeMap::<Limit, Usage>::new();
    let fullest = |scope: &Scope, usage: &dyn Fn(&Counters) -> Usage| {
        let counted = rollout.counts.iter().filter(|(domain, _)| domain.0 == *scope);
        counted.map(|(_, counters)| usage(counters)).max_by(Usage::by_fullness)
    };
    let mut keep = |limit: Limit, usage: Option<Usage>| {
        // Two limits may look the same, and differ in the sample only.
        let before = usages.get(&limit).copied();
        let usage = before.into_iter().chain(usage).max_by(Usage::by_fullness);
        usage.map(|usage| usages.insert(limit, usage));
    };
    for limit in &rollout.limits.in_flight {
        let usage = fullest(&limit.scope, &|counters| Usage {
            used: counters.in_flight,
            max: limit.amount.of(counters.planned),
        });
        let (scope, allows) = (scope(&limit.scope), amount(limit.amount));
        keep(Limit { kind: "in-flight", scope, allows, then: "wait" }, usage);
    }
    for limit in &rollout.limits.failures {
        let usage = fullest(&limit.scope, &|counters| failures(limit, counters));
        let (scope, allows) = (scope(&limit.scope), amount(limit.amount));
        let then = match limit.action {
            Action::Pause => "pause",
            Action::Stop => "stop",
        };
        keep(Limit { kind: "failures", scope, allows, then }, usage);
    }
    usages
}

impl Usage {
    fn by_fullness(&self, other: &Self) -> std::cmp::Ordering {
        // As fractions.
        let (here, there) = (
            u64::from(self.used) * u64::from(other.max),
            u64::from(other.used) * u64::from(self.max),
        );
        here.cmp(&there).then(other.max.cmp(&self.max))
    }
}

fn failures(limit: &FailureLimit, counters: &Counters) -> Usage {
    let ended = limit.counted(counters);
    Usage { used: ended.failed, max: limit.most(ended) }
}

fn scope(scope: &Scope) -> String {
    match scope {
        Scope::All => "all".to_owned(),
        Scope::Wave => "wave".to_owned(),
        Scope::Label(label) => label.clone(),
    }
}

fn amount(amount: Amount) -> String {
    match amount {
        Amount::Hosts(hosts) => hosts.to_string(),
        Amount::Percent(percent) => format!("{percent}%"),
    }
}
