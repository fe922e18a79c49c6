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

use super::place::{Place, erased_block};
use super::unpack::Codec;
use super::{Damage, program};
use crate::image::layout::{Guid, array, u16_at, u24_at, u32_at};

const ALIGNMENT: usize = 4;
const SIZE_IS_EXTENDED: u32 = 0xff_ffff;

const COMPRESSION: u8 = 0x01;
const GUID_DEFINED: u8 = 0x02;
const DISPOSABLE: u8 = 0x03;
/// A program in the format of Windows.
pub(in crate::image) const PE32: u8 = 0x10;
/// A program in that format with a shorter header.
pub(in crate::image) const TE: u8 = 0x12;
/// The build number and the version of a file.
pub(in crate::image) const VERSION: u8 = 0x14;
/// The name of a file for people.
pub(in crate::image) const USER_INTERFACE: u8 = 0x15;
const FIRMWARE_VOLUME: u8 = 0x17;
/// Dependencies of DXE drivers, PEI modules and MM drivers.
const DEPENDENCIES: [u8; 3] = [0x13, 0x1b, 0x1c];

/// `EFI_GUIDED_SECTION_PROCESSING_REQUIRED`: the contents cannot be read as they are.
const PROCESSING_REQUIRED: u16 = 0x01;

const CRC32: Guid =
    Guid::new(0xfc1b_cdb0, 0x7d31, 0x49aa, [0x93, 0x6a, 0xa4, 0x60, 0x0d, 0x9d, 0xd0, 0x83]);
const LZMA: Guid =
    Guid::new(0xee4e_5898, 0x3914, 0x4259, [0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf]);
/// LZMA after a filter for x86 code.
const LZMA_X86: Guid =
    Guid::new(0xd42a_e6bd, 0x1352, 0x4bfb, [0x90, 0x9a, 0xca, 0x72, 0xa6, 0xea, 0xe8, 0x89]);
const TIANO: Guid =
    Guid::new(0xa312_80ad, 0x481e, 0x41b6, [0x95, 0xe8, 0x12, 0x7f, 0x4c, 0x98, 0x47, 0x79]);
/// `gBrotliCustomDecompressGuid` of EDK2.
const BROTLI: Guid =
    Guid::new(0x3d53_2050, 0x5cda, 0x4fd0, [0x87, 0x9e, 0x0f, 0x7f, 0x63, 0x0d, 0x5a, 0xfb]);
/// zlib as AMD has it.
const AMD_ZLIB: Guid =
    Guid::new(0xce32_33f5, 0x2cd6, 0x4d87, [0x91, 0x52, 0x4a, 0x23, 0x8b, 0xb6, 0xd1, 0xc4]);

/// What a section has in it that can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image) enum Inside<'a> {
    /// Nothing; `true` if every byte of it was looked at.
    Nothing { is_seen: bool },
    /// More sections; `true` if a checksum has told that they are whole.
    Sections { contents: &'a [u8], is_checked: bool },
    /// A firmware volume.
    Volume(&'a [u8]),
    /// Something that has to be unpacked, and so many bytes when it is, if that is known.
    Packed { codec: Codec, packed: &'a [u8], unpacked_bytes: Option<u32> },
    /// Nothing, and something about it deviates.
    Doubt(&'static str),
}

/// A section of a file.
#[derive(Clone, Copy, Debug)]
pub(in crate::image) struct Section<'a> {
    /// Type, as `EFI_SECTION_TYPE`.
    pub(in crate::image) kind: u8,
    header_bytes: usize,
    /// With the header.
    pub(in crate::image) bytes: &'a [u8],
}

/// Iterator over the chain of sections that some bytes consist of, with where each begins. It ends
/// with the first one that does not fit into the bytes, which is `None`.
#[derive(Clone, Debug)]
pub(in crate::image) struct Sections<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl<'a> Sections<'a> {
    pub(in crate::image) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0 }
    }
}

impl<'a> Iterator for Sections<'a> {
    type Item = (usize, Option<Section<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.next..).filter(|rest| !is_padding(rest))?;
        let (start, section) = (self.next, Section::parse(rest));
        self.next = match &section {
            Some(section) => (start + section.bytes.len()).next_multiple_of(ALIGNMENT),
            None => self.bytes.len(),
        };
        Some((start, section))
    }
}

