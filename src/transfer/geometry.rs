//! Which fragments a payload has, and where they lie in it.

use std::ops::Range;

use super::TransferError;
use crate::wire::broadcast::{FecScheme, TransferParameters};
use crate::wire::fragment_status::BLOCKS_MAX;

/// The most source fragments in one code block. With [`REPAIR_OF_LARGE_BLOCK`] it fills GF(2^16)
/// exactly.
const SOURCE_COUNT_MAX: u32 = 49_152;

/// The most source fragments in one block of [`FecScheme::Fitted`]: with a third of them as repair
/// fragments they fill a transform exactly. In smaller blocks more hosts have bad luck, which costs
/// every host's share of the channel.
const FITTED_SOURCE_COUNT_MAX: u32 = 12_288;

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

/// The shape of a transfer; it follows from its parameters alone.
///
/// By [`FecScheme::Doubled`] source fragment `i` of the payload is number `i / blocks` of block `i
/// % blocks`, so that a burst of losses is shared by all blocks. By [`FecScheme::Fitted`] each
/// block is a part of the payload without a gap. In each block the numbers from `source_count` on
/// are the repair fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    payload_size: usize,
    fragment_size: usize,
    source_total: u32,
    block_count: u16,
    fec: FecScheme,
}

impl Geometry {
    /// Returns the shape that the parameters describe.
    ///
    /// # Errors
    /// [`TransferError::Parameters`] when a size is out of bounds.
    pub fn new(parameters: &TransferParameters) -> Result<Self, TransferError> {
        match parameters.fec {
            FecScheme::Doubled => Self::cut(parameters, SOURCE_COUNT_MAX),
            FecScheme::Fitted => Self::cut(parameters, FITTED_SOURCE_COUNT_MAX),
        }
    }

