//! Everything from the first change on: write, compare, and on failure restore.
//!
//! ```text
//! Writing --all blocks written--> Verifying --all as they should be--> end: Updated
//!    | a block failed thrice          | a block of the plan cannot be brought to its contents
//!    '------------> Restoring <-------'
//!                       | every touched block tried
//!                       v
//!                   Confirming --all touched blocks old--> end: Restored (Unchanged, if none was touched)
//!                       '-------otherwise--> end: Mixed
//! ```
//!
//! Somebody else may write to the chip at any time. What the image decides is written again then, a
//! few times. What the image does not decide is left as it is, and told: it is no reason to restore
//! anything.

use std::collections::BTreeMap;
use std::io;

use log::warn;
use sha2::{Digest, Sha256};

use super::block::{complement, first_difference, rewrite, unconditional};
use super::plan::{Decider, is_erased};
use super::prepare::{SPAN_BYTES_MAX, Work, unlocks};
use super::reading::{READ_ATTEMPTS_MAX, read};
use super::{
    BlockFault, BlockHolds, End, EraseBlock, Flash, FlashError, ForeignChange, ForeignKind,
    MixedBlocks, Outcome, Phase, Statistics,
};

/// How often the change of an eraseblock is tried before the job gives up on it.
pub const BLOCK_ATTEMPTS_MAX: u32 = 3;

/// The most that one step erases and writes, unless a single eraseblock is larger.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;

/// How often a job writes an eraseblock again that somebody else has changed since.
pub const FOREIGN_REPAIRS_MAX: u32 = 3;

/// The most eraseblocks that a job repairs although nothing was planned for them: what they held is
/// kept in memory.
pub const UNPLANNED_REPAIRS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Execution {
    work: Work,
    state: State,
    /// Operations that were begun: the blocks of the first so many may hold anything.
    touched: usize,
    /// By number of the block: whether this job has erased or written it, or tried to.
    is_touched: Vec<bool>,
    /// Blocks without an operation that were written all the same.
    unplanned: Vec<Unplanned>,
    /// Touched blocks that the restore gave up.
    given_up: Vec<usize>,
    /// What somebody else changed, by number of the block.
    foreign: BTreeMap<usize, ForeignKind>,
    /// What the reads after a restore have ruled out, so that mixed is said only of what was read.
    seen: Seen,
    error: Option<FlashError>,
}

/// What the reads after a restore have ruled out.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    not_all_new: bool,
    not_all_old: bool,
}

/// A block that held the image's contents already, until somebody else changed it.
#[derive(Debug)]
struct Unplanned {
    block: usize,
    /// What it held just before this job wrote to it.
    before: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// From `operation` on, in batches. One that failed leaves its operations to be done singly, up
    /// to number `singly`.
    Writing {
        operation: usize,
        attempts: u32,
        singly: usize,
    },
    Verifying {
        next_block: usize,
        /// Where the digest of the target is not known yet.
        hasher: Option<Sha256>,
    },
    Restoring {
        /// Number of the touched block.
        next: usize,
        attempts: u32,
    },
    Confirming {
        next_block: usize,
        hasher: Option<Sha256>,
        mixed: Vec<MixedBlocks>,
    },
}

impl Execution {
    pub(super) fn new(work: Work) -> Self {
        Self {
            is_touched: vec![false; work.placement.block_count()],
            work,
            state: State::Writing { operation: 0, attempts: 0, singly: 0 },
            touched: 0,
            unplanned: Vec::new(),
            given_up: Vec::new(),
            foreign: BTreeMap::new(),
            seen: Seen::default(),
            error: None,
        }
    }

    /// Phase, blocks done and blocks to do.
    pub(super) fn progress(&self) -> (Phase, usize, usize) {
        let all = self.work.placement.block_count();
        match self.state {
            State::Writing { operation, .. } => {
                (Phase::Writing, operation, self.work.plan.operations().len())
            }
            State::Verifying { next_block, .. } => (Phase::Verifying, next_block, all),
            State::Restoring { next, .. } => (Phase::Restoring, next, self.touched_count()),
            State::Confirming { next_block, .. } => (Phase::Confirming, next_block, all),
        }
    }

