//! The coreboot file system (CBFS): files one after the other in an area of the flash map.
//!
//! | offset | bytes | field (big-endian) |
//! | --- | --- | --- |
//! | 0 | 8 | `LARCHIVE` |
//! | 8 | 4 | length of the contents |
//! | 12 | 4 | type; 1 is the boot block |
//! | 16 | 4 | offset of the attributes, 0 for none |
//! | 20 | 4 | offset of the contents |
//! | 24 | | name, ended by a zero; attributes; contents |
//!
//! The next file begins at the next multiple of 64. Source: coreboot, `cbfs_serialized.h`.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::place::{Place, Seen, erased_block};
use super::{Damage, Evidence, reaches_into};
use crate::image::ByteRanges;
use crate::image::layout::{FlashMap, array};

const MAGIC: &[u8; 8] = b"LARCHIVE";
const HEADER_BYTES: usize = 24;
const ALIGNMENT: usize = 64;
const TYPE_BOOT_BLOCK: u32 = 1;
/// Stages and payloads.
const TYPES_OF_PROGRAMS: [u32; 3] = [0x10, 0x11, 0x20];
/// Types of room for files: deleted, and never written.
const TYPES_OF_ROOM: [u32; 2] = [0, 0xffff_ffff];
const ATTRIBUTE_HASH: u32 = 0x6873_6148;
const HASH_SHA256: u32 = 2;
/// The area that coreboot starts from: cbfstool covers it with files to its end, so a gap is
/// damage.
const MAIN_AREA: &str = "COREBOOT";
/// Areas that hold a file system when they hold anything.
const OTHER_AREAS: [&str; 3] = ["FW_MAIN_A", "FW_MAIN_B", "RW_LEGACY"];

/// An area with a file system.
#[derive(Clone, Debug)]
pub(in crate::image) struct Area {
    pub(in crate::image) range: Range<usize>,
    name: String,
}

/// What was found whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    areas: usize,
    files: usize,
    digests: usize,
    /// Whether the boot block of an x86 processor is there: it ends with the image.
    pub(super) ends_with_boot_block: bool,
}

impl Found {
    pub(super) fn evidence(&self) -> Option<Evidence> {
        let Self { files, digests, .. } = *self;
        (self.areas > 0).then_some(Evidence::CorebootFiles { files, digests })
    }
}

/// Returns the areas of a flash map that hold file systems, as far as they lie in the image.
pub(in crate::image) fn areas(map: &FlashMap, image_bytes: usize) -> Vec<Area> {
    let holds_files = |name: &str| name == MAIN_AREA || OTHER_AREAS.contains(&name);
    let areas = map.areas.iter().filter(|area| holds_files(&area.name));
    areas
        .map(|area| {
            let range = area.range();
            let inside = |at: u64| usize::try_from(at).unwrap_or(image_bytes).min(image_bytes);
            Area { range: inside(range.start)..inside(range.end), name: area.name.clone() }
        })
        .collect()
}

/// Walks the files of every area of which nothing is closed.
pub(super) fn check(
    image: &[u8],
    areas: &[Area],
    closed: &ByteRanges,
    seen: &mut Seen,
) -> Result<Found, Damage> {
    let mut found = Found::default();
    for area in areas.iter().filter(|area| !reaches_into(closed, area.range.clone())) {
        let Some(bytes) = image.get(area.range.clone()) else { continue };
        let is_main = area.name == MAIN_AREA;
        let is_empty = !bytes.starts_with(MAGIC);
        if is_empty && !is_main {
            continue;
        }
        found.areas += 1;
        let end = check_files(bytes, area, &mut found, seen)?;
        check_rest(bytes, end, area)?;
    }
    Ok(found)
}

/// Walks the chain of files and returns where it ends.
fn check_files(
    bytes: &[u8],
    area: &Area,
    found: &mut Found,
    seen: &mut Seen,
) -> Result<usize, Damage> {
    let mut files = CorebootFiles::of(bytes);
    for (offset, file) in files.by_ref() {
        let start = area.range.start + offset;
        let file = file.ok_or_else(|| {
            Damage::new(start, format!("coreboot file ends outside its area {}", area.name))
        })?;
        found.files += usize::from(!file.is_room());
        let has_digest = file.check_digest(start)?;
        found.digests += usize::from(has_digest);
        let contents_offset = file.end - file.contents.len();
        // A program, or compressed: no block of either can be erased.
        let is_packed = file.is_packed() || TYPES_OF_PROGRAMS.contains(&file.kind);
        let place = Place::in_image(area.range.start);
        if is_packed && let Some(at) = erased_block(file.contents, place, contents_offset) {
            return Err(Damage::new(at, "4 KiB of a coreboot file are erased"));
        }
        let seen_end = if has_digest || is_packed { file.end } else { contents_offset };
        seen.add(place, offset, seen_end - offset);
        found.ends_with_boot_block |=
            file.kind == TYPE_BOOT_BLOCK && area.name == MAIN_AREA && file.end == bytes.len();
    }
    Ok(files.next.min(bytes.len()))
}

