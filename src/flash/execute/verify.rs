//! Comparing everything with the target, and repairing what somebody else changed meanwhile.

use std::io;

use log::warn;

use super::{
    BLOCK_ATTEMPTS_MAX, Execution, FOREIGN_REPAIRS_MAX, State, UNPLANNED_REPAIRS_MAX, Unplanned,
    put,
};
use crate::flash::block::{complement, first_difference};
use crate::flash::plan::Decider;
use crate::flash::prepare::SPAN_BYTES_MAX;
use crate::flash::reading::{READ_ATTEMPTS_MAX, read};
use crate::flash::{Flash, FlashError, ForeignKind, Statistics};

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

impl Execution {
    pub(super) fn verify(
        &mut self,
        first: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) {
        let count = self.work.placement.block_count();
        let compared = (first..count).filter(|nth| !self.work.plan.is_unread(*nth));
        let span = self.work.placement.span(compared, SPAN_BYTES_MAX);
        if span.blocks.is_empty() {
            self.state = State::Verifying { next_block: count };
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
        self.state = State::Verifying { next_block: span.blocks.end };
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
            let is_full = self.unplanned.len() == UNPLANNED_REPAIRS_MAX;
            if is_full || self.work.locks.unlock_surely(block, flash).is_err() {
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
}
