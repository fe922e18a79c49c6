//! A campaign's signed manifest as it arrives, part by part.

use crate::wire::command::MANIFEST_SIZE_MAX;

/// The bytes of one campaign's manifest that have arrived without a gap from the start.
///
/// Only such bytes are kept: the manager sees from the answer where to go on, and a host never
/// holds more than [`MANIFEST_SIZE_MAX`] bytes.
#[derive(Debug)]
pub struct ManifestAssembly {
    campaign: u64,
    total_bytes: u32,
    held: Vec<u8>,
}

impl ManifestAssembly {
    /// Nothing yet of the manifest of `campaign`, which has `total_bytes`.
    pub fn new(campaign: u64, total_bytes: u32) -> Self {
        Self { campaign, total_bytes: total_bytes.min(MANIFEST_SIZE_MAX), held: Vec::new() }
    }

    /// Returns the campaign.
    pub fn campaign(&self) -> u64 {
        self.campaign
    }

    /// Returns whether a part with these facts belongs to this manifest.
    pub fn is_for(&self, campaign: u64, total_bytes: u32) -> bool {
        self.campaign == campaign && self.total_bytes == total_bytes
    }

    /// Takes what is new in a part. A part behind a gap changes nothing.
    pub fn add(&mut self, offset_bytes: u32, bytes: &[u8]) {
        let held = self.held.len();
        let Some(known) = held.checked_sub(offset_bytes as usize) else { return };
        let room = self.total_bytes as usize - held;
        if let Some(new) = bytes.get(known..) {
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
    fn a_liar_gets_no_more_room_than_promised() {
        let mut assembly = ManifestAssembly::new(1, u32::MAX);
        assembly.add(u32::MAX, &[1; 1024]);
        (0..200).for_each(|part| assembly.add(part * 1024, &[1; 1024]));
        assert_eq!(assembly.held_bytes(), MANIFEST_SIZE_MAX);
        let mut short = ManifestAssembly::new(1, 10);
        short.add(0, &[1; 1024]);
        assert_eq!(short.held_bytes(), 10);
    }
}
