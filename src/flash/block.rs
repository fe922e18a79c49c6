//! One attempt to bring eraseblocks to their new contents: erase, write, read back.

use std::ops::Range;

use super::plan::{join, written_ranges};
use super::{BlockFault, Change, EraseBlock, Flash, Statistics, WriteRule};

/// Brings `blocks`, which follow one another on the chip, to `contents`, each by its change, and
/// proves it by reading them back.
///
/// All are erased, then all are written, then all are read: chips and drivers change slowly from
/// one of these to the other.
///
/// # Errors
/// The first thing that went wrong; what the blocks hold is unknown then.
pub(super) fn rewrite(
    flash: &mut dyn Flash,
    blocks: &[(EraseBlock, &Change)],
    contents: &[u8],
    statistics: &mut Statistics,
) -> Result<(), BlockFault> {
    let Some((first, _)) = blocks.first() else { return Ok(()) };
    for (block, change) in blocks {
        match change {
            Change::WriteOnly(_) => statistics.erases_saved += 1,
            Change::EraseAndWrite => {
                statistics.erases += 1;
                flash.erase(*block).map_err(BlockFault::Erase)?;
            }
        }
    }
    let write_bytes = flash.geometry().write_bytes() as usize;
    // Ranges that meet at the border of two blocks become one write.
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (block, change) in blocks {
        let start = (block.offset_bytes() - first.offset_bytes()) as usize;
        let of_block = match change {
            Change::WriteOnly(ranges) => ranges.clone(),
            Change::EraseAndWrite => {
                written_ranges(&contents[start..start + block.length_bytes() as usize], write_bytes)
            }
        };
        ranges.extend(of_block.into_iter().map(|range| range.start + start..range.end + start));
    }
    for range in join(ranges.into_iter()) {
        write(flash, first.offset_bytes(), contents, range, statistics)?;
    }
    read_back(flash, first.offset_bytes(), contents)
}

/// Returns the change that works whatever the block holds: for a second attempt, and for the
/// restore.
pub(super) fn unconditional(rule: WriteRule, length_bytes: usize) -> Change {
    match rule {
        WriteRule::Overwrite => Change::WriteOnly(std::iter::once(0..length_bytes).collect()),
        WriteRule::ClearBits | WriteRule::PageOnce => Change::EraseAndWrite,
    }
}

fn write(
    flash: &mut dyn Flash,
    start_bytes: u64,
    contents: &[u8],
    range: Range<usize>,
    statistics: &mut Statistics,
) -> Result<(), BlockFault> {
    let offset_bytes = start_bytes + range.start as u64;
    let length_bytes = range.len() as u64;
    statistics.bytes_written += length_bytes;
    flash.write(offset_bytes, &contents[range]).map_err(|source| BlockFault::Write {
        offset_bytes,
        length_bytes,
        source,
    })
}

fn read_back(flash: &mut dyn Flash, offset_bytes: u64, contents: &[u8]) -> Result<(), BlockFault> {
    let mut buffer = complement(contents);
    flash.read(offset_bytes, &mut buffer).map_err(BlockFault::ReadBack)?;
    match first_difference(contents, &buffer) {
        None => Ok(()),
        Some((at, expected, got)) => {
            Err(BlockFault::Differs { offset_bytes: offset_bytes + at as u64, expected, got })
        }
    }
}

/// Returns a buffer for a read that must find `contents`, with other bytes in every place: a read
/// that does nothing, or stops half way, is noticed.
pub(super) fn complement(contents: &[u8]) -> Vec<u8> {
    // The compiler makes no words of bytes where it optimises for size.
    let (words, rest) = contents.as_chunks::<16>();
    let words: Vec<_> =
        words.iter().map(|word| (!u128::from_ne_bytes(*word)).to_ne_bytes()).collect();
    let mut buffer = words.into_flattened();
    buffer.extend(rest.iter().map(|byte| !byte));
    buffer
}

/// Position and both values of the first byte in which two equally long slices differ.
pub(super) fn first_difference(expected: &[u8], got: &[u8]) -> Option<(usize, u8, u8)> {
    debug_assert_eq!(expected.len(), got.len());
    // The comparison of whole slices is vectorised; the search is only for the rare case.
    if expected == got {
        return None;
    }
    expected.iter().zip(got).enumerate().find(|(_, (a, b))| a != b).map(|(at, (a, b))| (at, *a, *b))
}
