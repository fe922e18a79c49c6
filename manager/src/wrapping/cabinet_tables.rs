//! Whether the tables of a cabinet agree with the file, before anything of it is unpacked: the
//! crate that does so trusts them.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 4 | `MSCF` |
//! | 8 | 4 | length of the cabinet |
//! | 16 | 4 | where the list of files begins |
//! | 24 | 2 | version: 1.3 |
//! | 26 | 2 | number of folders |
//! | 28 | 2 | number of files |
//! | 30 | 2 | flags: 1 and 2 part of a set, 4 room is reserved |
//! | 36 | 2, 1, 1 | with flag 4: room in the header, in folders, in blocks |
//!
//! The folders follow: where the blocks begin (4), number of blocks (2), compression (2). A file:
//! length (4), where it begins in its folder (4), its folder (2), date, time and attributes (6),
//! name up to a zero. A block: checksum (4), length in the cabinet (2), length unpacked (2), bytes.
//!
//! Source: Microsoft, "Cabinet File Format" ([MS-CAB]).

use super::fields::{u16_at, u32_at};

/// Most folders of a cabinet.
const FOLDERS_MAX: usize = 64;
/// Most files of a cabinet.
const FILES_MAX: usize = 4096;
/// Most bytes of a folder, unpacked.
const FOLDER_BYTES_MAX: u64 = 1 << 30;
/// Longest name of a file.
const NAME_BYTES_MAX: usize = 256;

pub(super) const SIGNATURE: &[u8; 4] = b"MSCF";
const HEADER_BYTES: usize = 36;
const PART_OF_SET: u16 = 3;
const HAS_RESERVE: u16 = 4;
const FOLDER_BYTES: usize = 8;
const FILE_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 8;
const BLOCK_BYTES: u16 = 0x8000;
const STORED: u16 = 0;
const MSZIP: u16 = 1;

/// What is wrong with a cabinet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CabinetError {
    /// A table ends outside the cabinet, or the cabinet outside the file.
    #[error("its {what} ends behind the 0x{file_bytes:x} bytes of the file: get the file again")]
    Cut {
        /// What ends there.
        what: &'static str,
        /// Length of the file.
        file_bytes: usize,
    },
    /// A part of a set.
    #[error("it is one of a set of cabinets: unpack the set with cabextract, and give the image")]
    Set,
    /// Too many of something.
    #[error("it has {got} {what}, expected at most {max}: it is no cabinet of firmware")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// As read.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A compression that neither LVFS nor fwupd has.
    #[error(
        "it is packed with compression {got}, expected 0 (stored) or 1 (MSZIP) as LVFS has it: \
         unpack it with cabextract, and give the image"
    )]
    Compression {
        /// As read.
        got: u16,
    },
    /// A block of another length than the compression allows.
    #[error(
        "block {number} of folder {folder} says that it has 0x{unpacked_bytes:x} bytes, \
         0x{packed_bytes:x} in the cabinet, which its kind cannot: get the file again"
    )]
    Block {
        /// From 0.
        folder: usize,
        /// From 0.
        number: usize,
        /// As read.
        packed_bytes: u16,
        /// As read.
        unpacked_bytes: u16,
    },
    /// A file outside its folder.
    #[error(
        "file {number} says that it has 0x{length_bytes:x} bytes at 0x{offset_bytes:x} of folder \
         {folder}, which has not so many: get the file again"
    )]
    OutsideFolder {
        /// From 0.
        number: usize,
        /// As read.
        folder: usize,
        /// As read.
        offset_bytes: u32,
        /// As read.
        length_bytes: u32,
    },
}

/// Returns whether `bytes` begin with the header of a cabinet that ends within them, as only the
/// mark in a program that unpacks cabinets does not.
pub(super) fn begins(bytes: &[u8]) -> bool {
    const RESERVED: [usize; 3] = [4, 12, 20];
    const VERSION_OFFSET: usize = 24;
    const VERSION: u16 = 0x0103;
    bytes.starts_with(SIGNATURE)
        && RESERVED.iter().all(|offset| u32_at(bytes, *offset) == Some(0))
        && u16_at(bytes, VERSION_OFFSET) == Some(VERSION)
        && u32_at(bytes, 8).is_some_and(|said_bytes| said_bytes as usize <= bytes.len())
}

