//! Hosts for which `drain` and `undrain` of a rollout's file run, from the claim to the end of
//! `undrain`. Which hosts these are is all that is kept here: the store is told by the crew.
//!
//! ```text
//! Waiting --> Draining --> Drained --> Away --> Over --> Undraining --> Left
//!                |            |                 ^ ^          |
//!                '------------'-----------------' '----------'
//!                     failed, or put back            cut off
//! ```
//!
//! A program that the worker itself ended, as its leases were over, is no failure. A host that was
//! being drained is put back then; `undrain` runs anew, by whoever has the host.
//!
//! Hosts that were claimed together are a batch: those of it that were drained go into one
//! campaign. A host is *away* while it is in that, or looked at.
//!
//! | file | what it has |
//! | --- | --- |
//! | `drains/guest.rs` | one host: where it is, and where it goes from there |
//! | `drains/script.rs` | the programs of a rollout |

mod guest;
mod script;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::party::{HostEnd, Program, ProgramEnd};
use crate::model::{Attempt, AttemptId, RolloutId};
pub(super) use guest::{Fate, HALTED, STOPPED, Taken};
use guest::{Guest, Recalled};
pub(super) use script::{Script, Task};

/// Maximum number of hosts of a worker that are drained at a time. Of rollouts that drain no more
/// hosts are claimed, so none waits out of service for others to be drained.
pub const DRAINS_AT_ONCE_MAX: usize = 32;

/// Maximum number of hosts of a worker that are undrained at a time; others wait.
pub const UNDRAINS_AT_ONCE_MAX: usize = 32;

/// A host that waits for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) attempt: AttemptId,
    pub(super) rollout: RolloutId,
    pub(super) task: Task,
}

/// Hosts of a batch that were drained, by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) rollout: RolloutId,
    pub(super) hosts: BTreeMap<String, AttemptId>,
}

/// A host whose `undrain` has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) attempt: AttemptId,
    pub(super) fate: Fate,
    /// Why `undrain` failed, in words.
    pub(super) failure: Option<String>,
}

/// The hosts that are drained.
#[derive(Debug, Default)]
pub(super) struct Drains {
    guests: BTreeMap<AttemptId, Guest>,
    last_batch: u64,
}

impl Drains {
    /// Those hosts on which the worker holds a lease.
    pub(super) fn attempts(&self) -> impl Iterator<Item = AttemptId> {
        self.guests.keys().copied()
    }

    /// The rollouts of which hosts are here.
    pub(super) fn rollouts(&self) -> BTreeSet<RolloutId> {
        self.guests.values().map(|guest| guest.rollout).collect()
    }

    /// Says whether a program runs.
    pub(super) fn are_busy(&self) -> bool {
        self.guests.values().any(|guest| guest.program().is_some())
    }

    fn count(&self, is_meant: fn(&Guest) -> bool) -> usize {
        self.guests.values().filter(|guest| is_meant(guest)).count()
    }

    /// How many further hosts can be drained.
    pub(super) fn room(&self) -> usize {
        let before = self.count(|guest| guest.waits() || guest.is_draining());
        DRAINS_AT_ONCE_MAX.saturating_sub(before)
    }

    /// Takes hosts that are to be drained together.
    pub(super) fn wait(&mut self, rollout: RolloutId, hosts: BTreeMap<String, AttemptId>) {
        self.last_batch += 1;
        for (host, attempt) in hosts {
            let is_started = self.guests.get(&attempt).is_some_and(Guest::is_started);
            let guest = Guest::waiting(rollout, host, self.last_batch, is_started);
            self.guests.insert(attempt, guest);
        }
    }

    /// Takes a host over, whose worker fell silent.
    pub(super) fn take_over(&mut self, attempt: &Attempt) -> Taken {
        let (taken, guest) = Guest::take_over(attempt);
        self.guests.extend(guest.map(|guest| (attempt.id, guest)));
        taken
    }

    /// A host has ended: returns that, unless it is undrained first.
    pub(super) fn end(&mut self, attempt: AttemptId, end: HostEnd) -> Option<HostEnd> {
        match self.guests.get_mut(&attempt) {
            Some(guest) => {
                guest.end(end);
                None
            }
            None => Some(end),
        }
    }

    /// A host that was taken over is home, and its rollout does not run any more: says whether it
    /// is put back, as no campaign had it.
    pub(super) fn send_back(&mut self, attempt: AttemptId) -> bool {
        self.guests.get_mut(&attempt).is_some_and(Guest::send_back)
    }

