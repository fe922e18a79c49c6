use std::collections::btree_map::Entry;

use super::reports::outcome;
use super::{Crew, Order};
use crate::model::{AttemptId, RolloutId, RolloutState, Stamp};
use crate::store::requests::DrainStep;
use crate::store::{Store, StoreError};
use crate::work::drains::{Due, Fate, HALTED, Left, Script, Task};
use crate::work::party::{HostEnd, ProgramEnd};

impl Crew {
    /// A program has ended.
    pub fn handle_program(&mut self, number: u64, ended: ProgramEnd) {
        self.drains.finish(number, ended);
    }

    /// A host has ended: that is reported, after it was undrained if it has to be.
    pub(super) fn end(&mut self, attempt: AttemptId, end: HostEnd, at: Stamp) {
        if let Some(end) = self.drains.end(attempt, end) {
            self.reports.end(attempt, Fate::Ended(end), at);
        }
    }

    /// The programs of a rollout, if it is there.
    pub(super) fn script(
        &mut self,
        store: &mut dyn Store,
        rollout: RolloutId,
    ) -> Result<Option<&Script>, StoreError> {
        if let Entry::Vacant(unknown) = self.scripts.entry(rollout) {
            let Some(found) = store.rollout(rollout)? else { return Ok(None) };
            let release = store.release(&found.rollout.release)?;
            let version = release.map_or(String::new(), |release| release.version);
            unknown.insert(Script::new(&found.rollout.file, found.rollout.name, version));
        }
        Ok(self.scripts.get(&rollout))
    }

    /// Does what is due with the hosts that are drained. The store knows of each program before it
    /// is started: whoever takes its host over runs what is due then. The store's clock is ahead
    /// of the worker's by `ahead_us`.
    pub(super) fn go_on_draining(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        ahead_us: i64,
    ) -> Result<(), StoreError> {
        self.let_drop();
        let rollouts = self.drains.rollouts();
        self.scripts.retain(|rollout, _| rollouts.contains(rollout));
        for rollout in rollouts {
            let found = store.rollout(rollout)?;
            if found.is_none_or(|found| found.rollout.state != RolloutState::Running) {
                self.recall(Some(rollout), HALTED, now);
            }
        }
        let at = now.saturating_add(ahead_us);
        for due in self.drains.next_drains() {
            self.run(store, due, at)?;
        }
        for batch in self.drains.complete() {
            self.update(store, batch.rollout, batch.hosts.clone())?;
            self.drains.leave(&batch);
        }
        for due in self.drains.next_undrains() {
            match self.script(store, due.rollout)?.is_some_and(Script::undrains) {
                true => self.run(store, due, at)?,
                false => self.drains.skip_undrain(due.attempt),
            }
        }
        self.let_leave(store, now, at)
    }

    /// Lets go those that are away and whom nobody follows, as the store broke off between two
    /// steps: their leases run out, and they are taken over.
    fn let_drop(&mut self) {
        let followed = self.in_parties().chain(self.strays.keys().copied()).collect();
        self.drains.drop_lost(&followed);
    }

    /// Hosts of a rollout, or of all, go back before they are touched.
    pub(super) fn recall(&mut self, rollout: Option<RolloutId>, why: &'static str, now: Stamp) {
        let (untouched, programs) = self.drains.recall(rollout, why);
        untouched.into_iter().for_each(|id| self.reports.end(id, Fate::Back(why), now));
        programs.into_iter().for_each(|number| self.orders.give(Order::Stop { number }));
    }

    /// Has a program run for a host, once the store knows of it.
    fn run(&mut self, store: &mut dyn Store, due: Due, at: Stamp) -> Result<(), StoreError> {
        let Due { attempt, rollout, task } = due;
        let step = match task {
            Task::Drain => DrainStep::Drain,
            Task::Undrain => DrainStep::Undrain(self.drains.end_of(attempt).map(outcome)),
        };
        match store.tell_drain(attempt, &self.name, &step, at) {
            Ok(()) => {}
            Err(StoreError::LeaseLost { .. }) => {
                self.drains.forget(attempt);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.script(store, rollout)?;
        let number = self.orders.next_number();
        let Some(script) = self.scripts.get(&rollout) else { return Ok(()) };
        if let Some(program) = self.drains.start(attempt, script, &self.site, number) {
            self.orders.give(Order::Run(program));
        }
        Ok(())
    }

    /// Hosts whose `undrain` has ended are reported.
    fn let_leave(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        at: Stamp,
    ) -> Result<(), StoreError> {
        for Left { attempt, fate, failure } in self.drains.left() {
            let step = match &failure {
                Some(words) => DrainStep::UndrainFailed(words),
                None => DrainStep::Undrained,
            };
            match store.tell_drain(attempt, &self.name, &step, at) {
                Ok(()) => self.reports.end(attempt, fate, now),
                Err(StoreError::LeaseLost { .. }) => {}
                Err(error) => return Err(error),
            }
            self.drains.forget(attempt);
        }
        Ok(())
    }
}
