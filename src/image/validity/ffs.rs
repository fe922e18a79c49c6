//! Files of the firmware file systems FFS2 and FFS3.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 16 | name, a GUID |
//! | 16 | 1 | header checksum: the header's bytes, without state and file checksum, sum to zero |
//! | 17 | 1 | file checksum: sums to zero with the contents' bytes; AAh without attribute 40h |
//! | 18 | 1 | type |
//! | 19 | 1 | attributes; 01h: large file (FFS3), 40h: file checksum |
//! | 20 | 3 | size with the header |
//! | 23 | 1 | state, inverted when erased bits are ones |
//! | 24 | 8 | size of a large file |
//!
//! Files begin at multiples of 8 from the start of the volume; erased bytes follow the last one.
//! Source: UEFI Platform Initialization specification, volume 3, section 3.2.3.

use crate::image::layout::{FFS2, FFS3, FirmwareVolume, Guid, array, u24_at, u64_at};

const HEADER_BYTES: usize = 24;
const LARGE_HEADER_BYTES: usize = 32;
const ALIGNMENT: usize = 8;
const ATTRIBUTE_LARGE: u8 = 0x01;
const ATTRIBUTE_CHECKSUM: u8 = 0x40;
/// In place of the file checksum of a file that has none.
const NO_CHECKSUM: u8 = 0xaa;
/// Header and contents are written.
const STATE_DATA_VALID: u8 = 0x07;
/// As above, and a newer version of the file is being written.
const STATE_MARKED_FOR_UPDATE: u8 = 0x0f;
/// As one of the above, and deleted.
const STATE_DELETED_BIT: u8 = 0x10;

/// A file whose header and contents are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareFile {
    /// First byte of its header, from the start of the bytes that hold the volume.
    pub offset_bytes: usize,
    /// Length with the header.
    pub length_bytes: usize,
    /// Length of the header.
    pub header_bytes: usize,
    /// Its name.
    pub name: Guid,
    /// Type, as `EFI_FV_FILETYPE`.
    pub kind: u8,
    /// Whether it has a checksum of its contents.
    pub has_checksum: bool,
    /// Whether it was deleted; then it may hold anything.
    pub is_deleted: bool,
}

/// A damaged file, or where a file should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("firmware file {name}: {flaw}")]
pub struct DamagedFile {
    /// Where it begins.
    pub offset_bytes: usize,
    /// What stands for its name.
    pub name: Guid,
    /// What is wrong.
    pub flaw: FileFlaw,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFlaw {
    /// The header's bytes do not sum up to zero.
    #[error("header sums up to 0x{0:02x}, expected 0x00")]
    HeaderChecksum(u8),
    /// Not a state of a file that was written as a whole.
    #[error(
        "state 0x{0:02x}, expected a file that is written as a whole (0x07 or 0x0f) or deleted"
    )]
    State(u8),
    /// Shorter than its header or longer than the volume.
    #[error(
        "0x{length_bytes:x} bytes, expected at most the 0x{room_bytes:x} up to the end of the \
        volume"
    )]
    Length {
        /// Its length as it says.
        length_bytes: u64,
        /// Bytes from its start to the end of the volume.
        room_bytes: usize,
    },
    /// The contents do not fit their checksum.
    #[error("file checksum 0x{got:02x}, expected 0x{expected:02x}")]
    Checksum {
        /// As it stands there.
        got: u8,
        /// As the contents have it.
        expected: u8,
    },
    /// Erased bytes, and more files behind them.
    #[error("erased bytes, expected a file: the next one is only at 0x{next_bytes:x}")]
    Lost {
        /// Where the next whole file is.
        next_bytes: usize,
    },
}

/// Iterator over the files of a volume. It ends with the first damaged one.
#[derive(Clone, Debug)]
pub struct Files<'a> {
    volume: &'a [u8],
    volume_offset: usize,
    /// Where the next file begins in the volume.
    next: usize,
    erased: u8,
    allows_large: bool,
}

