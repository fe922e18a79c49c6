//! Sections: what most firmware files consist of.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 3 | size with the header; FFFFFFh: it stands at 4 |
//! | 3 | 1 | type |
//! | 4 | 4 | size, only if FFFFFFh at 0 |
//!
//! Sections begin at multiples of 4. Source: UEFI Platform Initialization specification, volume 3,
//! sections 2.1.5 and 3.2.5.

use super::Damage;
use crate::image::layout::{Guid, array, u16_at, u24_at, u32_at, u64_at};

const ALIGNMENT: usize = 4;
const SIZE_IS_EXTENDED: u32 = 0xff_ffff;

const COMPRESSION: u8 = 0x01;
const GUID_DEFINED: u8 = 0x02;
const DISPOSABLE: u8 = 0x03;
const PE32: u8 = 0x10;
const TE: u8 = 0x12;
const FIRMWARE_VOLUME: u8 = 0x17;

/// `EFI_GUIDED_SECTION_PROCESSING_REQUIRED`: the contents cannot be read as they are.
const PROCESSING_REQUIRED: u16 = 0x01;
/// Nothing in firmware unpacks to more than this.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

const CRC32: Guid =
    Guid::new(0xfc1b_cdb0, 0x7d31, 0x49aa, [0x93, 0x6a, 0xa4, 0x60, 0x0d, 0x9d, 0xd0, 0x83]);
const LZMA: Guid =
    Guid::new(0xee4e_5898, 0x3914, 0x4259, [0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf]);
/// LZMA after a filter for x86 code.
const LZMA_F86: Guid =
    Guid::new(0xd42a_e6bd, 0x1352, 0x4bfb, [0x90, 0x9a, 0xca, 0x72, 0xa6, 0xea, 0xe8, 0x89]);
const TIANO: Guid =
    Guid::new(0xa312_80ad, 0x481e, 0x41b6, [0x95, 0xe8, 0x12, 0x7f, 0x4c, 0x98, 0x47, 0x79]);

/// What a section has in it that can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside<'a> {
    /// Nothing, or something compressed.
    Nothing,
    /// More sections.
    Sections(&'a [u8]),
    /// A firmware volume.
    Volume(&'a [u8]),
}

/// A section of a file.
#[derive(Clone, Copy, Debug)]
struct Section<'a> {
    kind: u8,
    header_bytes: usize,
    /// With the header.
    bytes: &'a [u8],
}

/// Checks the chain of sections that `bytes` consists of, and hands what is inside each to
/// `look_inside` with where it begins. `offset_bytes` is where `bytes` begins in the image.
pub(super) fn check_sections<'a>(
    bytes: &'a [u8],
    offset_bytes: usize,
    mut look_inside: impl FnMut(usize, Inside<'a>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let mut next = 0;
    while let Some(rest) = bytes.get(next..).filter(|rest| !is_padding(rest)) {
        let start = offset_bytes + next;
        let section = Section::parse(rest)
            .ok_or_else(|| Damage::new(start, "section: its size does not fit into its file"))?;
        let inside =
            section.check().map_err(|why| Damage::new(start, format!("section: {why}")))?;
        let contents_offset = match inside {
            Inside::Nothing => 0,
            Inside::Sections(contents) | Inside::Volume(contents) => {
                section.bytes.len() - contents.len()
            }
        };
        look_inside(start + contents_offset, inside)?;
        next = (next + section.bytes.len()).next_multiple_of(ALIGNMENT);
    }
    Ok(())
}

/// Up to the end of the file there may be bytes that fill it.
fn is_padding(rest: &[u8]) -> bool {
    rest.iter().all(|&byte| byte == 0xff) || rest.iter().all(|&byte| byte == 0x00)
}

impl<'a> Section<'a> {
    fn parse(rest: &'a [u8]) -> Option<Self> {
        let kind = *rest.get(3)?;
        let (size, header_bytes) = match u24_at(rest, 0)? {
            SIZE_IS_EXTENDED => (u32_at(rest, 4)?, 8),
            size => (size, 4),
        };
        let bytes = rest.get(..size as usize)?;
        (bytes.len() >= header_bytes).then_some(Self { kind, header_bytes, bytes })
    }

