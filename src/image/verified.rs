//! The image that may be flashed.

use std::sync::Arc;

use super::layout::Layout;
use super::{Digest, Manifest, Region};

/// A whole image whose signature and digests were checked; nothing else can be planned or flashed.
///
/// Clones share the bytes: a second attempt and its plan need no memory of their own for them.
#[derive(Clone, Debug)]
pub struct VerifiedImage {
    bytes: Arc<Vec<u8>>,
    digest: Digest,
    regions: Vec<Region>,
    boot_offset_bytes: u64,
    layout: Layout,
    may_change_layout: bool,
    may_change_boot_guard: bool,
}

impl VerifiedImage {
    /// Only for bytes whose digest this verified manifest names.
    pub(super) fn new(bytes: Vec<u8>, manifest: &Manifest) -> Self {
        Self {
            bytes: Arc::new(bytes),
            digest: *manifest.image_digest(),
            regions: manifest.regions().to_vec(),
            boot_offset_bytes: manifest.boot_offset_bytes(),
            layout: manifest.layout().clone(),
            may_change_layout: manifest.may_change_layout(),
            may_change_boot_guard: manifest.may_change_boot_guard(),
        }
    }

    /// Returns the image, as it must stand in flash outside the regions with another rule.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the image for somebody who keeps it.
    pub(crate) fn shared(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.bytes)
    }

    /// SHA-256 of [`VerifiedImage::bytes`].
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Regions with a rule of their own: inside the image, sorted by offset, not overlapping.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Returns where the processor starts: the eraseblock with this byte makes the firmware
    /// bootable.
    pub fn boot_offset_bytes(&self) -> u64 {
        self.boot_offset_bytes
    }

    /// Returns the layout that the image has in itself.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns whether the chip may have another layout.
    pub fn may_change_layout(&self) -> bool {
        self.may_change_layout
    }

    /// Returns whether what Boot Guard needs may differ from the chip's.
    pub fn may_change_boot_guard(&self) -> bool {
        self.may_change_boot_guard
    }

    #[cfg(test)]
    pub(crate) fn for_tests(bytes: Vec<u8>, regions: Vec<Region>) -> Self {
        Self {
            digest: super::sha256(&bytes),
            boot_offset_bytes: (bytes.len() as u64).saturating_sub(1),
            layout: Layout::read(&bytes).unwrap_or_default(),
            bytes: Arc::new(bytes),
            regions,
            may_change_layout: false,
            may_change_boot_guard: false,
        }
    }
}
