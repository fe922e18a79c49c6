//! The Firmware Interface Table (FIT) of Intel processors: what the processor reads of the image
//! before its first instruction.
//!
//! The 8 bytes that lie 40h before the end of the image have its address; the end of the image is
//! the end of the first 4 GiB of memory. The first entry is the header.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 8 | address of the component; of the header `_FIT_   ` |
//! | 8 | 3 | its size, of most types in units of 16 bytes; of the header the number of entries |
//! | 11 | 1 | reserved |
//! | 12 | 2 | version |
//! | 14 | 1 | bits 0 to 6 type; bit 7 set where the checksum counts |
//! | 15 | 1 | checksum: all bytes of the component, of the header those of the table, sum up to 0 |
//!
//! Source: Intel, "Firmware Interface Table BIOS Specification" (599500), section 1.

use std::fmt;
use std::ops::Range;

use super::fields::{array, u16_at, u24_at, u32_at, u64_at};

/// Most entries that are looked at, with the header.
pub const FIT_ENTRIES_MAX: usize = 512;

/// The pointer lies this much before the end of the image.
const POINTER_BYTES: usize = 0x40;
const ENTRY_BYTES: usize = 16;
const SIGNATURE: &[u8; 8] = b"_FIT_   ";
/// The end of the image in memory.
const TOP: u64 = 1 << 32;
const CHECKSUM_COUNTS: u8 = 0x80;

/// Types of components that something here looks at.
pub mod fit_type {
    /// Header of the table.
    pub const HEADER: u8 = 0;
    /// Startup authenticated code module (ACM), which Boot Guard begins with.
    pub const STARTUP_ACM: u8 = 2;
    /// Code that the BIOS begins with.
    pub const BIOS_MODULE: u8 = 7;
    /// Key manifest of Boot Guard.
    pub const KEY_MANIFEST: u8 = 0x0b;
    /// Boot policy manifest of Boot Guard.
    pub const BOOT_POLICY: u8 = 0x0c;
}

/// An entry behind the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitEntry {
    /// What it is for ([`fit_type`]).
    pub kind: u8,
    /// Where the component lies in memory.
    pub address: u64,
    /// Its first byte in the image; `None` where it lies outside.
    pub offset_bytes: Option<usize>,
    /// Its size as the entry has it.
    pub size: u32,
    /// Its version.
    pub version: u16,
}

/// A table that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Where it lies in the image.
    pub range: Range<usize>,
    /// What it names, in its own order.
    pub entries: Vec<FitEntry>,
}

/// A pointer that leads into the image, where no whole table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitFlaw {
    /// Where the table should be.
    pub offset_bytes: usize,
    /// What is wrong there.
    pub kind: FitFlawKind,
}

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FitFlawKind {
    /// Other bytes than `_FIT_   `.
    Signature,
    /// It ends outside the image, or has too many entries.
    Length {
        /// How many it says.
        entries: usize,
    },
    /// Its bytes do not sum up to 0.
    Checksum {
        /// The sum.
        sum: u8,
    },
}

impl Fit {
    /// Reads the table of `image`; `None` where no pointer leads into the image.
    ///
    /// # Errors
    /// [`FitFlaw`] for a pointer into the image at which there is no whole table.
    pub fn find(image: &[u8]) -> Result<Option<Self>, FitFlaw> {
        let Some(offset_bytes) = pointed_at(image) else { return Ok(None) };
        let flaw = |kind| FitFlaw { offset_bytes, kind };
        if array::<8>(image, offset_bytes).as_ref() != Some(SIGNATURE) {
            // Where nobody has a table anything may lie at the pointer's place.
            let is_pointer = reserved_half(image) == Some(0);
            return if is_pointer { Err(flaw(FitFlawKind::Signature)) } else { Ok(None) };
        }
        let entries = u24_at(image, offset_bytes + 8).unwrap_or(0) as usize;
        let range = offset_bytes..offset_bytes + entries.saturating_mul(ENTRY_BYTES);
        let table = image.get(range.clone()).filter(|_| (1..=FIT_ENTRIES_MAX).contains(&entries));
        let table = table.ok_or_else(|| flaw(FitFlawKind::Length { entries }))?;
        let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if table[14] & CHECKSUM_COUNTS != 0 && sum != 0 {
            return Err(flaw(FitFlawKind::Checksum { sum }));
        }
        let entries = table.chunks_exact(ENTRY_BYTES).skip(1);
        let entries = entries.filter_map(|entry| FitEntry::parse(entry, image.len())).collect();
        Ok(Some(Self { range, entries }))
    }

    /// Returns the entries of a type.
    pub fn of_kind(&self, kind: u8) -> impl Iterator<Item = &FitEntry> {
        self.entries.iter().filter(move |entry| entry.kind == kind)
    }
}

impl FitEntry {
    fn parse(entry: &[u8], image_bytes: usize) -> Option<Self> {
        let address = u64_at(entry, 0)?;
        Some(Self {
            kind: entry.get(14)? & !CHECKSUM_COUNTS,
            address,
            offset_bytes: offset_of(address, image_bytes),
            size: u24_at(entry, 8)?,
            version: u16_at(entry, 12)?,
        })
    }
}

impl fmt::Display for FitFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Firmware Interface Table ")?;
        match &self.kind {
            FitFlawKind::Signature => f.write_str("is not where its pointer leads"),
            FitFlawKind::Length { entries } => write!(
                f,
                "has {entries} entries, expected 1 to {FIT_ENTRIES_MAX} that end inside the image"
            ),
            FitFlawKind::Checksum { sum } => {
                write!(f, "sums up to 0x{sum:02x}, expected 0x00")
            }
        }
    }
}

/// Returns where the lower half of the pointer leads, if that is inside the image and before the
/// pointer. The table is aligned to 16 bytes.
fn pointed_at(image: &[u8]) -> Option<usize> {
    let pointer = image.len().checked_sub(POINTER_BYTES)?;
    let address = u64::from(u32_at(image, pointer)?);
    let offset_bytes = offset_of(address, image.len())?;
    let fits = address % ENTRY_BYTES as u64 == 0 && offset_bytes + ENTRY_BYTES <= pointer;
    fits.then_some(offset_bytes)
}

fn reserved_half(image: &[u8]) -> Option<u32> {
    u32_at(image, image.len().checked_sub(POINTER_BYTES)? + 4)
}

/// Returns where an address lies in an image of which the last byte is the last below 4 GiB.
fn offset_of(address: u64, image_bytes: usize) -> Option<usize> {
    let start = TOP.checked_sub(image_bytes as u64)?;
    let offset_bytes = address.checked_sub(start)?;
    (address < TOP).then_some(offset_bytes as usize)
}
