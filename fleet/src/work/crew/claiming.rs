use std::collections::{BTreeMap, BTreeSet};

use super::{Crew, LEASE_US, LOOKS_AT_ONCE_MAX, Order, interrupted};
use crate::model::{AttemptId, RolloutId, RolloutState, Stamp};
use crate::store::requests::{CLAIM_MAX, Claim, ClaimRequest, LookRequest, Open};
use crate::store::{Store, StoreError};
use crate::work::drains::{Script, Taken};
use crate::work::party::{Campaign, Party, Purpose};
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
                Taken::Report(end) => self.report(attempt.id, end, now),
            }
        }
        for (rollout, hosts) in fresh {
            self.start(store, rollout, hosts)?;
        }
        Ok(())
    }

    /// Looks at hosts that may be anywhere, and goes on with those that are home.
    pub(super) fn look_again(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
    ) -> Result<(), StoreError> {
        self.report_broken_off(now);
        let busy: BTreeSet<AttemptId> = self.in_parties().collect();
        let mut due: BTreeMap<(RolloutId, bool), BTreeMap<String, AttemptId>> = BTreeMap::new();
        for (attempt, stray) in &self.strays {
            let is_home = stray.is_home();
            if (is_home || stray.look_at <= now) && !busy.contains(attempt) {
                let hosts = due.entry((stray.rollout, is_home)).or_default();
                hosts.insert(stray.host.clone(), *attempt);
            }
        }
        for ((rollout, is_home), hosts) in due {
            let Some(found) = store.rollout(rollout)? else { continue };
            let release = found.rollout.release;
            if !is_home {
                self.begin(store, rollout, Purpose::Look, release, hosts)?;
                continue;
            }
            self.strays.retain(|attempt, _| !hosts.values().any(|home| home == attempt));
            if found.rollout.state == RolloutState::Running {
                self.start(store, rollout, hosts)?;
                continue;
            }
            for attempt in hosts.into_values() {
                if !self.drains.send_back(attempt) {
                    let words = "its worker died, and the rollout does not run any more";
                    self.end(attempt, interrupted(words), now);
                }
            }
        }
        Ok(())
    }

    /// A host that is home again from a campaign that broke off here is not tried twice.
    fn report_broken_off(&mut self, now: Stamp) {
        let mut home = Vec::new();
        self.strays.retain(|attempt, stray| match &stray.why {
            Why::BrokenOff(words) if stray.is_home() => {
                home.push((*attempt, interrupted(words)));
                false
            }
            _ => true,
        });
        for (attempt, end) in home {
            self.end(attempt, end, now);
        }
    }

    /// Begins with hosts of a rollout: they are drained first, if its file says so.
    fn start(
        &mut self,
        store: &mut dyn Store,
        rollout: RolloutId,
        hosts: BTreeMap<String, AttemptId>,
    ) -> Result<(), StoreError> {
        if self.script(store, rollout)?.is_some_and(Script::drains) {
            self.drains.wait(rollout, hosts);
            return Ok(());
        }
        self.update(store, rollout, hosts)
    }

    /// Begins a campaign that writes.
    pub(super) fn update(
        &mut self,
        store: &mut dyn Store,
        rollout: RolloutId,
        hosts: BTreeMap<String, AttemptId>,
    ) -> Result<(), StoreError> {
        let Some(found) = store.rollout(rollout)? else { return Ok(()) };
        self.begin(store, rollout, Purpose::Update, found.rollout.release, hosts)
    }

    fn begin(
        &mut self,
        store: &mut dyn Store,
        rollout: RolloutId,
        purpose: Purpose,
        release: String,
        hosts: BTreeMap<String, AttemptId>,
    ) -> Result<(), StoreError> {
        let mut known = Vec::with_capacity(hosts.len());
        for name in hosts.keys() {
            known.extend(store.host(name)?);
        }
        if known.is_empty() {
            return Ok(());
        }
        let number = self.next_number();
        let campaign = Campaign { number, purpose, release, hosts: known };
        self.parties.insert(number, Party { rollout, purpose, hosts });
        self.orders.push(Order::Begin(campaign));
        Ok(())
    }
}
