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
/// block is a part of the payload without a gap; all have `block_sources` fragments but the last
/// one, or the last two, of which the first has half of that where there may be so many blocks:
/// what is decoded behind the last fragment is small then. In each block the numbers from
/// `source_count` on are the repair fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    payload_size: usize,
    fragment_size: usize,
    source_total: u32,
    block_count: u16,
    block_sources: u32,
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

    /// Cuts a payload into blocks that hold so many source fragments at most, or more if these
    /// were more than [`BLOCKS_MAX`] blocks.
    pub(super) fn cut(
        parameters: &TransferParameters,
        source_count_max: u32,
    ) -> Result<Self, TransferError> {
        parameters.check()?;
        let source_total =
            parameters.payload_size_bytes.div_ceil(u32::from(parameters.fragment_size_bytes));
        let block_sources = source_count_max.max(source_total.div_ceil(BLOCKS_MAX as u32));
        let whole = (source_total - 1) / block_sources;
        let rest = source_total - whole * block_sources;
        let is_halved =
            parameters.fec == FecScheme::Fitted && whole > 0 && rest > block_sources / 2;
        let block_count = whole + 1 + u32::from(is_halved);
        Ok(Self {
            payload_size: parameters.payload_size_bytes as usize,
            fragment_size: usize::from(parameters.fragment_size_bytes),
            source_total,
            block_count: block_count.min(BLOCKS_MAX as u32) as u16,
            block_sources,
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
        self.sources_within(block, self.source_total)
    }

    /// How many of the payload's first `sources` source fragments are of this block.
    pub(super) fn sources_within(&self, block: u16, sources: u32) -> u32 {
        let blocks = u32::from(self.block_count);
        match self.fec {
            FecScheme::Doubled => sources / blocks + u32::from(u32::from(block) < sources % blocks),
            FecScheme::Fitted => {
                let sources = sources.min(self.first_source(block + 1));
                sources.saturating_sub(self.first_source(block))
            }
        }
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
                let begun = (0..self.block_count).take_while(|it| self.first_source(*it) <= index);
                let block = begun.count() as u16 - 1;
                (block, index - self.first_source(block))
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

    /// Whether the last of the payload's first `sources` source fragments is also that of a block
    /// without a gap, or of the payload.
    pub(super) fn ends_block(&self, sources: u32) -> bool {
        sources.checked_sub(1).is_some_and(|last| self.block_end(last) == sources)
    }

    /// Where a block begins that is a part of the payload without a gap. Behind the last one is
    /// the payload's end.
    fn first_source(&self, block: u16) -> u32 {
        if block >= self.block_count {
            return self.source_total;
        }
        let whole = u32::from(block).min((self.source_total - 1) / self.block_sources);
        let halves = u32::from(block) - whole;
        whole * self.block_sources + halves * (self.block_sources / 2)
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
            (10 << 20, FecScheme::Fitted, 1, 7282, 7282),
            (20 << 20, FecScheme::Fitted, 2, 14_564, 4096),
            (64 << 20, FecScheme::Doubled, 1, 46_604, 16_384),
            (64 << 20, FecScheme::Fitted, 5, 46_604, 4096),
            (PAYLOAD_SIZE_MAX, FecScheme::Doubled, 4, 186_414, 16_384),
            (PAYLOAD_SIZE_MAX, FecScheme::Fitted, 16, 186_414, 4096),
        ] {
            let shape = geometry(size, 1440, fec);
            assert_eq!(shape.block_count(), blocks);
            assert_eq!((shape.source_total(), shape.repair_count(0)), (source_total, repair_count));
        }
        assert_eq!(geometry(PAYLOAD_SIZE_MAX, 512, FecScheme::Doubled).block_count(), 11);
        assert_eq!(geometry(PAYLOAD_SIZE_MAX, 512, FecScheme::Fitted).block_count(), 16);
        let sources = |size: u32, fragment_size| {
            let shape = geometry(size, fragment_size, FecScheme::Fitted);
            (0..shape.block_count()).map(|block| shape.source_count(block)).collect::<Vec<_>>()
        };
        assert_eq!(sources(12_289 * 1440, 1440), [12_288, 1]);
        assert_eq!(sources(18_432 * 1440, 1440), [12_288, 6144]);
        assert_eq!(sources(18_433 * 1440, 1440), [12_288, 6144, 1]);
        assert_eq!(sources(15 * 12_288 * 1440, 1440)[13..], [12_288, 6144, 6144]);
        assert_eq!(sources(64 << 20, 1440), [12_288, 12_288, 12_288, 6144, 3596]);
        // Halves would be a block too many.
        assert_eq!(sources((15 * 12_288 + 6145) * 1400, 1400)[14..], [12_288, 6145]);
        assert_eq!(sources(PAYLOAD_SIZE_MAX, 514)[14..], [32_641, 32_633]);
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
                for (block, left) in (0..).zip(&left) {
                    let sent = geometry.source_count(block) - left;
                    prop_assert_eq!(geometry.sources_within(block, index), sent);
                }
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
