//! Reading a chip that may not answer everywhere.

use std::io;

use super::{EraseBlock, Flash, Statistics, WriteRule};
use crate::image::{ByteRanges, Contents, Unreadable};

/// How often a read is tried before it counts as failed.
pub const READ_ATTEMPTS_MAX: u32 = 3;

/// Where an eraseblock cannot be read as a whole, its parts of this size are tried: the unit in
/// which an Intel flash descriptor divides a chip.
const PART_BYTES: usize = 4096;

/// Why the contents of a chip are not known.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The chip does not say which blocks are bad.
    #[error("the chip does not say whether the eraseblock at {offset_bytes:#x} is bad")]
    Survey {
        /// Start of the eraseblock.
        offset_bytes: u64,
        /// What the device reports.
        #[source]
        source: io::Error,
    },
    /// Bytes that nothing closes to the host cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// An eraseblock that is not marked bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoodBlock {
    /// Where it lies on the chip.
    pub(crate) block: EraseBlock,
    /// Where its bytes are in the contents of the chip, which leave bad blocks out.
    pub(crate) contents_offset_bytes: u64,
}

/// Returns the eraseblocks that hold the contents of a chip, in order. Regions, layouts and what is
/// closed count from the start of these contents, not of the chip.
///
/// # Errors
/// [`ContentsError::Survey`].
pub(crate) fn good_blocks(flash: &mut dyn Flash) -> Result<Vec<GoodBlock>, ContentsError> {
    let all: Vec<EraseBlock> = flash.geometry().blocks().collect();
    let (mut good, mut contents_offset_bytes) = (Vec::with_capacity(all.len()), 0);
    for block in all {
        let offset_bytes = block.offset_bytes();
        let is_bad = flash.is_bad(block);
        if !is_bad.map_err(|source| ContentsError::Survey { offset_bytes, source })? {
            good.push(GoodBlock { block, contents_offset_bytes });
            contents_offset_bytes += u64::from(block.length_bytes());
        }
    }
    Ok(good)
}

/// What the chip holds; of NAND, what its good blocks hold. `untouched` is what a bundle preserves
/// or a record leaves out: it need not be readable ([`Contents::new`]).
///
/// # Errors
/// [`ContentsError`].
pub fn read_contents(
    flash: &mut dyn Flash,
    untouched: &ByteRanges,
) -> Result<Contents, ContentsError> {
    let (mut bytes, mut unread) = (Vec::new(), ByteRanges::default());
    for GoodBlock { block, contents_offset_bytes: start } in good_blocks(flash)? {
        bytes.resize(bytes.len() + block.length_bytes() as usize, 0);
        let missing = read_block(flash, block, &mut bytes[start as usize..]);
        for range in missing.iter() {
            unread.insert(start + range.start..start + range.end);
        }
    }
    Ok(Contents::new(bytes, &unread, untouched)?)
}

/// Fills `buffer` with the bytes of `block`; returns the ranges, from the start of the block, that
/// cannot be read. These hold anything.
pub(crate) fn read_block(
    flash: &mut dyn Flash,
    block: EraseBlock,
    buffer: &mut [u8],
) -> ByteRanges {
    read_parts(flash, block, buffer, &mut Statistics::default()).0
}

/// The same with the last error, if there was any; and counts the retries.
pub(super) fn read_parts(
    flash: &mut dyn Flash,
    block: EraseBlock,
    buffer: &mut [u8],
    statistics: &mut Statistics,
) -> (ByteRanges, Option<io::Error>) {
    let Err(error) = read(flash, block.offset_bytes(), buffer, statistics) else {
        return (ByteRanges::default(), None);
    };
    let mut unread: ByteRanges = std::iter::once(0..buffer.len() as u64).collect();
    let mut last_error = Some(error);
    // The pages of a NAND block fail for reasons of their own, and their block is erased as a
    // whole.
    if flash.geometry().rule() == WriteRule::PageOnce || buffer.len() <= PART_BYTES {
        return (unread, last_error);
    }
    unread = ByteRanges::default();
    for (nth, part) in buffer.chunks_mut(PART_BYTES).enumerate() {
        let start = (nth * PART_BYTES) as u64;
        if let Err(error) = read(flash, block.offset_bytes() + start, part, statistics) {
            unread.insert(start..start + part.len() as u64);
            last_error = Some(error);
        }
    }
    (unread, last_error)
}

/// Reads, and tries again when that fails.
pub(super) fn read(
    flash: &mut dyn Flash,
    offset_bytes: u64,
    buffer: &mut [u8],
    statistics: &mut Statistics,
) -> io::Result<()> {
    let mut attempts = 1;
    loop {
        match flash.read(offset_bytes, buffer) {
            Err(_) if attempts < READ_ATTEMPTS_MAX => attempts += 1,
            result => return result,
        }
        statistics.retries += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flash::{Geometry, SimulatedFlash};
    use proptest::prelude::*;

    proptest! {
        /// Blocks of 64 KiB in which a descriptor's pages of 4 KiB are closed, as on some boards.
        #[test]
        fn all_that_may_be_read_is_read(
            closed in proptest::collection::vec((0u64..32, 1u64..6), 0..4),
            is_silent in any::<bool>(),
        ) {
            let bytes: Vec<u8> = (0..0x2_0000u32).map(|n| (n >> 9) as u8 | 1).collect();
            let geometry = Geometry::uniform(0x2_0000, 0x1_0000, 1, WriteRule::ClearBits).unwrap();
            let mut chip = SimulatedFlash::new(geometry, bytes.clone());
            let closed = closed
                .iter()
                .map(|(first, count)| first * 0x1000..(first + count) * 0x1000)
                .collect::<ByteRanges>()
                .before(0x2_0000);
            closed.iter().for_each(|range| chip.close(range.clone()));
            if is_silent {
                chip.answer_closed_reads();
            }
            let contents = read_contents(&mut chip, &closed).unwrap();
            let expected = if is_silent { ByteRanges::default() } else { closed.clone() };
            prop_assert_eq!(contents.closed(), &expected);
            for (at, byte) in contents.bytes().iter().enumerate() {
                let is_closed = closed.covers(&(at as u64..at as u64 + 1));
                prop_assert_eq!(*byte, if is_closed { 0xff } else { bytes[at] });
            }
            let refused = read_contents(&mut chip, &ByteRanges::default());
            prop_assert_eq!(refused.is_err(), !closed.is_empty() && !is_silent);
        }
    }
}