    fn contents(&self) -> &'a [u8] {
        &self.bytes[self.header_bytes..]
    }

    fn check(&self) -> Result<Inside<'a>, String> {
        let contents = self.contents();
        match self.kind {
            COMPRESSION => check_compression(contents),
            GUID_DEFINED => self.check_guid_defined(),
            DISPOSABLE => Ok(Inside::Sections(contents)),
            PE32 => expect_start(contents, b"MZ"),
            TE => expect_start(contents, b"VZ"),
            FIRMWARE_VOLUME => Ok(Inside::Volume(contents)),
            // Position independent code, dependencies, version, name, raw and the like; 20h and F0h
            // are vendors' own.
            0x11 | 0x13..=0x16 | 0x18..=0x1c | 0x20 | 0xf0 => Ok(Inside::Nothing),
            kind => Err(format!("type 0x{kind:02x}, expected a known one")),
        }
    }

    /// GUID, offset of the data from the start of the section, attributes.
    fn check_guid_defined(&self) -> Result<Inside<'a>, String> {
        let contents = self.contents();
        let fields = || {
            let guid = Guid(array(contents, 0)?);
            let data = self.bytes.get(usize::from(u16_at(contents, 16)?)..)?;
            Some((guid, data, u16_at(contents, 18)?))
        };
        let (guid, data, attributes) =
            fields().ok_or("its header is larger than it, expected the data inside")?;
        match guid {
            CRC32 => check_crc32(contents, data),
            LZMA | LZMA_F86 => check_lzma(data),
            TIANO => check_tiano(data, None),
            _ if attributes & PROCESSING_REQUIRED == 0 => Ok(Inside::Sections(data)),
            _ => Ok(Inside::Nothing),
        }
    }
}

/// Length when unpacked (4 bytes), type (1 byte): 0 not compressed, 1 the standard algorithm, 2
/// another one.
fn check_compression(contents: &[u8]) -> Result<Inside<'_>, String> {
    let (Some(unpacked_bytes), Some((kind, data))) =
        (u32_at(contents, 0), contents.get(4..).and_then(<[u8]>::split_first))
    else {
        return Err("its header is larger than it, expected the data inside".to_owned());
    };
    match kind {
        0 if data.len() == unpacked_bytes as usize => Ok(Inside::Sections(data)),
        0 => Err(format!(
            "0x{:x} bytes that are not compressed, expected 0x{unpacked_bytes:x}",
            data.len()
        )),
        1 => check_tiano(data, Some(unpacked_bytes)),
        2 => Ok(Inside::Nothing),
        kind => Err(format!("compression 0x{kind:02x}, expected 0x00, 0x01 or 0x02")),
    }
}

fn check_crc32<'a>(contents: &[u8], data: &'a [u8]) -> Result<Inside<'a>, String> {
    const CRC32_OFFSET: usize = 20;
    let (got, expected) = (crc32fast::hash(data), u32_at(contents, CRC32_OFFSET));
    if expected == Some(got) {
        return Ok(Inside::Sections(data));
    }
    Err(format!(
        "its contents have the CRC-32 0x{got:08x}, expected 0x{:08x}",
        expected.unwrap_or(0)
    ))
}

/// Returns the header of an LZMA stream: properties (below 225), size of the dictionary, size when
/// unpacked.
fn check_lzma<'a>(data: &[u8]) -> Result<Inside<'a>, String> {
    const PROPERTIES_END: u8 = 9 * 5 * 5;
    match (data.first(), u64_at(data, 5)) {
        (Some(..PROPERTIES_END), Some(1..=UNPACKED_BYTES_MAX)) => Ok(Inside::Nothing),
        (properties, unpacked_bytes) => Err(format!(
            "LZMA with properties {properties:02x?} and {unpacked_bytes:x?} bytes unpacked, \
            expected plausible ones"
        )),
    }
}

/// Size compressed, size when unpacked.
fn check_tiano<'a>(data: &[u8], unpacked_bytes: Option<u32>) -> Result<Inside<'a>, String> {
    const HEADER_BYTES: u64 = 8;
    let (compressed, unpacked) = (u32_at(data, 0), u32_at(data, 4));
    let fits = compressed.is_some_and(|size| u64::from(size) + HEADER_BYTES <= data.len() as u64);
    let is_plausible = unpacked.is_some_and(|size| (1..=UNPACKED_BYTES_MAX).contains(&size.into()));
    let is_as_said = unpacked_bytes.is_none() || unpacked_bytes == unpacked;
    if fits && is_plausible && is_as_said {
        return Ok(Inside::Nothing);
    }
    Err(format!(
        "compressed to {compressed:x?} bytes, {unpacked:x?} unpacked, expected them to fit into \
        0x{:x}",
        data.len()
    ))
}

fn expect_start<'a>(contents: &[u8], magic: &[u8; 2]) -> Result<Inside<'a>, String> {
    match contents.first_chunk() {
        Some(start) if start == magic => Ok(Inside::Nothing),
        _ => {
            let start = &contents[..contents.len().min(2)];
            Err(format!("program that begins with {start:02x?}, expected {magic:02x?}"))
        }
    }
}
