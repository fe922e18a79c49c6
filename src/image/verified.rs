//! The image that may be flashed.

/// A range of the flash chip that the bundle's policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Name from the bundle, for people.
    pub name: String,
    /// First byte, from the start of the chip.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
}

/// A whole image whose signature and digests were checked; nothing else can be planned or flashed.
#[derive(Clone, Debug)]
pub struct VerifiedImage {
    bytes: Vec<u8>,
    preserve: Vec<Region>,
}

impl VerifiedImage {
    /// Only for bytes whose digest a verified manifest names.
    pub(super) fn new(bytes: Vec<u8>, preserve: Vec<Region>) -> Self {
        Self { bytes, preserve }
    }

    /// The image, as it shall stand in flash outside the preserved regions.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Regions whose live contents stay: inside the image, sorted by offset, not overlapping.
    pub fn preserve(&self) -> &[Region] {
        &self.preserve
    }

    #[cfg(test)]
    pub(crate) fn for_tests(bytes: Vec<u8>, preserve: Vec<Region>) -> Self {
        Self { bytes, preserve }
    }
}
