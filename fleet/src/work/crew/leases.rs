use super::{Crew, LEASE_US, MARGIN_US, RENEW_US, SEEN_US};
use crate::model::{AttemptId, Stamp, Worker};
use crate::store::{Store, StoreError};
use crate::work::party::Purpose;
use crate::work::strays::{Stray, Why};

impl Crew {
    /// When its campaigns have to be over, unless the leases are renewed before.
    pub fn leases_end(&self) -> Stamp {
        match self.parties.is_empty() && !self.drains.are_busy() {
            true => Stamp::MAX,
            false => self.renewed_at.saturating_add(LEASE_US - MARGIN_US),
        }
    }

    /// Ends the campaigns and programs whose leases may be over: whether the store answers or not,
    /// and however long a turn took.
    pub fn give_up_leases(&mut self, now: Stamp) {
        if now < self.renewed_at.saturating_add(LEASE_US - MARGIN_US) {
            return;
        }
        self.strays.clear();
        self.reports.forget_hosts();
        self.renewed_at = now;
        let programs = self.drains.retain(|_| false);
        for number in std::mem::take(&mut self.parties).into_keys().chain(programs) {
            self.orders.kill(number);
        }
    }

    pub(super) fn renew(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        at: Stamp,
    ) -> Result<(), StoreError> {
        if now < self.renewed_at.saturating_add(RENEW_US) {
            return Ok(());
        }
        let held: Vec<AttemptId> = self.held().into_iter().collect();
        let kept = store.renew(&self.name, &held, at, LEASE_US)?;
        self.renewed_at = now;
        self.keep(now, |attempt| kept.binary_search(&attempt).is_ok());
        Ok(())
    }

    /// Keeps those hosts alone: somebody else may have the others.
    fn keep(&mut self, now: Stamp, is_kept: impl Fn(AttemptId) -> bool) {
        self.reports.retain(&is_kept);
        self.strays.retain(|attempt, _| is_kept(*attempt));
        let programs = self.drains.retain(&is_kept);
        programs.into_iter().for_each(|number| self.orders.kill(number));
        let lost = |attempt: &AttemptId| !is_kept(*attempt);
        let parties = self.parties.iter().filter(|(_, party)| party.hosts.values().any(lost));
        for number in parties.map(|(number, _)| *number).collect::<Vec<u64>>() {
            // A campaign cannot lose one host: the others are looked for.
            self.orders.kill(number);
            let Some(party) = self.parties.remove(&number) else { continue };
            if party.purpose == Purpose::Look || self.is_stopping {
                continue;
            }
            for (host, attempt) in party.hosts {
                if is_kept(attempt) {
                    let stray = Stray::new(now, party.rollout, host, Why::TakenOver);
                    self.strays.insert(attempt, stray);
                }
            }
        }
    }

    /// Says that it is there.
    pub(super) fn be_seen(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        at: Stamp,
    ) -> Result<(), StoreError> {
        let waits_for = self.supply.waits_for();
        let is_known = |(seen, waited_for): &(Stamp, String)| {
            now < seen.saturating_add(SEEN_US) && *waited_for == waits_for
        };
        if self.seen.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        let worker = Worker {
            name: self.name.clone(),
            site: self.site.clone(),
            seen_at: at,
            waits_for,
            lacking: self.supply.lacking().to_vec(),
        };
        store.see_worker(&worker)?;
        self.seen = Some((now, worker.waits_for));
        Ok(())
    }
}
