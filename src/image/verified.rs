//! The image that may be flashed.

use std::sync::Arc;

use super::{Digest, Manifest};

/// A whole image whose signature and digests were checked; nothing else can be planned or flashed.
///
/// Clones share the bytes: a second attempt and its plan need no memory of their own for them.
#[derive(Clone, Debug)]
pub struct VerifiedImage {
    bytes: Arc<Vec<u8>>,
    manifest: Arc<Manifest>,
}

impl VerifiedImage {
    /// Only for bytes whose digest this verified manifest names.
    pub(super) fn new(bytes: Vec<u8>, manifest: &Manifest) -> Self {
        Self { bytes: Arc::new(bytes), manifest: Arc::new(manifest.clone()) }
    }

    /// Returns the image: the whole chip, or its parts one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the image for somebody who keeps it.
    pub(crate) fn shared(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.bytes)
    }

    /// SHA-256 of [`VerifiedImage::bytes`].
    pub fn digest(&self) -> &Digest {
        self.manifest.image_digest()
    }

    /// Returns what was signed about it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    #[cfg(test)]
    pub(crate) fn for_tests(bytes: Vec<u8>, regions: Vec<super::Region>) -> Self {
        let description = super::Description { regions, ..super::Description::default() };
        Self::described(bytes, description)
    }

    #[cfg(test)]
    pub(crate) fn described(bytes: Vec<u8>, description: super::Description) -> Self {
        let manifest = Manifest::for_tests(&bytes, description);
        Self::new(bytes, &manifest)
    }
}
