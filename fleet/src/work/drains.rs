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

use std::collections::{BTreeMap, BTreeSet};

use firmcast::reason::Reason;

use super::party::{HostEnd, Program, ProgramEnd};
use crate::model::{Attempt, AttemptId, DRAINING, Drain, RolloutId, UNDRAINING};
use crate::rollout::file::{Command, Occasion, RolloutFile, UNTOUCHED, outcome_word};

/// Maximum number of hosts of a worker that are drained at a time. Of rollouts that drain no more
/// hosts are claimed, so none waits out of service for others to be drained.
pub const DRAINS_AT_ONCE_MAX: usize = 32;

/// Maximum number of hosts of a worker that are undrained at a time; others wait.
pub const UNDRAINS_AT_ONCE_MAX: usize = 32;

/// Why hosts are put back whose rollout does not run any more.
pub(super) const HALTED: &str = "its rollout does not run any more";

/// Why hosts are put back that have not begun when their worker is told to stop.
pub(super) const STOPPED: &str = "its worker was told to stop";

/// Why hosts are put back for which `drain` was ended by the worker.
pub(super) const CUT_OFF: &str =
    "its drain program was ended, as its worker could not renew its leases in time";

/// The programs of a rollout.
#[derive(Debug)]
pub(super) struct Script {
    rollout: String,
    version: String,
    drain: Option<Command>,
    undrain: Option<Command>,
}

impl Script {
    /// Returns what the file of a rollout says, with the version of its release.
    pub(super) fn new(file: &str, rollout: String, version: String) -> Self {
        // What could not be read was created by another version, and no worker claims from it.
        let file = RolloutFile::parse(file).ok();
        let (drain, undrain) = file.map_or((None, None), |file| (file.drain, file.undrain));
        Self { rollout, version, drain, undrain }
    }

    pub(super) fn drains(&self) -> bool {
        self.drain.is_some()
    }

    pub(super) fn undrains(&self) -> bool {
        self.undrain.is_some()
    }
}

/// A program for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Drain,
    Undrain,
}

/// What becomes of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has ended so.
    Ended(HostEnd),
    /// It is put back, for this reason: nothing was written to it.
    Back(&'static str),
}

/// Where a host is on its way.
#[derive(Debug)]
enum Step {
    Waiting,
    /// It is put back at the end of the program for this reason, if there is one.
    Draining {
        program: u64,
        recalled: Option<&'static str>,
    },
    Drained,
    Away,
    Over(Fate),
    Undraining {
        program: u64,
        fate: Fate,
    },
    Left {
        fate: Fate,
        failure: Option<String>,
    },
}

/// A host that is drained.
#[derive(Debug)]
struct Guest {
    rollout: RolloutId,
    host: String,
    batch: u64,
    /// Whether `drain` was ever started for it.
    is_started: bool,
    /// It was taken over, and as far as the store knew no campaign had it.
    is_untouched: bool,
    step: Step,
}

/// A host that waits for something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) attempt: AttemptId,
    pub(super) rollout: RolloutId,
    pub(super) host: String,
}

/// Hosts of a batch that were drained, by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) rollout: RolloutId,
    pub(super) hosts: BTreeMap<String, AttemptId>,
}

/// A host whose `undrain` has ended.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) attempt: AttemptId,
    pub(super) fate: Fate,
    /// Why `undrain` failed, in words.
    pub(super) failure: Option<String>,
}