/// Checks the chain of sections that `bytes` consists of, and hands each to `look_inside` with
/// where it begins in `bytes`. These begin at `place`.
pub(super) fn check_sections<'a>(
    bytes: &'a [u8],
    place: Place,
    mut look_inside: impl FnMut(usize, Section<'a>, Inside<'a>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    for (next, section) in Sections::of(bytes) {
        let damage = |why: &str| Damage::new(place.at(next), format!("section: {why}"));
        let section = section.ok_or_else(|| damage("its size does not fit into its file"))?;
        let inside = section.inside().map_err(|why| damage(&why))?;
        if let Inside::Packed { packed, .. } = inside
            && let Some(at) = erased_block(packed, place, next + section.bytes.len() - packed.len())
        {
            return Err(Damage::new(at, "4 KiB of a compressed section are erased"));
        }
        if let Some(code) = section.code(place, next) {
            return Err(Damage::new(code, "4 KiB of a program's code are erased"));
        }
        look_inside(next, section, inside)?;
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

    /// Returns what follows the header.
    pub(in crate::image) fn contents(&self) -> &'a [u8] {
        &self.bytes[self.header_bytes..]
    }

    /// Returns where a block of the code is erased, if this is a program; `place` and `offset` say
    /// where the section begins.
    fn code(&self, place: Place, offset: usize) -> Option<usize> {
        let contents = self.contents();
        let code = match self.kind {
            PE32 => program::pe_code(contents),
            TE => program::te_code(contents),
            _ => return None,
        };
        code.into_iter().find_map(|range| {
            let start = offset + self.header_bytes + range.start;
            erased_block(contents.get(range)?, place, start)
        })
    }

    /// Checks the section and returns what is in it.
    ///
    /// # Errors
    /// What is damaged.
    pub(in crate::image) fn inside(&self) -> Result<Inside<'a>, String> {
        let contents = self.contents();
        let or_doubt = |doubt: Option<&'static str>| match doubt {
            None => Inside::Nothing { is_seen: true },
            Some(doubt) => Inside::Doubt(doubt),
        };
        match self.kind {
            COMPRESSION => check_compression(contents),
            GUID_DEFINED => self.check_guid_defined(),
            DISPOSABLE => Ok(Inside::Sections { contents, is_checked: false }),
            PE32 => expect_start(contents, b"MZ").map(|()| or_doubt(program::pe_doubt(contents))),
            TE => expect_start(contents, b"VZ").map(|()| or_doubt(program::te_doubt(contents))),
            FIRMWARE_VOLUME => Ok(Inside::Volume(contents)),
            kind if DEPENDENCIES.contains(&kind) => {
                Ok(or_doubt(program::dependencies_doubt(contents)))
            }
            USER_INTERFACE => Ok(or_doubt(match contents {
                [.., 0, 0] => None,
                _ => Some("section: a name without an end, expected zeros"),
            })),
            // Position independent code, version, raw and the like; 20h and F0h are vendors' own.
            0x11 | 0x14 | 0x16 | 0x18..=0x1a | 0x20 | 0xf0 => {
                Ok(Inside::Nothing { is_seen: false })
            }
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
        let packed = |codec| Ok(Inside::Packed { codec, packed: data, unpacked_bytes: None });
        match guid {
            CRC32 => check_crc32(contents, data),
            LZMA => packed(Codec::Lzma),
            LZMA_X86 => packed(Codec::LzmaX86),
            TIANO => packed(Codec::Tiano),
            AMD_ZLIB => packed(Codec::AmdZlib),
            _ if attributes & PROCESSING_REQUIRED == 0 => {
                Ok(Inside::Sections { contents: data, is_checked: false })
            }
            _ => Ok(Inside::Nothing { is_seen: false }),
        }
    }
}

/// Returns how the contents of a section are packed, if that is nothing that is unpacked here.
pub(in crate::image) fn packing_name(section: &Section) -> Option<String> {
    const CUSTOM: u8 = 2;
    let contents = section.contents();
    match section.kind {
        COMPRESSION => {
            (contents.get(4) == Some(&CUSTOM)).then(|| "a maker's own compression".to_owned())
        }
        GUID_DEFINED => {
            let guid = Guid(array(contents, 0)?);
            let is_packed = u16_at(contents, 18)? & PROCESSING_REQUIRED != 0;
            is_packed.then(|| if guid == BROTLI { "Brotli".to_owned() } else { guid.to_string() })
        }
        _ => None,
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
    let packed =
        |codec| Inside::Packed { codec, packed: data, unpacked_bytes: Some(unpacked_bytes) };
    match kind {
        0 if data.len() == unpacked_bytes as usize => {
            Ok(Inside::Sections { contents: data, is_checked: false })
        }
        0 => Err(format!(
            "0x{:x} bytes that are not compressed, expected 0x{unpacked_bytes:x}",
            data.len()
        )),
        1 => Ok(packed(Codec::Efi)),
        2 => Ok(Inside::Nothing { is_seen: false }),
        kind => Err(format!("compression 0x{kind:02x}, expected 0x00, 0x01 or 0x02")),
    }
}

fn check_crc32<'a>(contents: &[u8], data: &'a [u8]) -> Result<Inside<'a>, String> {
    const CRC32_OFFSET: usize = 20;
    let (got, expected) = (crc32fast::hash(data), u32_at(contents, CRC32_OFFSET));
    if expected == Some(got) {
        return Ok(Inside::Sections { contents: data, is_checked: true });
    }
    Err(format!(
        "its contents have the CRC-32 0x{got:08x}, expected 0x{:08x}",
        expected.unwrap_or(0)
    ))
}

fn expect_start(contents: &[u8], magic: &[u8; 2]) -> Result<(), String> {
    match contents.first_chunk() {
        Some(start) if start == magic => Ok(()),
        _ => {
            let start = &contents[..contents.len().min(2)];
            Err(format!("program that begins with {start:02x?}, expected {magic:02x?}"))
        }
    }
}
