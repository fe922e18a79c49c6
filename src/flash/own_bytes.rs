//! Bytes of a chip that are relied on: read twice.

use std::ops::Range;

use super::reading::{GoodBlock, good_blocks, read};
use super::{EraseBlock, Flash, Geometry, Statistics, WriteRule};

/// What a buffer holds before each of the two reads, so that a read that does nothing is noticed.
const FILLERS: [u8; 2] = [0x55, 0xaa];

/// Returns these bytes of the chip's contents, which leave bad blocks out. `None` when they cannot
/// be read, or not twice the same.
pub fn read_twice(flash: &mut dyn Flash, range: Range<u64>) -> Option<Vec<u8>> {
    // Only NAND has bad blocks.
    let blocks = match flash.geometry().rule() {
        WriteRule::PageOnce => good_blocks(flash).ok()?,
        _ => every_block(flash.geometry()),
    };
    let [first, second] = FILLERS.map(|filler| read_once(flash, &blocks, &range, filler));
    first.filter(|first| second.as_ref() == Some(first))
}

fn every_block(geometry: &Geometry) -> Vec<GoodBlock> {
    let good = |block: EraseBlock| GoodBlock { block, contents_offset_bytes: block.offset_bytes() };
    geometry.blocks().map(good).collect()
}

fn read_once(
    flash: &mut dyn Flash,
    blocks: &[GoodBlock],
    range: &Range<u64>,
    filler: u8,
) -> Option<Vec<u8>> {
    let mut bytes = vec![filler; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
    let mut filled_bytes = 0;
    for GoodBlock { block, contents_offset_bytes: offset } in blocks {
        let start = range.start.max(*offset);
        let end = range.end.min(offset + u64::from(block.length_bytes()));
        if start >= end {
            continue;
        }
        let place = (start - range.start) as usize..(end - range.start) as usize;
        filled_bytes += place.len();
        let at = block.offset_bytes() + (start - offset);
        read(flash, at, bytes.get_mut(place)?, &mut Statistics::default()).ok()?;
    }
    (filled_bytes == bytes.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flash::SimulatedFlash;
    use proptest::prelude::*;

    const CHIP_BYTES: u64 = 0x8000;

    proptest! {
        #[test]
        fn what_is_there_comes_as_it_is_and_nothing_else(
            start in 0..CHIP_BYTES + 9,
            length in 0u64..0x3000,
            bad in 0u32..8,
        ) {
            let bytes: Vec<u8> = (0..CHIP_BYTES).map(|n| (n >> 5) as u8 ^ n as u8).collect();
            let geometry = Geometry::uniform(CHIP_BYTES, 0x1000, 1, WriteRule::ClearBits).unwrap();
            let mut chip = SimulatedFlash::new(geometry, bytes.clone());
            let range = start..start + length;
            let expected = bytes.get(start as usize..(start + length) as usize);
            let read = read_twice(&mut chip, range.clone());
            prop_assert_eq!(read.as_deref(), expected);
            // What cannot be read is not made up.
            let closed = u64::from(bad) * 0x1000;
            chip.close(closed..closed + 0x1000);
            let touches = start < closed + 0x1000 && closed < start + length;
            let expected = expected.filter(|_| !touches);
            let read = read_twice(&mut chip, range);
            prop_assert_eq!(read.as_deref(), expected);
        }
    }
}
