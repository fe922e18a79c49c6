//! Which fragments a payload has, and where they lie in it.

use super::TransferError;
use crate::wire::broadcast::{RepairRule, TransferParameters};
use crate::wire::fragment_status::BLOCKS_MAX;

/// The most source fragments in one code block. With [`REPAIR_OF_LARGE_BLOCK`] it fills GF(2^16)
/// exactly.
const SOURCE_COUNT_MAX: u32 = 49_152;

/// Up to this many source fragments a block has as many repair fragments, enough for a loss of one
/// half.
const SOURCE_COUNT_DOUBLED_MAX: u32 = 32_768;

/// Repair fragments of a block that is larger than that.
const REPAIR_OF_LARGE_BLOCK: u32 = 16_384;

/// Fitted repair fragments are at least this part of the source fragments: enough for a loss of one
/// quarter.
const FITTED_SHARE_DIVISOR: u32 = 3;

/// The fewest repair fragments of a block: tiny payloads need a high rate of repair.
const REPAIR_COUNT_MIN: u32 = 32;

const _: () = assert!(
    (crate::wire::broadcast::PAYLOAD_SIZE_MAX / crate::wire::broadcast::FRAGMENT_SIZE_MIN as u32)
        .div_ceil(SOURCE_COUNT_MAX) as usize
        <= BLOCKS_MAX
);

/// The shape of a transfer; it follows from payload size and fragment size alone.
///
/// Source fragment `i` of the payload is number `i / blocks` of block `i % blocks`, so that a burst
/// of losses is shared by all blocks. In each block the numbers from `source_count` on are the
/// repair fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    payload_size: usize,
    fragment_size: usize,
    source_total: u32,
    block_count: u16,
    repair: RepairRule,
}

impl Geometry {
    /// Returns the shape that the parameters describe.
    ///
    /// # Errors
    /// [`TransferError::Parameters`] when a size is out of bounds.
    pub fn new(parameters: &TransferParameters) -> Result<Self, TransferError> {
        parameters.check()?;
        let source_total =
            parameters.payload_size_bytes.div_ceil(u32::from(parameters.fragment_size_bytes));
        Ok(Self {
            payload_size: parameters.payload_size_bytes as usize,
            fragment_size: usize::from(parameters.fragment_size_bytes),
            source_total,
            block_count: source_total.div_ceil(SOURCE_COUNT_MAX) as u16,
            repair: parameters.repair,
        })
    }

    /// Payload in bytes.
    pub fn payload_size(&self) -> usize {
        self.payload_size
    }

    /// Payload bytes in each fragment.
    pub fn fragment_size(&self) -> usize {
        self.fragment_size
    }

    /// Number of source fragments of all blocks, which is how many make a payload.
    pub fn source_total(&self) -> u32 {
        self.source_total
    }

    /// Source fragments in bytes: the payload, filled up to whole fragments.
    pub fn padded_size(&self) -> usize {
        self.source_total as usize * self.fragment_size
    }

    /// Code blocks, at most [`BLOCKS_MAX`].
    pub fn block_count(&self) -> u16 {
        self.block_count
    }

    /// Number of source fragments of a block; any of its fragments, that many, restore it.
    pub fn source_count(&self, block: u16) -> u32 {
        let blocks = u32::from(self.block_count);
        self.source_total / blocks + u32::from(u32::from(block) < self.source_total % blocks)
    }

    /// Repair fragments of a block.
    pub fn repair_count(&self, block: u16) -> u32 {
        let count = match (self.repair, self.source_count(block)) {
            (RepairRule::Fitted, sources) => fitted_repair_count(sources),
            (_, sources) if sources <= SOURCE_COUNT_DOUBLED_MAX => sources,
            _ => REPAIR_OF_LARGE_BLOCK,
        };
        count.max(REPAIR_COUNT_MIN)
    }

    /// Source and repair fragments of a block.
    pub fn fragment_count(&self, block: u16) -> u32 {
        self.source_count(block) + self.repair_count(block)
    }

