use super::super::requests::Cohort;
use crate::rollout::limits::{Counts, Domain, Ending, Limits, Reached};

/// The limits of a rollout, and what they count.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) limits: Limits,
    pub(super) counts: Counts,
    /// By number, from 0.
    pub(super) cohorts: Vec<Cohort>,
}

impl Budget {
    pub(super) fn reached(&self) -> Option<Reached> {
        self.limits.reached(&self.counts)
    }

    /// Counts a host as in flight if there is room.
    pub(super) fn begin(&mut self, cohort: u32) -> bool {
        let domains = domains(&self.cohorts, cohort);
        let room = self.limits.have_room(&self.counts, domains);
        if room {
            self.counts.begin(domains);
        }
        room
    }

    /// Counts a host as ended, and returns the limit that is reached by it.
    pub(super) fn end(&mut self, cohort: u32, ending: Ending) -> Option<Reached> {
        let domains = domains(&self.cohorts, cohort);
        self.counts.end(domains, ending);
        let touched = domains.iter().map(|domain| (domain.clone(), self.counts.of(domain)));
        self.limits.reached(&touched.collect())
    }
}

fn domains(cohorts: &[Cohort], number: u32) -> &[Domain] {
    cohorts.get(number as usize).map_or(&[], |cohort| &cohort.domains)
}