    /// Cuts a payload into as few blocks as hold so many source fragments at most; but never into
    /// more than [`BLOCKS_MAX`].
    pub(super) fn cut(
        parameters: &TransferParameters,
        source_count_max: u32,
    ) -> Result<Self, TransferError> {
        parameters.check()?;
        let source_total =
            parameters.payload_size_bytes.div_ceil(u32::from(parameters.fragment_size_bytes));
        Ok(Self {
            payload_size: parameters.payload_size_bytes as usize,
            fragment_size: usize::from(parameters.fragment_size_bytes),
            source_total,
            block_count: source_total.div_ceil(source_count_max).min(BLOCKS_MAX as u32) as u16,
            fec: parameters.fec,
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
        let count = match (self.fec, self.source_count(block)) {
            (FecScheme::Fitted, sources) => fitted_repair_count(sources),
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
        match self.fec {
            FecScheme::Doubled => ((index % blocks) as u16, index / blocks),
            FecScheme::Fitted => {
                // The first blocks are larger by one, unless all are equal.
                let (count, larger) = (self.source_total / blocks, self.source_total % blocks);
                let of_larger = larger * (count + 1);
                match index.checked_sub(of_larger) {
                    None => ((index / (count + 1)) as u16, index % (count + 1)),
                    Some(rest) => ((larger + rest / count) as u16, rest % count),
                }
            }
        }
    }

    /// Returns where a source fragment lies in the padded payload, in bytes.
    pub(super) fn source_range(&self, block: u16, number: u32) -> Range<usize> {
        let index = match self.fec {
            FecScheme::Doubled => number * u32::from(self.block_count) + u32::from(block),
            FecScheme::Fitted => self.first_source(block) + number,
        } as usize;
        index * self.fragment_size..(index + 1) * self.fragment_size
    }

    /// The blocks whose source fragments are all among the payload's first `sources` ones.
    pub(super) fn blocks_within(&self, sources: u32) -> Range<u16> {
        let end = match self.fec {
            FecScheme::Doubled if sources < self.source_total => 0,
            FecScheme::Fitted if sources < self.source_total => self.source_at(sources).0,
            _ => self.block_count,
        };
        0..end
    }

    /// How many of the payload's source fragments there are up to the end of the block that
    /// `index` lies in; by [`FecScheme::Doubled`] all.
    pub(super) fn block_end(&self, index: u32) -> u32 {
        match self.fec {
            FecScheme::Doubled => self.source_total,
            FecScheme::Fitted => self.first_source(self.source_at(index).0 + 1),
        }
    }

    /// Where a block begins that is a part of the payload without a gap.
    fn first_source(&self, block: u16) -> u32 {
        let (block, blocks) = (u32::from(block), u32::from(self.block_count));
        block * (self.source_total / blocks) + block.min(self.source_total % blocks)
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

    fn geometry(payload_size_bytes: u32, fragment_size_bytes: u16, fec: FecScheme) -> Geometry {
        Geometry::new(&parameters(payload_size_bytes, fragment_size_bytes, fec)).unwrap()
    }

    fn parameters(
        payload_size_bytes: u32,
        fragment_size_bytes: u16,
        fec: FecScheme,
    ) -> TransferParameters {
        TransferParameters {
            campaign: 1,
            group_key: GroupKey::new([0; 32]),
            payload_size_bytes,
            fragment_size_bytes,
            fec,
        }
    }

    #[test]
    fn known_shapes() {
        for (size, fec, blocks, source_total, repair_count) in [
            (1, FecScheme::Doubled, 1, 1, 32),
            (1, FecScheme::Fitted, 1, 1, 32),
            (16 << 20, FecScheme::Doubled, 1, 11_651, 11_651),
            (16 << 20, FecScheme::Fitted, 1, 11_651, 4096),
            // A transform of twice the size, since there is no room for a third in the smallest.
            (20 << 20, FecScheme::Fitted, 2, 14_564, 7282),
            (64 << 20, FecScheme::Doubled, 1, 46_604, 16_384),
            (64 << 20, FecScheme::Fitted, 4, 46_604, 4096),
            (PAYLOAD_SIZE_MAX, FecScheme::Doubled, 4, 186_414, 16_384),
            (PAYLOAD_SIZE_MAX, FecScheme::Fitted, 16, 186_414, 4096),
        ] {
            let shape = geometry(size, 1440, fec);
            assert_eq!(shape.block_count(), blocks);
            assert_eq!((shape.source_total(), shape.repair_count(0)), (source_total, repair_count));
        }
        assert_eq!(geometry(PAYLOAD_SIZE_MAX, 512, FecScheme::Doubled).block_count(), 11);
        assert_eq!(geometry(PAYLOAD_SIZE_MAX, 512, FecScheme::Fitted).block_count(), 16);
    }

    proptest! {
        #[test]
        fn every_shape_is_one_that_the_code_supports(
            size in 1..=PAYLOAD_SIZE_MAX,
            half in 256u16..=4470,
            is_fitted: bool,
        ) {
            let fec = if is_fitted { FecScheme::Fitted } else { FecScheme::Doubled };
            let geometry = geometry(size, half * 2, fec);
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

        /// Each source fragment is one of one block, at its place in the payload; and the blocks
        /// that are whole when so many were sent are just those.
        #[test]
        fn every_source_fragment_has_one_place(
            count in 1u32..400,
            source_count_max in 30u32..100,
            is_fitted: bool,
        ) {
            let fec = if is_fitted { FecScheme::Fitted } else { FecScheme::Doubled };
            let geometry =
                Geometry::cut(&parameters(count * 512, 512, fec), source_count_max).unwrap();
            let mut left: Vec<u32> =
                (0..geometry.block_count()).map(|block| geometry.source_count(block)).collect();
            for index in 0..count {
                let whole = left.iter().take_while(|left| **left == 0).count();
                let whole = if is_fitted { whole } else { 0 };
                prop_assert_eq!(geometry.blocks_within(index), 0..whole as u16);
                let (block, number) = geometry.source_at(index);
                let place = index as usize * 512..(index as usize + 1) * 512;
                prop_assert_eq!(geometry.source_range(block, number), place);
                prop_assert!(number < geometry.source_count(block));
                left[usize::from(block)] -= 1;
                let end = geometry.block_end(index);
                let is_last = index + 1 == count;
                let is_end = if is_fitted { left[usize::from(block)] == 0 } else { is_last };
                prop_assert_eq!(end == index + 1, is_end);
            }
            prop_assert!(left.iter().all(|left| *left == 0));
            prop_assert_eq!(geometry.blocks_within(count), 0..geometry.block_count());
        }
    }
}
