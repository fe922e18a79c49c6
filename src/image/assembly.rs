//! A campaign's signed manifest as it arrives, part by part.

use std::collections::BTreeMap;

use crate::wire::command::MANIFEST_SIZE_MAX;

/// The most parts that are kept behind a gap: at least as many as a manager has under way.
const EARLY_PARTS_MAX: usize = 16;

/// The bytes of one campaign's manifest that have arrived without a gap from the start: the manager
/// sees from the answer where to go on. Parts behind a gap are kept until it is filled.
///
/// A host never holds more than [`MANIFEST_SIZE_MAX`] bytes, and 16 parts behind a gap.
#[derive(Debug)]
pub struct ManifestAssembly {
    campaign: u64,
    total_bytes: u32,
    held: Vec<u8>,
    /// By their offset.
    early: BTreeMap<usize, Vec<u8>>,
}

impl ManifestAssembly {
    /// Nothing yet of the manifest of `campaign`, which has `total_bytes`.
    pub fn new(campaign: u64, total_bytes: u32) -> Self {
        let total_bytes = total_bytes.min(MANIFEST_SIZE_MAX);
        Self { campaign, total_bytes, held: Vec::new(), early: BTreeMap::new() }
    }

    /// Returns the campaign.
    pub fn campaign(&self) -> u64 {
        self.campaign
    }

    /// Returns whether a part with these facts belongs to this manifest.
    pub fn is_for(&self, campaign: u64, total_bytes: u32) -> bool {
        self.campaign == campaign && self.total_bytes == total_bytes
    }

    /// Takes what is new in a part.
    pub fn add(&mut self, offset_bytes: u32, bytes: &[u8]) {
        let offset = offset_bytes as usize;
        if offset > self.held.len() {
            let is_inside = offset < self.total_bytes as usize;
            if is_inside && self.early.len() < EARLY_PARTS_MAX {
                self.early.entry(offset).or_insert_with(|| bytes.to_vec());
            }
            return;
        }
        self.append(offset, bytes);
        while let Some(next) = self.early.first_entry()
            && *next.key() <= self.held.len()
        {
            let (offset, bytes) = next.remove_entry();
            self.append(offset, &bytes);
        }
    }

    fn append(&mut self, offset: usize, bytes: &[u8]) {
        let held = self.held.len();
        let room = self.total_bytes as usize - held;
        if let Some(new) = bytes.get(held - offset..) {
            self.held.extend_from_slice(&new[..new.len().min(room)]);
        }
    }

    /// Returns how many bytes are held from the start.
    pub fn held_bytes(&self) -> u32 {
        // Fits: never more than `total_bytes`.
        self.held.len() as u32
    }

    /// Returns the whole manifest, once it is there.
    pub fn complete(&self) -> Option<&[u8]> {
        (self.held.len() == self.total_bytes as usize).then_some(&self.held)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_parts_in_any_order_end_in_the_manifest(
            manifest in proptest::collection::vec(any::<u8>(), 1..3000),
            wild in proptest::collection::vec((0u32..3000, 1usize..1024), 0..50),
        ) {
            let total = manifest.len();
            let mut assembly = ManifestAssembly::new(7, total as u32);
            let mut add = |offset: u32, length: usize| {
                let start = (offset as usize).min(total - 1);
                assembly.add(start as u32, &manifest[start..(start + length).min(total)]);
                assert_eq!(assembly.held, &manifest[..assembly.held.len()]);
            };
            wild.iter().for_each(|&(offset, length)| add(offset, length));
            (0..total).step_by(1000).for_each(|offset| add(offset as u32, 1000));
            prop_assert_eq!(assembly.complete().unwrap(), &manifest[..]);
        }
    }

    #[test]
    fn parts_behind_a_gap_are_kept_until_it_is_filled() {
        let manifest: Vec<u8> = (0..9000u32).map(|at| at as u8).collect();
        let mut assembly = ManifestAssembly::new(7, 9000);
        for part in [3, 1, 8, 2, 5, 4, 7] {
            assembly.add(part * 1000, &manifest[part as usize * 1000..][..1000]);
            assert_eq!(assembly.held_bytes(), 0);
        }
        assembly.add(0, &manifest[..1000]);
        assert_eq!(assembly.held_bytes(), 6000);
        assembly.add(6000, &manifest[6000..7000]);
        assert_eq!(assembly.complete(), Some(&manifest[..]));
    }

    #[test]
    fn a_liar_gets_no_more_room_than_promised() {
        let mut assembly = ManifestAssembly::new(1, u32::MAX);
        assembly.add(u32::MAX, &[1; 1024]);
        (1..200).for_each(|part| assembly.add(part * 100, &[1; 1024]));
        assert_eq!((assembly.held_bytes(), assembly.early.len()), (0, EARLY_PARTS_MAX));
        (0..200).for_each(|part| assembly.add(part * 1024, &[1; 1024]));
        assert_eq!(assembly.held_bytes(), MANIFEST_SIZE_MAX);
        let mut short = ManifestAssembly::new(1, 10);
        short.add(0, &[1; 1024]);
        assert_eq!(short.held_bytes(), 10);
    }
}
