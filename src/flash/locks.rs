//! The locks of eraseblocks: those that a job takes away it puts back at its end.

use std::ops::Range;

use log::warn;

use super::{EraseBlock, Flash, FlashError};

/// How often a lock that does not come back is asked for.
const LOCK_ATTEMPTS_MAX: u32 = 3;

/// What was locked before a job unlocked its first eraseblock.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Sorted. None: nothing was unlocked. Some chips lose more locks than were taken away, so all
    /// are noted.
    before: Option<Vec<EraseBlock>>,
}

impl Locks {
    /// Makes sure that `block` is not locked.
    ///
    /// # Errors
    /// It stays locked, or the chip does not say.
    pub(super) fn unlock(
        &mut self,
        block: EraseBlock,
        flash: &mut dyn Flash,
    ) -> Result<(), FlashError> {
        if !is_locked(block, flash)? {
            return Ok(());
        }
        if self.before.is_none() {
            self.before = Some(locked_blocks(flash));
        }
        // Chips that lock themselves at power-up unlock here; for all others the second question
        // decides.
        if flash.unlock(block).is_ok() && !is_locked(block, flash)? {
            return Ok(());
        }
        Err(FlashError::Locked { offset_bytes: block.offset_bytes() })
    }

    /// Locks again what was locked before. Returns what is less protected than it was then, sorted.
    pub(super) fn put_back(&mut self, flash: &mut dyn Flash) -> Vec<Range<u64>> {
        let Some(before) = self.before.take() else { return Vec::new() };
        for _ in 0..LOCK_ATTEMPTS_MAX {
            let open = open_blocks(&before, flash);
            if open.is_empty() {
                return Vec::new();
            }
            // Chips with few lock bits lock whole ranges only; all others also lock single blocks.
            for range in joined(&before).into_iter().chain(joined(&open)) {
                let _ = flash.protect(range.start, range.end - range.start);
            }
            for block in open_blocks(&open, flash) {
                let _ = flash.protect(block.offset_bytes(), block.length_bytes().into());
            }
        }
        let lost = joined(&open_blocks(&before, flash));
        for range in &lost {
            warn!("{:#x}-{:#x} was locked before, and is not any more", range.start, range.end - 1);
        }
        lost
    }
}

/// Whether a change of the block is refused by the chip.
///
/// # Errors
/// The chip does not say.
pub(super) fn is_locked(block: EraseBlock, flash: &mut dyn Flash) -> Result<bool, FlashError> {
    let offset_bytes = block.offset_bytes();
    let survey = |source| FlashError::Survey { offset_bytes, asked: "is locked", source };
    flash.is_locked(block).map_err(survey)
}

/// One that does not say is not known to have been locked.
fn locked_blocks(flash: &mut dyn Flash) -> Vec<EraseBlock> {
    let blocks: Vec<EraseBlock> = flash.geometry().blocks().collect();
    blocks.into_iter().filter(|block| flash.is_locked(*block).unwrap_or(false)).collect()
}

/// Those that are not known to be locked.
fn open_blocks(blocks: &[EraseBlock], flash: &mut dyn Flash) -> Vec<EraseBlock> {
    let open = blocks.iter().filter(|block| !flash.is_locked(**block).unwrap_or(false));
    open.copied().collect()
}

/// The ranges of neighbours.
fn joined(blocks: &[EraseBlock]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for block in blocks {
        match ranges.last_mut() {
            Some(last) if last.end == block.offset_bytes() => last.end = block.end_bytes(),
            _ => ranges.push(block.offset_bytes()..block.end_bytes()),
        }
    }
    ranges
}