impl<'a> Files<'a> {
    /// Returns the files of `volume`, which was parsed from `bytes`; `None` when its file system is
    /// another one.
    pub fn of(bytes: &'a [u8], volume: &FirmwareVolume) -> Option<Self> {
        if ![FFS2, FFS3].contains(&volume.file_system) {
            return None;
        }
        let contents = bytes.get(volume.offset_bytes..)?.get(..volume.length_bytes)?;
        Some(Self {
            volume: contents,
            volume_offset: volume.offset_bytes,
            next: volume.first_file(contents),
            erased: if volume.erased_bits_are_ones { 0xff } else { 0x00 },
            allows_large: volume.file_system == FFS3,
        })
    }

    fn parse(&self, offset: usize) -> Result<FirmwareFile, FileFlaw> {
        let file = &self.volume[offset..];
        let [attributes, kind] = [19, 18].map(|at| file.get(at).copied().unwrap_or(0));
        let is_large = self.allows_large && attributes & ATTRIBUTE_LARGE != 0;
        let header_bytes = if is_large { LARGE_HEADER_BYTES } else { HEADER_BYTES };
        let length_bytes =
            if is_large { u64_at(file, 24) } else { u24_at(file, 20).map(u64::from) }.unwrap_or(0);
        let room_bytes = file.len();
        let misfit = FileFlaw::Length { length_bytes, room_bytes };
        let header = file.get(..header_bytes).ok_or(misfit.clone())?;
        // State and file checksum count as zero.
        let header_sum = sum(header).wrapping_sub(header[17]).wrapping_sub(header[23]);
        if header_sum != 0 {
            return Err(FileFlaw::HeaderChecksum(header_sum));
        }
        let state = header[23] ^ self.erased;
        let is_deleted = state & STATE_DELETED_BIT != 0;
        if ![STATE_DATA_VALID, STATE_MARKED_FOR_UPDATE].contains(&(state & !STATE_DELETED_BIT)) {
            return Err(FileFlaw::State(state));
        }
        let length = usize::try_from(length_bytes).map_err(|_| misfit.clone())?;
        if length < header_bytes || length > room_bytes {
            return Err(misfit);
        }
        let has_checksum = attributes & ATTRIBUTE_CHECKSUM != 0;
        let contents_sum = sum(&file[header_bytes..length]);
        let expected = if has_checksum { 0u8.wrapping_sub(contents_sum) } else { NO_CHECKSUM };
        if header[17] != expected && !is_deleted {
            return Err(FileFlaw::Checksum { got: header[17], expected });
        }
        Ok(FirmwareFile {
            offset_bytes: self.volume_offset + offset,
            length_bytes: length,
            header_bytes,
            name: self.name_at(offset),
            kind,
            has_checksum,
            is_deleted,
        })
    }

    fn name_at(&self, offset: usize) -> Guid {
        Guid(array(self.volume, offset).unwrap_or_default())
    }

    /// Returns the first whole file of a known type behind erased bytes, if there is one. Some
    /// vendors keep other data there, so what is no file proves nothing.
    fn lost_file(&self) -> Option<usize> {
        let offsets = (self.next..self.volume.len()).step_by(ALIGNMENT);
        offsets.map(|offset| (offset, self.parse(offset))).find_map(|(offset, parsed)| {
            let file = parsed.ok()?;
            let is_known = matches!(file.kind, 0x01..=0x0f | 0xf0) && !file.is_deleted;
            is_known.then_some(self.volume_offset + offset)
        })
    }

    fn damaged(&self, flaw: FileFlaw) -> DamagedFile {
        let offset_bytes = self.volume_offset + self.next;
        DamagedFile { offset_bytes, name: self.name_at(self.next), flaw }
    }
}

impl Iterator for Files<'_> {
    type Item = Result<FirmwareFile, DamagedFile>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.volume.get(self.next..)?.get(..HEADER_BYTES)?;
        let found = if header.iter().all(|&byte| byte == self.erased) {
            let next_bytes = self.lost_file();
            next_bytes.map(|next_bytes| Err(self.damaged(FileFlaw::Lost { next_bytes })))
        } else {
            Some(self.parse(self.next).map_err(|flaw| self.damaged(flaw)))
        };
        self.next = match &found {
            Some(Ok(file)) => (self.next + file.length_bytes).next_multiple_of(ALIGNMENT),
            _ => self.volume.len(),
        };
        found
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}
