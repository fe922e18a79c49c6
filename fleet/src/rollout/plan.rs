//! What a rollout would do: which hosts in which wave and order, who is left out and why, how long
//! it takes, and what each limit does.
//!
//! A host of the rollout is one that the file's `hosts` selects and that nothing speaks against
//! ([`Why`]). It is in the first wave that takes it. `count` and `percent` take hosts in the order
//! in which sites, racks and power feeds take turns; the hosts of a wave begin in that order, too.
//! The plan depends on which hosts there are, not on how they are sorted.
//!
//! [`Plan::digest`] says which hosts, in which waves and order, under which limits: `create`
//! freezes it, and `start` starts just that. Predictions are not part of it, as they change from
//! day to day.

mod digest;
mod effect;
mod members;
mod order;
mod schedule;
mod text;
mod times;
mod warning;

use std::collections::BTreeSet;

use serde::Serialize;
use thiserror::Error;

pub use effect::{
    Effect, Group, amount as amount_words, failures as failure_words, place as place_words,
};
pub use members::Why;
use schedule::{Begin, Schedule};
pub use times::Times;

use super::file::RolloutFile;
use super::limits::{Domain, Limits};
use super::prediction::{Prediction, Source};
use crate::model::{Approval, Host, POWER, RACK, Release, Stamp};

/// Maximum number of hosts of a fleet that is planned for.
pub const HOSTS_MAX: usize = 200_000;

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The rollout's file.
    pub file: &'a RolloutFile,
    /// The release that it names.
    pub release: &'a Release,
    /// All hosts of the fleet.
    pub hosts: &'a [Host],
    /// How long the update of a host takes.
    pub predicted: &'a dyn Fn(&Host) -> Prediction,
    /// When the rollout would start.
    pub now: Stamp,
}

impl std::fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("file", self.file).field("now", &self.now).finish()
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The release is another one.
    #[error(
        "the rollout is for release {wanted:?}, and this is {version} ({digest}): add that one"
    )]
    OtherRelease {
        /// What the file says.
        wanted: String,
        /// The version that there is.
        version: String,
        /// Its digest.
        digest: String,
    },
    /// Too many hosts.
    #[error("there are {0} hosts, and a plan is for {HOSTS_MAX} at most: split the fleet")]
    TooManyHosts(usize),
    /// Two hosts of one name.
    #[error("two hosts are called {0:?}: rename one")]
    HostTwice(String),
}

/// A host in its wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedHost {
    /// Its name.
    pub name: String,
    /// Its public key.
    pub key: String,
    /// Its site; never empty.
    pub site: String,
    /// Its rack; empty when it has none.
    pub rack: String,
    /// Its power feed; empty when it has none.
    pub power: String,
    /// Whose count it is part of under the limits, each once.
    #[serde(skip)]
    pub domains: Vec<Domain>,
    /// How long it typically takes, with drain and undrain, in seconds.
    pub typical_s: u32,
    /// How long it takes at most, with drain and undrain, in seconds.
    pub longest_s: u32,
    /// Where both come from.
    #[serde(flatten)]
    pub source: Source,
    /// When it would begin; nothing when no window is long enough, or too far ahead to tell.
    pub begins_at: Option<Stamp>,
}

/// A wave with its hosts, in the order in which they begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedWave {
    /// Its place in the order, from 0.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// How it begins.
    pub approval: Approval,
    /// How long it is watched after its last host ended, in seconds.
    pub soak_s: u32,
    /// When it would begin, and end without its soak time; nothing when that cannot be told.
    pub runs: Option<(Stamp, Stamp)>,
    /// Its hosts.
    pub hosts: Vec<PlannedHost>,
}

/// A host that the file selects and that is not touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// What a rollout would do. As JSON it has the same fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The rollout's name.
    pub name: String,
    /// Digest of the release.
    pub release: String,
    /// Its version.
    pub version: String,
    /// SHA-256 over the planned set, 64 hexadecimal digits; `plan/digest.rs` says over what.
    pub digest: String,
    /// How many hosts the fleet has.
    pub known: usize,
    /// How many of them the file selects.
    pub selected: usize,
    /// Where the times of the hosts come from.
    pub times: Times,
    /// The waves, in their order.
    pub waves: Vec<PlannedWave>,
    /// Who is selected and left out, by name.
    pub left_out: Vec<LeftOut>,
    /// What each limit on hosts in flight does.
    pub in_flight: Vec<Effect>,
    /// What each limit on failures does, in words.
    pub failures: Vec<String>,
    /// What the operator should look at before it is created, in words.
    pub warnings: Vec<String>,
    /// When it would start.
    pub starts_at: Stamp,
    /// When it would be over; nothing when that cannot be told.
    pub ends_at: Option<Stamp>,
}

impl Plan {
    /// How many hosts would be touched.
    pub fn touched(&self) -> usize {
        self.waves.iter().map(|wave| wave.hosts.len()).sum()
    }
}

/// A host that is planned for.
#[derive(Clone, Copy, Debug)]
struct Planned<'a> {
    host: &'a Host,
    wave: u32,
    prediction: Prediction,
}