/// What is to be done with a host that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is looked at.
    Look,
    /// It waits for `undrain`.
    Undrain,
    /// It has ended so, and its programs, too.
    Report(HostEnd),
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
        self.guests.values().any(|guest| guest.step.program().is_some())
    }

    /// How many further hosts can be drained.
    pub(super) fn room(&self) -> usize {
        let is_before =
            |guest: &&Guest| matches!(guest.step, Step::Waiting | Step::Draining { .. });
        DRAINS_AT_ONCE_MAX.saturating_sub(self.guests.values().filter(is_before).count())
    }

    /// Takes hosts that are to be drained together.
    pub(super) fn wait(&mut self, rollout: RolloutId, hosts: BTreeMap<String, AttemptId>) {
        self.last_batch += 1;
        for (host, attempt) in hosts {
            let is_started = self.guests.get(&attempt).is_some_and(|guest| guest.is_started);
            let (batch, is_untouched, step) = (self.last_batch, false, Step::Waiting);
            let guest = Guest { rollout, host, batch, is_started, is_untouched, step };
            self.guests.insert(attempt, guest);
        }
    }

    /// Takes a host over, whose worker fell silent.
    pub(super) fn take_over(&mut self, attempt: &Attempt) -> Taken {
        let end = attempt.reason.as_deref().map(|reason| HostEnd {
            confirmed: reason == Reason::Confirmed.name(),
            reason: reason.to_owned(),
            flash: attempt.flash.clone().unwrap_or_default(),
            detail: attempt.detail.clone(),
        });
        let (step, taken) = match (attempt.drain, end) {
            (Drain::Undrained | Drain::UndrainFailed, Some(end)) => return Taken::Report(end),
            (Drain::NotStarted | Drain::Undrained | Drain::UndrainFailed, _) => return Taken::Look,
            (Drain::Undraining, Some(end)) => (Step::Over(Fate::Ended(end)), Taken::Undrain),
            (Drain::Started | Drain::Undraining, _) => (Step::Away, Taken::Look),
        };
        let (rollout, host) = (attempt.rollout, attempt.host.clone());
        let stage = attempt.stage.as_deref();
        let is_untouched = stage.is_some_and(|stage| [DRAINING, UNDRAINING].contains(&stage));
        let guest = Guest { rollout, host, batch: 0, is_started: true, is_untouched, step };
        self.guests.insert(attempt.id, guest);
        taken
    }

    /// A host has ended: returns that, unless it is undrained first.
    pub(super) fn end(&mut self, attempt: AttemptId, end: HostEnd) -> Option<HostEnd> {
        match self.guests.get_mut(&attempt) {
            Some(guest) => {
                guest.step = Step::Over(Fate::Ended(end));
                None
            }
            None => Some(end),
        }
    }

    /// A host that was taken over is home, and its rollout does not run any more: says whether it
    /// is put back, as no campaign had it.
    pub(super) fn send_back(&mut self, attempt: AttemptId) -> bool {
        let guest = self.guests.get_mut(&attempt).filter(|guest| guest.is_untouched);
        guest.map(|guest| guest.step = Step::Over(Fate::Back(HALTED))).is_some()
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
            match &mut guest.step {
                Step::Waiting if !guest.is_started => untouched.push(*attempt),
                Step::Waiting | Step::Drained => guest.step = Step::Over(Fate::Back(why)),
                Step::Draining { program, recalled: recalled @ None } => {
                    *recalled = Some(why);
                    programs.push(*program);
                }
                _ => {}
            }
        }
        untouched.iter().for_each(|attempt| self.forget(*attempt));
        (untouched, programs)
    }

    /// Who may be drained now.
    pub(super) fn next_drains(&self) -> Vec<Due> {
        self.due(
            DRAINS_AT_ONCE_MAX,
            |step| matches!(step, Step::Waiting),
            |step| matches!(step, Step::Draining { .. }),
        )
    }

    /// Who may be undrained now.
    pub(super) fn next_undrains(&self) -> Vec<Due> {
        self.due(
            UNDRAINS_AT_ONCE_MAX,
            |step| matches!(step, Step::Over(_)),
            |step| matches!(step, Step::Undraining { .. }),
        )
    }

    fn due(&self, max: usize, waits: fn(&Step) -> bool, runs: fn(&Step) -> bool) -> Vec<Due> {
        let running = self.guests.values().filter(|guest| runs(&guest.step)).count();
        let waiting = self.guests.iter().filter(|(_, guest)| waits(&guest.step));
        let due = |(attempt, guest): (&AttemptId, &Guest)| Due {
            attempt: *attempt,
            rollout: guest.rollout,
            host: guest.host.clone(),
        };
        waiting.take(max.saturating_sub(running)).map(due).collect()
    }

    /// What a host came to that waits for `undrain`; nothing when it is put back.
    pub(super) fn end_of(&self, attempt: AttemptId) -> Option<&HostEnd> {
        match &self.guests.get(&attempt)?.step {
            Step::Over(Fate::Ended(end)) => Some(end),
            _ => None,
        }
    }

    /// The store knows that a program is about to be started: returns it, with this number. When
    /// the host's values make no argument, the program has failed at once.
    pub(super) fn start(
        &mut self,
        (attempt, task): (AttemptId, Task),
        script: &Script,
        site: &str,
        number: u64,
    ) -> Option<Program> {
        let guest = self.guests.get_mut(&attempt)?;
        let (command, fate) = match (task, std::mem::replace(&mut guest.step, Step::Away)) {
            (Task::Undrain, Step::Over(fate)) => (script.undrain.as_ref(), Some(fate)),
            _ => (script.drain.as_ref(), None),
        };
        let occasion = Occasion {
            host: &guest.host,
            site,
            version: &script.version,
            rollout: &script.rollout,
            outcome: fate.as_ref().map_or(UNTOUCHED, Fate::outcome),
        };
        let argv = command.map(|command| (command.argv(&occasion), command.within_s));
        guest.is_started = true;
        guest.step = match fate {
            Some(fate) => Step::Undraining { program: number, fate },
            None => Step::Draining { program: number, recalled: None },
        };
        match argv {
            Some((Ok(argv), within_s)) => Some(Program { number, argv, within_s }),
            Some((Err(error), _)) => {
                self.finish(number, ProgramEnd::Failed(error.to_string()));
                None
            }
            None => {
                self.finish(number, ProgramEnd::Done);
                None
            }
        }
    }

    /// A program has ended.
    pub(super) fn finish(&mut self, number: u64, ended: ProgramEnd) {
        let is_its = |guest: &&mut Guest| guest.step.program() == Some(number);
        let Some(guest) = self.guests.values_mut().find(is_its) else { return };
        guest.step = match (std::mem::replace(&mut guest.step, Step::Away), ended) {
            (Step::Draining { recalled: Some(why), .. }, _) => Step::Over(Fate::Back(why)),
            (Step::Draining { .. }, ProgramEnd::Done) => Step::Drained,
            (Step::Draining { .. }, ProgramEnd::Failed(words)) => Step::Over(refused(words)),
            (Step::Draining { .. }, ProgramEnd::CutOff) => Step::Over(Fate::Back(CUT_OFF)),
            (Step::Undraining { fate, .. }, ProgramEnd::Done) => Step::Left { fate, failure: None },
            (Step::Undraining { fate, .. }, ProgramEnd::Failed(words)) => {
                Step::Left { fate, failure: Some(words) }
            }
            (Step::Undraining { fate, .. }, ProgramEnd::CutOff) => Step::Over(fate),
            (other, _) => other,
        };
    }

    /// Returns the batches of which everybody was drained who could be.
    pub(super) fn complete(&self) -> Vec<Batch> {
        let waits = |guest: &&Guest| matches!(guest.step, Step::Waiting | Step::Draining { .. });
        let open: BTreeSet<u64> =
            self.guests.values().filter(waits).map(|guest| guest.batch).collect();
        let mut batches = BTreeMap::<u64, Batch>::new();
        for (attempt, guest) in &self.guests {
            if matches!(guest.step, Step::Drained) && !open.contains(&guest.batch) {
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
                guest.step = Step::Away;
            }
        }
    }

    /// Forgets those that are away, but for these.
    pub(super) fn drop_lost(&mut self, followed: &BTreeSet<AttemptId>) {
        self.guests.retain(|attempt, guest| {
            !matches!(guest.step, Step::Away) || followed.contains(attempt)
        });
    }

    /// Those who wait for `undrain` where there is none have left.
    pub(super) fn skip_undrain(&mut self, attempt: AttemptId) {
        let Some(guest) = self.guests.get_mut(&attempt) else { return };
        guest.step = match std::mem::replace(&mut guest.step, Step::Away) {
            Step::Over(fate) => Step::Left { fate, failure: None },
            other => other,
        };
    }

    /// Hosts whose `undrain` has ended, until they are forgotten.
    pub(super) fn left(&self) -> Vec<Left> {
        let left = self.guests.iter().filter_map(|(attempt, guest)| match &guest.step {
            Step::Left { fate, failure } => {
                let (fate, failure) = (fate.clone(), failure.clone());
                Some(Left { attempt: *attempt, fate, failure })
            }
            _ => None,
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
            programs.extend(guest.step.program().filter(|_| !stays));
            stays
        });
        programs
    }
}

impl Step {
    fn program(&self) -> Option<u64> {
        match self {
            Self::Draining { program, .. } | Self::Undraining { program, .. } => Some(*program),
            _ => None,
        }
    }
}

impl Fate {
    /// What `{outcome}` says of it.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Ended(end) => outcome_word(end.confirmed, &end.flash),
            Self::Back(_) => UNTOUCHED,
        }
    }
}

/// The end of a host that was not touched, as `drain` failed.
fn refused(words: String) -> Fate {
    Fate::Ended(HostEnd {
        confirmed: false,
        reason: Reason::DrainFailed.name().to_owned(),
        flash: UNTOUCHED.to_owned(),
        detail: words,
    })
}
