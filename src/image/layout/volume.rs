//! UEFI firmware volumes: where they lie, and whether their headers are whole.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 16 | zero vector |
//! | 16 | 16 | GUID of the file system |
//! | 32 | 8 | FvLength: the whole volume |
//! | 40 | 4 | `_FVH` |
//! | 44 | 4 | attributes; 800h: erased bits are ones |
//! | 48 | 2 | HeaderLength, block map included |
//! | 50 | 2 | checksum: the 16-bit words of the header sum up to zero |
//! | 52 | 2 | ExtHeaderOffset, 0 for none |
//! | 54 | 1 | reserved, 0 |
//! | 55 | 1 | revision, 2 (1 in older firmware) |
//! | 56 | 8 n | block map: number and length of blocks, ended by zeros |
//!
//! Source: UEFI Platform Initialization specification, volume 3, section 3.2.1.

use std::ops::Range;

use super::fields::{array, u16_at, u32_at, u64_at};
use super::guid::Guid;
use super::words::find_word;

const SIGNATURE: &[u8; 4] = b"_FVH";
const SIGNATURE_OFFSET: usize = 40;
const GUID_OFFSET: usize = 16;
const HEADER_BYTES_MIN: usize = 56;
/// Real headers have 72 bytes, one block map entry and its end; a handful of entries more are
/// known.
const HEADER_BYTES_MAX: usize = 512;
/// Volumes begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// Files begin at multiples of this from the start of their volume.
const FILE_ALIGNMENT: usize = 8;
const ERASED_BITS_ARE_ONES: u32 = 0x800;

/// Firmware file system of framework days.
pub(in crate::image) const FFS1: Guid =
    Guid::new(0x7a93_54d9, 0x0468, 0x444a, [0x81, 0xce, 0x0b, 0xf6, 0x17, 0xd8, 0x90, 0xdf]);
/// Firmware file system 2.
pub(in crate::image) const FFS2: Guid =
    Guid::new(0x8c8c_e578, 0x8a3d, 0x4f1c, [0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3]);
/// Firmware file system 3: as 2, and files of 16 MiB and more.
pub(in crate::image) const FFS3: Guid =
    Guid::new(0x5473_c07a, 0x3dcb, 0x4dca, [0xbd, 0x6f, 0x1e, 0x96, 0x89, 0xe7, 0x34, 0x9a]);
/// `EFI_SYSTEM_NV_DATA_FV_GUID`: variables, and what an interrupted write of them left.
pub(super) const NV_DATA: Guid =
    Guid::new(0xfff1_2b8d, 0x7696, 0x4c8b, [0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50]);
/// Every file system of programs.
pub(in crate::image) const FFS_GUIDS: [Guid; 3] = [FFS1, FFS2, FFS3];
const FILE_SYSTEMS: [Guid; 4] = [FFS1, FFS2, FFS3, NV_DATA];
/// The first word of each, as a little-endian number.
const FILE_SYSTEM_HEADS: [u64; 4] = [FFS1.head(), FFS2.head(), FFS3.head(), NV_DATA.head()];
/// Whether a word that begins with this byte may be one of these, or begin with the signature.
const MAY_BE_MARK: [bool; 256] = {
    let mut may_be = [false; 256];
    may_be[SIGNATURE[0] as usize] = true;
    let mut nth = 0;
    while nth < FILE_SYSTEM_HEADS.len() {
        may_be[FILE_SYSTEM_HEADS[nth].to_le_bytes()[0] as usize] = true;
        nth += 1;
    }
    may_be
};

/// A firmware volume whose header is whole and which lies inside the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareVolume {
    /// First byte, from the start of the bytes that were searched.
    pub offset_bytes: usize,
    /// Length of the whole volume.
    pub length_bytes: usize,
    /// Length of the header with its block map.
    pub header_bytes: usize,
    /// GUID of the file system.
    pub file_system: Guid,
    /// Where the extended header begins in the volume, 0 for none.
    pub extended_header_offset: usize,
    /// Whether erased bits are ones, as on all flash.
    pub erased_bits_are_ones: bool,
    /// The header's checksum if it is wrong although all else fits. Makers leave a constant there
    /// in volumes of variables, which is none of this.
    pub doubt: Option<VolumeFlaw>,
}

