//! How a job stands, and how it ended.

use std::fmt;
use std::ops::Range;

use super::contents_digest::ContentsDigest;
use super::{FlashError, Phase};
use crate::reason::{Condition, LESS_PROTECTED, MORE_PROTECTED};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it does now.
    pub phase: Phase,
    /// Eraseblocks that are done in this phase.
    pub done_blocks: u32,
    /// Eraseblocks that this phase has to do.
    pub total_blocks: u32,
}

/// What a job asked of the chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Eraseblocks that held the right contents already.
    pub blocks_equal: u32,
    /// Eraseblocks that had to change.
    pub blocks_changed: u32,
    /// Erases that were started.
    pub erases: u32,
    /// Block changes that needed no erase.
    pub erases_saved: u32,
    /// Bytes that were handed to the device to write.
    pub bytes_written: u64,
    /// Operations that were repeated after a failure.
    pub retries: u32,
}

/// What the chip holds in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target: the image with the preserved regions. A read of everything proved it.
    Updated,
    /// What it held before; no erase and no write was started.
    Unchanged,
    /// What it held before: changes failed and were taken back. A read proved it.
    Restored,
    /// Neither: these blocks, sorted by offset, do not hold what they held before.
    Mixed {
        /// The blocks; neighbours in the same state are joined.
        blocks: Vec<MixedBlocks>,
    },
}

/// Neighbouring eraseblocks that could not be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixedBlocks {
    /// First byte on the chip.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
    /// What they hold.
    pub hold: BlockHolds,
}

/// What an eraseblock was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockHolds {
    /// The contents of before the job.
    Old,
    /// The target contents.
    New,
    /// Nothing but FFh.
    Erased,
    /// Something else, or it could not be read.
    Unknown,
}

/// Neighbouring eraseblocks in which somebody else was at work while the job ran: the management
/// engine, the BMC, or firmware that runs in system management mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignChange {
    /// First byte on the chip.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
    /// What the job found or did there.
    pub kind: ForeignKind,
}

/// What a job found or did where somebody else was at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForeignKind {
    /// Changed outside the plan, and left as it is.
    Left,
    /// Readable before, no longer in the end, outside the plan.
    Unreadable,
    /// Changed in what the image decides, and written again.
    Repaired,
}

/// The most ranges of a kind that [`End::note`] names.
pub const FOREIGN_RANGES_TOLD_MAX: usize = 3;

/// Where a chip's locks are others than before a job; both sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockChanges {
    /// What was locked before and is not known to be locked now: the chip is less protected.
    pub lost: Vec<Range<u64>>,
    /// What was not locked before and is now: the firmware may miss it.
    pub gained: Vec<Range<u64>>,
}

/// The end of a job. Its `Display` is the sentence for the operator.
#[derive(Debug)]
pub struct End {
    /// What the chip holds.
    pub outcome: Outcome,
    /// What went wrong, if anything did.
    pub error: Option<FlashError>,
    pub(super) before: Option<ContentsDigest>,
    pub(super) after: Option<ContentsDigest>,
    /// What was asked of the chip.
    pub statistics: Statistics,
    /// Where somebody else changed the chip meanwhile, sorted by offset. These ranges are no part
    /// of what `outcome` says, except for those that were repaired, and with them there is no
    /// [`after_digest`](End::after_digest).
    pub foreign: Vec<ForeignChange>,
    /// Where the chip's locks are others than before the job.
    pub locks: LockChanges,
    /// What the contents looked like before the job.
    pub condition: Condition,
    /// Whether reads have shown that a mixed chip holds neither all new nor all old contents.
    /// Otherwise blocks that could not be read may make it either.
    pub is_known_mixed: bool,
}

impl End {
    /// Returns the SHA-256 of the image's range of the chip before the job (the whole chip, except
    /// for NAND), when it could be read. Computed here: keep it.
    pub fn before_digest(&self) -> Option<[u8; 32]> {
        self.before.as_ref().map(ContentsDigest::value)
    }

    /// Returns the same after the job, of bytes that fresh reads were compared with.
    pub fn after_digest(&self) -> Option<[u8; 32]> {
        self.after.as_ref().map(ContentsDigest::value)
    }

