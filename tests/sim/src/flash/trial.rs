//! One job from beginning to end on a watched chip, and whether what it says in the end is true.

use std::ops::Range;

use firmcast::flash::{
    Asked, BlockHolds, EraseBlock, Flash as _, ForeignChange, ForeignKind, Job, LockChanges,
    MixedBlocks, Outcome, SimulatedFlash, Step,
};

use super::log::Log;
use super::subject::{Subject, range};
use super::totals::Totals;
use super::watch::{Rules, Watch};
use crate::engine::Violation;

/// Which bundle a job flashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bundle {
    New,
    /// The one that the machine was made with: a restore.
    Old,
}

/// What the engine may believe of the chip's answers in a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// They are true, or errors that go away: damage is described exactly.
    Full,
    /// The same, but erases and writes may lie.
    LyingChanges,
    /// Reads and questions may lie, too: a block may be called mixed that is not.
    LyingReads,
}

/// A job on a chip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) bundle: Bundle,
    /// Whether the contents are known to be bad.
    pub(crate) rescue: bool,
    pub(crate) trust: Trust,
    /// Errors may last until a read is given up: then a block may be called unknown that is not.
    pub(crate) errors_last: bool,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) reboot_is_safe: bool,
    pub(crate) error: String,
    pub(crate) operations: u64,
    /// Where it says that somebody else was at work.
    pub(crate) foreign: Vec<ForeignChange>,
    /// Where it says that the locks are not what they were.
    pub(crate) locks: LockChanges,
}

impl Trial<'_> {
    /// A job without any fault must reach its target.
    pub(crate) fn must_update(
        &self,
        chip: &mut SimulatedFlash,
        log: &mut Log,
        totals: &mut Totals,
    ) -> Result<Ended, Violation> {
        let ended = self.run(chip, log, totals)?;
        let as_before = ended.locks == LockChanges::default();
        match ended.outcome == Outcome::Updated && ended.reboot_is_safe {
            true if !as_before => Err(format!("no fault is left, but {:?}", ended.locks)),
            true => Ok(ended),
            false => Err(format!(
                "no fault is left, but {:?} rescue {} ends {:?}: {}",
                self.bundle, self.rescue, ended.outcome, ended.error
            )),
        }
    }

    /// Runs the job to its end, whatever becomes of the chip.
    pub(crate) fn run(
        &self,
        chip: &mut SimulatedFlash,
        log: &mut Log,
        totals: &mut Totals,
    ) -> Result<Ended, Violation> {
        let image = match self.bundle {
            Bundle::New => self.subject.new.clone(),
            Bundle::Old => self.subject.old.clone(),
        };
        let mut job = if self.rescue { Job::rescue(image) } else { Job::new(image) };
        log.line(format_args!("-- {:?}, rescue: {}", self.bundle, self.rescue));
        let rules = self.rules(chip);
        let (operations, changes) = {
            let mut watch = Watch::new(chip, &rules, log);
            drive(&mut job, &mut watch)?;
            (watch.operations, watch.changes)
        };
        let Some(end) = job.into_end() else { return Err("an ended job has no end".into()) };
        log.line(format_args!("-- {end}; {:?}", end.error));
        totals.job(operations, &end.outcome);
        let claims = Claims { trial: self, rules: &rules, chip, changes, foreign: &end.foreign };
        claims.check(&end.outcome, end.reboot_is_safe(), end.is_known_mixed)?;
        claims.check_locks(&end.locks)?;
        if end.outcome != Outcome::Updated && end.error.is_none() {
            return Err(format!("{:?} without an error", end.outcome));
        }
        let error = end.error.as_ref().map(ToString::to_string).unwrap_or_default();
        let (outcome, reboot_is_safe) = (end.outcome.clone(), end.reboot_is_safe());
        let (foreign, locks) = (end.foreign, end.locks);
        Ok(Ended { outcome, reboot_is_safe, error, operations, foreign, locks })
    }

    /// What the job may do to the chip as it is.
    pub(crate) fn rules(&self, chip: &SimulatedFlash) -> Rules {
        let subject = self.subject;
        let target = match self.bundle {
            Bundle::New => &subject.target,
            Bundle::Old => &subject.live,
        };
        let mut may_change = vec![false; chip.geometry().block_count() as usize];
        let mut may_repair = may_change.clone();
        for block in &subject.blocks {
            let bytes = range(*block);
            let kept = subject.preserved.iter().any(|p| p.start < bytes.end && bytes.start < p.end);
            may_repair[block.index() as usize] = !kept && subject.refusal.is_none();
            may_change[block.index() as usize] = match self.trust {
                // Who reads the same wrong byte twice rewrites a block that is right.
                Trust::LyingReads => !kept,
                _ => {
                    let differs = chip.stored(*block) != Some(&target[bytes]);
                    differs && !kept && subject.refusal.is_none()
                }
            };
        }
        Rules {
            before: chip.clone(),
            may_change,
            may_repair,
            may_have_holes: self.rescue,
            target: target.clone(),
            boot: Some(subject.boot),
            honest: self.trust == Trust::Full,
            operations_max: 200 + 100 * subject.blocks.len() as u64,
        }
    }
}

