//! The flash map (FMAP) of coreboot and ChromeOS firmware.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 8 | `__FMAP__` |
//! | 8 | 1 | major version, 1 |
//! | 9 | 1 | minor version |
//! | 10 | 8 | address of the chip in memory |
//! | 18 | 4 | size of the chip |
//! | 22 | 32 | name, padded with zeros |
//! | 54 | 2 | number of areas |
//! | 56 + 42 n | 4, 4, 32, 2 | area n: offset, size, name, flags |
//!
//! Source: coreboot, `util/cbfstool/flashmap/fmap.h`.

use std::ops::Range;

use super::fields::{array, u16_at, u32_at};
use super::{LayoutError, LayoutRegion, REGIONS_MAX, RegionKind};

const SIGNATURE: &[u8; 8] = b"__FMAP__";
const HEADER_BYTES: usize = 56;
const AREA_BYTES: usize = 42;
const NAME_BYTES: usize = 32;
const MAJOR_VERSION: u8 = 1;
/// fmaptool and the build systems place it at a multiple of 4 at least.
const ALIGNMENT: usize = 4;

/// A parsed flash map of the whole chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) struct FlashMap {
    /// Where it lies in the image.
    pub(in crate::image) offset_bytes: u64,
    /// Its areas, in its own order.
    pub(in crate::image) areas: Vec<LayoutRegion>,
}

impl FlashMap {
    /// Where flash maps may lie in `bytes`, as far as their headers tell.
    pub(in crate::image) fn places(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
        memchr::memmem::find_iter(bytes, SIGNATURE).map(|offset| {
            let count = usize::from(u16_at(bytes, offset + 54).unwrap_or(0));
            offset..offset + HEADER_BYTES + count * AREA_BYTES
        })
    }

    /// The flash map that describes an image of this size; `None` when there is none.
    ///
    /// A map of something smaller belongs to a part, such as the firmware of the embedded
    /// controller that is stored as a file; a signature without version 1 and a name is a constant
    /// of some program.
    pub(in crate::image) fn find(bytes: &[u8]) -> Result<Option<Self>, LayoutError> {
        let mut found: Option<Self> = None;
        for offset in candidates(bytes) {
            let size_bytes = bytes.len() as u64;
            let described_bytes = u64::from(u32_at(bytes, offset + 18).unwrap_or(0));
            let offset_bytes = offset as u64;
            if described_bytes > size_bytes {
                return Err(LayoutError::FlashMapSize {
                    offset_bytes,
                    described_bytes,
                    size_bytes,
                });
            }
            if described_bytes < size_bytes {
                continue;
            }
            let map = Self { offset_bytes, areas: read_areas(bytes, offset)? };
            match &found {
                None => found = Some(map),
                Some(first) if first.areas == map.areas => {}
                Some(first) => {
                    return Err(LayoutError::FlashMapsDisagree {
                        first_bytes: first.offset_bytes,
                        second_bytes: offset_bytes,
                    });
                }
            }
        }
        Ok(found)
    }
}

/// Offsets of what has the fixed fields of a flash map.
fn candidates(bytes: &[u8]) -> impl Iterator<Item = usize> {
    memchr::memmem::find_iter(bytes, SIGNATURE).filter(|&offset| {
        offset % ALIGNMENT == 0
            && bytes.get(offset + 8) == Some(&MAJOR_VERSION)
            && u32_at(bytes, offset + 18).is_some_and(|size_bytes| size_bytes > 0)
            && name_at(bytes, offset + 22).is_some_and(|name| is_text(&name))
    })
}

fn read_areas(bytes: &[u8], offset: usize) -> Result<Vec<LayoutRegion>, LayoutError> {
    let offset_bytes = offset as u64;
    let count = usize::from(u16_at(bytes, offset + 54).unwrap_or(0));
    if count == 0 {
        return Err(LayoutError::FlashMapEmpty { offset_bytes });
    }
    if count > REGIONS_MAX {
        return Err(LayoutError::TooMany { count });
    }
    let mut areas = Vec::with_capacity(count);
    for index in 0..count {
        let area = read_area(bytes, offset + HEADER_BYTES + index * AREA_BYTES)
            .ok_or(LayoutError::FlashMapTruncated { offset_bytes, count })?;
        // Flash maps have areas of no bytes as place holders; flashrom leaves them out too.
        if area.length_bytes > 0 {
            areas.push(area);
        }
    }
    Ok(areas)
}

fn read_area(bytes: &[u8], offset: usize) -> Option<LayoutRegion> {
    let area: [u8; AREA_BYTES] = array(bytes, offset)?;
    let name = name_at(&area, 8)?;
    Some(LayoutRegion {
        kind: RegionKind::of_name(&name),
        offset_bytes: u32_at(&area, 0)?.into(),
        length_bytes: u32_at(&area, 4)?.into(),
        name,
    })
}

/// A name ends with its first zero. Bytes that are no text stay visible as replacement characters
/// and are refused later.
fn name_at(bytes: &[u8], offset: usize) -> Option<String> {
    let field: [u8; NAME_BYTES] = array(bytes, offset)?;
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
    Some(String::from_utf8_lossy(&field[..end]).into_owned())
}

fn is_text(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|character| matches!(character, ' '..='~'))
}
