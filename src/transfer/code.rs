//! The erasure code of one block: Reed-Solomon over GF(2^16), systematic, any `source_count`
//! fragments suffice.

mod engine;
#[cfg(target_arch = "x86_64")]
mod gfni;

use std::fmt;
use std::ops::Range;

use reed_solomon_simd::rate::{
    DefaultRateDecoder, DefaultRateEncoder, RateDecoder as _, RateEncoder as _,
};

use engine::Fastest;

use super::TransferError;
use super::geometry::Geometry;
use super::payload::Payload;

/// The code treats every 64 bytes of a fragment alone.
const COLUMN_BYTES: usize = 64;

/// The code's working memory is up to four times what it works on, so a block is encoded and
/// decoded one stripe after the other: so wide that the memory is at most this part of the block,
/// or one column wide. A sender has a millisecond between two bursts; a receiver, which looks at
/// all its fragments for each stripe, takes wider ones.
const ENCODING_DIVISOR: usize = 8;
const DECODING_DIVISOR: usize = 4;

/// The repair fragments of all blocks; those of a block are encoded when the first one is needed,
/// or before.
#[derive(Debug)]
pub(super) struct RepairCache {
    blocks: Vec<Option<Encoding>>,
}

impl RepairCache {
    /// Nothing encoded yet.
    pub(super) fn new(geometry: &Geometry) -> Self {
        Self { blocks: (0..geometry.block_count()).map(|_| None).collect() }
    }

    /// Returns repair fragment `index` of a block.
    pub(super) fn fragment(
        &mut self,
        geometry: &Geometry,
        payload: &Payload,
        block: u16,
        index: u32,
    ) -> Result<&[u8], TransferError> {
        let encoding = self.encoding(geometry, block)?;
        while encoding.step(geometry, payload, block)? {}
        let size = geometry.fragment_size();
        Ok(&encoding.fragments[index as usize * size..(index as usize + 1) * size])
    }

    /// Encodes a part of a block, for about a millisecond, if less of it is encoded than what these
    /// are of its source fragments. Returns whether it did.
    pub(super) fn encode_along(
        &mut self,
        geometry: &Geometry,
        payload: &Payload,
        block: u16,
        sources: u32,
    ) -> Result<bool, TransferError> {
        let encoding = self.encoding(geometry, block)?;
        let Range { start: made, end: all } = encoding.stripes.rest;
        let is_behind = (made as u64) * u64::from(geometry.source_count(block))
            < (all as u64) * u64::from(sources);
        Ok(is_behind && encoding.step(geometry, payload, block)?)
    }

    fn encoding(
        &mut self,
        geometry: &Geometry,
        block: u16,
    ) -> Result<&mut Encoding, TransferError> {
        let slot = &mut self.blocks[usize::from(block)];
        match slot {
            Some(encoding) => Ok(encoding),
            None => Ok(slot.insert(Encoding::new(geometry, block)?)),
        }
    }
}

/// Source and repair fragments of a block.
fn counts(geometry: &Geometry, block: u16) -> (usize, usize) {
    (geometry.source_count(block) as usize, geometry.repair_count(block) as usize)
}

/// Stripes of fragments that are still to be worked on; the last one may be shorter.
#[derive(Debug)]
struct Stripes {
    rest: Range<usize>,
    /// Bytes of each fragment: whole columns, or a fragment that is less.
    width: usize,
}

impl Stripes {
    /// So wide that the code's working memory is at most this part of the block.
    fn new(geometry: &Geometry, block: u16, divisor: usize) -> Self {
        let (sources, repairs) = counts(geometry, block);
        let fragment_bytes = geometry.fragment_size();
        let smaller = sources.next_power_of_two().min(repairs.next_power_of_two());
        // The code works on that many fragments at once.
        let worked_on = (smaller + sources.max(repairs)).next_power_of_two();
        let columns = sources * fragment_bytes / divisor / worked_on / COLUMN_BYTES;
        let width = fragment_bytes.min(columns.max(1) * COLUMN_BYTES);
        Self { rest: 0..fragment_bytes, width }
    }
}

impl Iterator for Stripes {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.rest.start;
        self.rest.start = self.rest.end.min(start + self.width);
        Some(start..self.rest.start).filter(|stripe| !stripe.is_empty())
    }
}

/// A block whose repair fragments are made, one stripe after the other.
struct Encoding {
    /// None when all are made.
    encoder: Option<DefaultRateEncoder<Fastest>>,
    stripes: Stripes,
    fragments: Vec<u8>,
}

impl Encoding {
    /// Nothing of the block is made yet.
    fn new(geometry: &Geometry, block: u16) -> Result<Self, TransferError> {
        let (sources, repairs) = counts(geometry, block);
        let stripes = Stripes::new(geometry, block, ENCODING_DIVISOR);
        let encoder =
            DefaultRateEncoder::new(sources, repairs, stripes.width, Fastest::new(), None)?;
        let fragments = vec![0; repairs * geometry.fragment_size()];
        Ok(Self { encoder: Some(encoder), stripes, fragments })
    }

