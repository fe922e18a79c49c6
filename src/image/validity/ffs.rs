//! Files of the firmware file systems FFS1, FFS2 and FFS3.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 16 | name, a GUID |
//! | 16 | 1 | header checksum: the header's bytes, without state and file checksum, sum to zero |
//! | 17 | 1 | file checksum: sums to zero with the contents' bytes; without attribute 40h AAh, in
//! FFS1 5Ah |
//! | 18 | 1 | type |
//! | 19 | 1 | attributes; 01h: large file (FFS3), tail (FFS1); 40h: file checksum |
//! | 20 | 3 | size with the header |
//! | 23 | 1 | state, inverted when erased bits are ones |
//! | 24 | 8 | size of a large file |
//!
//! Files begin at multiples of 8 from the start of the volume; erased bytes follow the last one. A
//! tail is the last two bytes of a file: both checksums, inverted. Some makers have large files in
//! FFS2, too: with a size of zero, and one of 4 bytes at 24.
//!
//! The highest bit of the state that is set counts. 20h says that the header is invalid: its bytes
//! are skipped, and the next header follows.
//!
//! Sources: UEFI Platform Initialization specification, volume 3, section 3.2.3; Intel's Framework
//! firmware file system specification 0.9 for FFS1.

use crate::image::layout::{
    FFS1, FFS2, FFS3, FirmwareVolume, Guid, array, u16_at, u24_at, u32_at, u64_at,
};

const HEADER_BYTES: usize = 24;
const LARGE_HEADER_BYTES: usize = 32;
/// Header of a large file in FFS2.
const LARGE_FFS2_HEADER_BYTES: usize = 28;
const ALIGNMENT: usize = 8;
const ATTRIBUTE_LARGE: u8 = 0x01;
/// The same bit in FFS1.
const ATTRIBUTE_TAIL: u8 = 0x01;
const TAIL_BYTES: usize = 2;
const ATTRIBUTE_CHECKSUM: u8 = 0x40;
/// In place of the file checksum of a file that has none: the first one. The other one is that of
/// FFS1, which some makers went on to use.
const NO_CHECKSUM: [u8; 2] = [0xaa, 0x5a];
/// Header and contents are written.
const STATE_DATA_VALID: u8 = 0x07;
/// As above, and a newer version of the file is being written.
const STATE_MARKED_FOR_UPDATE: u8 = 0x0f;
/// As one of the above, and deleted.
const STATE_DELETED_BIT: u8 = 0x10;
/// Whatever else is set, there is no header.
const STATE_HEADER_INVALID_BIT: u8 = 0x20;
/// The last one that means something.
const STATE_MAX: u8 = 0x3f;

/// A file whose header and contents are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareFile {
    /// First byte of its header, from the start of the bytes that hold the volume.
    pub offset_bytes: usize,
    /// Length with the header.
    pub length_bytes: usize,
    /// Length of the header.
    pub header_bytes: usize,
    /// Length of the tail behind the contents, of FFS1.
    pub tail_bytes: usize,
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
    /// A size of zero. Nothing tells where the next file begins.
    #[error("0x0 bytes, expected its header at least")]
    Empty,
    /// The tail is not that of this header.
    #[error("tail 0x{got:04x}, expected 0x{expected:04x}")]
    Tail {
        /// As it stands there.
        got: u16,
        /// As the header has it.
        expected: u16,
    },
    /// Erased bytes, and more files behind them.
    #[error("erased bytes, expected a file: the next one is only at 0x{next_bytes:x}")]
    Lost {
        /// Where the next whole file is.
        next_bytes: usize,
    },
}

impl FileFlaw {
    /// Returns whether firmware lives with it.
    pub(super) fn is_doubt(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// Which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Ffs1,
    Ffs2,
    Ffs3,
}

/// Iterator over the files of a volume. It ends with the first damaged one.
#[derive(Clone, Debug)]
pub struct Files<'a> {
    volume: &'a [u8],
    volume_offset: usize,
    /// Where the next file begins in the volume.
    next: usize,
    /// Where the last one ended.
    end: usize,
    erased: u8,
    format: Format,
}

impl<'a> Files<'a> {
    /// Returns the files of `volume`, which was parsed from `bytes`; `None` when its file system is
    /// another one.
    pub fn of(bytes: &'a [u8], volume: &FirmwareVolume) -> Option<Self> {
        let format = match volume.file_system {
            FFS1 => Format::Ffs1,
            FFS2 => Format::Ffs2,
            FFS3 => Format::Ffs3,
            _ => return None,
        };
        let contents = bytes.get(volume.offset_bytes..)?.get(..volume.length_bytes)?;
        Some(Self {
            volume: contents,
            volume_offset: volume.offset_bytes,
            next: volume.first_file(contents),
            end: 0,
            erased: if volume.erased_bits_are_ones { 0xff } else { 0x00 },
            format,
        })
    }

    /// Returns the files that `bytes` would begin with, had they the header of a volume before
    /// them.
    pub(super) fn without_volume(bytes: &'a [u8]) -> Self {
        Self {
            volume: bytes,
            volume_offset: 0,
            next: 0,
            end: 0,
            erased: 0xff,
            format: Format::Ffs3,
        }
    }