    pub(super) fn step(
        &mut self,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> Option<End> {
        match self.state {
            State::Writing { operation, .. } if operation == self.work.plan.operations().len() => {
                let hasher = self.work.plan.target_digest().is_none().then(Sha256::new);
                self.state = State::Verifying { next_block: 0, hasher };
            }
            State::Writing { operation, singly, .. } if operation >= singly => {
                self.write_batch(operation, flash, statistics);
            }
            State::Writing { operation, attempts, singly } => {
                self.write_again(operation, attempts, singly, flash, statistics);
            }
            State::Verifying { next_block, .. }
                if next_block < self.work.placement.block_count() =>
            {
                self.verify(next_block, flash, statistics);
            }
            State::Restoring { next, attempts } => self.restore(next, attempts, flash, statistics),
            State::Confirming { next_block, .. }
                if next_block < self.work.placement.block_count() =>
            {
                self.confirm(next_block, flash, statistics);
            }
            State::Verifying { .. } | State::Confirming { .. } => {
                return Some(self.end(*statistics));
            }
        }
        None
    }

    fn write_batch(&mut self, first: usize, flash: &mut dyn Flash, statistics: &mut Statistics) {
        let operations = self.work.plan.operations();
        // The last operation stands alone: it may be the one that makes the firmware bootable, so
        // all others are proven before it begins.
        let batch = &operations[first..operations.len().max(first + 2) - 1];
        let span = self.work.placement.span(batch.iter().map(|next| next.block), BATCH_BYTES_MAX);
        let after = first + span.blocks.len();
        let blocks: Vec<_> = operations[first..after]
            .iter()
            .map(|operation| (self.work.placement.block(operation.block), &operation.change))
            .collect();
        self.touched = self.touched.max(after);
        operations[first..after].iter().for_each(|next| self.is_touched[next.block] = true);
        let contents = &self.work.plan.target()[span.image];
        self.state = match rewrite(flash, &blocks, contents, statistics) {
            Ok(()) => State::Writing { operation: after, attempts: 0, singly: 0 },
            Err(_) => State::Writing { operation: first, attempts: 1, singly: after },
        };
    }

    /// What a block of a failed batch holds is unknown: the planned change may no longer be enough.
    fn write_again(
        &mut self,
        operation: usize,
        attempts: u32,
        singly: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) {
        let nth = self.work.plan.operations()[operation].block;
        let block = self.work.placement.block(nth);
        let contents = &self.work.plan.target()[self.work.placement.range(nth)];
        match put(flash, block, contents, statistics) {
            Ok(()) => {
                self.state = State::Writing { operation: operation + 1, attempts: 1, singly };
            }
            Err(_) if attempts + 1 < BLOCK_ATTEMPTS_MAX => {
                self.state = State::Writing { operation, attempts: attempts + 1, singly };
            }
            Err(source) => {
                let offset_bytes = block.offset_bytes();
                let attempts = BLOCK_ATTEMPTS_MAX;
                self.fail(FlashError::Block { offset_bytes, attempts, source });
            }
        }
    }

    fn verify(&mut self, first: usize, flash: &mut dyn Flash, statistics: &mut Statistics) {
        let count = self.work.placement.block_count();
        let compared = (first..count).filter(|nth| !self.work.plan.is_unread(*nth));
        let span = self.work.placement.span(compared, SPAN_BYTES_MAX);
        if span.blocks.is_empty() {
            if let State::Verifying { next_block, .. } = &mut self.state {
                *next_block = count;
            }
            return;
        }
        let expected = &self.work.plan.target()[span.image.clone()];
        let mut got = complement(expected);
        let was_read = read(flash, span.chip_offset_bytes, &mut got, statistics).is_ok();
        if !was_read || got != expected {
            for nth in span.blocks.clone() {
                if let Err(error) = self.verify_block(nth, flash, statistics) {
                    return self.fail(error);
                }
            }
        }
        if let State::Verifying { next_block, hasher } = &mut self.state {
            if let Some(hasher) = hasher {
                hasher.update(&self.work.plan.target()[span.image]);
            }
            *next_block = span.blocks.end;
        }
    }

    /// Ends when the block holds what it should, or is not this job's business.
    fn verify_block(
        &mut self,
        nth: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> Result<(), FlashError> {
        let block = self.work.placement.block(nth);
        let (offset_bytes, length_bytes) = (block.offset_bytes(), u64::from(block.length_bytes()));
        let is_ours = self.work.plan.decider(nth) == Decider::Image;
        for repairs in 0..=FOREIGN_REPAIRS_MAX {
            let found = match self.compare(nth, flash, statistics) {
                Ok(found) => found,
                Err(_) if !is_ours && self.chip_answers(flash, statistics) => {
                    self.foreign.insert(nth, ForeignKind::Unreadable);
                    return Ok(());
                }
                Err(source) => {
                    return Err(FlashError::VerifyRead { offset_bytes, length_bytes, source });
                }
            };
            match found {
                Found::Right => return Ok(()),
                _ if !is_ours => {
                    self.foreign.insert(nth, ForeignKind::Left);
                    return Ok(());
                }
                _ if repairs == FOREIGN_REPAIRS_MAX => {
                    return Err(FlashError::ChangedAgain { offset_bytes, repairs });
                }
                Found::Other(bytes) => self.repair(nth, bytes, flash, statistics)?,
                Found::Unsteady { at, expected, got } => {
                    let offset_bytes = offset_bytes + at as u64;
                    return Err(FlashError::VerifyDiffers { offset_bytes, expected, got });
                }
            }
        }
        Ok(())
    }

    /// Whether a block that the image decides can be read: one that cannot is no sign that the chip
    /// is gone.
    fn chip_answers(&self, flash: &mut dyn Flash, statistics: &mut Statistics) -> bool {
        let mut blocks = 0..self.work.placement.block_count();
        let Some(nth) = blocks.find(|nth| self.work.plan.decider(*nth) == Decider::Image) else {
            return false;
        };
        let block = self.work.placement.block(nth);
        let mut bytes = vec![0; block.length_bytes() as usize];
        read(flash, block.offset_bytes(), &mut bytes, statistics).is_ok()
    }

    /// What a block holds, beside what it should hold. Two reads of something else have to agree,
    /// and each goes into a buffer that is filled in another way: what a read leaves out is never
    /// the same.
    fn compare(
        &self,
        nth: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> io::Result<Found> {
        let offset_bytes = self.work.placement.block(nth).offset_bytes();
        let expected = &self.work.plan.target()[self.work.placement.range(nth)];
        let mut last: Option<Vec<u8>> = None;
        let mut difference = None;
        for attempt in 0..READ_ATTEMPTS_MAX {
            statistics.retries += u32::from(attempt > 0);
            let fill = 0xFF >> attempt;
            let mut got: Vec<u8> = expected.iter().map(|byte| byte ^ fill).collect();
            read(flash, offset_bytes, &mut got, statistics)?;
            difference = first_difference(expected, &got);
            if difference.is_none() {
                return Ok(Found::Right);
            }
            if last.as_ref() == Some(&got) {
                return Ok(Found::Other(got));
            }
            last = Some(got);
        }
        let (at, expected, got) = difference.unwrap_or_default();
        Ok(Found::Unsteady { at, expected, got })
    }

    /// Writes a block again that somebody else has changed since. `found` is what it holds now.
    fn repair(
        &mut self,
        nth: usize,
        found: Vec<u8>,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> Result<(), FlashError> {
        let block = self.work.placement.block(nth);
        let offset_bytes = block.offset_bytes();
        warn!("somebody else has changed the eraseblock at {offset_bytes:#x}: it is written again");
        if !self.is_touched[nth] {
            let (at, expected, got) =
                first_difference(&self.work.plan.target()[self.work.placement.range(nth)], &found)
                    .unwrap_or_default();
            if self.unplanned.len() == UNPLANNED_REPAIRS_MAX || unlocks(block, flash).is_err() {
                let offset_bytes = offset_bytes + at as u64;
                return Err(FlashError::VerifyDiffers { offset_bytes, expected, got });
            }
            self.is_touched[nth] = true;
            self.unplanned.push(Unplanned { block: nth, before: found });
        }
        self.foreign.insert(nth, ForeignKind::Repaired);
        let contents = &self.work.plan.target()[self.work.placement.range(nth)];
        let mut result = Ok(());
        for _ in 0..BLOCK_ATTEMPTS_MAX {
            result = put(flash, block, contents, statistics);
            if result.is_ok() {
                break;
            }
        }
        let attempts = BLOCK_ATTEMPTS_MAX;
        result.map_err(|source| FlashError::Block { offset_bytes, attempts, source })
    }

    fn touched_count(&self) -> usize {
        self.unplanned.len() + self.touched
    }

    fn fail(&mut self, error: FlashError) {
        self.error = Some(error);
        self.state = State::Restoring { next: 0, attempts: 0 };
    }

    /// In the plan's order, so that the block that makes the firmware bootable is the last one
    /// here, too.
    fn restore(
        &mut self,
        next: usize,
        attempts: u32,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) {
        if next == self.touched_count() {
            self.state =
                State::Confirming { next_block: 0, hasher: Some(Sha256::new()), mixed: Vec::new() };
            return;
        }
        let nth = match self.unplanned.get(next) {
            Some(unplanned) => unplanned.block,
            None => self.work.plan.operations()[next - self.unplanned.len()].block,
        };
        let after = State::Restoring { next: next + 1, attempts: 0 };
        let Some(contents) = self.old(nth) else {
            self.state = after;
            return;
        };
        let block = self.work.placement.block(nth);
        self.state = match put(flash, block, contents, statistics) {
            Ok(()) => after,
            Err(_) if attempts + 1 < BLOCK_ATTEMPTS_MAX => {
                State::Restoring { next, attempts: attempts + 1 }
            }
            // The other blocks are restored all the same, and the confirmation says what this one
            // holds.
            Err(_) => {
                self.given_up.push(nth);
                after
            }
        };
    }

    /// What a block held before this job wrote to it, if that is known.
    fn old(&self, nth: usize) -> Option<&[u8]> {
        let before = self.unplanned.iter().find(|unplanned| unplanned.block == nth);
        match before {
            Some(unplanned) => Some(&unplanned.before),
            None => {
                let contents = &self.work.backup[self.work.placement.range(nth)];
                self.work.readable[nth].then_some(contents)
            }
        }
    }

    fn confirm(&mut self, nth: usize, flash: &mut dyn Flash, statistics: &mut Statistics) {
        if self.work.plan.is_unread(nth) {
            if let State::Confirming { next_block, hasher, .. } = &mut self.state {
                (*next_block, *hasher) = (nth + 1, None);
            }
            return;
        }
        let block = self.work.placement.block(nth);
        let is_touched = self.is_touched[nth];
        let (mut hold, mut bytes) = self.read_hold(nth, flash, statistics);
        // A restore that succeeded was read back: who changed it since was somebody else.
        let mut repairs = 0;
        while is_touched
            && hold != BlockHolds::Old
            && repairs < FOREIGN_REPAIRS_MAX
            && !self.given_up.contains(&nth)
            && let Some(contents) = self.old(nth)
            && put(flash, block, contents, statistics).is_ok()
        {
            repairs += 1;
            if bytes.is_some() {
                self.foreign.insert(nth, ForeignKind::Repaired);
            }
            (hold, bytes) = self.read_hold(nth, flash, statistics);
        }
        self.rule_out(nth, bytes.as_deref());
        let decider = self.work.plan.decider(nth);
        let foreign = match (hold, &bytes) {
            // Now it holds what somebody else made of it.
            _ if self.unplanned.iter().any(|one| one.block == nth) => {
                Some(ForeignKind::Left).filter(|_| hold == BlockHolds::Old)
            }
            _ if is_touched || decider == Decider::ChipUnread => None,
            (BlockHolds::Old, _) => None,
            // Nobody knows what it held before.
            _ if self.old(nth).is_none() => None,
            (_, Some(_)) => Some(ForeignKind::Left),
            (_, None) if decider == Decider::Image => None,
            (_, None) => Some(ForeignKind::Unreadable),
        };
        let is_mixed = hold != BlockHolds::Old && decider != Decider::ChipUnread;
        let is_mixed = is_mixed && foreign.is_none();
        if let Some(kind) = foreign {
            self.foreign.insert(nth, kind);
        }
        let State::Confirming { next_block, hasher, mixed } = &mut self.state else { return };
        *next_block += 1;
        match (hasher, bytes) {
            (Some(hasher), Some(bytes)) => hasher.update(&bytes),
            (hasher, _) => *hasher = None,
        }
        if is_mixed {
            push(mixed, block, hold);
        }
    }

    /// Takes what was read of a block that the job was to change.
    fn rule_out(&mut self, nth: usize, bytes: Option<&[u8]>) {
        let new = &self.work.plan.target()[self.work.placement.range(nth)];
        let old = self.old(nth);
        let Some(bytes) = bytes.filter(|_| old != Some(new)) else { return };
        let untouched = self.work.unlike(nth);
        // A byte that is as it was before the read may never have been read.
        let rules_out = |expected: &[u8]| {
            let bytes = bytes.iter().zip(&untouched).zip(expected);
            bytes.into_iter().any(|((got, before), expected)| got != before && got != expected)
        };
        let (not_new, not_old) = (rules_out(new), old.is_some_and(rules_out));
        self.seen.not_all_new |= not_new;
        self.seen.not_all_old |= not_old;
    }

    fn read_hold(
        &self,
        nth: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> (BlockHolds, Option<Vec<u8>>) {
        let mut bytes = self.work.unlike(nth);
        let offset_bytes = self.work.placement.block(nth).offset_bytes();
        match read(flash, offset_bytes, &mut bytes, statistics) {
            Ok(()) if self.old(nth) == Some(&bytes) => (BlockHolds::Old, Some(bytes)),
            Ok(()) => (self.work.classify(nth, &bytes), Some(bytes)),
            Err(_) => (BlockHolds::Unknown, None),
        }
    }

    fn foreign(&self) -> Vec<ForeignChange> {
        let mut changes: Vec<ForeignChange> = self
            .foreign
            .iter()
            .map(|(nth, kind)| {
                let block = self.work.placement.block(*nth);
                let (offset_bytes, length_bytes) =
                    (block.offset_bytes(), block.length_bytes().into());
                ForeignChange { offset_bytes, length_bytes, kind: *kind }
            })
            .collect();
        changes.sort_by_key(|change| change.offset_bytes);
        ForeignChange::join(changes)
    }

    fn end(&mut self, mut statistics: Statistics) -> End {
        statistics.blocks_changed = self.touched_count() as u32;
        statistics.blocks_equal =
            (self.work.placement.block_count() - self.work.plan.operations().len()) as u32;
        let is_untouched = self.touched_count() == 0;
        let (outcome, hasher) = match &mut self.state {
            State::Confirming { hasher, .. } if is_untouched => (Outcome::Unchanged, hasher.take()),
            State::Confirming { hasher, mixed, .. } => match std::mem::take(mixed) {
                blocks if blocks.is_empty() => (Outcome::Restored, hasher.take()),
                blocks => (Outcome::Mixed { blocks }, hasher.take()),
            },
            State::Verifying { hasher, .. } => (Outcome::Updated, hasher.take()),
            State::Writing { .. } | State::Restoring { .. } => {
                unreachable!("only complete reads of the chip end a job")
            }
        };
        let is_mixed = matches!(outcome, Outcome::Mixed { .. });
        let foreign = self.foreign();
        let after_digest = match (&outcome, self.work.plan.target_digest()) {
            _ if self.work.plan.has_unread() => None,
            // Not all of it was compared with what it should be.
            _ if foreign.iter().any(|change| change.kind != ForeignKind::Repaired) => None,
            // Every byte was compared with these.
            (Outcome::Updated, Some(digest)) => Some(digest),
            _ => hasher.map(|hasher| hasher.finalize().into()),
        };
        End {
            outcome,
            error: self.error.take(),
            before_digest: self.work.before_digest(),
            after_digest,
            statistics,
            foreign,
            condition: self.work.plan.condition(),
            is_known_mixed: is_mixed && self.seen.not_all_new && self.seen.not_all_old,
        }
    }
}

/// What a read of a block found, beside what the block should hold.
enum Found {
    Right,
    /// Two reads found these bytes.
    Other(Vec<u8>),
    /// No two reads agree; the first difference of the last one.
    Unsteady {
        at: usize,
        expected: u8,
        got: u8,
    },
}

impl Work {
    /// A buffer that differs in every byte from the old, the new, and the erased contents of a
    /// block.
    fn unlike(&self, nth: usize) -> Vec<u8> {
        let range = self.placement.range(nth);
        let (old, new) = (&self.backup[range.clone()], &self.plan.target()[range]);
        let other = |(old, new)| (0..3).find(|byte| byte != old && byte != new).unwrap_or_default();
        old.iter().zip(new).map(other).collect()
    }

    fn classify(&self, nth: usize, bytes: &[u8]) -> BlockHolds {
        let range = self.placement.range(nth);
        match bytes {
            bytes if self.readable[nth] && *bytes == self.backup[range.clone()] => BlockHolds::Old,
            bytes if *bytes == self.plan.target()[range] => BlockHolds::New,
            bytes if is_erased(bytes) => BlockHolds::Erased,
            _ => BlockHolds::Unknown,
        }
    }
}

/// Brings a block to `contents`, whatever it holds; leaves it alone when it holds them already.
fn put(
    flash: &mut dyn Flash,
    block: EraseBlock,
    contents: &[u8],
    statistics: &mut Statistics,
) -> Result<(), BlockFault> {
    let mut bytes = complement(contents);
    if flash.read(block.offset_bytes(), &mut bytes).is_ok() && bytes == contents {
        return Ok(());
    }
    statistics.retries += 1;
    let change = unconditional(flash.geometry().rule(), contents.len());
    rewrite(flash, &[(block, &change)], contents, statistics)
}

fn push(mixed: &mut Vec<MixedBlocks>, block: EraseBlock, hold: BlockHolds) {
    let length_bytes = u64::from(block.length_bytes());
    match mixed.last_mut() {
        Some(last)
            if last.hold == hold
                && last.offset_bytes + last.length_bytes == block.offset_bytes() =>
        {
            last.length_bytes += length_bytes;
        }
        _ => mixed.push(MixedBlocks { offset_bytes: block.offset_bytes(), length_bytes, hold }),
    }
}
