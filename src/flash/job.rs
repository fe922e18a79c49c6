//! One flash job from beginning to end, step by step.
//!
//! ```text
//! Surveying -> BackingUp -> Planning -> Checking -> ReadyToChange
//!     |            |           |           |          |       |
//!     |            |           |           | cancel() |       | allow_change()
//!     '------------+-----------+-----------+----------'       v
//!                  v                                       Writing -> Verifying -> Ended: Updated
//!          Ended: Unchanged                                   |           |
//!                                                             '-----------+-> Restoring
//!                                                                                 v
//!             Ended: Restored, Mixed, or Unchanged if nothing was touched <- Confirming
//! ```

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::contents_digest::ContentsDigest;
use super::execute::Execution;
use super::locks::Locks;
use super::phase::Mode;
use super::prepare::{Backup, Work};
use super::{
    End, Flash, FlashError, FlashPlan, ForeignKind, LockChanges, Outcome, Phase, Placement,
    Progress, Statistics,
};
use crate::image::{ByteRanges, KnownGood, VerifiedImage};
use crate::reason::Condition;

/// What [`Job::step`] asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call `step` again.
    Continue,
    /// Stop the watchdog and whatever else may interrupt, then call [`Job::allow_change`]; or
    /// [`Job::cancel`].
    ReadyToChange,
    /// [`Job::end`] says how it went.
    Ended,
}

/// What a chip held before a job.
#[derive(Clone, Copy, Debug)]
pub struct JobBackup<'a> {
    /// The bytes; FFh where they are closed to the host.
    pub bytes: &'a Arc<Vec<u8>>,
    /// Whether all of them could be read but those that are closed.
    pub is_whole: bool,
    /// What the host may not read: it stays on the chip as it is.
    pub closed: &'a ByteRanges,
}

impl JobBackup<'_> {
    /// Returns their SHA-256, if nothing is missing. Computed here: keep it.
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.is_whole.then(|| Sha256::digest(self.bytes.as_slice()).into())
    }
}

/// Brings a chip to a verified image, or back to what it held.
#[derive(Debug)]
pub struct Job {
    image: VerifiedImage,
    mode: Mode,
    /// What the contents look like before any change.
    condition: Condition,
    stage: Stage,
    statistics: Statistics,
    /// The record of the chip once it is updated, where the manifest alone does not tell.
    known_good: Option<KnownGood>,
}

#[derive(Debug)]
enum Stage {
    Surveying,
    BackingUp(Backup),
    Checking(Work, usize),
    Ready(Work),
    Executing(Box<Execution>),
    Ended(End),
}

impl Job {
    /// A job for a chip from which the machine has started, whatever its structure looks like: what
    /// cannot be read is a reason to refuse, and the layouts are compared.
    pub fn new(image: VerifiedImage) -> Self {
        Self::with_mode(image, Mode::Update)
    }

    /// A job for a chip whose contents are known to be broken, e.g. after a power cut in the middle
    /// of a job. Blocks that cannot be read (half-written NAND pages) are rewritten without a
    /// backup, and only a complete update makes a reboot safe.
    pub fn rescue(image: VerifiedImage) -> Self {
        Self::with_mode(image, Mode::Rescue)
    }

    /// A job that goes as far as [`Phase::ReadyToChange`], for [`Job::plan`], and never changes
    /// anything: it counts locked blocks instead of unlocking them.
    pub fn preview(image: VerifiedImage) -> Self {
        Self::with_mode(image, Mode::Preview)
    }

    fn with_mode(image: VerifiedImage, mode: Mode) -> Self {
        let condition = mode.condition();
        let (stage, statistics) = (Stage::Surveying, Statistics::default());
        Self { image, mode, condition, stage, statistics, known_good: None }
    }