/// Checks every table of the cabinet at the start of `file`.
///
/// # Errors
/// [`CabinetError`] for the first thing that is wrong.
pub(super) fn check(file: &[u8]) -> Result<(), CabinetError> {
    let cut = |what| CabinetError::Cut { what, file_bytes: file.len() };
    let said_bytes = u32_at(file, 8).ok_or(cut("header"))? as usize;
    let bytes = file.get(..said_bytes).ok_or(cut("cabinet"))?;
    let short = |offset| u16_at(bytes, offset).ok_or(cut("header"));
    let (folders, files, flags) = (short(26)?, short(28)?, short(30)?);
    if flags & PART_OF_SET != 0 {
        return Err(CabinetError::Set);
    }
    at_most("folders", folders, FOLDERS_MAX)?;
    at_most("files", files, FILES_MAX)?;
    let (mut folder_at, mut folder_reserve, mut block_reserve) = (HEADER_BYTES, 0, 0);
    if flags & HAS_RESERVE != 0 {
        let [of_folder, of_block] = short(HEADER_BYTES + 2)?.to_le_bytes().map(usize::from);
        folder_at += 4 + usize::from(short(HEADER_BYTES)?);
        (folder_reserve, block_reserve) = (of_folder, of_block);
    }
    let mut folder_bytes = Vec::new();
    for number in 0..usize::from(folders) {
        let reader = Blocks { bytes, file_bytes: file.len(), number, block_reserve };
        folder_bytes.push(reader.length(folder_at)?);
        folder_at += FOLDER_BYTES + folder_reserve;
    }
    let start = u32_at(bytes, 16).ok_or(cut("header"))? as usize;
    check_files(bytes, start, usize::from(files), &folder_bytes).ok_or(cut("list of files"))?
}

fn at_most(what: &'static str, got: u16, max: usize) -> Result<(), CabinetError> {
    let got = usize::from(got);
    if got > max { Err(CabinetError::TooMany { what, got, max }) } else { Ok(()) }
}

/// The blocks of a folder.
struct Blocks<'a> {
    bytes: &'a [u8],
    file_bytes: usize,
    number: usize,
    block_reserve: usize,
}

impl Blocks<'_> {
    /// Returns how many bytes the folder with this entry has, unpacked.
    fn length(&self, entry: usize) -> Result<u64, CabinetError> {
        let cut = CabinetError::Cut { what: "folder", file_bytes: self.file_bytes };
        let fields = (|| {
            let start = u32_at(self.bytes, entry)? as usize;
            Some((start, u16_at(self.bytes, entry + 4)?, u16_at(self.bytes, entry + 6)?))
        })();
        let (mut at, blocks, compression) = fields.ok_or_else(|| cut.clone())?;
        if !matches!(compression & 0xf, STORED | MSZIP) {
            return Err(CabinetError::Compression { got: compression });
        }
        let mut sum_bytes = 0u64;
        for number in 0..usize::from(blocks) {
            let lengths = (|| Some((u16_at(self.bytes, at + 4)?, u16_at(self.bytes, at + 6)?)))();
            let (packed_bytes, unpacked_bytes) = lengths.ok_or_else(|| cut.clone())?;
            let fits = match compression & 0xf {
                STORED => packed_bytes == unpacked_bytes && unpacked_bytes > 0,
                // Only the last one of a folder is shorter than the window.
                _ if number + 1 < usize::from(blocks) => unpacked_bytes == BLOCK_BYTES,
                _ => (1..=BLOCK_BYTES).contains(&unpacked_bytes),
            };
            if !fits {
                let folder = self.number;
                return Err(CabinetError::Block { folder, number, packed_bytes, unpacked_bytes });
            }
            sum_bytes += u64::from(unpacked_bytes);
            at += BLOCK_HEADER_BYTES + self.block_reserve + usize::from(packed_bytes);
            if at > self.bytes.len() {
                return Err(cut);
            }
        }
        match usize::try_from(sum_bytes) {
            Ok(got) if sum_bytes > FOLDER_BYTES_MAX => {
                let max = FOLDER_BYTES_MAX as usize;
                Err(CabinetError::TooMany { what: "bytes in a folder", got, max })
            }
            _ => Ok(sum_bytes),
        }
    }
}

/// Checks the list of files; `None` where it ends outside the cabinet.
fn check_files(
    bytes: &[u8],
    start: usize,
    files: usize,
    folder_bytes: &[u64],
) -> Option<Result<(), CabinetError>> {
    let mut at = start;
    for number in 0..files {
        let (length_bytes, offset_bytes) = (u32_at(bytes, at)?, u32_at(bytes, at + 4)?);
        let folder = usize::from(u16_at(bytes, at + 8)?);
        let end_bytes = u64::from(offset_bytes) + u64::from(length_bytes);
        if folder_bytes.get(folder).is_none_or(|folder_bytes| end_bytes > *folder_bytes) {
            return Some(Err(CabinetError::OutsideFolder {
                number,
                folder,
                offset_bytes,
                length_bytes,
            }));
        }
        at += FILE_BYTES;
        let name = bytes.get(at..)?.iter().take(NAME_BYTES_MAX + 1).position(|byte| *byte == 0)?;
        at += name + 1;
    }
    Some(Ok(()))
}
