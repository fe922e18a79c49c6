//! Whether a chip holds a bundle's image.

use std::io;

use crate::flash::{ContentsError, Flash, FlashError, Placement, read_block, read_contents};
use crate::image::layout::{DESCRIPTOR_BYTES, foreign_ranges};
use crate::image::{ByteRanges, Digest, Fitting, Manifest, Misfit, Region};

/// Why a chip could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The image does not fit on the chip.
    #[error("the image does not fit the chip")]
    Placement(#[source] FlashError),
    /// The parts of the image have no place on the chip.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The chip as a whole could not be read.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// The chip could not be read.
    #[error("the flash could not be read at {0}: see the kernel log")]
    Read(ByteRanges),
    /// The host may not read what the bundle is about.
    #[error(
        "the flash at {0} is closed to this host by the chip's descriptor, and the bundle does not \
        preserve it: what it holds cannot be confirmed; make a bundle that preserves it"
    )]
    Closed(ByteRanges),
    /// The chip does not say what its descriptor is.
    #[error("the start of the flash could not be read")]
    Descriptor(#[source] io::Error),
}

/// SHA-256 of what the chip holds outside the regions that the manifest names
/// ([`Manifest::stable_hasher`]). Equal to [`Manifest::stable_digest`] if the chip holds the image
/// there. Reads an eraseblock at a time, and none that lies in these regions as a whole: the host
/// need not be allowed to read it.
///
/// # Errors
/// A chip that the image does not fit, or that cannot be read where it counts.
pub fn stable_digest(flash: &mut dyn Flash, manifest: &Manifest) -> Result<Digest, MeasureError> {
    if !manifest.parts().is_empty() {
        return digest_of_parts(flash, manifest);
    }
    let image_bytes = manifest.image_size_bytes();
    let placement = Placement::survey(flash, image_bytes).map_err(MeasureError::Placement)?;
    let regions = manifest.regions().iter();
    let left_out: ByteRanges = regions
        .map(|region| region.offset_bytes..region.offset_bytes + region.length_bytes)
        .collect();
    let mut stable = manifest.stable_hasher();
    let mut contents = Vec::new();
    let (mut unread, mut erased) = (ByteRanges::default(), ByteRanges::default());
    for nth in 0..placement.block_count() {
        let range = placement.range(nth);
        let start = range.start as u64;
        contents.clear();
        contents.resize(range.len(), 0);
        if !left_out.covers(&(start..range.end as u64)) {
            let missing = read_block(flash, placement.block(nth), &mut contents);
            missing.iter().for_each(|part| unread.insert(start + part.start..start + part.end));
            if contents.iter().all(|byte| *byte == 0xff) {
                erased.insert(start..range.end as u64);
            }
        }
        stable.update(&contents);
    }
    let found = stable.finish();
    let unread = unread.without(&left_out);
    if unread.is_empty() && found == *manifest.stable_digest() {
        return Ok(found);
    }
    // A closed range may also answer FFh.
    let closed = closed_by_descriptor(flash)?.without(&left_out);
    let silent: ByteRanges = closed.iter().filter(|range| erased.covers(range)).cloned().collect();
    if unread.is_empty() && silent.is_empty() {
        return Ok(found);
    }
    match unread.without(&closed) {
        faulty if faulty.is_empty() => Err(MeasureError::Closed(unread.union(&silent))),
        faulty => Err(MeasureError::Read(faulty)),
    }
}

/// The same where the image covers parts: only the chip as a whole tells where these lie.
fn digest_of_parts(flash: &mut dyn Flash, manifest: &Manifest) -> Result<Digest, MeasureError> {
    let contents = read_contents(flash, &Fitting::untouched(manifest))?;
    let fitting = Fitting::on_live(manifest, contents.bytes())?;
    let named: ByteRanges = fitting.named().map(Region::range64).collect();
    let closed = fitting.covered().without(&named);
    let closed: ByteRanges =
        contents.closed().iter().filter(|range| closed.overlaps(range)).cloned().collect();
    match closed.is_empty() {
        true => Ok(manifest.stable_digest_of(&fitting.in_image_order(contents.bytes()))),
        false => Err(MeasureError::Closed(closed)),
    }
}

