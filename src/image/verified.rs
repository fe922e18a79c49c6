//! The image that may be flashed.

use super::{Digest, Region};

/// A whole image whose signature and digests were checked; nothing else can be planned or flashed.
#[derive(Clone, Debug)]
pub struct VerifiedImage {
    bytes: Vec<u8>,
    digest: Digest,
    regions: Vec<Region>,
    boot_offset_bytes: u64,
}

impl VerifiedImage {
    /// Only for bytes whose digest a verified manifest names.
    pub(super) fn new(
        bytes: Vec<u8>,
        digest: Digest,
        regions: Vec<Region>,
        boot_offset_bytes: u64,
    ) -> Self {
        Self { bytes, digest, regions, boot_offset_bytes }
    }

    /// The image, as it shall stand in flash outside the regions with another rule.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`VerifiedImage::bytes`].
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Regions with a rule of their own: inside the image, sorted by offset, not overlapping.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Where the processor starts: the eraseblock with this byte makes the firmware bootable.
    pub fn boot_offset_bytes(&self) -> u64 {
        self.boot_offset_bytes
    }

    #[cfg(test)]
    pub(crate) fn for_tests(bytes: Vec<u8>, regions: Vec<Region>) -> Self {
        let (digest, top) = (super::sha256(&bytes), (bytes.len() as u64).saturating_sub(1));
        Self::new(bytes, digest, regions, top)
    }
}
