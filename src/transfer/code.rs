//! The erasure code of one block: Reed-Solomon over GF(2^16), systematic, any `source_count`
//! fragments suffice.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::TransferError;
use super::geometry::Geometry;
use super::payload::Payload;

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

fn encode(
    geometry: &Geometry,
    payload: &Payload,
    block: u16,
    fragments: &mut Vec<u8>,
) -> Result<(), TransferError> {
    let sources = geometry.source_count(block);
    let mut encoder = ReedSolomonEncoder::new(
        sources as usize,
        geometry.repair_count(block) as usize,
        geometry.fragment_size(),
    )?;
    for number in 0..sources {
        encoder.add_original_shard(payload.fragment(geometry.source_range(block, number)))?;
    }
    fragments.clear();
    fragments.reserve_exact(geometry.repair_count(block) as usize * geometry.fragment_size());
    for fragment in encoder.encode()?.recovery_iter() {
        fragments.extend_from_slice(fragment);
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
    held: impl Iterator<Item = (u32, std::ops::Range<usize>)>,
) -> Result<(), TransferError> {
    let sources = geometry.source_count(block);
    let mut decoder = ReedSolomonDecoder::new(
        sources as usize,
        geometry.repair_count(block) as usize,
        geometry.fragment_size(),
    )?;
    for (number, place) in held {
        match number.checked_sub(sources) {
            None => decoder.add_original_shard(number as usize, &buffer[place])?,
            Some(repair) => decoder.add_recovery_shard(repair as usize, &buffer[place])?,
        }
    }
    for (number, fragment) in decoder.decode()?.restored_original_iter() {
        buffer[geometry.source_range(block, number as u32)].copy_from_slice(fragment);
    }
    Ok(())
}