/// What is wrong with something that by most of its header is a firmware volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeFlaw {
    /// Another signature.
    #[error("firmware volume: signature {0:02x?}, expected _FVH")]
    Signature([u8; 4]),
    /// A header length that cannot be.
    #[error("firmware volume: header of 0x{0:x} bytes, expected an even number from 0x38 to 0x200")]
    HeaderLength(usize),
    /// The header's words do not sum up to zero.
    #[error("firmware volume: header sums up to 0x{0:04x}, expected 0x0000")]
    Checksum(u16),
    /// The volume is shorter than its header, or ends after the image.
    #[error(
        "firmware volume: 0x{length_bytes:x} bytes, expected at most the 0x{room_bytes:x} up to \
        the end"
    )]
    Length {
        /// Its length as it says.
        length_bytes: u64,
        /// Bytes from its start to the end of the image.
        room_bytes: u64,
    },
}

/// What stands at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundVolume {
    /// A firmware volume.
    Whole(FirmwareVolume),
    /// A firmware volume with a damaged header.
    Damaged {
        /// Where it begins.
        offset_bytes: usize,
        /// What is wrong.
        flaw: VolumeFlaw,
    },
}

impl FoundVolume {
    /// Returns its bytes; where its length is not known, those of a header.
    pub(in crate::image) fn range(&self) -> Range<usize> {
        let (start, length_bytes) = match self {
            Self::Whole(volume) => (volume.offset_bytes, volume.length_bytes),
            Self::Damaged { offset_bytes, .. } => (*offset_bytes, HEADER_BYTES_MIN),
        };
        start..start + length_bytes
    }

    /// Returns the same volume, found so many bytes later.
    pub(super) fn behind(mut self, bytes: usize) -> Self {
        match &mut self {
            Self::Whole(FirmwareVolume { offset_bytes, .. })
            | Self::Damaged { offset_bytes, .. } => *offset_bytes += bytes,
        }
        self
    }
}

/// Iterator over the firmware volumes of `bytes` that lie in no other one.
#[derive(Clone, Debug)]
pub struct Volumes<'a> {
    bytes: &'a [u8],
    /// The next word of 8 bytes to look at.
    word: usize,
    /// Volumes begin here at the earliest.
    floor: usize,
}

impl<'a> Volumes<'a> {
    /// Searches all of `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, word: 0, floor: 0 }
    }

    /// Returns the start of a volume for which this word is the GUID's first half or the signature.
    /// Either of them may be damaged.
    fn start_for(&self, word: &[u8; ALIGNMENT]) -> Option<usize> {
        let number = u64::from_le_bytes(*word);
        let field_offset = if number as u32 == u32::from_le_bytes(*SIGNATURE) {
            SIGNATURE_OFFSET
        } else if FILE_SYSTEM_HEADS.contains(&number) {
            GUID_OFFSET
        } else {
            return None;
        };
        (self.word * ALIGNMENT).checked_sub(field_offset).filter(|&start| start >= self.floor)
    }
}

impl Iterator for Volumes<'_> {
    type Item = FoundVolume;

    fn next(&mut self) -> Option<FoundVolume> {
        let (words, _) = self.bytes.as_chunks::<ALIGNMENT>();
        // Every word of a chip comes by here, so its first byte decides about most of them.
        let may_be_mark = |word: &[u8; ALIGNMENT]| MAY_BE_MARK[usize::from(word[0])];
        while let Some(skipped) = find_word(words.get(self.word..)?, may_be_mark) {
            self.word += skipped;
            let start = self.start_for(&words[self.word]);
            self.word += 1;
            let Some(offset_bytes) = start else { continue };
            if !resembles_volume(&self.bytes[offset_bytes..]) {
                continue;
            }
            match FirmwareVolume::parse(self.bytes, offset_bytes) {
                Ok(volume) => {
                    self.floor = offset_bytes + volume.length_bytes;
                    self.word = self.floor / ALIGNMENT;
                    return Some(FoundVolume::Whole(volume));
                }
                Err(flaw) => {
                    self.floor = offset_bytes + HEADER_BYTES_MIN;
                    return Some(FoundVolume::Damaged { offset_bytes, flaw });
                }
            }
        }
        None
    }
}

