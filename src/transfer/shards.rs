//! The fragments that a receiver holds, in one buffer of the payload's size that is allocated once.
//!
//! Each block has as many slots as source fragments. A source fragment always lies in the slot of
//! its own number, where the payload needs it; a repair fragment borrows the highest free slot and
//! moves on when that slot's owner arrives.

use std::ops::Range;

use super::TransferError;
use super::code::Decoding;
use super::geometry::Geometry;
use crate::wire::broadcast::{FragmentRange, Missing};
use crate::wire::fragment_status::RANGES_MAX;

const FREE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Shards {
    geometry: Geometry,
    buffer: Vec<u8>,
    blocks: Vec<Block>,
    held_total: u32,
    /// Source fragments from the first one on that lie in their place without a gap, as far as that
    /// was looked at.
    prefix: u32,
    /// The block that is being decoded.
    decoding: Option<(u16, Decoding)>,
}

#[derive(Debug)]
struct Block {
    /// Number of the fragment in each slot, or [`FREE`].
    slots: Vec<u32>,
    /// One bit for each fragment number that is held.
    seen: Vec<u64>,
    held: u32,
    repairs: u32,
    /// No slot above this one is free.
    highest_free: usize,
}

impl Shards {
    pub(super) fn new(geometry: Geometry) -> Self {
        let blocks =
            (0..geometry.block_count()).map(|block| Block::new(&geometry, block)).collect();
        let buffer = vec![0; geometry.padded_size()];
        Self { geometry, buffer, blocks, held_total: 0, prefix: 0, decoding: None }
    }

    /// Useful fragments of all blocks.
    pub(super) fn held_total(&self) -> u32 {
        self.held_total
    }

    pub(super) fn is_complete(&self) -> bool {
        self.held_total == self.geometry.source_total()
    }

    /// Returns whether this fragment, which the transfer has, would bring the payload nearer.
    pub(super) fn needs(&self, block: u16, number: u32) -> bool {
        let block = &self.blocks[usize::from(block)];
        block.held < block.slots.len() as u32 && !block.has_seen(number)
    }

    /// Stores a fragment that is needed; `open` writes it, or fails and then nothing was stored.
    pub(super) fn insert<E>(
        &mut self,
        block: u16,
        number: u32,
        open: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let state = &mut self.blocks[usize::from(block)];
        let home = number as usize;
        let is_source = home < state.slots.len();
        let slot =
            if is_source && state.slots[home] == FREE { home } else { state.find_free_slot() };
        open(&mut self.buffer[self.geometry.source_range(block, slot as u32)])?;
        state.slots[slot] = number;
        if is_source && slot != home {
            state.slots.swap(slot, home);
            let place = self.geometry.source_range(block, slot as u32);
            swap_ranges(&mut self.buffer, self.geometry.source_range(block, number), place);
        }
        state.seen[home / 64] |= 1 << (home % 64);
        state.held += 1;
        state.repairs += u32::from(!is_source);
        self.held_total += 1;
        Ok(())
    }

    /// Returns what is missing: by name where no repair fragment stands in and the list is short,
    /// else counts.
    pub(super) fn missing(&self) -> Missing {
        match self.missing_ranges() {
            Some(ranges) => Missing::Numbers(ranges),
            None => Missing::Counts(self.blocks.iter().map(Block::missing_count).collect()),
        }
    }

    fn missing_ranges(&self) -> Option<Vec<FragmentRange>> {
        let mut ranges: Vec<FragmentRange> = Vec::new();
        let open = self.blocks.iter().enumerate().filter(|(_, block)| block.missing_count() > 0);
        for (index, block) in open {
            if block.repairs > 0 {
                return None;
            }
            let free = block.slots.iter().enumerate().filter(|(_, holder)| **holder == FREE);
            for (slot, _) in free {
                let (index, number) = (index as u16, slot as u32);
                FragmentRange::append(&mut ranges, index, number);
                if ranges.len() > RANGES_MAX {
                    return None;
                }
            }
        }
        Some(ranges)
    }

    /// Decodes a part of a block that is complete, and of which not all is there as it was sent.
    /// False when there is none.
    pub(super) fn decode_part(&mut self) -> Result<bool, TransferError> {
        let (index, mut decoding) = match self.decoding.take() {
            Some(begun) => begun,
            None => match self.blocks.iter().position(Block::wants_decoding) {
                Some(index) => (index as u16, Decoding::new(&self.geometry, index as u16)?),
                None => return Ok(false),
            },
        };
        let geometry = &self.geometry;
        let block = &mut self.blocks[usize::from(index)];
        let held = (0..)
            .zip(&block.slots)
            .map(|(slot, number)| (*number, geometry.source_range(index, slot)));
        match decoding.step(geometry, index, &mut self.buffer, held)? {
            true => self.decoding = Some((index, decoding)),
            false => block.become_source(),
        }
        Ok(true)
    }

    /// Returns the bytes from the payload's start on that are there as they were sent, without a
    /// gap. They do not change any more.
    pub(super) fn sound_part(&mut self) -> &[u8] {
        while self.prefix < self.geometry.source_total() {
            let (block, number) = self.geometry.source_at(self.prefix);
            if self.blocks[usize::from(block)].slots[number as usize] != number {
                break;
            }
            self.prefix += 1;
        }
        let bytes = self.prefix as usize * self.geometry.fragment_size();
        &self.buffer[..bytes.min(self.geometry.payload_size())]
    }

    /// Gives the payload, of which all must be a [`Shards::sound_part`].
    pub(super) fn into_payload(mut self) -> Vec<u8> {
        self.buffer.truncate(self.geometry.payload_size());
        self.buffer
    }
}