/// Behind the last file there is nothing, and in the main area not even room for it.
fn check_rest(bytes: &[u8], end: usize, area: &Area) -> Result<(), Damage> {
    let rest = &bytes[end..];
    let lost = rest.chunks(ALIGNMENT).position(|chunk| chunk.starts_with(MAGIC));
    let start = area.range.start + end;
    if area.name == MAIN_AREA && rest.len() > ALIGNMENT {
        return Err(Damage::new(
            start,
            format!(
                "the coreboot files of area {} end 0x{:x} bytes before it, expected files up to \
                the end",
                area.name,
                rest.len()
            ),
        ));
    }
    match lost {
        None => Ok(()),
        Some(index) => Err(Damage::new(
            start,
            format!(
                "coreboot file expected, there is none before the one at 0x{:x}",
                start + index * ALIGNMENT
            ),
        )),
    }
}

/// Iterator over the chain of files that an area begins with, and where each begins. It ends with
/// the first one that does not fit into the area, which is `None`.
#[derive(Clone, Debug)]
pub(in crate::image) struct CorebootFiles<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl<'a> CorebootFiles<'a> {
    pub(in crate::image) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0 }
    }
}

impl<'a> Iterator for CorebootFiles<'a> {
    type Item = (usize, Option<CorebootFile<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        self.bytes.get(self.next..).filter(|rest| rest.starts_with(MAGIC))?;
        let (start, file) = (self.next, CorebootFile::parse(self.bytes, self.next));
        self.next = match &file {
            Some(file) => file.end.next_multiple_of(ALIGNMENT),
            None => self.bytes.len(),
        };
        Some((start, file))
    }
}

/// A file of coreboot.
#[derive(Clone, Copy, Debug)]
pub(in crate::image) struct CorebootFile<'a> {
    pub(in crate::image) kind: u32,
    /// Name, ended by a zero, and what fills it up.
    name: &'a [u8],
    attributes: &'a [u8],
    pub(in crate::image) contents: &'a [u8],
    /// Where it ends in its area.
    pub(in crate::image) end: usize,
}

impl<'a> CorebootFile<'a> {
    fn parse(bytes: &'a [u8], offset: usize) -> Option<Self> {
        let field = |at: usize| array(bytes, offset + at).map(u32::from_be_bytes);
        let (length, kind, attributes) = (field(8)? as usize, field(12)?, field(16)? as usize);
        let contents_offset = field(20)? as usize;
        let file = bytes.get(offset..)?;
        if contents_offset < HEADER_BYTES {
            return None;
        }
        let contents = file.get(contents_offset..)?.get(..length)?;
        let name = file.get(HEADER_BYTES..contents_offset)?;
        let attributes = match attributes {
            0 => &[],
            start => file.get(start..contents_offset)?,
        };
        Some(Self { kind, name, attributes, contents, end: offset + contents_offset + length })
    }

    /// Returns the bytes of its name.
    pub(in crate::image) fn name(&self) -> &'a [u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Returns whether it is room for files: deleted, or never written.
    pub(in crate::image) fn is_room(&self) -> bool {
        TYPES_OF_ROOM.contains(&self.kind)
    }

    /// Checks the SHA-256 digest among the attributes; `false` when there is none.
    fn check_digest(&self, start: usize) -> Result<bool, Damage> {
        let Some(expected) = self.digest() else { return Ok(false) };
        let got: [u8; 32] = Sha256::digest(self.contents).into();
        if got == expected {
            return Ok(true);
        }
        // cbfstool writes a pointer into the end of the boot block, and leaves the digest as it
        // was.
        if self.kind == TYPE_BOOT_BLOCK {
            return Ok(false);
        }
        Err(Damage::new(start, "coreboot file: its contents do not have its SHA-256 digest"))
    }

    /// Returns whether its contents are compressed as a whole. They are not unpacked.
    fn is_packed(&self) -> bool {
        self.compression().is_some_and(|algorithm| algorithm != 0)
    }

    /// Returns the algorithm that its contents are compressed with as a whole: 0 none, 1 LZMA, 2
    /// LZ4; `None` where it does not say.
    pub(in crate::image) fn compression(&self) -> Option<u32> {
        const ATTRIBUTE_COMPRESSION: [u8; 4] = *b"BCZL";
        let mut attributes = self.attributes;
        while let (Some(tag), Some(length)) = (array(attributes, 0), array(attributes, 4)) {
            if tag == ATTRIBUTE_COMPRESSION {
                return Some(array(attributes, 8).map_or(u32::MAX, u32::from_be_bytes));
            }
            let length = u32::from_be_bytes(length) as usize;
            attributes = attributes.get(length.max(8)..).unwrap_or_default();
        }
        None
    }

    /// Each attribute: tag, length with both of these, then here the algorithm and the digest.
    fn digest(&self) -> Option<[u8; 32]> {
        let mut attributes = self.attributes;
        loop {
            let tag = u32::from_be_bytes(array(attributes, 0)?);
            let length = u32::from_be_bytes(array(attributes, 4)?) as usize;
            if tag == ATTRIBUTE_HASH && array(attributes, 8)? == HASH_SHA256.to_be_bytes() {
                return array(attributes.get(..length)?, 12);
            }
            attributes = attributes.get(length.max(8)..)?;
        }
    }
}
