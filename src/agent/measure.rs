//! Whether a chip holds a bundle's image.

use std::io;

use sha2::{Digest as _, Sha256};

use crate::flash::{Flash, FlashError, Placement};
use crate::image::Manifest;

/// What a chip holds, compared with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// SHA-256 of the chip outside the preserved regions ([`Manifest::stable_hasher`]).
    pub stable_digest: [u8; 32],
    /// Where the first of the manifest's blocks lies that differs. Blocks that a preserved region touches have no digest
    /// to compare with; whoever has the image compares `stable_digest` too.
    pub differs_at_bytes: Option<u64>,
}

/// Why a chip could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The image does not fit on the chip.
    #[error("the image does not fit the chip")]
    Placement(#[source] FlashError),
    /// The chip could not be read.
    #[error("the flash could not be read at {offset_bytes:#x}: {source}")]
    Read {
        /// Start of the eraseblock.
        offset_bytes: u64,
        /// What the device reports.
        #[source]
        source: io::Error,
    },
}

/// Reads the part of the chip that the image takes, once, an eraseblock at a time.
///
/// # Errors
/// A chip that the image does not fit, or that cannot be read.
pub fn compare(flash: &mut dyn Flash, manifest: &Manifest) -> Result<Comparison, MeasureError> {
    let image_bytes = manifest.image_size_bytes();
    let placement = Placement::survey(flash, image_bytes).map_err(MeasureError::Placement)?;
    let mut stable = manifest.stable_hasher();
    let mut blocks = BlockCheck::new(manifest);
    let mut contents = Vec::new();
    for nth in 0..placement.block_count() {
        contents.resize(placement.range(nth).len(), 0);
        let offset_bytes = placement.block(nth).offset_bytes();
        flash
            .read(offset_bytes, &mut contents)
            .map_err(|source| MeasureError::Read { offset_bytes, source })?;
        stable.update(&contents);
        blocks.update(&contents);
    }
    Ok(Comparison { stable_digest: stable.finish(), differs_at_bytes: blocks.finish() })
}

/// Compares the manifest's blocks, which are not the chip's, with their digests.
struct BlockCheck<'a> {
    manifest: &'a Manifest,
    hash: Sha256,
    hashed_bytes: usize,
    next: usize,
    differs: Option<usize>,
}

impl<'a> BlockCheck<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        Self { manifest, hash: Sha256::new(), hashed_bytes: 0, next: 0, differs: None }
    }

    fn update(&mut self, mut contents: &[u8]) {
        let block_bytes = self.manifest.block_size_bytes();
        while !contents.is_empty() {
            let (now, later) =
                contents.split_at(contents.len().min(block_bytes - self.hashed_bytes));
            self.hash.update(now);
            self.hashed_bytes += now.len();
            if self.hashed_bytes == block_bytes {
                self.end_block();
            }
            contents = later;
        }
    }

    fn end_block(&mut self) {
        let digest: [u8; 32] = self.hash.finalize_reset().into();
        let is_equal = self.manifest.block_digests().get(self.next) == Some(&digest);
        if !is_equal && !self.is_preserved_in_part() {
            self.differs.get_or_insert(self.next);
        }
        (self.next, self.hashed_bytes) = (self.next + 1, 0);
    }

    fn is_preserved_in_part(&self) -> bool {
        let block_bytes = self.manifest.block_size_bytes() as u64;
        let start = self.next as u64 * block_bytes;
        self.manifest.preserve().iter().any(|region| {
            region.offset_bytes < start + block_bytes
                && region.offset_bytes + region.length_bytes > start
        })
    }

    fn finish(mut self) -> Option<u64> {
        if self.hashed_bytes > 0 {
            self.end_block();
        }
        self.differs.map(|block| block as u64 * self.manifest.block_size_bytes() as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flash::{Geometry, SimulatedFlash, WriteRule};
    use crate::image::{Description, PayloadFormat, Region};
    use proptest::prelude::*;

    const BLOCK_BYTES: usize = 4096;

    fn manifest(image: &[u8], preserve: Vec<Region>) -> Manifest {
        let description = Description {
            version: "1".into(),
            security_version: 1,
            vendor: "V".into(),
            products: vec!["P".into()],
            update_from: Vec::new(),
            expect_version: None,
            preserve,
        };
        Manifest::describe(description, image, PayloadFormat::Raw, image).unwrap()
    }

    fn chip(contents: &[u8]) -> SimulatedFlash {
        let size_bytes = contents.len() as u64;
        let rule = WriteRule::ClearBits;
        let geometry = Geometry::uniform(size_bytes, BLOCK_BYTES as u32, 1, rule).unwrap();
        SimulatedFlash::new(geometry, contents.to_vec())
    }

    proptest! {
        #[test]
        fn one_changed_byte_is_found_unless_it_is_preserved(at in 0usize..0x30000, salt in any::<u8>()) {
            let image: Vec<u8> = (0..0x30000u32).map(|n| (n >> 8) as u8 ^ n as u8 ^ salt).collect();
            let region = Region { name: "vars".into(), offset_bytes: 0x10000, length_bytes: 0x10000 };
            let manifest = manifest(&image, vec![region]);
            let stable_digest = manifest.stable_digest(&image);
            let mut contents = image;
            contents[at] ^= 1;
            let found = compare(&mut chip(&contents), &manifest).unwrap();
            let is_preserved = (0x10000..0x20000).contains(&at);
            prop_assert_eq!(found.stable_digest == stable_digest, is_preserved);
            let block = (at - at % manifest.block_size_bytes()) as u64;
            prop_assert_eq!(found.differs_at_bytes, (!is_preserved).then_some(block));
        }
    }

    #[test]
    fn a_chip_of_another_size_is_not_measured() {
        let manifest = manifest(&vec![1; 0x30000], Vec::new());
        let error = compare(&mut chip(&vec![1; 0x20000]), &manifest).unwrap_err();
        assert!(matches!(error, MeasureError::Placement(_)));
    }
}
