//! What was read of a rollout.

use std::collections::BTreeMap;

use crate::model::{Attempt, Drain, Stamp, Worker};
use crate::rollout::file::RolloutFile;
use crate::rollout::limits::Counts;
use crate::store::requests::{RolloutWaves, SignedApproval};

/// What was read of a rollout. Its parts may be some moments apart: others write meanwhile.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it was read.
    pub at: Stamp,
    /// The rollout, its waves and limits.
    pub found: RolloutWaves,
    /// Its file; none when this version cannot read it.
    pub file: Option<RolloutFile>,
    /// The version of its release; empty when the release is not known here.
    pub version: String,
    /// What its limits count.
    pub counters: Counts,
    /// Who approved which wave.
    pub approvals: Vec<SignedApproval>,
    /// The last attempt of each host, by wave and position.
    pub attempts: Vec<Attempt>,
    /// Attempts whose `undrain` failed, of hosts that no later attempt undrained.
    pub not_undrained: Vec<Attempt>,
    /// The rack of each host that has one.
    pub racks: BTreeMap<String, String>,
    /// The workers that there are, of all sites.
    pub workers: Vec<Worker>,
}

impl Seen {
    /// Whether a worker of a site was seen lately.
    pub fn has_worker(&self, site: &str, now: Stamp) -> bool {
        self.workers.iter().any(|worker| worker.site == site && worker.is_there(now))
    }

    /// Returns the workers of a site that were seen lately, if there are some and all of them wait
    /// for the bundle of this rollout.
    pub fn waiting_workers(&self, site: &str, now: Stamp) -> Vec<&Worker> {
        let release = self.found.rollout.release.as_str();
        let there = self.workers.iter().filter(|each| each.site == site && each.is_there(now));
        let (waiting, supplied): (Vec<_>, Vec<_>) = there.partition(|each| each.lacks(release));
        if supplied.is_empty() { waiting } else { Vec::new() }
    }

    /// The rack of a host; empty when it has none.
    pub fn rack(&self, host: &str) -> &str {
        self.racks.get(host).map_or("", String::as_str)
    }
}

/// Leaves the last attempt of each host, out of attempts by place: those that were tried again
/// stand where they stood before, the later retry later.
pub fn last_of_each(attempts: impl IntoIterator<Item = Attempt>) -> Vec<Attempt> {
    let mut last = Vec::<Attempt>::new();
    for attempt in attempts {
        match last.last_mut() {
            Some(known) if (known.wave, known.position) == (attempt.wave, attempt.position) => {
                *known = attempt;
            }
            _ => last.push(attempt),
        }
    }
    last
}

/// Leaves the attempts whose `undrain` failed, by host, out of attempts of which the later ones of
/// a host come later: none of a host for which it ended well since, or is due again.
pub fn not_undrained<'a>(attempts: impl IntoIterator<Item = &'a Attempt>) -> Vec<Attempt> {
    let mut failed = BTreeMap::<&str, &Attempt>::new();
    for attempt in attempts {
        match attempt.drain {
            Drain::NotStarted => {}
            Drain::UndrainFailed => drop(failed.insert(&attempt.host, attempt)),
            Drain::Started | Drain::Undraining | Drain::Undrained => {
                failed.remove(attempt.host.as_str());
            }
        }
    }
    failed.into_values().cloned().collect()
}