fn closed_by_descriptor(flash: &mut dyn Flash) -> Result<ByteRanges, MeasureError> {
    let length = flash.geometry().size_bytes().min(DESCRIPTOR_BYTES as u64) as usize;
    let mut page = vec![0; length];
    flash.read(0, &mut page).map_err(MeasureError::Descriptor)?;
    Ok(foreign_ranges(&page).no_read.into_iter().collect())
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
        fn one_changed_byte_is_found_unless_it_is_preserved(
            at in 0usize..0x30000,
            salt in any::<u8>(),
        ) {
            let image: Vec<u8> = (0..0x30000u32).map(|n| (n >> 8) as u8 ^ n as u8 ^ salt).collect();
            // Neither begins nor ends where one of the manifest's blocks or an eraseblock does.
            let region = Region {
                name: "vars".into(),
                offset_bytes: 0x10123,
                length_bytes: 0xff00,
                action: RegionAction::Preserve,
            };
            let manifest = manifest(&image, vec![region]);
            let mut contents = image;
            contents[at] ^= 1;
            let found = stable_digest(&mut chip(&contents), &manifest).unwrap();
            let is_preserved = (0x10123..0x20023).contains(&at);
            prop_assert_eq!(found == *manifest.stable_digest(), is_preserved);
        }
    }

    /// A descriptor that lets the host read itself and the BIOS in pages 4 and up, but not the ME
    /// in pages 1 to 3.
    fn with_descriptor(mut image: Vec<u8>) -> Vec<u8> {
        image[..0x1000].fill(0xff);
        let last_page = image.len() as u32 / 0x1000 - 1;
        let words = [
            (0x10, 0x0ff0_a55a),
            (0x14, 0x0004_0003),
            (0x18, 0x4510_0208),
            (0x1c, 0x0031_0330),
            (0x40, 0),
            (0x44, last_page << 16 | 4),
            (0x48, 3 << 16 | 1),
            (0x80, 0b11 << 8),
        ];
        (0x4c..0x80)
            .step_by(4)
            .for_each(|at| image[at..at + 4].copy_from_slice(&0x7fff_u32.to_le_bytes()));
        for (at, word) in words {
            image[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
        }
        image
    }

    #[test]
    fn what_is_closed_and_preserved_is_not_even_read() {
        let image = with_descriptor((0..0x8000u32).map(|n| (n >> 8) as u8).collect());
        let region = |offset_bytes, length_bytes| Region {
            name: "me".into(),
            offset_bytes,
            length_bytes,
            action: RegionAction::Preserve,
        };
        let manifest = manifest(&image, vec![region(0x1000, 0x3000)]);
        let mut chip = chip(&image);
        chip.close(0x1000..0x4000);
        assert_eq!(stable_digest(&mut chip, &manifest).unwrap(), *manifest.stable_digest());
        assert_eq!(chip.refused_reads(), 0);
    }

    #[test]
    fn what_is_closed_and_not_preserved_cannot_be_confirmed() {
        let image = with_descriptor((0..0x8000u32).map(|n| (n >> 8) as u8).collect());
        let manifest = manifest(&image, Vec::new());
        let mut failing = chip(&image);
        failing.close(0x2000..0x3000);
        let error = stable_digest(&mut failing, &manifest).unwrap_err();
        assert!(error.to_string().contains("0x2000-0x2fff is closed to this host"), "{error}");

        let mut silent = image.clone();
        silent[0x1000..0x4000].fill(0xff);
        let error = stable_digest(&mut chip(&silent), &manifest).unwrap_err();
        assert!(matches!(error, MeasureError::Closed(_)), "{error}");

        let mut broken = chip(&image);
        broken.close(0x6000..0x7000);
        let error = stable_digest(&mut broken, &manifest).unwrap_err();
        assert!(error.to_string().contains("could not be read at 0x6000-0x6fff"), "{error}");
    }

    #[test]
    fn a_chip_of_another_size_is_not_measured() {
        let manifest = manifest(&vec![1; 0x30000], Vec::new());
        let error = stable_digest(&mut chip(&vec![1; 0x20000]), &manifest).unwrap_err();
        assert!(matches!(error, MeasureError::Placement(_)));
    }
}
