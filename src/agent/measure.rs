//! Whether a chip holds a bundle's image.

use std::io;

use crate::flash::{Flash, FlashError, Placement};
use crate::image::{Digest, Manifest};

/// Why a chip could not be measured.
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

/// SHA-256 of what the chip holds outside the preserved regions ([`Manifest::stable_hasher`]). Equal to
/// [`Manifest::stable_digest`] if the chip holds the image there. Reads an eraseblock at a time.
///
/// # Errors
/// A chip that the image does not fit, or that cannot be read.
pub fn stable_digest(flash: &mut dyn Flash, manifest: &Manifest) -> Result<Digest, MeasureError> {
    let image_bytes = manifest.image_size_bytes();
    let placement = Placement::survey(flash, image_bytes).map_err(MeasureError::Placement)?;
    let mut stable = manifest.stable_hasher();
    let mut contents = Vec::new();
    for nth in 0..placement.block_count() {
        contents.resize(placement.range(nth).len(), 0);
        let offset_bytes = placement.block(nth).offset_bytes();
        flash
            .read(offset_bytes, &mut contents)
            .map_err(|source| MeasureError::Read { offset_bytes, source })?;
        stable.update(&contents);
    }
    Ok(stable.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flash::{Geometry, SimulatedFlash, WriteRule};
    use crate::image::{Description, PayloadFormat, Region, RegionAction};
    use proptest::prelude::*;

    const BLOCK_BYTES: usize = 4096;

    fn manifest(image: &[u8], regions: Vec<Region>) -> Manifest {
        let description = Description {
            version: "1".into(),
            security_version: 1,
            vendor: "V".into(),
            products: vec!["P".into()],
            regions,
            ..Description::default()
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
            // Neither begins nor ends where one of the manifest's blocks or an eraseblock does.
            let region = Region { name: "vars".into(), offset_bytes: 0x10123, length_bytes: 0xff00, action: RegionAction::Preserve };
            let manifest = manifest(&image, vec![region]);
            let mut contents = image;
            contents[at] ^= 1;
            let found = stable_digest(&mut chip(&contents), &manifest).unwrap();
            let is_preserved = (0x10123..0x20023).contains(&at);
            prop_assert_eq!(found == *manifest.stable_digest(), is_preserved);
        }
    }

    #[test]
    fn a_chip_of_another_size_is_not_measured() {
        let manifest = manifest(&vec![1; 0x30000], Vec::new());
        let error = stable_digest(&mut chip(&vec![1; 0x20000]), &manifest).unwrap_err();
        assert!(matches!(error, MeasureError::Placement(_)));
    }
}