    /// Calls everybody of a rollout back who is not away, or of all rollouts. Returns those for
    /// whom nothing was started, who are gone from here, and the programs that are to end.
    pub(super) fn recall(
        &mut self,
        rollout: Option<RolloutId>,
        why: &'static str,
    ) -> (Vec<AttemptId>, Vec<u64>) {
        let (mut untouched, mut programs) = (Vec::new(), Vec::new());
        let is_meant = |guest: &Guest| rollout.is_none_or(|rollout| guest.rollout == rollout);
        for (attempt, guest) in self.guests.iter_mut().filter(|(_, guest)| is_meant(guest)) {
            match guest.recall(why) {
                Recalled::Untouched => untouched.push(*attempt),
                Recalled::AfterProgram(program) => programs.push(program),
                Recalled::OnItsWay => {}
            }
        }
        untouched.iter().for_each(|attempt| self.forget(*attempt));
        (untouched, programs)
    }

    /// Who may be drained now.
    pub(super) fn next_drains(&self) -> Vec<Due> {
        let room = DRAINS_AT_ONCE_MAX.saturating_sub(self.count(Guest::is_draining));
        self.due(Task::Drain, room, Guest::waits)
    }

    /// Who may be undrained now.
    pub(super) fn next_undrains(&self) -> Vec<Due> {
        let room = UNDRAINS_AT_ONCE_MAX.saturating_sub(self.count(Guest::is_undraining));
        self.due(Task::Undrain, room, |guest| guest.over().is_some())
    }

    fn due(&self, task: Task, room: usize, is_meant: fn(&Guest) -> bool) -> Vec<Due> {
        let waiting = self.guests.iter().filter(|(_, guest)| is_meant(guest)).take(room);
        waiting.map(|(id, guest)| Due { attempt: *id, rollout: guest.rollout, task }).collect()
    }

    /// What a host came to that waits for `undrain`; nothing when it is put back.
    pub(super) fn end_of(&self, attempt: AttemptId) -> Option<&HostEnd> {
        match self.guests.get(&attempt)?.over()? {
            Fate::Ended(end) => Some(end),
            Fate::Back(_) => None,
        }
    }

    /// The store knows that a host's next program is about to be started: returns that, with this
    /// number.
    pub(super) fn start(
        &mut self,
        attempt: AttemptId,
        script: &Script,
        site: &str,
        number: u64,
    ) -> Option<Program> {
        self.guests.get_mut(&attempt)?.start(script, site, number)
    }

    /// A program has ended.
    pub(super) fn finish(&mut self, number: u64, ended: ProgramEnd) {
        let is_its = |guest: &&mut Guest| guest.program() == Some(number);
        if let Some(guest) = self.guests.values_mut().find(is_its) {
            guest.finish(ended);
        }
    }

    /// Returns the batches of which everybody was drained who could be.
    pub(super) fn complete(&self) -> Vec<Batch> {
        let before = self.guests.values().filter(|guest| guest.waits() || guest.is_draining());
        let open: BTreeSet<u64> = before.map(|guest| guest.batch).collect();
        let mut batches = BTreeMap::<u64, Batch>::new();
        for (attempt, guest) in &self.guests {
            if guest.is_drained() && !open.contains(&guest.batch) {
                let (rollout, hosts) = (guest.rollout, BTreeMap::new());
                let batch = batches.entry(guest.batch).or_insert(Batch { rollout, hosts });
                batch.hosts.insert(guest.host.clone(), *attempt);
            }
        }
        batches.into_values().collect()
    }

    /// A campaign has the hosts of a batch.
    pub(super) fn leave(&mut self, batch: &Batch) {
        for attempt in batch.hosts.values() {
            if let Some(guest) = self.guests.get_mut(attempt) {
                guest.leave();
            }
        }
    }

    /// Forgets those that are away, but for these.
    pub(super) fn drop_lost(&mut self, followed: &BTreeSet<AttemptId>) {
        self.guests.retain(|attempt, guest| !guest.is_away() || followed.contains(attempt));
    }

    /// A host that waits for `undrain` has left, as there is none.
    pub(super) fn skip_undrain(&mut self, attempt: AttemptId) {
        if let Some(guest) = self.guests.get_mut(&attempt) {
            guest.skip_undrain();
        }
    }

    /// Hosts whose `undrain` has ended, until they are forgotten.
    pub(super) fn left(&self) -> Vec<Left> {
        let left = self.guests.iter().filter_map(|(attempt, guest)| {
            let (fate, failure) = guest.left()?;
            Some(Left { attempt: *attempt, fate: fate.clone(), failure: failure.cloned() })
        });
        left.collect()
    }

    /// Is not concerned with a host any more; its program is not ended by that.
    pub(super) fn forget(&mut self, attempt: AttemptId) {
        self.guests.remove(&attempt);
    }

    /// Keeps those hosts alone, and returns the programs of the others.
    pub(super) fn retain(&mut self, is_kept: impl Fn(AttemptId) -> bool) -> Vec<u64> {
        let mut programs = Vec::new();
        self.guests.retain(|attempt, guest| {
            let stays = is_kept(*attempt);
            programs.extend(guest.program().filter(|_| !stays));
            stays
        });
        programs
    }
}
