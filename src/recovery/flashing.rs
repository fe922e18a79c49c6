//! Runs the flash job for the state machine: one step at a time, and what each step means to the
//! manager.

use log::info;

use super::machine::{FlashEnd, Permit, Recovery};
use crate::flash::{
    End, Estimate, Flash, FlashError, Geometry, Job, Outcome, Phase as JobPhase, Step,
};
use crate::image::VerifiedImage;
use crate::reason::{Ending, FlashState, Reason, Refusal, with_causes};
use crate::time::Time;
use crate::wire::answer::Phase;

/// A flash job under way.
#[derive(Debug)]
pub struct Flashing {
    job: Job,
    /// What this stay has done to the chip before the job.
    flash: FlashState,
    /// It ends where the first change would be.
    drill: bool,
    waits: bool,
}

impl Flashing {
    /// A job that writes `image` to a chip with which this stay has done `flash` so far. Where no
    /// reboot is safe, the backup may have holes, and the layouts are not compared.
    pub fn new(image: VerifiedImage, flash: FlashState) -> Self {
        let job = if flash.reboot_is_safe() { Job::new(image) } else { Job::rescue(image) };
        Self { job, flash, drill: false, waits: false }
    }

    /// A job that is done up to the first change, on a chip that may be open for reading only.
    pub fn drill(image: VerifiedImage, flash: FlashState) -> Self {
        Self { job: Job::preview(image), flash, drill: true, waits: false }
    }

    /// Whether it can only go on when something is heard from the manager, or a timer of the state
    /// machine is due.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// How it ended when the chip could not even be opened.
    pub fn not_started(&self, reason: Reason, detail: &str) -> FlashEnd {
        FlashEnd { ending: Ending::new(reason, self.flash, detail), digests: None }
    }

    /// Does about one eraseblock of work and tells `recovery` how it went. Before the first change
    /// `recovery` must permit it; then `before_change` is called once, and its error ends the job
    /// with the chip untouched. Returns whether there is more to do.
    pub fn step(
        &mut self,
        now: Time,
        flash: &mut dyn Flash,
        recovery: &mut Recovery,
        before_change: impl FnOnce() -> Result<(), Refusal>,
    ) -> bool {
        match self.job.step(flash) {
            Step::Continue => {}
            Step::ReadyToChange => match self.permit(now, recovery, before_change) {
                Permit::Wait => return true,
                Permit::Given if self.drill => {
                    let end = self.drilled(flash.geometry());
                    self.job.cancel(flash);
                    recovery.flash_ended(now, end);
                    return false;
                }
                Permit::Given => self.job.allow_change(),
                Permit::Refused(refusal) => {
                    self.job.cancel(flash);
                    recovery.flash_ended(now, self.refused(refusal));
                    return false;
                }
            },
            Step::Ended => {
                if let Some(good) = self.job.known_good() {
                    recovery.record(good.clone());
                }
                if let Some(end) = self.job.end() {
                    recovery.flash_ended(now, self.outcome(end));
                }
                return false;
            }
        }
        self.tell_progress(now, recovery);
        true
    }

    /// Asks `recovery` and then the platform whether the first change may be made.
    fn permit(
        &mut self,
        now: Time,
        recovery: &mut Recovery,
        before_change: impl FnOnce() -> Result<(), Refusal>,
    ) -> Permit {
        let permit = recovery.may_change(now, self.job.backup());
        self.waits = permit == Permit::Wait;
        if permit == Permit::Given
            && let Err(refusal) = before_change()
        {
            return Permit::Refused(refusal);
        }
        permit
    }

    fn tell_progress(&self, now: Time, recovery: &mut Recovery) {
        let progress = self.job.progress();
        let phase = match progress.phase {
            JobPhase::Writing => Phase::Writing,
            JobPhase::Verifying => Phase::Verifying,
            JobPhase::Restoring | JobPhase::Confirming => Phase::Restoring,
            _ => Phase::BackingUp,
        };
        recovery.flash_progress(now, phase, progress.done_blocks, progress.total_blocks);
    }

    /// What a job comes to that would change something next.
    fn drilled(&self, geometry: &Geometry) -> FlashEnd {
        let digest = self.job.backup().and_then(|backup| backup.digest());
        let detail = self.job.plan().map(|(plan, placement, locked)| {
            let Estimate { typical_ms, longest_ms } =
                Estimate::of(plan.workload(placement, geometry), geometry);
            let [typical_s, longest_s] = [typical_ms, longest_ms].map(|ms| ms.div_ceil(1000));
            let (changed, all) = (plan.operations().len(), placement.block_count());
            let locked = match locked {
                0 => String::new(),
                locked => format!(", {locked} of them locked"),
            };
            format!(
                "{changed} of {all} eraseblocks would change{locked}, in about {typical_s} s, \
                {longest_s} s on a slow chip"
            )
        });
        let ending = Ending::new(Reason::Drilled, self.flash, detail.unwrap_or_default());
        FlashEnd { ending, digests: digest.zip(digest) }
    }

    fn refused(&self, refusal: Refusal) -> FlashEnd {
        FlashEnd { ending: refusal.ending(self.flash), digests: None }
    }

    /// What the stay has done after a job that left or took back everything.
    fn as_before(&self, end: &End) -> FlashState {
        let restored = end.outcome == Outcome::Restored;
        match self.flash.condition() {
            // The job took back its own changes, not those of the one before.
            None => self.flash,
            Some(condition) => {
                let condition = condition.max(end.condition);
                match restored || matches!(self.flash, FlashState::Restored(_)) {
                    true => FlashState::Restored(condition),
                    false => FlashState::Untouched(condition),
                }
            }
        }
    }

    fn outcome(&self, end: &End) -> FlashEnd {
        let statistics = &end.statistics;
        info!(
            "{end}; {} eraseblocks changed, {} equal, {} erases, {} retries",
            statistics.blocks_changed,
            statistics.blocks_equal,
            statistics.erases,
            statistics.retries
        );
        let (flash, reason) = match end.outcome {
            Outcome::Updated if statistics.blocks_changed == 0 => {
                (FlashState::Updated, Reason::AlreadyCurrent)
            }
            Outcome::Updated => (FlashState::Updated, Reason::Updated),
            Outcome::Unchanged => (self.as_before(end), reason_of(end)),
            Outcome::Restored => (self.as_before(end), Reason::WriteFailed),
            Outcome::Mixed { .. } if end.is_known_mixed => (FlashState::Mixed, Reason::WriteFailed),
            Outcome::Mixed { .. } => (FlashState::Unknown, Reason::WriteFailed),
        };
        let detail = match (&end.error, flash) {
            (Some(error), flash) if !flash.reboot_is_safe() => {
                format!("{}: {end}", with_causes(error))
            }
            (Some(error), _) => with_causes(error),
            (None, _) => String::new(),
        };
        // The end's own sentence has the note already.
        let detail = match end.note() {
            Some(note) if flash.reboot_is_safe() && detail.is_empty() => note,
            Some(note) if flash.reboot_is_safe() => format!("{detail}; {note}"),
            _ => detail,
        };
        let ending = Ending { reason, flash, detail };
        FlashEnd { ending, digests: end.before_digest().zip(end.after_digest()) }
    }
}

fn reason_of(end: &End) -> Reason {
    end.error.as_ref().map_or(Reason::FlashUnsupported, FlashError::reason)
}