    /// Goes on with at most [`BATCH_BYTES_MAX`](super::BATCH_BYTES_MAX) of changes or
    /// [`SPAN_BYTES_MAX`](super::SPAN_BYTES_MAX) of reading, but at least one eraseblock. `flash`
    /// is the same chip each time.
    pub fn step(&mut self, flash: &mut dyn Flash) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Surveying);
        self.stage = self.advance(stage, flash);
        match self.stage {
            Stage::Ready(_) => Step::ReadyToChange,
            Stage::Ended(_) => Step::Ended,
            _ => Step::Continue,
        }
    }

    /// What will change, on which blocks, and how many of those are locked; only in
    /// [`Phase::ReadyToChange`].
    pub fn plan(&self) -> Option<(&FlashPlan, &Placement, u32)> {
        match &self.stage {
            Stage::Ready(work) => Some((&work.plan, &work.placement, work.locked_blocks)),
            _ => None,
        }
    }

    /// Lets the job make changes from now on. No effect unless it is in [`Phase::ReadyToChange`],
    /// and none in a preview.
    pub fn allow_change(&mut self) {
        if self.mode == Mode::Preview {
            return;
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Surveying);
        self.stage = match stage {
            Stage::Ready(work) => Stage::Executing(Box::new(Execution::new(work))),
            stage => stage,
        };
    }

    /// Gives up, and locks again what was unlocked. Says whether that was still possible: from the
    /// first change on, the job has to go to its end.
    pub fn cancel(&mut self, flash: &mut dyn Flash) -> bool {
        let error = FlashError::Cancelled;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Surveying) {
            stage @ (Stage::Executing(_) | Stage::Ended(_)) => {
                self.stage = stage;
                return false;
            }
            Stage::Checking(mut work, _) | Stage::Ready(mut work) => {
                let end = self.refusal(error, work.before());
                ended(end, &mut work.locks, flash)
            }
            Stage::Surveying | Stage::BackingUp(_) => self.refuse(error, None),
        };
        true
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let (phase, done, total) = match &self.stage {
            Stage::Surveying => (Phase::Surveying, 0, 1),
            Stage::BackingUp(backup) if backup.is_complete() => (Phase::Planning, 0, 1),
            Stage::BackingUp(backup) => {
                (Phase::BackingUp, backup.done_blocks(), backup.total_blocks())
            }
            Stage::Checking(work, done) => (Phase::Checking, *done, work.check_count()),
            Stage::Ready(work) => (Phase::ReadyToChange, 0, work.plan.operations().len()),
            Stage::Executing(execution) => execution.progress(),
            Stage::Ended(_) => (Phase::Ended, 1, 1),
        };
        // Both fit: a chip has at most BLOCKS_MAX blocks.
        Progress { phase, done_blocks: done as u32, total_blocks: total as u32 }
    }

    /// What the blocks that the image lies on held before the job. `None` unless the job is in
    /// [`Phase::ReadyToChange`].
    pub fn backup(&self) -> Option<JobBackup<'_>> {
        match &self.stage {
            Stage::Ready(Work { backup: bytes, is_whole, closed, .. }) => {
                Some(JobBackup { bytes, is_whole: *is_whole, closed })
            }
            _ => None,
        }
    }

    /// How it ended; `None` before the end.
    pub fn end(&self) -> Option<&End> {
        match &self.stage {
            Stage::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// How it ended, to keep; `None` before the end.
    pub fn into_end(self) -> Option<End> {
        match self.stage {
            Stage::Ended(end) => Some(end),
            _ => None,
        }
    }

    fn advance(&mut self, stage: Stage, flash: &mut dyn Flash) -> Stage {
        match stage {
            Stage::Surveying => match self.survey(flash) {
                Ok(placement) => Stage::BackingUp(Backup::new(placement)),
                Err(error) => self.refuse(error, None),
            },
            Stage::BackingUp(backup) => self.back_up(backup, flash),
            Stage::Checking(mut work, done) if done < work.check_count() => {
                match work.check(done, flash, &mut self.statistics) {
                    Ok(next) => Stage::Checking(work, next),
                    Err(error) => {
                        // A digest of bytes that may have been misread says nothing.
                        let is_misread = matches!(error, FlashError::UnstableRead { .. });
                        let before = work.before().filter(|_| !is_misread);
                        ended(self.refusal(error, before), &mut work.locks, flash)
                    }
                }
            }
            Stage::Checking(mut work, _) => {
                if let Err(error) = work.finish_checks(flash) {
                    let end = self.refusal(error, work.before());
                    return ended(end, &mut work.locks, flash);
                }
                // Nothing to change needs no permission.
                let is_done = work.plan.operations().is_empty() && self.mode != Mode::Preview;
                match is_done {
                    true => Stage::Executing(Box::new(Execution::new(work))),
                    false => Stage::Ready(work),
                }
            }
            Stage::Executing(mut execution) => match execution.step(flash, &mut self.statistics) {
                Some(end) => {
                    self.known_good = self.record_of(execution.work(), &end);
                    ended(end, execution.locks(), flash)
                }
                None => Stage::Executing(execution),
            },
            Stage::Ready(_) | Stage::Ended(_) => stage,
        }
    }

    /// An image of parts lies on the whole chip, most of which stays.
    fn survey(&self, flash: &mut dyn Flash) -> Result<Placement, FlashError> {
        let chip_bytes = flash.geometry().size_bytes();
        match self.image.manifest().parts() {
            [] => Placement::survey(flash, self.image.bytes().len()),
            _ => Placement::survey(flash, usize::try_from(chip_bytes).unwrap_or(usize::MAX)),
        }
    }

    fn back_up(&mut self, mut backup: Backup, flash: &mut dyn Flash) -> Stage {
        if !backup.is_complete() {
            return match backup.step(
                flash,
                &self.image,
                self.mode == Mode::Rescue,
                &mut self.statistics,
            ) {
                Ok(()) => Stage::BackingUp(backup),
                Err(error) => self.refuse(error, None),
            };
        }
        let before = backup.digest();
        match backup.plan(&self.image, flash, self.mode) {
            Ok(work) => {
                self.condition = work.plan.condition();
                Stage::Checking(work, 0)
            }
            Err(error) => self.refuse(error, before),
        }
    }

    /// Where the image covers parts, only the chip tells where they lie. What is not part of the
    /// plan and is no longer what was read, nobody has read well enough to record it.
    fn record_of(&self, work: &Work, end: &End) -> Option<KnownGood> {
        let manifest = self.image.manifest();
        if manifest.parts().is_empty() || end.outcome != Outcome::Updated {
            return None;
        }
        let strange = end.foreign.iter().filter(|change| change.kind != ForeignKind::Repaired);
        let strange: ByteRanges = strange
            .map(|change| change.offset_bytes..change.offset_bytes + change.length_bytes)
            .collect();
        let unread = work.closed.union(&strange);
        Some(KnownGood::of_parts(work.plan.target(), &unread, manifest))
    }

    /// Returns the record of the chip as it is after an update with an image of parts.
    pub fn known_good(&self) -> Option<&KnownGood> {
        self.known_good.as_ref()
    }

    fn refuse(&self, error: FlashError, before: Option<ContentsDigest>) -> Stage {
        Stage::Ended(self.refusal(error, before))
    }

    fn refusal(&self, error: FlashError, before: Option<ContentsDigest>) -> End {
        End {
            outcome: Outcome::Unchanged,
            error: Some(error),
            after: before.clone(),
            before,
            statistics: self.statistics,
            foreign: Vec::new(),
            locks: LockChanges::default(),
            condition: self.condition,
            is_known_mixed: false,
        }
    }
}

/// The end of a job that leaves the chip as protected as it was, or says where it does not.
fn ended(end: End, locks: &mut Locks, flash: &mut dyn Flash) -> Stage {
    Stage::Ended(End { locks: locks.put_back(flash), ..end })
}
