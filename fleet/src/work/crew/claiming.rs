use std::collections::BTreeMap;

use super::{Crew, LEASE_US, LOOKS_AT_ONCE_MAX};
use crate::model::{AttemptId, RolloutId, Stamp};
use crate::store::requests::{CLAIM_MAX, Claim, ClaimRequest, LookRequest, Open};
use crate::store::{Store, StoreError};
use crate::work::drains::{Fate, Taken};
use crate::work::strays::{Stray, Why};

impl Crew {
    /// Claims hosts of open rollouts, and takes over those whose worker fell silent. Of rollouts
    /// that drain no more are claimed than can be drained now.
    pub(super) fn claim(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        at: Stamp,
        open: Vec<Open>,
    ) -> Result<(), StoreError> {
        let (drained, plain): (Vec<Open>, Vec<Open>) =
            open.into_iter().partition(|open| self.courses.drains(open.rollout));
        self.claim_of(store, now, at, (&plain, usize::MAX))?;
        match drained.is_empty() {
            true => Ok(()),
            false => self.claim_of(store, now, at, (&drained, self.drains.room())),
        }
    }

    fn claim_of(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        at: Stamp,
        (open, most): (&[Open], usize),
    ) -> Result<(), StoreError> {
        let room = self.hosts_max.saturating_sub(self.in_hand()).min(CLAIM_MAX);
        let (limit, lease_us) = (room.min(most), LEASE_US);
        if limit == 0 {
            return Ok(());
        }
        let (site, worker) = (self.site.as_str(), self.name.as_str());
        let lacking = self.supply.lacking();
        let request = ClaimRequest { site, worker, at, lease_us, limit, open, lacking };
        let claims = store.claim(&request)?;
        self.take(store, now, claims)
    }

    /// Takes hosts that have soaked, to look at them.
    pub(super) fn claim_looks(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        at: Stamp,
    ) -> Result<(), StoreError> {
        let looking = self.strays.values().filter(|stray| stray.has_soaked()).count();
        let limit = LOOKS_AT_ONCE_MAX.saturating_sub(looking);
        if limit == 0 || self.is_stopping {
            return Ok(());
        }
        let (site, worker, lease_us) = (self.site.as_str(), self.name.as_str(), LEASE_US);
        let lacking = self.supply.lacking();
        let request = LookRequest { site, worker, at, lease_us, limit, lacking };
        for attempt in store.claim_looks(&request)? {
            let stray = Stray::new(now, attempt.rollout, attempt.host, Why::Soaked(None));
            self.strays.insert(attempt.id, stray);
        }
        Ok(())
    }

    /// Begins with hosts that were claimed: a campaign for those of each rollout.
    fn take(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        claims: Vec<Claim>,
    ) -> Result<(), StoreError> {
        let mut fresh: BTreeMap<RolloutId, BTreeMap<String, AttemptId>> = BTreeMap::new();
        for Claim { attempt, taken_from } in claims {
            if taken_from.is_none() {
                fresh.entry(attempt.rollout).or_default().insert(attempt.host, attempt.id);
                continue;
            }
            match self.drains.take_over(&attempt) {
                Taken::Look => {
                    let stray = Stray::new(now, attempt.rollout, attempt.host, Why::TakenOver);
                    self.strays.insert(attempt.id, stray);
                }
                Taken::Undrain => {}
                Taken::Report(end) => self.reports.end(attempt.id, Fate::Ended(end), now),
            }
        }
        for (rollout, hosts) in fresh {
            self.start(store, rollout, hosts)?;
        }
        Ok(())
    }
}