impl FirmwareVolume {
    /// Parses the volume that begins at `offset_bytes`.
    ///
    /// # Errors
    /// The first thing that is wrong with its header.
    pub fn parse(bytes: &[u8], offset_bytes: usize) -> Result<Self, VolumeFlaw> {
        let volume = bytes.get(offset_bytes..).unwrap_or_default();
        let signature = array(volume, SIGNATURE_OFFSET).unwrap_or_default();
        if signature != *SIGNATURE {
            return Err(VolumeFlaw::Signature(signature));
        }
        let header_bytes = usize::from(u16_at(volume, 48).unwrap_or(0));
        let length_is_possible = (HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&header_bytes);
        let header = volume.get(..header_bytes).filter(|_| length_is_possible);
        let Some((words, [])) = header.map(<[u8]>::as_chunks::<2>) else {
            return Err(VolumeFlaw::HeaderLength(header_bytes));
        };
        let sum = words.iter().fold(0u16, |sum, word| sum.wrapping_add(u16::from_le_bytes(*word)));
        let (stated_bytes, room_bytes) = (u64_at(volume, 32).unwrap_or(0), volume.len() as u64);
        if !(header_bytes as u64..=room_bytes).contains(&stated_bytes) {
            return Err(VolumeFlaw::Length { length_bytes: stated_bytes, room_bytes });
        }
        let attributes = u32_at(volume, 44).unwrap_or(0);
        let mut parsed = Self {
            offset_bytes,
            length_bytes: stated_bytes as usize,
            header_bytes,
            file_system: Guid(array(volume, GUID_OFFSET).unwrap_or_default()),
            extended_header_offset: usize::from(u16_at(volume, 52).unwrap_or(0)),
            erased_bits_are_ones: attributes & ERASED_BITS_ARE_ONES != 0,
            doubt: None,
        };
        if sum != 0 {
            let flaw = VolumeFlaw::Checksum(sum);
            if !fits_otherwise(volume, &parsed) {
                return Err(flaw);
            }
            parsed.doubt = (!parsed.is_variable_store(bytes)).then_some(flaw);
        }
        Ok(parsed)
    }

    /// Returns where the first file begins in `contents`, the bytes of this volume: behind the
    /// extended header, where there is one.
    pub(in crate::image) fn first_file(&self, contents: &[u8]) -> usize {
        const EXTENDED_SIZE_OFFSET: usize = 16;
        let extended = self.extended_header_offset;
        let extended_bytes = match extended {
            0 => 0,
            _ => u32_at(contents, extended + EXTENDED_SIZE_OFFSET).unwrap_or(0) as usize,
        };
        let headers_end = self.header_bytes.max(extended.saturating_add(extended_bytes));
        headers_end.saturating_add(FILE_ALIGNMENT - 1) / FILE_ALIGNMENT * FILE_ALIGNMENT
    }
}

/// Returns whether most of a volume's header stands here: at least three of signature, GUID,
/// revision, header length, block map and checksum. A single damaged field leaves three of them,
/// while a program's constants have one or two.
fn resembles_volume(volume: &[u8]) -> bool {
    let map_end = block_map_end(volume);
    let header_bytes = u16_at(volume, 48).map(usize::from);
    let fields = [
        array(volume, SIGNATURE_OFFSET) == Some(*SIGNATURE),
        array(volume, GUID_OFFSET).is_some_and(|guid| FILE_SYSTEMS.contains(&Guid(guid))),
        matches!(array(volume, 54), Some([0, 1 | 2])),
        header_bytes.is_some_and(|bytes| u64_at(volume, bytes.wrapping_sub(8)) == Some(0)),
        map_end.is_some(),
        FirmwareVolume::parse(volume, 0).is_ok(),
    ];
    fields.into_iter().filter(|field| *field).count() >= 3
}

/// Returns whether everything of a header fits but its checksum.
fn fits_otherwise(volume: &[u8], parsed: &FirmwareVolume) -> bool {
    let is_known = FILE_SYSTEMS.contains(&parsed.file_system);
    is_known
        && parsed.erased_bits_are_ones
        && matches!(array(volume, 54), Some([0, 1 | 2]))
        && block_map_end(volume) == Some(parsed.header_bytes)
}

/// Returns where the block map ends, if its blocks sum up to the volume's length.
fn block_map_end(volume: &[u8]) -> Option<usize> {
    let mut sum_bytes = 0u64;
    for offset in (HEADER_BYTES_MIN..HEADER_BYTES_MAX).step_by(8) {
        let (count, block_bytes) = (u32_at(volume, offset)?, u32_at(volume, offset + 4)?);
        if (count, block_bytes) == (0, 0) {
            return (sum_bytes > 0 && sum_bytes == u64_at(volume, 32)?).then_some(offset + 8);
        }
        sum_bytes = sum_bytes.checked_add(u64::from(count) * u64::from(block_bytes))?;
    }
    None
}