    /// Makes the next stripe of all repair fragments. False when all were made before.
    fn step(
        &mut self,
        geometry: &Geometry,
        payload: &Payload,
        block: u16,
    ) -> Result<bool, TransferError> {
        let Some(encoder) = &mut self.encoder else { return Ok(false) };
        let Some(stripe) = self.stripes.next() else { return Ok(false) };
        let (sources, repairs) = counts(geometry, block);
        encoder.reset(sources, repairs, stripe.len())?;
        for number in 0..sources {
            let fragment = payload.fragment(geometry.source_range(block, number as u32));
            encoder.add_original_shard(&fragment[stripe.clone()])?;
        }
        let encoded = encoder.encode()?;
        let fragments = self.fragments.chunks_exact_mut(geometry.fragment_size());
        for (fragment, piece) in fragments.zip(encoded.recovery_iter()) {
            fragment[stripe.clone()].copy_from_slice(piece);
        }
        drop(encoded);
        if self.stripes.rest.is_empty() {
            self.encoder = None;
        }
        Ok(true)
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoding").field("stripes", &self.stripes).finish_non_exhaustive()
    }
}

/// A block whose source fragments are being restored, one stripe after the other.
pub(super) struct Decoding {
    decoder: DefaultRateDecoder<Fastest>,
    stripes: Stripes,
}

impl Decoding {
    /// Nothing of the block is restored yet.
    pub(super) fn new(geometry: &Geometry, block: u16) -> Result<Self, TransferError> {
        let (sources, repairs) = counts(geometry, block);
        let stripes = Stripes::new(geometry, block, DECODING_DIVISOR);
        let decoder =
            DefaultRateDecoder::new(sources, repairs, stripes.width, Fastest::new(), None)?;
        Ok(Self { decoder, stripes })
    }

    /// Restores the next stripe of the source fragments that are not in `buffer`, and writes each
    /// to its place there. False when all stripes were restored before.
    ///
    /// `held` gives number and place in `buffer` of fragments of the block, at least `source_count`
    /// of them, the same each time; the source fragments among them lie in their own place.
    pub(super) fn step(
        &mut self,
        geometry: &Geometry,
        block: u16,
        buffer: &mut [u8],
        held: impl Iterator<Item = (u32, Range<usize>)>,
    ) -> Result<bool, TransferError> {
        let Some(stripe) = self.stripes.next() else { return Ok(false) };
        let (sources, repairs) = counts(geometry, block);
        let in_stripe = |place: Range<usize>| place.start + stripe.start..place.start + stripe.end;
        self.decoder.reset(sources, repairs, stripe.len())?;
        for (number, place) in held {
            let (number, piece) = (number as usize, &buffer[in_stripe(place)]);
            match number.checked_sub(sources) {
                None => self.decoder.add_original_shard(number, piece)?,
                Some(repair) => self.decoder.add_recovery_shard(repair, piece)?,
            }
        }
        // A restored fragment may overwrite a repair fragment, but only the stripe that is used.
        for (number, piece) in self.decoder.decode()?.restored_original_iter() {
            let place = geometry.source_range(block, number as u32);
            buffer[in_stripe(place)].copy_from_slice(piece);
        }
        Ok(true)
    }
}

impl fmt::Debug for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoding").field("stripes", &self.stripes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::broadcast::{FecScheme, GroupKey, TransferParameters};
    use proptest::prelude::*;
    use reed_solomon_simd::ReedSolomonEncoder;
    use std::sync::Arc;

    #[test]
    fn repair_fragments_are_made_along_with_the_source_fragments() {
        let sources = 1000;
        let geometry = Geometry::new(&TransferParameters {
            campaign: 1,
            group_key: GroupKey::new([0; 32]),
            payload_size_bytes: sources * 1444,
            fragment_size_bytes: 1444,
            fec: FecScheme::Fitted,
        })
        .unwrap();
        let payload = Payload::new(Arc::new(vec![7; geometry.payload_size()]), &geometry);
        let mut cache = RepairCache::new(&geometry);
        let mut steps = 0;
        for sent in 0..=sources {
            let stepped = cache.encode_along(&geometry, &payload, 0, sent).unwrap();
            steps += u32::from(stepped);
            let made = cache.blocks[0].as_ref().unwrap().stripes.rest.start as u64;
            assert!(made * u64::from(sources) >= 1444 * u64::from(sent), "{made} behind {sent}");
            assert!(!stepped || made * u64::from(sources) < 1444 * u64::from(sent + sources / 3));
        }
        assert!(steps > 3, "bit by bit, not all at once");
        let encoding = cache.blocks[0].as_ref().unwrap();
        assert!(encoding.encoder.is_none(), "the working memory is free again");
        assert!(!cache.encode_along(&geometry, &payload, 0, sources).unwrap());
    }

    proptest! {
        /// What goes over the wire does not depend on how it was worked out.
        #[test]
        fn stripes_make_the_fragments_that_whole_fragments_make(
            half in 256u16..=4470,
            count in 1u32..100,
            is_fitted: bool,
        ) {
            let geometry = Geometry::new(&TransferParameters {
                campaign: 1,
                group_key: GroupKey::new([0; 32]),
                payload_size_bytes: u32::from(half) * 2 * count,
                fragment_size_bytes: half * 2,
                fec: if is_fitted { FecScheme::Fitted } else { FecScheme::Doubled },
            })
            .unwrap();
            let bytes = (0..geometry.payload_size() as u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect();
            let payload = Payload::new(Arc::new(bytes), &geometry);
            let repairs = geometry.repair_count(0) as usize;
            let size = geometry.fragment_size();
            let mut whole = ReedSolomonEncoder::new(count as usize, repairs, size).unwrap();
            for number in 0..count {
                let range = geometry.source_range(0, number);
                whole.add_original_shard(payload.fragment(range)).unwrap();
            }
            let whole = whole.encode().unwrap();
            let mut cache = RepairCache::new(&geometry);
            for (index, expected) in whole.recovery_iter().enumerate() {
                let got = cache.fragment(&geometry, &payload, 0, index as u32).unwrap();
                prop_assert!(got == expected);
            }
        }
    }
}