    /// Whether the machine can be started from the chip: it holds the whole new image, or all of
    /// old contents that were not known to be broken.
    pub fn reboot_is_safe(&self) -> bool {
        match &self.outcome {
            Outcome::Updated => true,
            Outcome::Unchanged | Outcome::Restored => self.condition != Condition::Broken,
            Outcome::Mixed { .. } => false,
        }
    }

    /// Whether the chip holds something else than before the job.
    pub fn contents_changed(&self) -> bool {
        match &self.outcome {
            Outcome::Updated => self.statistics.blocks_changed > 0,
            Outcome::Unchanged | Outcome::Restored => false,
            Outcome::Mixed { .. } => true,
        }
    }

    /// Returns a sentence about what somebody else changed meanwhile, if anybody did.
    pub fn foreign_note(&self) -> Option<String> {
        let told = self.foreign.iter().take(FOREIGN_RANGES_TOLD_MAX).map(ForeignChange::to_string);
        let mut told: Vec<String> = told.collect();
        let untold = self.foreign.len() - told.len();
        if untold > 0 {
            told.push(format!("{untold} more ranges"));
        }
        (!told.is_empty())
            .then(|| format!("somebody else wrote to the chip meanwhile: {}", told.join(", ")))
    }
}

impl End {
    /// Returns what an operator should hear beside how it ended, if there is anything.
    pub fn note(&self) -> Option<String> {
        let notes: Vec<String> = self.lock_note().into_iter().chain(self.foreign_note()).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// Returns a sentence about locks that are not what they were, if there are any.
    fn lock_note(&self) -> Option<String> {
        let LockChanges { lost, gained } = &self.locks;
        let kinds = [(LESS_PROTECTED, "not locked", lost), (MORE_PROTECTED, "locked", gained)];
        let told = kinds.into_iter().filter(|(.., ranges)| !ranges.is_empty());
        let told: Vec<String> =
            told.map(|(what, how, ranges)| format!("{what}, {how}: {}", shown(ranges))).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

fn shown(ranges: &[Range<u64>]) -> String {
    let told = ranges.iter().take(FOREIGN_RANGES_TOLD_MAX);
    let mut told: Vec<String> =
        told.map(|range| format!("{:#x}-{:#x}", range.start, range.end - 1)).collect();
    let untold = ranges.len() - told.len();
    if untold > 0 {
        told.push(format!("{untold} more ranges"));
    }
    told.join(", ")
}

impl ForeignChange {
    /// Joins the ranges of `changes`, which are sorted by offset, where neighbours are of one kind.
    pub(super) fn join(changes: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for change in changes {
            match joined.last_mut() {
                Some(last)
                    if last.kind == change.kind
                        && last.offset_bytes + last.length_bytes == change.offset_bytes =>
                {
                    last.length_bytes += change.length_bytes;
                }
                _ => joined.push(change),
            }
        }
        joined
    }
}

impl fmt::Display for ForeignChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.offset_bytes + self.length_bytes - 1;
        write!(out, "{:#x}-{last:#x} ", self.offset_bytes)?;
        out.write_str(match self.kind {
            ForeignKind::Left => "changed, not part of the plan",
            ForeignKind::Unreadable => "can no longer be read, not part of the plan",
            ForeignKind::Repaired => "changed, and written again",
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Updated => write!(out, "the flash holds the new firmware")?,
            Outcome::Unchanged => write!(out, "the flash was not changed")?,
            Outcome::Restored => {
                write!(out, "the flash was restored and holds what it held before")?
            }
            Outcome::Mixed { blocks } => {
                match self.is_known_mixed {
                    true => write!(out, "the flash is neither all new nor all old:")?,
                    false => write!(out, "what the flash holds could not be read:")?,
                }
                for (nth, blocks) in blocks.iter().enumerate() {
                    let comma = if nth == 0 { "" } else { "," };
                    let last = blocks.offset_bytes + blocks.length_bytes - 1;
                    write!(out, "{comma} {:#x}-{last:#x} {}", blocks.offset_bytes, blocks.hold)?;
                }
            }
        }
        if let Some(note) = self.note() {
            write!(out, "; {note}")?;
        }
        match self.reboot_is_safe() {
            true => write!(out, "; a reboot is safe"),
            false => write!(out, "; do not reboot or power off, start the update again"),
        }
    }
}

impl fmt::Display for BlockHolds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            BlockHolds::Old => "old",
            BlockHolds::New => "new",
            BlockHolds::Erased => "erased",
            BlockHolds::Unknown => "unknown",
        })
    }
}
