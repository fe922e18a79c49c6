//! Everything from the first change on: write, compare, and on failure restore.
//!
//! ```text
//! Writing --all blocks written--> Verifying --all equal--> end: Updated
//!    | a block failed thrice          | a difference
//!    '------------> Restoring <-------'
//!                       | every touched block tried
//!                       v
//!                   Confirming --all old--> end: Restored (Unchanged, if nothing was touched)
//!                       '-------otherwise--> end: Damaged
//! ```

use sha2::{Digest, Sha256};

use super::block::{complement, first_difference, rewrite, unconditional};
use super::plan::is_erased;
use super::prepare::{READ_ATTEMPTS_MAX, SPAN_BYTES_MAX, Work, read};
use super::{
    BlockFault, BlockHolds, DamagedBlocks, End, EraseBlock, Flash, FlashError, Outcome, Phase,
    Statistics,
};

/// How often the change of an eraseblock is tried before the job gives up on it.
pub const BLOCK_ATTEMPTS_MAX: u32 = 3;

/// The most that one step erases and writes, unless a single eraseblock is larger.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Execution {
    work: Work,
    state: State,
    /// Operations that were begun: the blocks of the first so many may hold anything.
    touched: usize,
    error: Option<FlashError>,
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
        operation: usize,
        attempts: u32,
    },
    Confirming {
        next_block: usize,
        hasher: Option<Sha256>,
        damaged: Vec<DamagedBlocks>,
    },
}

impl Execution {
    pub(super) fn new(work: Work) -> Self {
        Self {
            work,
            state: State::Writing { operation: 0, attempts: 0, singly: 0 },
            touched: 0,
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
            State::Restoring { operation, .. } => (Phase::Restoring, operation, self.touched),
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
            State::Restoring { operation, attempts } => {
                self.restore(operation, attempts, flash, statistics)
            }
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
        let expected = &self.work.plan.target()[span.image];
        let mut got = Vec::new();
        let mut difference = None;
        for attempt in 0..READ_ATTEMPTS_MAX {
            statistics.retries += u32::from(attempt > 0);
            got = complement(expected);
            if let Err(source) = read(flash, span.chip_offset_bytes, &mut got, statistics) {
                let (offset_bytes, length_bytes) = (span.chip_offset_bytes, expected.len() as u64);
                return self.fail(FlashError::VerifyRead { offset_bytes, length_bytes, source });
            }
            difference = first_difference(expected, &got);
            if difference.is_none() {
                break;
            }
        }
        if let Some((at, expected, got)) = difference {
            let offset_bytes = span.chip_offset_bytes + at as u64;
            return self.fail(FlashError::VerifyDiffers { offset_bytes, expected, got });
        }
        if let State::Verifying { next_block, hasher } = &mut self.state {
            if let Some(hasher) = hasher {
                hasher.update(&got);
            }
            *next_block = span.blocks.end;
        }
    }

    fn fail(&mut self, error: FlashError) {
        self.error = Some(error);
        self.state = State::Restoring { operation: 0, attempts: 0 };
    }

    /// In the plan's order, so that the block that makes the firmware bootable is the last one
    /// here, too.
    fn restore(
        &mut self,
        operation: usize,
        attempts: u32,
        flash: &mut dyn Flash,
        statistics: &mut Statistics,
    ) {
        if operation == self.touched {
            self.state = State::Confirming {
                next_block: 0,
                hasher: Some(Sha256::new()),
                damaged: Vec::new(),
            };
            return;
        }
        let nth = self.work.plan.operations()[operation].block;
        let block = self.work.placement.block(nth);
        let contents = &self.work.backup[self.work.placement.range(nth)];
        let next = State::Restoring { operation: operation + 1, attempts: 0 };
        if !self.work.readable[nth] {
            self.state = next;
            return;
        }
        self.state = match put(flash, block, contents, statistics) {
            Err(_) if attempts + 1 < BLOCK_ATTEMPTS_MAX => {
                State::Restoring { operation, attempts: attempts + 1 }
            }
            // Given up: the other blocks are restored all the same, and the confirmation says what
            // this one holds.
            Ok(()) | Err(_) => next,
        };
    }

    fn confirm(&mut self, nth: usize, flash: &mut dyn Flash, statistics: &mut Statistics) {
        let block = self.work.placement.block(nth);
        let mut bytes = self.work.unlike(nth);
        let was_read = read(flash, block.offset_bytes(), &mut bytes, statistics).is_ok();
        let hold = if was_read { self.work.classify(nth, &bytes) } else { BlockHolds::Unknown };
        let State::Confirming { next_block, hasher, damaged } = &mut self.state else { return };
        *next_block += 1;
        match hasher {
            Some(hasher) if was_read => hasher.update(&bytes),
            _ => *hasher = None,
        }
        if hold != BlockHolds::Old && !self.work.plan.is_unread(nth) {
            push(damaged, block, hold);
        }
    }

    fn end(&mut self, mut statistics: Statistics) -> End {
        statistics.blocks_changed = self.touched as u32;
        statistics.blocks_equal =
            (self.work.placement.block_count() - self.work.plan.operations().len()) as u32;
        let (outcome, hasher) = match &mut self.state {
            State::Confirming { hasher, .. } if self.touched == 0 => {
                (Outcome::Unchanged, hasher.take())
            }
            State::Confirming { hasher, damaged, .. } => match std::mem::take(damaged) {
                blocks if blocks.is_empty() => (Outcome::Restored, hasher.take()),
                blocks => (Outcome::Damaged { blocks }, hasher.take()),
            },
            State::Verifying { hasher, .. } => (Outcome::Updated, hasher.take()),
            State::Writing { .. } | State::Restoring { .. } => {
                unreachable!("only complete reads of the chip end a job")
            }
        };
        let after_digest = match (&outcome, self.work.plan.target_digest()) {
            _ if self.work.plan.has_unread() => None,
            // Every byte was compared with these.
            (Outcome::Updated, Some(digest)) => Some(digest),
            _ => hasher.map(|hasher| hasher.finalize().into()),
        };
        let reboot_is_safe = match outcome {
            Outcome::Updated => true,
            Outcome::Unchanged | Outcome::Restored => !self.work.plan.is_repair(),
            Outcome::Damaged { .. } => false,
        };
        End {
            outcome,
            error: self.error.take(),
            before_digest: self.work.before_digest,
            after_digest,
            statistics,
            reboot_is_safe,
        }
    }
}

impl Work {
    /// A buffer that differs in every byte from the old, the new, and the erased contents of a block.
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

fn push(damaged: &mut Vec<DamagedBlocks>, block: EraseBlock, hold: BlockHolds) {
    let length_bytes = u64::from(block.length_bytes());
    match damaged.last_mut() {
        Some(last)
            if last.hold == hold
                && last.offset_bytes + last.length_bytes == block.offset_bytes() =>
        {
            last.length_bytes += length_bytes;
        }
        _ => damaged.push(DamagedBlocks { offset_bytes: block.offset_bytes(), length_bytes, hold }),
    }
}