    fn parse(&self, offset: usize) -> Result<FirmwareFile, FileFlaw> {
        let file = &self.volume[offset..];
        let [attributes, kind] = [19, 18].map(|at| file.get(at).copied().unwrap_or(0));
        let (header_bytes, length_bytes) = self.lengths(file, attributes);
        let room_bytes = file.len();
        let misfit = FileFlaw::Length { length_bytes, room_bytes };
        let header = file.get(..header_bytes).ok_or(misfit.clone())?;
        // State and file checksum count as zero.
        let summed = &header[..self.summed_bytes(header_bytes)];
        let header_sum = sum(summed).wrapping_sub(header[17]).wrapping_sub(header[23]);
        if header_sum != 0 {
            return Err(FileFlaw::HeaderChecksum(header_sum));
        }
        let is_deleted = check_state(header[23] ^ self.erased)?;
        if length_bytes == 0 {
            return Err(FileFlaw::Empty);
        }
        let has_tail = self.format == Format::Ffs1 && attributes & ATTRIBUTE_TAIL != 0;
        let tail_bytes = if has_tail { TAIL_BYTES } else { 0 };
        let length = usize::try_from(length_bytes).map_err(|_| misfit.clone())?;
        if length < header_bytes + tail_bytes || length > room_bytes {
            return Err(misfit);
        }
        let has_checksum = attributes & ATTRIBUTE_CHECKSUM != 0;
        let contents = &file[header_bytes..length - tail_bytes];
        if !is_deleted {
            check_contents(header[17], contents, has_checksum)?;
            check_tail(header, &file[length - tail_bytes..length])?;
        }
        Ok(FirmwareFile {
            offset_bytes: self.volume_offset + offset,
            length_bytes: length,
            header_bytes,
            tail_bytes,
            name: self.name_at(offset),
            kind,
            has_checksum,
            is_deleted,
        })
    }

    /// Returns the length of a file's header, and of the file as the header says.
    fn lengths(&self, file: &[u8], attributes: u8) -> (usize, u64) {
        let short = u24_at(file, 20).map(u64::from);
        let is_large = attributes & ATTRIBUTE_LARGE != 0;
        let (header_bytes, length_bytes) = match self.format {
            Format::Ffs3 if is_large => (LARGE_HEADER_BYTES, u64_at(file, 24)),
            Format::Ffs2 if is_large && short == Some(0) => {
                (LARGE_FFS2_HEADER_BYTES, u32_at(file, 24).map(u64::from))
            }
            _ => (HEADER_BYTES, short),
        };
        (header_bytes, length_bytes.unwrap_or(0))
    }

    /// Returns how much of a header has a checksum.
    fn summed_bytes(&self, header_bytes: usize) -> usize {
        if self.format == Format::Ffs3 { header_bytes } else { HEADER_BYTES }
    }

    /// Skips headers that say of themselves that they are none.
    fn skip_invalid_headers(&mut self) {
        while let Some(header) =
            self.volume.get(self.next..).and_then(|rest| rest.get(..HEADER_BYTES))
            && let state = header[23] ^ self.erased
            && state <= STATE_MAX
            && state & STATE_HEADER_INVALID_BIT != 0
        {
            let (header_bytes, _) = self.lengths(&self.volume[self.next..], header[19]);
            self.next = (self.next + header_bytes).next_multiple_of(ALIGNMENT);
        }
    }

    /// Where the last file ended, or where the volume has something else than one.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Returns whether a whole file follows anywhere.
    pub(super) fn has_any(&mut self) -> bool {
        self.next = self.end;
        self.lost_file().is_some()
    }

    fn name_at(&self, offset: usize) -> Guid {
        Guid(array(self.volume, offset).unwrap_or_default())
    }

    /// Returns the first whole file of a known type behind erased bytes, if there is one. Some
    /// vendors keep other data there, so what is no file proves nothing.
    fn lost_file(&self) -> Option<usize> {
        let erased = |byte: &u8| *byte == self.erased;
        let blank_bytes = self.volume[self.next..].iter().take_while(|byte| erased(byte)).count();
        let first = self.next + blank_bytes / ALIGNMENT * ALIGNMENT;
        let offsets = (first..self.volume.len()).step_by(ALIGNMENT);
        offsets
            .filter(|offset| self.volume.get(offset + 23) != Some(&self.erased))
            .map(|offset| (offset, self.parse(offset)))
            .find_map(|(offset, parsed)| {
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
        self.skip_invalid_headers();
        self.end = self.next;
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

/// Returns whether the file is deleted; one that is not written to its end is damaged.
fn check_state(state: u8) -> Result<bool, FileFlaw> {
    let is_deleted = state & STATE_DELETED_BIT != 0;
    match [STATE_DATA_VALID, STATE_MARKED_FOR_UPDATE].contains(&(state & !STATE_DELETED_BIT)) {
        true => Ok(is_deleted),
        false => Err(FileFlaw::State(state)),
    }
}

fn check_contents(got: u8, contents: &[u8], has_checksum: bool) -> Result<(), FileFlaw> {
    let expected = match has_checksum {
        true => 0u8.wrapping_sub(sum(contents)),
        false if NO_CHECKSUM.contains(&got) => got,
        false => NO_CHECKSUM[0],
    };
    if got == expected { Ok(()) } else { Err(FileFlaw::Checksum { got, expected }) }
}

/// The tail, where there is one, repeats both checksums inverted.
fn check_tail(header: &[u8], tail: &[u8]) -> Result<(), FileFlaw> {
    let Some(got) = u16_at(tail, 0) else { return Ok(()) };
    let expected = !u16_at(header, 16).unwrap_or(0);
    if got == expected { Ok(()) } else { Err(FileFlaw::Tail { got, expected }) }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}
