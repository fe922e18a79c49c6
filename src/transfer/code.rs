//! The erasure code of one block: Reed-Solomon over GF(2^16), systematic, any `source_count`
//! fragments suffice.

mod engine;
#[cfg(target_arch = "x86_64")]
mod gfni;

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
/// or one column wide.
const WORK_DIVISOR: usize = 4;

/// The repair fragments of the block that was asked for last; encoded when the first one is needed.
#[derive(Debug)]
pub(super) struct RepairCache {
    block: Option<u16>,
    fragments: Vec<u8>,
}

impl RepairCache {
    /// Nothing encoded yet.
    pub(super) fn new() -> Self {
        Self { block: None, fragments: Vec::new() }
    }

    /// Returns repair fragment `index` of a block.
    pub(super) fn fragment(
        &mut self,
        geometry: &Geometry,
        payload: &Payload,
        block: u16,
        index: u32,
    ) -> Result<&[u8], TransferError> {
        if self.block != Some(block) {
            self.block = None;
            encode(geometry, payload, block, &mut self.fragments)?;
            self.block = Some(block);
        }
        let size = geometry.fragment_size();
        Ok(&self.fragments[index as usize * size..(index as usize + 1) * size])
    }
}

/// Source and repair fragments of a block.
fn counts(geometry: &Geometry, block: u16) -> (usize, usize) {
    (geometry.source_count(block) as usize, geometry.repair_count(block) as usize)
}

/// Bytes of each fragment that are worked on at once: whole columns, or a fragment that is less.
fn stripe_bytes(sources: usize, repairs: usize, fragment_bytes: usize) -> usize {
    let smaller = sources.next_power_of_two().min(repairs.next_power_of_two());
    // The code works on that many fragments at once.
    let width = (smaller + sources.max(repairs)).next_power_of_two();
    let columns = sources * fragment_bytes / WORK_DIVISOR / width / COLUMN_BYTES;
    fragment_bytes.min(columns.max(1) * COLUMN_BYTES)
}

/// Cuts fragments into stripes; the last one may be shorter.
fn stripes(fragment_bytes: usize, stripe_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..fragment_bytes).step_by(stripe_bytes);
    starts.map(move |start| start..fragment_bytes.min(start + stripe_bytes))
}

fn encode(
    geometry: &Geometry,
    payload: &Payload,
    block: u16,
    fragments: &mut Vec<u8>,
) -> Result<(), TransferError> {
    let (sources, repairs) = counts(geometry, block);
    let size = geometry.fragment_size();
    fragments.clear();
    fragments.resize(repairs * size, 0);
    // Its working memory serves all stripes, of which the first is the widest.
    let width = stripe_bytes(sources, repairs, size);
    let mut encoder = DefaultRateEncoder::new(sources, repairs, width, Fastest::new(), None)?;
    for stripe in stripes(size, width) {
        encoder.reset(sources, repairs, stripe.len())?;
        for number in 0..sources {
            let fragment = payload.fragment(geometry.source_range(block, number as u32));
            encoder.add_original_shard(&fragment[stripe.clone()])?;
        }
        let encoded = encoder.encode()?;
        for (fragment, piece) in fragments.chunks_exact_mut(size).zip(encoded.recovery_iter()) {
            fragment[stripe.clone()].copy_from_slice(piece);
        }
    }
    Ok(())
}

/// Restores the source fragments that are not in `buffer`, and writes each to its place there.
///
/// `held` gives number and place in `buffer` of fragments of the block, at least `source_count` of
/// them; the source fragments among them lie in their own place.
pub(super) fn decode(
    geometry: &Geometry,
    block: u16,
    buffer: &mut [u8],
    held: impl Iterator<Item = (u32, Range<usize>)> + Clone,
) -> Result<(), TransferError> {
    let (sources, repairs) = counts(geometry, block);
    let width = stripe_bytes(sources, repairs, geometry.fragment_size());
    let mut decoder = DefaultRateDecoder::new(sources, repairs, width, Fastest::new(), None)?;
    for stripe in stripes(geometry.fragment_size(), width) {
        let in_stripe = |place: Range<usize>| place.start + stripe.start..place.start + stripe.end;
        decoder.reset(sources, repairs, stripe.len())?;
        for (number, place) in held.clone() {
            let (number, piece) = (number as usize, &buffer[in_stripe(place)]);
            match number.checked_sub(sources) {
                None => decoder.add_original_shard(number, piece)?,
                Some(repair) => decoder.add_recovery_shard(repair, piece)?,
            }
        }
        // A restored fragment may overwrite a repair fragment, but only the stripe that is used.
        for (number, piece) in decoder.decode()?.restored_original_iter() {
            let place = geometry.source_range(block, number as u32);
            buffer[in_stripe(place)].copy_from_slice(piece);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::broadcast::{GroupKey, RepairRule, TransferParameters};
    use proptest::prelude::*;
    use reed_solomon_simd::ReedSolomonEncoder;
    use std::sync::Arc;

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
                repair: if is_fitted { RepairRule::Fitted } else { RepairRule::Doubled },
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
            let mut cache = RepairCache::new();
            for (index, expected) in whole.recovery_iter().enumerate() {
                let got = cache.fragment(&geometry, &payload, 0, index as u32).unwrap();
                prop_assert!(got == expected);
            }
        }
    }
}
