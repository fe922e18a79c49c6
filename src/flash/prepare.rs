//! Everything before the first change: the backup, the plan, and the proof that both can be relied
//! on.

use std::sync::Arc;

use super::block::{complement, first_difference};
use super::contents_digest::ContentsDigest;
use super::locks::{Locks, is_locked};
use super::phase::Mode;
use super::placement::Span;
use super::plan::Decider;
use super::reading::{READ_ATTEMPTS_MAX, read, read_parts};
use super::{Flash, FlashError, FlashPlan, Live, Placement, Statistics};
use crate::image::layout::{DESCRIPTOR_BYTES, foreign_ranges};
use crate::image::{ByteRanges, Fitting, VerifiedImage, closed_in, wrong_order};

/// The most that one step reads, unless a single eraseblock is larger.
pub const SPAN_BYTES_MAX: usize = 256 * 1024;

/// The backup in the making.
#[derive(Debug)]
pub(super) struct Backup {
    placement: Placement,
    contents: Arc<Vec<u8>>,
    readable: Vec<bool>,
    /// What the host may not read; FFh in the contents.
    closed: ByteRanges,
    next_block: usize,
}

/// What a change needs: where, from what, to what.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) placement: Placement,
    pub(super) plan: FlashPlan,
    /// Contents of the placement's blocks before the job; zeros where `readable` is false, FFh
    /// where they are closed.
    pub(super) backup: Arc<Vec<u8>>,
    /// What of them the host may not read.
    pub(super) closed: ByteRanges,
    pub(super) readable: Vec<bool>,
    /// Nothing of it is missing but what is closed.
    pub(super) is_whole: bool,
    pub(super) mode: Mode,
    /// How many blocks would have to be unlocked; only counted in a preview.
    pub(super) locked_blocks: u32,
    /// What was locked before.
    pub(super) locks: Locks,
}

impl Backup {
    pub(super) fn new(placement: Placement) -> Self {
        Self {
            contents: Arc::new(vec![0; placement.image_bytes()]),
            readable: vec![true; placement.block_count()],
            closed: ByteRanges::default(),
            placement,
            next_block: 0,
        }
    }

    pub(super) fn done_blocks(&self) -> usize {
        self.next_block
    }

    pub(super) fn total_blocks(&self) -> usize {
        self.placement.block_count()
    }

    /// Reads the next span into the backup. What is closed to the host has no backup and needs
    /// none: it stays as it is. A rescue allows other blocks that cannot be read, too: they are
    /// written anew.
    pub(super) fn step(
        &mut self,
        flash: &mut dyn Flash,
        image: &VerifiedImage,
        rescue: bool,
        statistics: &mut Statistics,
    ) -> Result<(), FlashError> {
        let count = self.placement.block_count();
        let span = self.placement.span(self.next_block..count, SPAN_BYTES_MAX);
        let contents = &mut Arc::make_mut(&mut self.contents)[span.image];
        if read(flash, span.chip_offset_bytes, contents, statistics).is_err() {
            let untouched = Fitting::untouched(image.manifest());
            for nth in span.blocks.clone() {
                self.read_block(nth, flash, &untouched, rescue, statistics)?;
            }
        }
        self.next_block = span.blocks.end;
        if self.is_complete() {
            // What failed was told apart block by block. Regions that answer FFh instead show only
            // now.
            let failed = std::mem::take(&mut self.closed);
            let contents = Arc::make_mut(&mut self.contents);
            self.closed = closed_in(contents, &failed, &failed).unwrap_or(failed);
        }
        Ok(())
    }

    fn read_block(
        &mut self,
        nth: usize,
        flash: &mut dyn Flash,
        untouched: &ByteRanges,
        rescue: bool,
        statistics: &mut Statistics,
    ) -> Result<(), FlashError> {
        let (block, range) = (self.placement.block(nth), self.placement.range(nth));
        let contents = &mut Arc::make_mut(&mut self.contents)[range.clone()];
        let (missing, error) = read_parts(flash, block, contents, statistics);
        let start = range.start as u64;
        for part in missing.iter() {
            contents[part.start as usize..part.end as usize].fill(0xff);
        }
        let missing: ByteRanges =
            missing.iter().map(|part| start + part.start..start + part.end).collect();
        let Some(source) = error.filter(|_| !missing.is_empty()) else { return Ok(()) };
        let page = &self.contents[..self.contents.len().min(DESCRIPTOR_BYTES)];
        if missing.without(&untouched.union(&foreign_ranges(page).all)).is_empty() {
            self.closed = self.closed.union(&missing);
            return Ok(());
        }
        if !rescue {
            return Err(FlashError::Unreadable {
                offset_bytes: block.offset_bytes(),
                length_bytes: u64::from(block.length_bytes()),
                source,
            });
        }
        Arc::make_mut(&mut self.contents)[range].fill(0);
        self.readable[nth] = false;
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.next_block == self.placement.block_count()
    }

    /// Whether nothing is missing but what is closed.
    fn is_whole(&self) -> bool {
        self.is_complete() && self.readable.iter().all(|readable| *readable)
    }

    /// Digest of the chip's contents; `None` when some of them were not read.
    pub(super) fn digest(&self) -> Option<ContentsDigest> {
        let is_all = self.is_whole() && self.closed.is_empty();
        is_all.then(|| ContentsDigest::Of(Arc::clone(&self.contents)))
    }

