//! Bringing a manifest to one host, a window of parts at a time.

use firmcast::wire::command::{Command, MANIFEST_PART_SIZE_MAX};

/// Most parts that are under way to one host at a time.
const WINDOW_PARTS: usize = 8;

/// How much of the manifest was sent to a host and how much it holds.
#[derive(Debug, Default)]
pub(super) struct ManifestDelivery {
    sent_bytes: usize,
    held_bytes: usize,
}

impl ManifestDelivery {
    /// Takes over what the host says it holds; true when that is more than before.
    pub(super) fn acknowledge(&mut self, held_bytes: u32, manifest: &[u8]) -> bool {
        let held_bytes = usize::try_from(held_bytes).unwrap_or(usize::MAX);
        if held_bytes <= self.held_bytes || held_bytes > manifest.len() {
            return false;
        }
        self.held_bytes = held_bytes;
        self.sent_bytes = self.sent_bytes.max(held_bytes);
        true
    }

    /// Returns whether the host holds all of it.
    pub(super) fn is_complete(&self, manifest: &[u8]) -> bool {
        self.held_bytes == manifest.len()
    }

    /// Forgets what is under way: it will be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent_bytes = self.held_bytes;
    }

    /// What the host is told now; from what it holds on again when that is due.
    pub(super) fn commands(&mut self, due: bool, campaign: u64, manifest: &[u8]) -> Vec<Command> {
        if due {
            self.rewind();
        }
        std::iter::from_fn(|| self.next_part(campaign, manifest)).collect()
    }

    /// The next part, if the window has room for one.
    fn next_part(&mut self, campaign: u64, manifest: &[u8]) -> Option<Command> {
        let window_end = self.held_bytes + WINDOW_PARTS * MANIFEST_PART_SIZE_MAX;
        let start = self.sent_bytes;
        let end = manifest.len().min(start + MANIFEST_PART_SIZE_MAX);
        if start == end || end > window_end {
            return None;
        }
        self.sent_bytes = end;
        Some(Command::ManifestPart {
            campaign,
            total_bytes: u32::try_from(manifest.len()).ok()?,
            offset_bytes: u32::try_from(start).ok()?,
            bytes: manifest[start..end].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand_chacha::ChaCha20Rng;
    use rand_core::{RngCore, SeedableRng};

    use super::*;

    /// A host that keeps only parts that continue what it holds.
    fn deliver(command: Command, held: &mut Vec<u8>) {
        let Command::ManifestPart { offset_bytes, bytes, .. } = command else { panic!() };
        if offset_bytes as usize == held.len() {
            held.extend(bytes);
        }
    }

    #[test]
    fn a_manifest_arrives_whole_though_every_fifth_part_is_lost() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let manifest: Vec<u8> = (0..40_000u32).map(|i| i as u8).collect();
        let (mut delivery, mut held, mut count) = (ManifestDelivery::default(), Vec::new(), 0);
        while !delivery.is_complete(&manifest) {
            delivery.rewind();
            let mut in_flight = 0;
            while let Some(part) = delivery.next_part(7, &manifest) {
                count += 1;
                in_flight += 1;
                if rng.next_u32() % 5 != 0 {
                    deliver(part, &mut held);
                }
            }
            assert!(in_flight <= WINDOW_PARTS && count < 1000);
            delivery.acknowledge(held.len() as u32, &manifest);
        }
        assert_eq!(held, manifest);
        assert!(!delivery.acknowledge(50_000, &manifest), "more than there is");
        assert!(delivery.next_part(7, &manifest).is_none());
    }
}
