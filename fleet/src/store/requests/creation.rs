use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Approval, Stamp};
use crate::rollout::file::{FILE_BYTES_MAX, RolloutFile};
use crate::rollout::limits::{Counts, Domain, LIMITS_MAX, Limits, Scope};
use crate::rollout::plan::{Plan, PlannedWave};
use crate::store::error::StoreError;
use crate::store::text;

/// Maximum number of hosts of one rollout.
pub const ATTEMPTS_MAX: usize = 200_000;
/// Maximum number of waves of one rollout.
pub const WAVES_MAX: usize = 1000;
/// Maximum number of domains of one rollout, and of different sets of them: each claim reads those
/// of its site.
pub const DOMAINS_MAX: usize = 20_000;

/// A rollout to be created: the hosts are frozen with it.
#[derive(Clone, Debug)]
pub struct NewRollout {
    /// Unique in the store.
    pub name: String,
    /// Digest of a release that was added.
    pub release: String,
    /// The file that it comes from, as it is.
    pub file: String,
    /// SHA-256 over the frozen hosts, waves and order.
    pub plan_digest: String,
    /// How many hosts may be in flight, and how many may fail.
    pub limits: Limits,
    /// Who creates it.
    pub created_by: String,
    /// When.
    pub at: Stamp,
    /// The waves, in their order.
    pub waves: Vec<NewWave>,
    /// The hosts, in the order in which they are to begin.
    pub attempts: Vec<NewAttempt>,
}

/// A wave of a [`NewRollout`].
#[derive(Clone, Debug)]
pub struct NewWave {
    /// Its name in the file.
    pub name: String,
    /// How it begins.
    pub approval: Approval,
    /// How long it is watched after its last host ended, in seconds.
    pub soak_s: u32,
}

/// A host of a [`NewRollout`].
#[derive(Clone, Debug)]
pub struct NewAttempt {
    /// Its wave, from 0.
    pub wave: u32,
    /// Its name.
    pub host: String,
    /// Its site.
    pub site: String,
    /// What the rollout's limits count it in ([`Limits::domains`]).
    pub domains: Vec<Domain>,
    /// The longest time that its update is predicted to take, in seconds.
    pub predicted_s: u32,
}

/// Hosts of one site that count in the same domains: what the limits say of one of them, they say
/// of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Cohort {
    pub(in crate::store) site: String,
    pub(in crate::store) domains: Vec<Domain>,
}

/// A rollout's hosts, as they are kept.
#[derive(Debug)]
pub(in crate::store) struct Frozen<'a> {
    /// In the order of the plan.
    pub(in crate::store) attempts: Vec<Placed<'a>>,
    /// By number, from 0.
    pub(in crate::store) cohorts: Vec<Cohort>,
    /// How many are planned in each domain.
    pub(in crate::store) counts: Counts,
}

/// A host, its place in its wave, and the number of its cohort.
#[derive(Debug)]
pub(in crate::store) struct Placed<'a> {
    pub(in crate::store) attempt: &'a NewAttempt,
    pub(in crate::store) position: u32,
    pub(in crate::store) cohort: u32,
}

impl NewRollout {
    /// Returns the rollout that `file`, which is written as `text`, comes to by its `plan`.
    pub fn of(text: &str, file: &RolloutFile, plan: &Plan, created_by: String, at: Stamp) -> Self {
        let wave = |wave: &PlannedWave| NewWave {
            name: wave.name.clone(),
            approval: wave.approval,
            soak_s: wave.soak_s,
        };
        let attempts = plan.waves.iter().zip(0_u32..).flat_map(|(wave, number)| {
            wave.hosts.iter().map(move |host| NewAttempt {
                wave: number,
                host: host.name.clone(),
                site: host.site.clone(),
                domains: host.domains.clone(),
                predicted_s: host.longest_s,
            })
        });
        Self {
            name: plan.name.clone(),
            release: plan.release.clone(),
            file: text.to_owned(),
            plan_digest: plan.digest.clone(),
            limits: file.limits.clone(),
            created_by,
            at,
            waves: plan.waves.iter().map(wave).collect(),
            attempts: attempts.collect(),
        }
    }

    /// Checks what needs no look into the store.
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        text::name("the name of a rollout", &self.name)?;
        text::name("the digest of a release", &self.release)?;
        text::bounded("the file of a rollout", &self.file, FILE_BYTES_MAX)?;
        text::name("the digest of a plan", &self.plan_digest)?;
        text::name("who creates a rollout", &self.created_by)?;
        text::at_most("the number of waves", self.waves.len(), WAVES_MAX)?;
        text::at_most("the number of hosts of a rollout", self.attempts.len(), ATTEMPTS_MAX)?;
        text::at_most(
            "the number of limits on hosts in flight",
            self.limits.in_flight.len(),
            LIMITS_MAX,
        )?;
        text::at_most("the number of limits of failures", self.limits.failures.len(), LIMITS_MAX)?;
        for wave in &self.waves {
            text::name("the name of a wave", &wave.name)?;
        }
        let mut seen = BTreeSet::new();
        for attempt in &self.attempts {
            attempt.check()?;
            if attempt.wave as usize >= self.waves.len() {
                return Err(super::unknown("wave", attempt.wave));
            }
            if !seen.insert(&attempt.host) {
                return Err(StoreError::HostTwice { host: attempt.host.clone() });
            }
        }
        Ok(())
    }

    /// Returns the hosts as they are kept.
    ///
    /// # Errors
    /// When a host is not in one domain for each scope of the limits, or there are too many.
    pub(in crate::store) fn freeze(&self) -> Result<Frozen<'_>, StoreError> {
        let scopes = self.limits.scopes();
        let mut positions = vec![0_u32; self.waves.len()];
        let mut numbers = BTreeMap::<Cohort, u32>::new();
        let mut frozen =
            Frozen { attempts: Vec::new(), cohorts: Vec::new(), counts: Counts::default() };
        for attempt in &self.attempts {
            let cohort = attempt.cohort(&scopes)?;
            frozen.counts.plan(&cohort.domains);
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            let number = *numbers.entry(cohort.clone()).or_insert(next);
            if number == next {
                frozen.cohorts.push(cohort);
            }
            let position = positions.get_mut(attempt.wave as usize).map_or(0, |position| {
                *position += 1;
                *position - 1
            });
            frozen.attempts.push(Placed { attempt, position, cohort: number });
        }
        text::at_most("the number of domains of a rollout", frozen.counts.len(), DOMAINS_MAX)?;
        let what = "the number of different sets of domains of a rollout's hosts";
        text::at_most(what, frozen.cohorts.len(), DOMAINS_MAX)?;
        Ok(frozen)
    }
}

impl NewAttempt {
    fn check(&self) -> Result<(), StoreError> {
        text::name("the name of a host", &self.host)?;
        text::words("the site of a host", &self.site)?;
        for domain in &self.domains {
            text::words("a domain of a host", &domain.1)?;
        }
        Ok(())
    }

    fn cohort(&self, scopes: &BTreeSet<&Scope>) -> Result<Cohort, StoreError> {
        let mut domains = self.domains.clone();
        domains.sort_unstable();
        domains.dedup();
        if !domains.iter().map(|domain| &domain.0).eq(scopes.iter().copied()) {
            return Err(StoreError::OtherDomains { host: self.host.clone() });
        }
        Ok(Cohort { site: self.site.clone(), domains })
    }
}