/// Makes the plan.
///
/// # Errors
/// The release is not the one of the file, or the hosts are too many or not told apart.
pub fn plan(given: &Given<'_>) -> Result<Plan, PlanError> {
    check(given)?;
    let (file, release) = (given.file, given.release);
    let selected: Vec<&Host> = given.hosts.iter().filter(|host| file.hosts.matches(host)).collect();
    let (waves, mut left_out) = members::divide(file, release, &selected);
    left_out.sort_by(|one, other| one.name.cmp(&other.name));
    let hosts = foreseen(given, &waves);
    let Course { waves, begins, ends_at } = course(given, &waves, &hosts);
    let mut plan = Plan {
        name: file.name.clone(),
        release: release.digest.clone(),
        version: release.version.clone(),
        digest: digest::digest(file, release, &waves),
        known: given.hosts.len(),
        selected: selected.len(),
        times: Times::of(&hosts),
        waves,
        left_out,
        in_flight: effect::in_flight(&file.limits, &hosts),
        failures: file.limits.failures.iter().map(effect::failures).collect(),
        warnings: Vec::new(),
        starts_at: given.now,
        ends_at,
    };
    plan.warnings = warning::warnings(&plan, file, &hosts, &begins);
    Ok(plan)
}

fn check(given: &Given<'_>) -> Result<(), PlanError> {
    let (file, release) = (given.file, given.release);
    if !file.release.eq_ignore_ascii_case(&release.digest) && file.release != release.version {
        let (wanted, version) = (file.release.clone(), release.version.clone());
        let digest = release.digest.clone();
        return Err(PlanError::OtherRelease { wanted, version, digest });
    }
    if given.hosts.len() > HOSTS_MAX {
        return Err(PlanError::TooManyHosts(given.hosts.len()));
    }
    let mut names = BTreeSet::new();
    match given.hosts.iter().find(|host| !names.insert(host.name.as_str())) {
        Some(twice) => Err(PlanError::HostTwice(twice.name.clone())),
        None => Ok(()),
    }
}

/// The hosts of all waves, one wave after the other, with how long each takes.
fn foreseen<'a>(given: &Given<'a>, waves: &[Vec<&'a Host>]) -> Vec<Planned<'a>> {
    let around_s = given.file.around_s();
    let numbered = (0_u32..).zip(waves);
    let hosts = numbered.flat_map(|(wave, hosts)| hosts.iter().map(move |host| (wave, *host)));
    let planned = hosts.map(|(wave, host)| Planned {
        host,
        wave,
        prediction: (given.predicted)(host).with(around_s),
    });
    planned.collect()
}

/// What becomes of the waves in time.
struct Course {
    waves: Vec<PlannedWave>,
    /// When each host begins, in the order of all.
    begins: Vec<Begin>,
    ends_at: Option<Stamp>,
}

/// Runs through all waves.
fn course(given: &Given<'_>, waves: &[Vec<&Host>], hosts: &[Planned<'_>]) -> Course {
    let limits = &given.file.limits;
    let mut schedule = Schedule::new(given.file, hosts);
    let (mut planned, mut begins) = (Vec::new(), Vec::with_capacity(hosts.len()));
    let mut from = Some(given.now);
    for (number, (members, entry)) in (0_u32..).zip(waves.iter().zip(&given.file.waves)) {
        let range = begins.len()..begins.len() + members.len();
        match from {
            Some(from) => begins.extend(schedule.wave(from, range.clone())),
            None => begins.resize(range.end, Begin::Unknown),
        }
        let (hosts, begins) = (&hosts[range.clone()], &begins[range]);
        let runs = from.and_then(|from| runs(from, hosts, begins));
        let soak_us = if hosts.is_empty() { 0 } else { i64::from(entry.soak_s) * 1_000_000 };
        from = runs.map(|(_, end)| end.saturating_add(soak_us));
        let rows = hosts.iter().zip(begins);
        planned.push(PlannedWave {
            number,
            name: entry.name.clone(),
            approval: entry.approval,
            soak_s: entry.soak_s,
            runs,
            hosts: rows.map(|(host, begin)| planned_host(limits, host, *begin)).collect(),
        });
    }
    Course { waves: planned, begins, ends_at: from }
}

/// When a wave begins and ends, as far as its hosts ever begin.
fn runs(from: Stamp, hosts: &[Planned<'_>], begins: &[Begin]) -> Option<(Stamp, Stamp)> {
    let mut end = from;
    for (host, begin) in hosts.iter().zip(begins) {
        match begin {
            Begin::At(at) => {
                let takes_us = i64::from(host.prediction.typical_s) * 1_000_000;
                end = end.max(at.saturating_add(takes_us));
            }
            Begin::Never => {}
            Begin::Unknown => return None,
        }
    }
    Some((from, end))
}

fn planned_host(limits: &Limits, planned: &Planned<'_>, begin: Begin) -> PlannedHost {
    let Planned { host, prediction, .. } = *planned;
    let scopes = limits.in_flight.iter().map(|limit| &limit.scope);
    let scopes = scopes.chain(limits.failures.iter().map(|limit| &limit.scope));
    let mut domains: Vec<_> = scopes.map(|scope| Domain::of(scope, planned.wave, host)).collect();
    domains.sort();
    domains.dedup();
    PlannedHost {
        name: host.name.clone(),
        key: host.key.clone(),
        site: host.site().to_owned(),
        rack: host.label(RACK).to_owned(),
        power: host.label(POWER).to_owned(),
        domains,
        typical_s: prediction.typical_s,
        longest_s: prediction.longest_s,
        source: prediction.source,
        begins_at: match begin {
            Begin::At(at) => Some(at),
            Begin::Never | Begin::Unknown => None,
        },
    }
}

#[cfg(test)]
mod tests;
