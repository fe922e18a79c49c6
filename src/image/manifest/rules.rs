//! The rules that every manifest obeys.

use std::ops::Range;

use super::{
    BLOCK_BYTES_MIN, BLOCKS_MAX, IMAGE_MAX, Manifest, ManifestError, PAYLOAD_MAX, PRODUCTS_MAX,
    REGIONS_MAX, TEXT_MAX, UPDATE_FROM_MAX,
};
use crate::image::part::ranges_in_image;
use crate::image::{PARTS_MAX, Part, Region};

impl Manifest {
    /// Fails unless every rule holds; parsing and describing both end here.
    pub(in crate::image) fn check(&self) -> Result<(), ManifestError> {
        let d = &self.description;
        check_text("the version", &d.version)?;
        check_text("the vendor", &d.vendor)?;
        check_texts("products", "a product", 1, PRODUCTS_MAX, &d.products)?;
        check_texts("versions to update from", "a version", 0, UPDATE_FROM_MAX, &d.update_from)?;
        d.expect_version.iter().try_for_each(|v| check_text("the expected version", v))?;
        check_size("payload", PAYLOAD_MAX, self.payload_bytes)?;
        check_size("image", IMAGE_MAX, self.image_bytes)?;
        if let Some(offset_bytes) = d.boot_offset_bytes
            && offset_bytes >= self.image_bytes
        {
            return Err(ManifestError::BootOutside { offset_bytes, image_bytes: self.image_bytes });
        }
        self.check_blocks()?;
        self.check_parts()?;
        self.check_regions()
    }

    /// The parts add up to the image, and those with a place are apart.
    pub(super) fn check_parts(&self) -> Result<(), ManifestError> {
        let parts = self.parts();
        check_count("parts", 0, PARTS_MAX, parts.len())?;
        let bad = |part: &Part, why| ManifestError::BadPart { name: part.name.clone(), why };
        for (index, part) in parts.iter().enumerate() {
            check_text("a part's name", &part.name)?;
            let end_bytes = part.offset_bytes.unwrap_or(0).checked_add(part.length_bytes);
            if part.length_bytes == 0 || end_bytes.is_none_or(|end| end > IMAGE_MAX as u64) {
                return Err(bad(part, "it is empty, or ends where no chip does"));
            }
            for before in &parts[..index] {
                if before.name == part.name {
                    return Err(bad(part, "another part has the same name"));
                }
                if let (Some(first), Some(second)) = (before.offset_bytes, part.offset_bytes)
                    && first < second + part.length_bytes
                    && second < first + before.length_bytes
                {
                    return Err(bad(part, "it overlaps another part"));
                }
            }
        }
        let total_bytes: u64 = parts.iter().map(|part| part.length_bytes).sum();
        if !parts.is_empty() && total_bytes != self.image_bytes {
            let (parts_bytes, image_bytes) = (total_bytes, self.image_bytes);
            return Err(ManifestError::PartsSize { parts_bytes, image_bytes });
        }
        Ok(())
    }

    fn check_blocks(&self) -> Result<(), ManifestError> {
        let (image_bytes, block_bytes) = (self.image_bytes, self.block_bytes);
        let got = self.block_digests.len();
        let size_fits = block_bytes.is_power_of_two() && block_bytes >= BLOCK_BYTES_MIN as u64;
        let count_fits = size_fits && got as u64 == image_bytes.div_ceil(block_bytes);
        if count_fits && got <= BLOCKS_MAX {
            Ok(())
        } else {
            Err(ManifestError::BadBlocks { block_bytes, image_bytes, got })
        }
    }

    fn check_regions(&self) -> Result<(), ManifestError> {
        let regions = self.regions();
        check_count("regions", 0, REGIONS_MAX, regions.len())?;
        let mut previous: Option<(&Region, u64)> = None;
        let parts = ranges_in_image(self.parts());
        for region in regions {
            let end_bytes = self.check_region(region)?;
            let is_in =
                |part: &Range<u64>| part.start <= region.offset_bytes && end_bytes <= part.end;
            if !parts.is_empty() && !parts.iter().any(is_in) {
                return Err(ManifestError::RegionAcross { name: region.name.clone() });
            }
            if let Some((first, first_end_bytes)) = previous
                && region.offset_bytes < first_end_bytes
            {
                return Err(ManifestError::RegionOverlap {
                    first: first.name.clone(),
                    first_end_bytes,
                    second: region.name.clone(),
                    second_offset_bytes: region.offset_bytes,
                });
            }
            previous = Some((region, end_bytes));
        }
        for (index, region) in regions.iter().enumerate() {
            if regions[..index].iter().any(|before| before.name == region.name) {
                return Err(ManifestError::RegionNameTwice { name: region.name.clone() });
            }
        }
        let preserved = regions.iter().filter(|region| region.action.keeps_chip());
        let preserved_bytes: u64 = preserved.map(|region| region.length_bytes).sum();
        if preserved_bytes == self.image_bytes {
            return Err(ManifestError::NothingToWrite);
        }
        Ok(())
    }

    /// Returns the end of `region`, which lies inside the image.
    fn check_region(&self, region: &Region) -> Result<u64, ManifestError> {
        check_text("a region's name", &region.name)?;
        let end_bytes = region.offset_bytes.checked_add(region.length_bytes);
        end_bytes.filter(|&end| end <= self.image_bytes && region.length_bytes > 0).ok_or_else(
            || ManifestError::RegionOutside {
                name: region.name.clone(),
                offset_bytes: region.offset_bytes,
                length_bytes: region.length_bytes,
                image_bytes: self.image_bytes,
            },
        )
    }
}

pub(super) fn check_size(
    name: &'static str,
    max_bytes: usize,
    got_bytes: u64,
) -> Result<(), ManifestError> {
    if (1..=max_bytes as u64).contains(&got_bytes) {
        Ok(())
    } else {
        Err(ManifestError::BadSize { name, max_bytes, got_bytes })
    }
}

fn check_count(
    name: &'static str,
    min: usize,
    max: usize,
    got: usize,
) -> Result<(), ManifestError> {
    if (min..=max).contains(&got) {
        Ok(())
    } else {
        Err(ManifestError::BadCount { name, min, max, got })
    }
}

fn check_text(name: &'static str, text: &str) -> Result<(), ManifestError> {
    let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if printable && text.trim() == text && (1..=TEXT_MAX).contains(&text.len()) {
        Ok(())
    } else {
        Err(ManifestError::BadText { name, got: text.chars().take(TEXT_MAX).collect() })
    }
}

fn check_texts(
    list: &'static str,
    name: &'static str,
    min: usize,
    max: usize,
    texts: &[String],
) -> Result<(), ManifestError> {
    check_count(list, min, max, texts.len())?;
    texts.iter().try_for_each(|text| check_text(name, text))
}
