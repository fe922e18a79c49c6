//! What can go wrong with a flash chip, in words for the operator.

use std::io;

use super::BlockFault;
use crate::image::boot_guard::BootGuardMismatch;
use crate::image::{ByteRanges, Misfit};
use crate::reason::{Reason, Refusal, with_causes};

/// Why a job refused the chip or failed on it.
///
/// Variants up to [`FlashError::Cancelled`] come before the first change: the chip holds what it
/// held. For the later ones [`End`](super::End) says what it holds now, and whether a reboot is
/// safe.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// The image does not fit the chip.
    #[error(
        "the image has {image_bytes:#x} bytes, the flash chip {chip_bytes:#x}: use a bundle that \
        was made for this chip; nothing was changed"
    )]
    ImageSize {
        /// Length of the image.
        image_bytes: u64,
        /// Size of the chip.
        chip_bytes: u64,
    },
    /// An image for NAND that ends inside an eraseblock.
    #[error(
        "the image of {image_bytes:#x} bytes ends inside an eraseblock of {block_bytes:#x} bytes: \
        pad it with FFh to whole eraseblocks; nothing was changed"
    )]
    PartialBlock {
        /// Length of the image.
        image_bytes: u64,
        /// Size of the block it ends in.
        block_bytes: u32,
    },
    /// Bad blocks leave too little room.
    #[error(
        "the image needs {image_bytes:#x} bytes, but only {good_bytes:#x} are left beside \
        {bad_blocks} bad eraseblocks: make a smaller image or replace the chip; nothing was \
        changed"
    )]
    TooFewGoodBlocks {
        /// Length of the image.
        image_bytes: u64,
        /// Sum of the good blocks.
        good_bytes: u64,
        /// Number of bad blocks.
        bad_blocks: u32,
    },
    /// A bad block on a chip that has to be good everywhere.
    #[error(
        "the eraseblock at {offset_bytes:#x} is marked bad and cannot be skipped: replace the \
        chip; nothing was changed"
    )]
    BadBlock {
        /// Offset of the block.
        offset_bytes: u64,
    },
    /// The chip did not answer a question about a block.
    #[error(
        "cannot find out whether the eraseblock at {offset_bytes:#x} {asked}: see the kernel log; \
        nothing was changed"
    )]
    Survey {
        /// Offset of the block.
        offset_bytes: u64,
        /// The question.
        asked: &'static str,
        /// What the device said.
        source: io::Error,
    },
    /// A write-protected block has to change.
    #[error(
        "the eraseblock at {offset_bytes:#x} has to change, but is locked and did not unlock: \
        take the write protection away (BIOS setup, jumper, WP pin) and start again; nothing was \
        changed"
    )]
    Locked {
        /// Offset of the block.
        offset_bytes: u64,
    },
    /// A backup with holes is not a backup.
    #[error(
        "cannot read {length_bytes:#x} bytes at {offset_bytes:#x} for the backup: see the kernel \
        log; nothing was changed"
    )]
    Unreadable {
        /// Offset on the chip.
        offset_bytes: u64,
        /// Length of the read.
        length_bytes: u64,
        /// What the device said.
        source: io::Error,
    },
    /// Nothing at all could be read.
    #[error("no eraseblock could be read: see the kernel log; nothing was changed")]
    NothingReadable,
    /// Two reads gave different bytes.
    #[error(
        "the byte at {offset_bytes:#x} read as {first:#04x}, then as {second:#04x}: something \
        else writes to the chip, or its connection is bad; nothing was changed"
    )]
    UnstableRead {
        /// Offset of the first byte that differs.
        offset_bytes: u64,
        /// As the backup has it.
        first: u8,
        /// As it was read again.
        second: u8,
    },
    /// A block that has to change and to stay.
    #[error(
        "the eraseblock of {length_bytes:#x} bytes at {offset_bytes:#x} has to be rewritten, but \
        holds part of preserved region \"{name}\" (at {region_offset_bytes:#x}), which a power \
        cut would lose: make a bundle that preserves whole eraseblocks; nothing was changed"
    )]
    PreserveShares {
        /// Name of the region.
        name: String,
        /// Its offset.
        region_offset_bytes: u64,
        /// Offset of the block.
        offset_bytes: u64,
        /// Length of the block.
        length_bytes: u32,
    },
    /// Chips that are one BIOS, but not in this order.
    #[error(
        "the chips are joined in the wrong order, as what they hold shows: {0}; name the one with \
        the lower addresses first (flash in agent.toml); nothing was changed"
    )]
    WrongOrder(String),
    /// The image does not belong on this chip, or something that is kept would be lost.
    #[error("{0}; nothing was changed")]
    Misfit(Box<Misfit>),
    /// Something that is kept would move so that a power cut could lose it.
    #[error(
        "what the chip has at {from_bytes:#x} has its place at {to_bytes:#x} in the image, and \
        {why}: a power cut meanwhile would lose it; use an image that leaves it where it is; \
        nothing was changed"
    )]
    UnsafeMove {
        /// Where the chip has it.
        from_bytes: u64,
        /// Where the image has it.
        to_bytes: u64,
        /// What stands against it.
        why: &'static str,
    },
    /// Nothing tells where something is that is kept.
    #[error(
        "the eraseblock at {offset_bytes:#x} cannot be read, which may say that the chip has what \
        the bundle keeps at another place: try again, or use a bundle with the layout of this \
        chip; nothing was changed"
    )]
    MapUnreadable {
        /// Offset of the block.
        offset_bytes: u64,
    },
    /// The processor would not start the image.
    #[error(
        "Intel Boot Guard may not start this image: {0}; use the image for this board, or make the \
        bundle with --new-boot-guard if it is meant so; nothing was changed"
    )]
    BootGuardMismatch(Box<BootGuardMismatch>),
    /// The image would not start.
    #[error("what would be written is damaged at {offset_bytes:#x}: {why}; nothing was changed")]
    ImageInvalid {
        /// Where.
        offset_bytes: u64,
        /// What is wrong there.
        why: String,
    },
    /// The Intel flash descriptor keeps the host's processor from writing.
    #[error(
        "the eraseblock at {offset_bytes:#x} has to change, but the chip's flash descriptor does \
        not let the host write it: make a bundle that preserves this region, or update it by the \
        board's own means; nothing was changed"
    )]
    NotForHost {
        /// Offset of the block.
        offset_bytes: u64,
    },
    /// A block has to change, or may have to, of which the host may not read everything.
    #[error(
        "the host may not read {closed} on the flash chip, so the eraseblock of {length_bytes:#x} \
        bytes at {offset_bytes:#x} has to stay as it is, but the bundle does not leave it so: \
        make a bundle that preserves these bytes and changes nothing else in their eraseblock; \
        nothing was changed"
    )]
    ClosedChanges {
        /// Offset of the block.
        offset_bytes: u64,
        /// Length of the block.
        length_bytes: u32,
        /// What the host may not read of it.
        closed: ByteRanges,
    },
    /// The owner of the job gave up before the first change.
    #[error("the update was cancelled before the first change; nothing was changed")]
    Cancelled,
    /// A block did not take its new contents.
    #[error(
        "the eraseblock at {offset_bytes:#x} did not take its new contents in {attempts} attempts"
    )]
    Block {
        /// Offset of the block.
        offset_bytes: u64,
        /// How often it was tried.
        attempts: u32,
        /// What went wrong the last time.
        source: BlockFault,
    },
    /// The final read failed.
    #[error("cannot read {length_bytes:#x} bytes at {offset_bytes:#x} for the final comparison")]
    VerifyRead {
        /// Offset on the chip.
        offset_bytes: u64,
        /// Length of the read.
        length_bytes: u64,
        /// What the device said.
        source: io::Error,
    },
    /// A block of the plan changes again and again.
    #[error(
        "somebody else keeps changing the eraseblock at {offset_bytes:#x}: it was written again \
        {repairs} times; if the firmware writes this range itself, make a bundle that preserves it"
    )]
    ChangedAgain {
        /// Offset of the block.
        offset_bytes: u64,
        /// How often it was written again.
        repairs: u32,
    },
    /// The final read found other bytes than were written.
    #[error(
        "the final comparison found {got:#04x} at {offset_bytes:#x} where {expected:#04x} should \
        be"
    )]
    VerifyDiffers {
        /// Offset of the first byte that differs.
        offset_bytes: u64,
        /// As it should be.
        expected: u8,
        /// As it was read.
        got: u8,
    },
}

impl FlashError {
    /// Returns the reason that a job ends with.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Locked { .. } | Self::NotForHost { .. } | Self::ClosedChanges { .. } => {
                Reason::FlashLocked
            }
            Self::Misfit(_) | Self::UnsafeMove { .. } | Self::WrongOrder(_) => {
                Reason::LayoutMismatch
            }
            Self::BootGuardMismatch(_) => Reason::BootGuardMismatch,
            Self::ImageInvalid { .. } => Reason::ImageInvalid,
            Self::Unreadable { .. }
            | Self::MapUnreadable { .. }
            | Self::UnstableRead { .. }
            | Self::NothingReadable => Reason::BackupFailed,
            Self::ImageSize { .. } | Self::PartialBlock { .. } => Reason::ImageSizeMismatch,
            _ => Reason::FlashUnsupported,
        }
    }
}

/// The reason and the words for a chip that an update cannot begin on.
impl From<&FlashError> for Refusal {
    fn from(error: &FlashError) -> Self {
        Self::new(error.reason(), with_causes(error))
    }
}
