//! Everything from the first change on: write, compare, and on failure restore.
//!
//! ```text
//! Writing --all blocks written--> Verifying --all as they should be--> end: Updated
//!    | a block failed thrice          | a block of the plan cannot be brought to its contents
//!    '------------> Restoring <-------'
//!                       | every touched block tried
//!                       v
//!                   Confirming --no block touched---------> end: Unchanged
//!                       |--------all touched blocks old---> end: Restored
//!                       '--------otherwise----------------> end: Mixed
//! ```
//!
//! Somebody else may write to the chip at any time. What the image decides is written again then, a
//! few times. What the image does not decide is left as it is, and told: it is no reason to restore
//! anything.
//!
//! - `write`: the changes; `verify`: the comparison; `restore`: the way back; `conclude`: what it
//!   came to.

mod conclude;
mod restore;
mod verify;
mod write;

use std::collections::BTreeMap;

use sha2::Sha256;

use super::block::{complement, rewrite, unconditional};
use super::locks::Locks;
use super::prepare::Work;
use super::{
    BlockFault, End, EraseBlock, Flash, FlashError, ForeignKind, MixedBlocks, Phase, Statistics,
};
use restore::Seen;

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
    /// Operations that were begun: the blocks of the first `touched` may hold anything.
    touched: usize,
    /// By number of the block: whether this job has erased or written it, or tried to.
    is_touched: Vec<bool>,
    /// Blocks without an operation that were written all the same.
    unplanned: Vec<Unplanned>,
    /// Touched blocks in the order in which they are restored, once something has failed.
    back: Vec<usize>,
    /// Those that the restore gave up, and whether it has tried them once more.
    given_up: Vec<usize>,
    retook: bool,
    /// What somebody else changed, by number of the block.
    foreign: BTreeMap<usize, ForeignKind>,
    /// What the reads after a restore have ruled out, so that mixed is said only of what was read.
    seen: Seen,
    error: Option<FlashError>,
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
            back: Vec::new(),
            given_up: Vec::new(),
            retook: false,
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
            State::Restoring { next, .. } => (Phase::Restoring, next, self.back.len()),
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
                self.state = State::Verifying { next_block: 0 };
            }
            State::Writing { operation, singly, .. } if operation >= singly => {
                self.write_batch(operation, flash, statistics);
            }
            State::Writing { operation, attempts, singly } => {
                self.write_again(operation, attempts, singly, flash, statistics);
            }
            State::Verifying { next_block } if next_block < self.work.placement.block_count() => {
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

    /// What it carries out.
    pub(super) fn work(&self) -> &Work {
        &self.work
    }

    /// What was locked before the job.
    pub(super) fn locks(&mut self) -> &mut Locks {
        &mut self.work.locks
    }

    fn touched_count(&self) -> usize {
        self.unplanned.len() + self.touched
    }

    fn fail(&mut self, error: FlashError) {
        self.error = Some(error);
        self.back = self.order_back();
        self.state = State::Restoring { next: 0, attempts: 0 };
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
