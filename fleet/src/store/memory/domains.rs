use super::MemoryStore;
use crate::model::RolloutId;
use crate::rollout::limits::{Counts, Domain, Ending, Limits, Reached};
use crate::store::requests::Cohort;

/// The counters of all domains of a rollout.
pub(super) fn all(store: &MemoryStore, rollout: RolloutId) -> Counts {
    let kept = store.rollouts.iter().find(|kept| kept.rollout.id == rollout);
    kept.map_or_else(Counts::default, |kept| kept.budget.counts.clone())
}

/// The limits of a rollout, and what they count.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) limits: Limits,
    pub(super) counts: Counts,
    /// By number, from 0.
    pub(super) cohorts: Vec<Cohort>,
    /// How often what failed was forgiven.
    pub(super) round: u64,
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
        self.reached_by(cohort)
    }

    /// Counts a host as planned again.
    pub(super) fn put_back(&mut self, cohort: u32) {
        self.counts.put_back(domains(&self.cohorts, cohort));
    }

    /// Counts a host that had ended as confirmed in a round as failed.
    pub(super) fn fall_sick(&mut self, cohort: u32, round: u64) {
        self.counts.fall_sick(domains(&self.cohorts, cohort), round == self.round);
    }

    /// The limit that is reached where a cohort counts.
    pub(super) fn reached_by(&self, cohort: u32) -> Option<Reached> {
        let domains = domains(&self.cohorts, cohort);
        let touched = domains.iter().map(|domain| (domain.clone(), self.counts.of(domain)));
        self.limits.reached(&touched.collect())
    }

    pub(super) fn forgive(&mut self) {
        self.counts.forgive();
        self.round += 1;
    }
}

fn domains(cohorts: &[Cohort], number: u32) -> &[Domain] {
    cohorts.get(number as usize).map_or(&[], |cohort| &cohort.domains)
}
