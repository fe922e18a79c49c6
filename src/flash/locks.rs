//! The locks of eraseblocks: those that a job takes away it puts back at its end.
//!
//! Some chips have a lock for each eraseblock. Others have few bits, which lock one range at the
//! chip's top or bottom: SPI NOR, of a size that is a power of two. A driver of such a chip refuses
//! what the bits cannot express, or unlocks and locks another range than it was asked for. So each
//! answer is held against the locks of all eraseblocks.

use std::io;
use std::ops::Range;

use log::warn;

use super::{EraseBlock, Flash, FlashError, LockChanges};

/// How often locks that are not as they were are set right.
const LOCK_ATTEMPTS_MAX: u32 = 3;

/// How often a block is asked whether it is locked.
const QUESTIONS_MAX: u32 = 3;

/// What is unlocked for the sake of a block.
type Reach = fn(&Locks, EraseBlock, &dyn Flash) -> Range<u64>;

/// What was locked before a job unlocked its first eraseblock.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// For every eraseblock of the chip, in order. None: nothing was unlocked.
    before: Option<Vec<(EraseBlock, bool)>>,
}

impl Locks {
    /// Makes sure that `block` is not locked. Others may be locked by that.
    ///
    /// # Errors
    /// It stays locked, or the chip does not say what is.
    pub(super) fn unlock(
        &mut self,
        block: EraseBlock,
        flash: &mut dyn Flash,
    ) -> Result<(), FlashError> {
        // The narrowest first: few lock bits may not be able to leave both neighbours locked.
        self.unlock_by(&[Self::block, Self::run, Self::chip], block, flash)
    }

    /// Makes sure that `block` is not locked, and locks no other.
    ///
    /// # Errors
    /// It stays locked, or the chip does not say what is.
    pub(super) fn unlock_surely(
        &mut self,
        block: EraseBlock,
        flash: &mut dyn Flash,
    ) -> Result<(), FlashError> {
        self.unlock_by(&[Self::chip, Self::block], block, flash)
    }

    fn unlock_by(
        &mut self,
        ranges: &[Reach],
        block: EraseBlock,
        flash: &mut dyn Flash,
    ) -> Result<(), FlashError> {
        if !is_locked(block, flash)? {
            return Ok(());
        }
        if self.before.is_none() {
            // What cannot be known could not be put back.
            self.before = Some(all_locks(flash)?);
        }
        for range in ranges {
            let range = range(self, block, flash);
            // Whatever the driver says: the question decides.
            let _ = flash.unlock(range.start, range.end - range.start);
            if !is_locked(block, flash)? {
                return Ok(());
            }
        }
        Err(FlashError::Locked { offset_bytes: block.offset_bytes() })
    }

    fn block(&self, block: EraseBlock, _: &dyn Flash) -> Range<u64> {
        block.offset_bytes()..block.end_bytes()
    }

    fn chip(&self, _: EraseBlock, flash: &dyn Flash) -> Range<u64> {
        0..flash.geometry().size_bytes()
    }

    /// All that was locked around a block.
    fn run(&self, block: EraseBlock, flash: &dyn Flash) -> Range<u64> {
        let locked = self.before.iter().flatten().filter(|(_, locked)| *locked);
        let mut runs = joined(locked.map(|(block, _)| *block)).into_iter();
        let found = runs.find(|run| run.contains(&block.offset_bytes()));
        found.unwrap_or_else(|| self.block(block, flash))
    }

    /// Makes sure that all `blocks` are unlocked at the same time: a chip with few lock bits may
    /// have locked one while it unlocked another.
    ///
    /// # Errors
    /// One is locked, or the chip does not say.
    pub(super) fn check_unlocked(
        &mut self,
        blocks: impl Iterator<Item = EraseBlock>,
        flash: &mut dyn Flash,
    ) -> Result<(), FlashError> {
        if self.before.is_none() {
            return Ok(());
        }
        for block in blocks {
            self.unlock_surely(block, flash)?;
        }
        Ok(())
    }

    /// Sets the locks as they were before. Returns where they are not.
    pub(super) fn put_back(&mut self, flash: &mut dyn Flash) -> LockChanges {
        let Some(before) = self.before.take() else { return LockChanges::default() };
        let locked = before.iter().filter(|(_, locked)| *locked).map(|(block, _)| *block);
        let locked: Vec<Range<u64>> = joined(locked);
        let mut changes = differences(&before, flash);
        for _ in 0..LOCK_ATTEMPTS_MAX {
            if changes == LockChanges::default() {
                break;
            }
            for range in &changes.gained {
                let _ = flash.unlock(range.start, range.end - range.start);
            }
            // Few lock bits lock whole ranges only; all other chips lock single blocks, too.
            for range in locked.iter().chain(&changes.lost) {
                let _ = flash.protect(range.start, range.end - range.start);
            }
            changes = differences(&before, flash);
            if !changes.lost.is_empty() {
                lock_singly(&before, &changes.lost, flash);
                changes = differences(&before, flash);
            }
        }
        for range in &changes.lost {
            warn!("{:#x}-{:#x} was locked before, and is not any more", range.start, range.end - 1);
        }
        for range in &changes.gained {
            warn!("{:#x}-{:#x} was not locked before, and is now", range.start, range.end - 1);
        }
        changes
    }
}

/// Whether a change of the block is refused by the chip.
///
/// # Errors
/// The chip does not say.
pub(super) fn is_locked(block: EraseBlock, flash: &mut dyn Flash) -> Result<bool, FlashError> {
    let offset_bytes = block.offset_bytes();
    let survey = |source| FlashError::Survey { offset_bytes, asked: "is locked", source };
    ask(block, flash).map_err(survey)
}

fn ask(block: EraseBlock, flash: &mut dyn Flash) -> io::Result<bool> {
    let mut answer = flash.is_locked(block);
    for _ in 1..QUESTIONS_MAX {
        if answer.is_ok() {
            break;
        }
        answer = flash.is_locked(block);
    }
    answer
}

fn all_locks(flash: &mut dyn Flash) -> Result<Vec<(EraseBlock, bool)>, FlashError> {
    let blocks: Vec<EraseBlock> = flash.geometry().blocks().collect();
    blocks.into_iter().map(|block| Ok((block, is_locked(block, flash)?))).collect()
}

/// Where the locks are not what they were. A block that does not say is not known to be locked.
fn differences(before: &[(EraseBlock, bool)], flash: &mut dyn Flash) -> LockChanges {
    let (mut lost, mut gained) = (Vec::new(), Vec::new());
    for (block, was_locked) in before {
        match (*was_locked, ask(*block, flash)) {
            (true, Ok(false) | Err(_)) => lost.push(*block),
            (false, Ok(true)) => gained.push(*block),
            (true, Ok(true)) | (false, Ok(false) | Err(_)) => {}
        }
    }
    LockChanges { lost: joined(lost), gained: joined(gained) }
}

fn lock_singly(before: &[(EraseBlock, bool)], lost: &[Range<u64>], flash: &mut dyn Flash) {
    for (block, _) in before {
        if lost.iter().any(|range| range.contains(&block.offset_bytes())) {
            let _ = flash.protect(block.offset_bytes(), block.length_bytes().into());
        }
    }
}

/// The ranges of neighbours.
fn joined(blocks: impl IntoIterator<Item = EraseBlock>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for block in blocks {
        match ranges.last_mut() {
            Some(last) if last.end == block.offset_bytes() => last.end = block.end_bytes(),
            _ => ranges.push(block.offset_bytes()..block.end_bytes()),
        }
    }
    ranges
}