    /// Returns whether the transfer has this fragment.
    pub fn has(&self, block: u16, number: u32) -> bool {
        block < self.block_count && number < self.fragment_count(block)
    }

    /// Block and number of the payload's source fragment `index`.
    pub(super) fn source_at(&self, index: u32) -> (u16, u32) {
        let blocks = u32::from(self.block_count);
        ((index % blocks) as u16, index / blocks)
    }

    /// Returns where a source fragment lies in the padded payload, in bytes.
    pub(super) fn source_range(&self, block: u16, number: u32) -> std::ops::Range<usize> {
        let index = number as usize * usize::from(self.block_count) + usize::from(block);
        index * self.fragment_size..(index + 1) * self.fragment_size
    }
}

/// The most repair fragments that fit beside the source fragments into a transform of a power of
/// two, whose own number is one, too; at least a third of the source fragments, and not more than
/// those.
fn fitted_repair_count(sources: u32) -> u32 {
    let mut width = sources.next_power_of_two();
    loop {
        let room = (width - sources).checked_ilog2().map_or(0, |bits| 1 << bits);
        if room * FITTED_SHARE_DIVISOR >= sources {
            return room.min(sources);
        }
        width *= 2;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::broadcast::{GroupKey, PAYLOAD_SIZE_MAX};
    use proptest::prelude::*;

    fn geometry(payload_size_bytes: u32, fragment_size_bytes: u16, repair: RepairRule) -> Geometry {
        let parameters = TransferParameters {
            campaign: 1,
            group_key: GroupKey::new([0; 32]),
            payload_size_bytes,
            fragment_size_bytes,
            repair,
        };
        Geometry::new(&parameters).unwrap()
    }

    #[test]
    fn known_shapes() {
        for (size, repair, source_total, repair_count) in [
            (1, RepairRule::Doubled, 1, 32),
            (1, RepairRule::Fitted, 1, 32),
            (16 << 20, RepairRule::Doubled, 11_651, 11_651),
            (16 << 20, RepairRule::Fitted, 11_651, 4096),
            // A transform of twice the size, since there is no room for a third in the smallest.
            (20 << 20, RepairRule::Fitted, 14_564, 14_564),
            (64 << 20, RepairRule::Doubled, 46_604, 16_384),
            (64 << 20, RepairRule::Fitted, 46_604, 16_384),
        ] {
            let shape = geometry(size, 1440, repair);
            assert_eq!(shape.block_count(), 1);
            assert_eq!((shape.source_total(), shape.repair_count(0)), (source_total, repair_count));
        }
        assert_eq!(geometry(PAYLOAD_SIZE_MAX, 512, RepairRule::Fitted).block_count(), 11);
    }

    proptest! {
        #[test]
        fn every_shape_is_one_that_the_code_supports(
            size in 1..=PAYLOAD_SIZE_MAX,
            half in 256u16..=4470,
            is_fitted: bool,
        ) {
            let repair = if is_fitted { RepairRule::Fitted } else { RepairRule::Doubled };
            let geometry = geometry(size, half * 2, repair);
            let mut total = 0;
            for block in 0..geometry.block_count() {
                let sources = geometry.source_count(block);
                let repairs = geometry.repair_count(block);
                total += sources;
                prop_assert!(repairs >= sources.div_ceil(FITTED_SHARE_DIVISOR));
                prop_assert!(reed_solomon_simd::ReedSolomonEncoder::supports(
                    sources as usize,
                    repairs as usize,
                ));
            }
            prop_assert_eq!(total, geometry.source_total());
            let last = geometry.source_total() - 1;
            let (block, number) = geometry.source_at(last);
            prop_assert!(number < geometry.source_count(block));
            prop_assert_eq!(geometry.source_range(block, number).end, geometry.padded_size());
            prop_assert!(geometry.padded_size() - size as usize <= geometry.fragment_size());
        }
    }
}
