//! One host on its way.

use firmcast::reason::Reason;

use super::script::{Script, Task};
use crate::model::{Attempt, DRAINING, Drain, RolloutId, UNDRAINING};
use crate::rollout::file::{UNTOUCHED, outcome_word};
use crate::work::party::{HostEnd, Program, ProgramEnd};

/// Why hosts are put back whose rollout does not run any more.
pub(in crate::work) const HALTED: &str = "its rollout does not run any more";

/// Why hosts are put back that have not begun when their worker is told to stop.
pub(in crate::work) const STOPPED: &str = "its worker was told to stop";

/// Why hosts are put back for which `drain` was ended by the worker.
pub(super) const CUT_OFF: &str =
    "its drain program was ended, as its worker could not renew its leases in time";

/// What becomes of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::work) enum Fate {
    /// It has ended so.
    Ended(HostEnd),
    /// It is put back, for this reason: nothing was written to it.
    Back(&'static str),
}

/// Where it is.
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
pub(super) struct Guest {
    pub(super) rollout: RolloutId,
    pub(super) host: String,
    pub(super) batch: u64,
    /// Whether `drain` was ever started for it.
    is_started: bool,
    /// It was taken over, and as far as the store knew no campaign had it.
    is_untouched: bool,
    step: Step,
}

/// What is to be done with a host that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::work) enum Taken {
    /// It is looked at.
    Look,
    /// It waits for `undrain`.
    Undrain,
    /// It has ended so, and its programs, too.
    Report(HostEnd),
}

/// What calling a host back comes to.
#[derive(Debug)]
pub(super) enum Recalled {
    /// Nothing was started for it.
    Untouched,
    /// This program is to end first.
    AfterProgram(u64),
    /// It waits for `undrain`, or is on its way already.
    OnItsWay,
}

impl Guest {
    /// Returns one that waits to be drained, together with others of its batch.
    pub(super) fn waiting(rollout: RolloutId, host: String, batch: u64, is_started: bool) -> Self {
        let (is_untouched, step) = (false, Step::Waiting);
        Self { rollout, host, batch, is_started, is_untouched, step }
    }

    /// Says what is to be done with a host whose worker fell silent. It is a guest if `drain` was
    /// started for it, and `undrain` has not ended.
    pub(super) fn take_over(attempt: &Attempt) -> (Taken, Option<Self>) {
        let end = attempt.reason.as_deref().map(|reason| HostEnd {
            confirmed: reason == Reason::Confirmed.name(),
            reason: reason.to_owned(),
            flash: attempt.flash.clone().unwrap_or_default(),
            detail: attempt.detail.clone(),
        });
        let stage = attempt.stage.as_deref();
        let is_untouched = stage.is_some_and(|stage| [DRAINING, UNDRAINING].contains(&stage));
        let guest = |step| {
            let (rollout, host) = (attempt.rollout, attempt.host.clone());
            Some(Self { rollout, host, batch: 0, is_started: true, is_untouched, step })
        };
        match (attempt.drain, end) {
            (Drain::Undrained | Drain::UndrainFailed, Some(end)) => (Taken::Report(end), None),
            (Drain::NotStarted | Drain::Undrained | Drain::UndrainFailed, _) => (Taken::Look, None),
            (Drain::Undraining, Some(end)) => (Taken::Undrain, guest(Step::Over(Fate::Ended(end)))),
            (Drain::Started | Drain::Undraining, _) => (Taken::Look, guest(Step::Away)),
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.step, Step::Waiting)
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.step, Step::Draining { .. })
    }

    pub(super) fn is_drained(&self) -> bool {
        matches!(self.step, Step::Drained)
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.step, Step::Away)
    }

    pub(super) fn is_undraining(&self) -> bool {
        matches!(self.step, Step::Undraining { .. })
    }

    /// What becomes of it, while it waits for `undrain`.
    pub(super) fn over(&self) -> Option<&Fate> {
        match &self.step {
            Step::Over(fate) => Some(fate),
            _ => None,
        }
    }

    /// What becomes of it when it has been undrained, and why that failed, if it did.
    pub(super) fn left(&self) -> Option<(&Fate, Option<&String>)> {
        match &self.step {
            Step::Left { fate, failure } => Some((fate, failure.as_ref())),
            _ => None,
        }
    }

    /// The program that runs for it.
    pub(super) fn program(&self) -> Option<u64> {
        match self.step {
            Step::Draining { program, .. } | Step::Undraining { program, .. } => Some(program),
            _ => None,
        }
    }

    /// A campaign has it.
    pub(super) fn leave(&mut self) {
        self.step = Step::Away;
    }

    /// It has ended, wherever it was.
    pub(super) fn end(&mut self, end: HostEnd) {
        self.step = Step::Over(Fate::Ended(end));
    }

    /// It is home, and its rollout does not run any more: says whether it is put back, as no
    /// campaign had it.
    pub(super) fn send_back(&mut self) -> bool {
        if self.is_untouched {
            self.step = Step::Over(Fate::Back(HALTED));
        }
        self.is_untouched
    }

    /// Calls it back, unless it is away.
    pub(super) fn recall(&mut self, why: &'static str) -> Recalled {
        match &mut self.step {
            Step::Waiting if !self.is_started => return Recalled::Untouched,
            Step::Waiting | Step::Drained => self.step = Step::Over(Fate::Back(why)),
            Step::Draining { program, recalled: recalled @ None } => {
                *recalled = Some(why);
                return Recalled::AfterProgram(*program);
            }
            _ => {}
        }
        Recalled::OnItsWay
    }

    /// The store knows that its next program is about to be started: returns that, with this
    /// number. When the host's values make no argument, the program has failed at once.
    pub(super) fn start(&mut self, script: &Script, site: &str, number: u64) -> Option<Program> {
        let (task, outcome) = match &self.step {
            Step::Over(fate) => (Task::Undrain, fate.outcome()),
            _ => (Task::Drain, UNTOUCHED),
        };
        let program = script.program(task, number, (&self.host, site), outcome);
        self.is_started = true;
        self.step = match std::mem::replace(&mut self.step, Step::Away) {
            Step::Over(fate) => Step::Undraining { program: number, fate },
            _ => Step::Draining { program: number, recalled: None },
        };
        match program {
            Ok(Some(program)) => return Some(program),
            Ok(None) => self.finish(ProgramEnd::Done),
            Err(error) => self.finish(ProgramEnd::Failed(error.to_string())),
        }
        None
    }

    /// Its program has ended.
    pub(super) fn finish(&mut self, ended: ProgramEnd) {
        self.step = match (std::mem::replace(&mut self.step, Step::Away), ended) {
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

    /// It waits for `undrain`, and its rollout has none.
    pub(super) fn skip_undrain(&mut self) {
        self.step = match std::mem::replace(&mut self.step, Step::Away) {
            Step::Over(fate) => Step::Left { fate, failure: None },
            other => other,
        };
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