/// The drive rule of a job, with a limit.
fn drive(job: &mut Job, watch: &mut Watch<'_>) -> Result<(), Violation> {
    let steps_max = watch.steps_max();
    for _ in 0..steps_max {
        match job.step(watch) {
            Step::Continue => {}
            Step::ReadyToChange if watch.changes > 0 => {
                return Err("the chip was changed before that was allowed".into());
            }
            Step::ReadyToChange => job.allow_change(),
            Step::Ended => return watch.violation.take().map_or(Ok(()), Err),
        }
        if let Some(violation) = watch.violation.take() {
            return Err(violation);
        }
    }
    Err(format!("not ended after {steps_max} steps: {:?}", job.progress()))
}

/// What a job said, beside what the chip holds.
struct Claims<'a> {
    trial: &'a Trial<'a>,
    rules: &'a Rules,
    chip: &'a SimulatedFlash,
    changes: u64,
    foreign: &'a [ForeignChange],
}

impl Claims<'_> {
    fn check(
        &self,
        outcome: &Outcome,
        reboot_is_safe: bool,
        is_known_mixed: bool,
    ) -> Result<(), Violation> {
        self.check_foreign(outcome)?;
        let is_one = || self.is_new() || self.is_as_before();
        if is_known_mixed && !self.trial.errors_last && is_one() {
            return Err(format!("{outcome:?} is called known, but the chip is all new or all old"));
        }
        let true_claim = match outcome {
            Outcome::Updated => self.is_new(),
            Outcome::Unchanged => self.changes == 0 && self.is_as_before(),
            Outcome::Restored => self.is_as_before(),
            Outcome::Mixed { blocks } => return self.check_mixed(blocks, reboot_is_safe),
        };
        if !true_claim {
            return Err(format!("it says {outcome:?}, but a fresh read finds otherwise"));
        }
        match reboot_is_safe && !self.is_new() && self.trial.rescue {
            true => Err(format!("a rescue says {outcome:?} and that a reboot is safe")),
            false => Ok(()),
        }
    }

    /// However a job ends that does not lose the power, the chip is locked as it was before, or the
    /// end says where it is not. No lock is called lost or gained that is not, unless questions
    /// went without an answer.
    fn check_locks(&self, told: &LockChanges) -> Result<(), Violation> {
        if self.trial.trust == Trust::LyingReads || !self.chip.is_powered() {
            return Ok(());
        }
        let (before, now) = (self.rules.before.locked(), self.chip.locked());
        for block in self.chip.geometry().blocks() {
            let (at, index) = (block.offset_bytes(), block.index());
            let covers = |ranges: &[Range<u64>]| ranges.iter().any(|range| range.contains(&at));
            let (lost, gained) = (covers(&told.lost), covers(&told.gained));
            let was_locked = before.contains(&index);
            match (was_locked, now.contains(&index)) {
                (true, false) if !lost => {
                    return Err(format!("the block at {at:#x} is not locked again"));
                }
                (false, true) if !gained && !self.chip.is_locked_for_good(block) => {
                    return Err(format!("the block at {at:#x} is locked, and was not"));
                }
                (true, true) if lost && !self.trial.errors_last => {
                    return Err(format!("the lock at {at:#x} is called lost"));
                }
                (_, false) if gained => {
                    return Err(format!("the block at {at:#x} is called locked"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is_new(&self) -> bool {
        self.trial.subject.blocks.iter().all(|block| {
            self.is_left_unread(*block)
                || self.is_told(*block)
                || self.is_kept_as_found(*block)
                || self.chip.is_unseen(*block)
                || self.chip.stored(*block) == Some(&self.rules.target[range(*block)])
        })
    }

    /// Nothing of it can be read, nothing of it was to change, and nothing did: such a block is
    /// left alone, or called unknown when it became so late.
    fn is_left_unread(&self, block: EraseBlock) -> bool {
        let bytes = range(block);
        self.chip.stored(block).is_none()
            && self.trial.subject.preserved.contains(&bytes)
            && self.chip.contents()[bytes.clone()] == self.rules.before.contents()[bytes]
    }

    fn is_as_before(&self) -> bool {
        let (now, before) = (self.chip.contents(), self.rules.before.contents());
        self.chip.geometry().blocks().all(|block| {
            now[range(block)] == before[range(block)]
                || self.chip.foreign_operation(block).is_some()
        })
    }

    /// Somebody else changed preserved bytes before the job relied on them: it keeps what it found.
    fn is_kept_as_found(&self, block: EraseBlock) -> bool {
        let operation = self.chip.foreign_operation(block);
        !self.rules.may_repair[block.index() as usize]
            && operation.is_some_and(|operation| !self.is_after_checks(operation))
    }

    /// Whether the end names this block as one that somebody else changed, and that was left so.
    fn is_told(&self, block: EraseBlock) -> bool {
        let kinds = [ForeignKind::Left, ForeignKind::Unreadable];
        self.foreign.iter().any(|change| kinds.contains(&change.kind) && covers(change, block))
    }

    /// Nobody is accused who did nothing, nothing that the job saw is concealed, and what the image
    /// decides is never left.
    fn check_foreign(&self, outcome: &Outcome) -> Result<(), Violation> {
        let honest = self.trial.trust == Trust::Full;
        for block in self.chip.geometry().blocks() {
            let changes = self.foreign.iter().filter(|change| covers(change, block));
            let kinds: Vec<ForeignKind> = changes.map(|change| change.kind).collect();
            let operation = self.chip.foreign_operation(block);
            let at = block.offset_bytes();
            let accused = kinds.iter().any(|kind| *kind != ForeignKind::Unreadable);
            if honest && accused && operation.is_none() {
                return Err(format!("nobody else wrote to the block at {at:#x}: {kinds:?}"));
            }
            if *outcome != Outcome::Updated {
                continue;
            }
            let is_ours = self.rules.may_repair[block.index() as usize];
            if is_ours && kinds.contains(&ForeignKind::Left) {
                return Err(format!("the block at {at:#x} is the image's, and was left"));
            }
            let placed = self.trial.subject.blocks.contains(&block);
            let late = operation.is_some_and(|operation| self.is_after_checks(operation));
            let differs = self.chip.contents()[range(block)] != self.rules.target[range(block)];
            if placed && late && differs && kinds.is_empty() && !self.chip.is_unseen(block) {
                return Err(format!("what somebody else wrote to {at:#x} is not told"));
            }
        }
        Ok(())
    }

    /// Whether the job had begun to change the chip before this operation.
    fn is_after_checks(&self, operation: u64) -> bool {
        let first = self.rules.before.operations() as usize;
        let before = self.chip.history().get(first..operation as usize).unwrap_or_default();
        before.iter().any(|asked| matches!(asked, Asked::Erase | Asked::Write))
    }

    fn check_mixed(&self, mixed: &[MixedBlocks], reboot: bool) -> Result<(), Violation> {
        if reboot {
            return Err("the chip is mixed, and a reboot is called safe".into());
        }
        let geometry = self.chip.geometry();
        let ends: Vec<u64> = mixed.iter().map(|one| one.offset_bytes + one.length_bytes).collect();
        if mixed.iter().skip(1).zip(&ends).any(|(next, end)| next.offset_bytes < *end) {
            return Err(format!("the mixed blocks are not sorted: {mixed:?}"));
        }
        for block in geometry.blocks() {
            let listed = mixed.iter().find(|one| {
                (one.offset_bytes..one.offset_bytes + one.length_bytes)
                    .contains(&block.offset_bytes())
            });
            let said = listed.map_or(BlockHolds::Old, |one| one.hold);
            let placed = self.trial.subject.blocks.contains(&block);
            let holds = if placed { self.holds(block) } else { BlockHolds::Old };
            if self.chip.foreign_operation(block).is_some() || self.is_told(block) {
                continue;
            }
            let is_closed = self.chip.closed().overlaps(&(block.offset_bytes()..block.end_bytes()));
            if is_closed && listed.is_some() {
                return Err(format!(
                    "the block at {:#x} is closed to the host, but called {said:?}",
                    block.offset_bytes()
                ));
            }
            if self.is_left_unread(block) && matches!(said, BlockHolds::Old | BlockHolds::Unknown) {
                continue;
            }
            if !self.agree(said, holds, block) {
                return Err(format!(
                    "the block at {:#x} is called {said:?}, but holds {holds:?}",
                    block.offset_bytes()
                ));
            }
        }
        Ok(())
    }

    fn agree(&self, said: BlockHolds, holds: BlockHolds, block: EraseBlock) -> bool {
        let placed = self.trial.subject.blocks.contains(&block);
        let may_not_know = self.trial.errors_last
            || self.trial.trust == Trust::LyingReads
            || !self.chip.is_powered();
        let stored = self.chip.stored(block);
        match said {
            _ if said == holds => true,
            _ if !may_not_know || !placed => false,
            BlockHolds::Unknown => true,
            // Who has no backup, or a wrong one, cannot know what is old: what was said must be
            // true all the same.
            BlockHolds::New => stored == Some(&self.rules.target[range(block)]),
            BlockHolds::Erased => {
                stored.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0xFF))
            }
            BlockHolds::Old => false,
        }
    }

    fn holds(&self, block: EraseBlock) -> BlockHolds {
        match self.chip.stored(block) {
            None => BlockHolds::Unknown,
            stored if stored == self.rules.before.stored(block) => BlockHolds::Old,
            Some(bytes) if *bytes == self.rules.target[range(block)] => BlockHolds::New,
            Some(bytes) if bytes.iter().all(|byte| *byte == 0xFF) => BlockHolds::Erased,
            Some(_) => BlockHolds::Unknown,
        }
    }
}

fn covers(change: &ForeignChange, block: EraseBlock) -> bool {
    let end_bytes = change.offset_bytes + change.length_bytes;
    (change.offset_bytes..end_bytes).contains(&block.offset_bytes())
}