impl Block {
    fn new(geometry: &Geometry, block: u16) -> Self {
        let sources = geometry.source_count(block) as usize;
        Self {
            slots: vec![FREE; sources],
            seen: vec![0; (geometry.fragment_count(block) as usize).div_ceil(64)],
            held: 0,
            repairs: 0,
            highest_free: sources - 1,
        }
    }

    fn has_seen(&self, number: u32) -> bool {
        self.seen[number as usize / 64] & (1 << (number % 64)) != 0
    }

    fn wants_decoding(&self) -> bool {
        self.repairs > 0 && self.missing_count() == 0
    }

    /// All source fragments lie in their slots.
    fn become_source(&mut self) {
        self.slots = (0..self.slots.len() as u32).collect();
        self.repairs = 0;
    }

    fn missing_count(&self) -> u16 {
        (self.slots.len() as u32 - self.held) as u16
    }

    /// Returns the highest free slot; there is one as long as the block is not complete.
    fn find_free_slot(&mut self) -> usize {
        while self.slots[self.highest_free] != FREE {
            self.highest_free -= 1;
        }
        self.highest_free
    }
}

fn swap_ranges(buffer: &mut [u8], left: Range<usize>, right: Range<usize>) {
    let (low, high) = if left.start < right.start { (left, right) } else { (right, left) };
    let (head, tail) = buffer.split_at_mut(high.start);
    head[low].swap_with_slice(&mut tail[..high.end - high.start]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::code::RepairCache;
    use super::super::payload::Payload;
    use super::*;
    use std::sync::Arc;

    use crate::wire::broadcast::{FecScheme, GroupKey, TransferParameters};
    use proptest::prelude::*;

    /// Blocks of at most this many source fragments.
    const SOURCE_COUNT_MAX: u32 = 20;

    fn geometry(payload_size_bytes: u32, fec: FecScheme) -> Geometry {
        let parameters = TransferParameters {
            campaign: 1,
            group_key: GroupKey::new([0; 32]),
            payload_size_bytes,
            fragment_size_bytes: 512,
            fec,
        };
        Geometry::cut(&parameters, SOURCE_COUNT_MAX).unwrap()
    }

    fn payload(geometry: &Geometry) -> Vec<u8> {
        (0..geometry.padded_size())
            .map(|i| if i < geometry.payload_size() { (i * 7 / 5) as u8 } else { 0 })
            .collect()
    }

    /// Feeds fragments in the order given until complete, and decodes a part behind some of them.
    fn receive(geometry: Geometry, order: &[(u16, u32)], works: &[bool]) -> Vec<u8> {
        let payload = payload(&geometry);
        let sent = Payload::new(Arc::new(payload[..geometry.payload_size()].to_vec()), &geometry);
        let mut repairs = RepairCache::new(&geometry);
        let mut shards = Shards::new(geometry);
        for (&(block, number), works) in order.iter().zip(works.iter().cycle()) {
            if *works {
                shards.decode_part().unwrap();
                let sound = shards.sound_part();
                assert!(payload.starts_with(sound), "{} bytes are sound", sound.len());
            }
            if !shards.needs(block, number) {
                continue;
            }
            let before = shards.missing();
            let failed = shards.insert(block, number, |slot| {
                slot.fill(0xaa);
                Err(())
            });
            assert_eq!(
                (failed, shards.missing()),
                (Err(()), before),
                "a failed insert leaves no trace"
            );
            let fragment = match number.checked_sub(geometry.source_count(block)) {
                None => &payload[geometry.source_range(block, number)],
                Some(index) => repairs.fragment(&geometry, &sent, block, index).unwrap(),
            };
            shards
                .insert(block, number, |slot| -> Result<(), ()> {
                    slot.copy_from_slice(fragment);
                    Ok(())
                })
                .unwrap();
        }
        assert!(shards.is_complete());
        assert_eq!(shards.missing(), Missing::Numbers(vec![]));
        while shards.decode_part().unwrap() {}
        assert_eq!(shards.sound_part().len(), geometry.payload_size());
        shards.into_payload()
    }

    proptest! {
        #[test]
        fn any_fragments_in_any_order_restore_the_payload(
            size in 1u32..60_000,
            is_fitted: bool,
            order in Just((0u16..7).flat_map(|block| (0u32..60).map(move |number| (block, number)))
                .collect::<Vec<_>>()).prop_shuffle(),
            works in proptest::collection::vec(any::<bool>(), 1..40),
        ) {
            let fec = if is_fitted { FecScheme::Fitted } else { FecScheme::Doubled };
            let geometry = geometry(size, fec);
            let order: Vec<_> = order
                .into_iter()
                .filter(|(block, number)| geometry.has(*block, *number))
                .collect();
            let restored = receive(geometry, &order, &works);
            prop_assert!(restored == payload(&geometry)[..size as usize]);
        }
    }

    #[test]
    fn missing_is_named_until_a_repair_fragment_stands_in() {
        let geometry = geometry(512 * 10, FecScheme::Doubled);
        let mut shards = Shards::new(geometry);
        for number in [0, 3, 4, 9] {
            shards.insert(0, number, |_| Ok::<(), ()>(())).unwrap();
        }
        let range = |first, count| FragmentRange { block: 0, first, count };
        assert_eq!(shards.missing(), Missing::Numbers(vec![range(1, 2), range(5, 4)]));
        shards.insert(0, 12, |_| Ok::<(), ()>(())).unwrap();
        assert_eq!(shards.missing(), Missing::Counts(vec![5]));
    }
}
