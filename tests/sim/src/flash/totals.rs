//! What was tried, by kind.

use std::collections::BTreeMap;
use std::fmt;

use firmcast::flash::{Fault, Outcome};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) plans: u64,
    pub(crate) refused_plans: u64,
    /// Operations of the plans without any fault: each was cut and broken in every way.
    pub(crate) plan_operations: u64,
    pub(crate) storms: u64,
    pub(crate) storm_faults: u64,
    /// Cuts in the recovery from a cut.
    pub(crate) cuts_again: u64,
    /// Jobs during which somebody else wrote to the chip once, and all the time.
    pub(crate) foreign_writes: u64,
    pub(crate) foreign_storms: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
    jobs: u64,
    operations: u64,
    outcomes: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// A job ended.
    pub(crate) fn job(&mut self, operations: u64, outcome: &Outcome) {
        self.jobs += 1;
        self.operations += operations;
        let name = match outcome {
            Outcome::Updated => "updated",
            Outcome::Unchanged => "unchanged",
            Outcome::Restored => "restored",
            Outcome::Mixed { .. } => "mixed",
        };
        *self.outcomes.entry(name).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Totals) {
        self.plans += other.plans;
        self.refused_plans += other.refused_plans;
        self.plan_operations += other.plan_operations;
        self.storms += other.storms;
        self.storm_faults += other.storm_faults;
        self.cuts_again += other.cuts_again;
        self.foreign_writes += other.foreign_writes;
        self.foreign_storms += other.foreign_storms;
        self.jobs += other.jobs;
        self.operations += other.operations;
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cuts, others): (Vec<_>, Vec<_>) =
            self.faults.iter().partition(|(fault, _)| fault.is_cut());
        let list = |faults: Vec<(&Fault, &u64)>| {
            let sum: u64 = faults.iter().map(|(_, count)| **count).sum();
            let kinds = faults.iter().map(|(fault, count)| format!("{fault:?} {count}"));
            format!("{sum} ({})", kinds.collect::<Vec<_>>().join(", "))
        };
        let outcomes = self.outcomes.iter().map(|(name, count)| format!("{name} {count}"));
        writeln!(
            out,
            "{} plans of {} operations, {} of them to be refused",
            self.plans, self.plan_operations, self.refused_plans
        )?;
        writeln!(out, "power cuts: {}, and {} in recoveries", list(cuts), self.cuts_again)?;
        writeln!(out, "other faults: {}", list(others))?;
        writeln!(
            out,
            "writes by somebody else: {}, and {} times all the time",
            self.foreign_writes, self.foreign_storms
        )?;
        writeln!(out, "storms: {} of {} faults", self.storms, self.storm_faults)?;
        write!(
            out,
            "{} jobs of {} operations: {}",
            self.jobs,
            self.operations,
            outcomes.collect::<Vec<_>>().join(", ")
        )
    }
}