    /// Makes the plan.
    pub(super) fn plan(
        self,
        image: &VerifiedImage,
        flash: &dyn Flash,
        mode: Mode,
    ) -> Result<Work, FlashError> {
        let all = 0..self.contents.len() as u64;
        if mode != Mode::Rescue && (!self.readable.contains(&true) || self.closed.covers(&all)) {
            return Err(FlashError::NothingReadable);
        }
        let geometry = flash.geometry();
        // A broken chip says nothing that can be relied on.
        if mode != Mode::Rescue
            && let Some(why) = wrong_order(&self.contents, geometry.joints())
        {
            return Err(FlashError::WrongOrder(why));
        }
        let live = Live {
            contents: &self.contents,
            readable: &self.readable,
            closed: &self.closed,
            rule: geometry.rule(),
            write_bytes: geometry.write_bytes(),
            condition: mode.condition(),
        };
        let plan = FlashPlan::new(image, &self.placement, live)?;
        Ok(Work {
            is_whole: self.is_whole(),
            placement: self.placement,
            plan,
            backup: self.contents,
            closed: self.closed,
            readable: self.readable,
            mode,
            locked_blocks: 0,
            locks: Locks::default(),
        })
    }
}

impl Work {
    /// Digest of what the chip held before; `None` when some of it was not read.
    pub(super) fn before(&self) -> Option<ContentsDigest> {
        let is_all = self.is_whole && self.closed.is_empty();
        is_all.then(|| ContentsDigest::Of(Arc::clone(&self.backup)))
    }

    /// How many checks [`Work::check`] has.
    pub(super) fn check_count(&self) -> usize {
        self.plan.operations().len() + self.plan.kept().len()
    }

    /// Ends the checks: all that will change is unlocked.
    ///
    /// # Errors
    /// A block is locked again.
    pub(super) fn finish_checks(&mut self, flash: &mut dyn Flash) -> Result<(), FlashError> {
        let (placement, operations) = (&self.placement, self.plan.operations());
        let changing = operations.iter().map(|operation| placement.block(operation.block));
        self.locks.check_unlocked(changing, flash)
    }

    /// Goes on with the checks from number `first` and says which number comes next. A block whose
    /// first read nothing else confirms reads the same again. If it will change, it is not locked,
    /// or unlocks.
    ///
    /// # Errors
    /// A block is not fit to be changed.
    pub(super) fn check(
        &mut self,
        first: usize,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> Result<usize, FlashError> {
        let operations = self.plan.operations();
        let changing = operations.iter().map(|operation| operation.block);
        let blocks = changing.chain(self.plan.kept().iter().copied()).skip(first);
        let span = self.placement.span(blocks, SPAN_BYTES_MAX);
        let after = first + span.blocks.len();
        for piece in self.readable_pieces(&span) {
            self.check_again(&piece, flash, statistics)?;
        }
        for operation in self.plan.operations().iter().take(after).skip(first) {
            let block = self.placement.block(operation.block);
            match self.mode {
                Mode::Preview => self.locked_blocks += u32::from(is_locked(block, flash)?),
                Mode::Update | Mode::Rescue => self.locks.unlock(block, flash)?,
            }
        }
        Ok(after)
    }

    /// The span without its blocks that could not be read the first time.
    fn readable_pieces(&self, span: &Span) -> Vec<Span> {
        if self.readable[span.blocks.clone()].iter().all(|readable| *readable) {
            return vec![span.clone()];
        }
        let readable = span.blocks.clone().filter(|nth| self.readable[*nth]);
        readable.map(|nth| self.placement.span([nth], SPAN_BYTES_MAX)).collect()
    }

    /// A span with a difference is looked at block by block: it matters only where a byte of the
    /// plan depends on it.
    fn check_again(
        &mut self,
        span: &Span,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> Result<(), FlashError> {
        match self.reads_the_same(span, flash, statistics) {
            Err(FlashError::UnstableRead { .. }) if self.decided_by_chip(span) => {}
            result => return result,
        }
        for nth in span.blocks.clone() {
            let block = self.placement.span([nth], SPAN_BYTES_MAX);
            match self.plan.decider(nth) {
                Decider::Chip => self.read_anew(&block, flash, statistics)?,
                _ => self.reads_the_same(&block, flash, statistics)?,
            }
        }
        Ok(())
    }

    fn decided_by_chip(&self, span: &Span) -> bool {
        span.blocks.clone().any(|nth| self.plan.decider(nth) == Decider::Chip)
    }

    /// Somebody else writes to this block, which is preserved as a whole: takes what it holds now.
    /// When no two reads are alike, nothing depends on that either.
    fn read_anew(
        &mut self,
        span: &Span,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> Result<(), FlashError> {
        let (offset_bytes, length_bytes) = (span.chip_offset_bytes, span.image.len() as u64);
        for _ in 0..READ_ATTEMPTS_MAX {
            let mut bytes = complement(&self.backup[span.image.clone()]);
            read(flash, offset_bytes, &mut bytes, statistics)
                .map_err(|source| FlashError::Unreadable { offset_bytes, length_bytes, source })?;
            if bytes == self.backup[span.image.clone()] {
                break;
            }
            Arc::make_mut(&mut self.backup)[span.image.clone()].copy_from_slice(&bytes);
            self.plan.renew(span.image.clone(), &bytes);
        }
        Ok(())
    }

    fn reads_the_same(
        &self,
        span: &Span,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) -> Result<(), FlashError> {
        let offset_bytes = span.chip_offset_bytes;
        let first = &self.backup[span.image.clone()];
        let mut second = complement(first);
        let length_bytes = first.len() as u64;
        read(flash, offset_bytes, &mut second, statistics)
            .map_err(|source| FlashError::Unreadable { offset_bytes, length_bytes, source })?;
        match first_difference(first, &second) {
            None => Ok(()),
            Some((at, first, second)) => Err(FlashError::UnstableRead {
                offset_bytes: offset_bytes + at as u64,
                first,
                second,
            }),
        }
    }
}
