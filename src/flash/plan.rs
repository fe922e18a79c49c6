//! The policy: what is to be changed on a chip, and in which order. Pure; nothing here touches a
//! device.

use std::ops::Range;

use super::{FlashError, Placement, WriteRule};
use crate::image::{Region, VerifiedImage};

/// A block is looked at in pieces of this size (rounded up to the chip's write size) when it is
/// decided what need not be written: small enough to save time, large enough not to turn one block
/// into hundreds of system calls.
const PIECE_BYTES: usize = 256;

/// How an eraseblock comes to its new contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Erase the block, then write what is not FFh.
    EraseAndWrite,
    /// The rule of the chip allows the change without an erase: write these ranges of the block, in
    /// bytes from its start.
    WriteOnly(Vec<Range<usize>>),
}

/// One eraseblock that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Number of the block in the [`Placement`].
    pub block: usize,
    /// How.
    pub change: Change,
}

/// What a job will do to the chip.
#[derive(Clone, Debug)]
pub struct FlashPlan {
    target: Vec<u8>,
    operations: Vec<Operation>,
    kept: Vec<usize>,
}

impl FlashPlan {
    /// Plans the way from `live`, the contents of the placement's blocks, to `image` with the
    /// preserved regions of `live` merged in.
    ///
    /// Blocks that are equal already are left alone. The others are in ascending order: firmware
    /// starts from the top block on x86, so the block that makes it bootable comes last. A block
    /// that is not `readable` (one flag for each block of the placement) is always erased and
    /// written.
    ///
    /// # Errors
    /// A preserved region that ends beyond the image, that cannot be read, or that shares an
    /// eraseblock with bytes that change: a power cut while that block is rewritten would lose what
    /// was to be preserved.
    pub fn new(
        image: &VerifiedImage,
        placement: &Placement,
        live: &[u8],
        readable: &[bool],
        (rule, write_bytes): (WriteRule, u32),
    ) -> Result<Self, FlashError> {
        let target = merge(image, live)?;
        let (mut operations, mut kept) = (Vec::new(), Vec::new());
        for (block, readable) in readable.iter().copied().enumerate() {
            let range = placement.range(block);
            let (old, new) = (&live[range.clone()], &target[range.clone()]);
            let preserved = preserved_in(image.preserve(), &range);
            if readable && old == new {
                kept.extend(preserved.map(|_| block));
                continue;
            }
            if let Some(region) = preserved {
                return Err(FlashError::PreserveShares {
                    name: region.name.clone(),
                    region_offset_bytes: region.offset_bytes,
                    offset_bytes: placement.block(block).offset_bytes(),
                    length_bytes: placement.block(block).length_bytes(),
                });
            }
            let change = match readable {
                true => change(old, new, rule, write_bytes as usize),
                false => Change::EraseAndWrite,
            };
            operations.push(Operation { block, change });
        }
        Ok(Self { target, operations, kept })
    }

    /// What the chip shall hold in the end, in the image's order.
    pub fn target(&self) -> &[u8] {
        &self.target
    }

    /// The blocks that change, in the order of execution.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Numbers of the blocks that stay because they hold preserved bytes. A wrong read of one of
    /// these would become part of the target.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }
}

fn merge(image: &VerifiedImage, live: &[u8]) -> Result<Vec<u8>, FlashError> {
    let mut target = image.bytes().to_vec();
    for region in image.preserve() {
        let range =
            byte_range(region).filter(|range| range.end <= target.len()).ok_or_else(|| {
                FlashError::PreserveOutside {
                    name: region.name.clone(),
                    offset_bytes: region.offset_bytes,
                    length_bytes: region.length_bytes,
                    image_bytes: target.len() as u64,
                }
            })?;
        target[range.clone()].copy_from_slice(&live[range]);
    }
    Ok(target)
}

fn byte_range(region: &Region) -> Option<Range<usize>> {
    let end = region.offset_bytes.checked_add(region.length_bytes)?;
    Some(usize::try_from(region.offset_bytes).ok()?..usize::try_from(end).ok()?)
}

fn preserved_in<'a>(preserve: &'a [Region], range: &Range<usize>) -> Option<&'a Region> {
    preserve.iter().find(|region| {
        byte_range(region).is_some_and(|kept| {
            kept.start < range.end && range.start < kept.end && !kept.is_empty()
        })
    })
}

fn change(old: &[u8], new: &[u8], rule: WriteRule, write_bytes: usize) -> Change {
    let no_erase = match rule {
        WriteRule::Overwrite => true,
        WriteRule::ClearBits => old.iter().zip(new).all(|(old, new)| old & new == *new),
        // A page that reads as FFh may still have been programmed, with an ECC of its own: only an
        // erase makes it writable.
        WriteRule::PageOnce => false,
    };
    match no_erase {
        true => Change::WriteOnly(join(
            pieces(old.len(), write_bytes).filter(|piece| old[piece.clone()] != new[piece.clone()]),
        )),
        false => Change::EraseAndWrite,
    }
}

/// The ranges of `data` that are not FFh: what has to be written after an erase.
pub(super) fn written_ranges(data: &[u8], write_bytes: usize) -> Vec<Range<usize>> {
    join(pieces(data.len(), write_bytes).filter(|piece| !is_erased(&data[piece.clone()])))
}

/// Whether this is what an erase leaves.
pub(super) fn is_erased(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0xFF)
}

/// Cuts `length` bytes into pieces that may be written one by one.
fn pieces(length: usize, write_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let piece_bytes = PIECE_BYTES.next_multiple_of(write_bytes);
    (0..length).step_by(piece_bytes).map(move |start| start..length.min(start + piece_bytes))
}

/// Makes one range of those that follow one another.
fn join(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}
