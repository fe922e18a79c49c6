//! What the firmware of AMD's platforms writes itself besides variables: storage of the security
//! processor (PSP), and results of memory training.
//!
//! The Embedded Firmware Structure lies at one of a few places in each 16 MiB. It leads to
//! directories of the PSP and of the BIOS, and these to others.
//!
//! | directory | header | entry |
//! | --- | --- | --- |
//! | `$PSP`, `$PL2` | 16 bytes | 16: type 1, subprogram 1, 2, size 4, address 8 |
//! | `$BHD`, `$BL2` | 16 bytes | 24: type 1, region 1, flags 2, size 4, source 8, destination 8 |
//! | `2PSP`, `2BHD` | 32 bytes | 16: selector 4, id 4, address of a directory 8 |
//!
//! At 8 of a header stands the number of entries. Bits 62 and 63 of an address tell from where it
//! counts: 0 from 4 GiB down, 1 from the start of the chip; the other two from a directory or a
//! slot, which only large programs use.
//!
//! Source: coreboot, `util/amdfwtool/amdfwtool.h`.

use std::ops::Range;

use super::fields::{array, u32_at, u64_at};
use crate::order::sort_by_rank;

const SIGNATURE: u32 = 0x55aa_55aa;
const BANK_BYTES: usize = 0x100_0000;
/// Where the structure may begin in a bank.
const PLACES: [usize; 6] = [0x2_0000, 0x82_0000, 0xc2_0000, 0xe2_0000, 0xf2_0000, 0xfa_0000];
/// Where the structure has the addresses of directories.
const DIRECTORIES: [usize; 6] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x28];

/// Most directories that are followed, and most entries of one.
const DIRECTORIES_MAX: usize = 64;
const ENTRIES_MAX: usize = 256;
/// Largest place for data, in bytes: real ones have some 64 KiB.
const DATA_BYTES_MAX: usize = 4 << 20;

/// A directory: what the security processor, or the BIOS that it starts, finds by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) struct AmdDirectory {
    /// Its first byte in the chip.
    pub(in crate::image) offset_bytes: usize,
    /// Length of header and entries, as far as they are read.
    pub(in crate::image) length_bytes: usize,
    /// The mark that it begins with.
    pub(in crate::image) mark: [u8; 4],
    /// Its entries that lie in the chip.
    pub(in crate::image) entries: Vec<AmdEntry>,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) enum AmdEntry {
    /// Another directory, and where it begins.
    Directory(usize),
    /// What is for the security processor or for the BIOS, by the mark of the directory.
    Component {
        /// Type, with its own meaning for either.
        kind: u8,
        /// Where it lies.
        range: Range<usize>,
    },
}

impl AmdDirectory {
    /// Returns whether it is for the security processor.
    pub(in crate::image) fn is_of_psp(&self) -> bool {
        self.mark[1] == b'P'
    }
}

/// Returns every directory that the Embedded Firmware Structure leads to, each once.
pub(in crate::image) fn amd_directories(bytes: &[u8]) -> Vec<AmdDirectory> {
    let places = structures(bytes).flat_map(|start| DIRECTORIES.map(|at| start + at));
    let mut waiting: Vec<usize> =
        places.filter_map(|at| place(bytes, u64::from(u32_at(bytes, at)?))).collect();
    let (mut seen, mut found) = (Vec::new(), Vec::new());
    while let Some(start) = waiting.pop() {
        if seen.contains(&start) || seen.len() >= DIRECTORIES_MAX {
            continue;
        }
        seen.push(start);
        let Some(directory) = AmdDirectory::read(bytes, start) else { continue };
        waiting.extend(directory.entries.iter().filter_map(|entry| match entry {
            AmdEntry::Directory(place) => Some(*place),
            AmdEntry::Component { .. } => None,
        }));
        found.push(directory);
    }
    found
}

/// Where AMD's firmware keeps data, with a name for it.
pub(super) fn firmware_data(bytes: &[u8]) -> Vec<(&'static str, Range<usize>)> {
    let mut found = Vec::new();
    for directory in amd_directories(bytes) {
        for entry in &directory.entries {
            let AmdEntry::Component { kind, range } = entry else { continue };
            let Some(name) = data_name(directory.is_of_psp(), *kind) else { continue };
            let data = (name, range.clone());
            if range.len() <= DATA_BYTES_MAX && !found.contains(&data) {
                found.push(data);
            }
        }
    }
    sort_by_rank(&mut found, |(_, range)| [range.start as u64]);
    found
}

fn data_name(is_of_psp: bool, kind: u8) -> Option<&'static str> {
    match (is_of_psp, kind) {
        (true, 0x04) => Some("psp-nvram"),
        (true, 0x54) => Some("psp-rpmc-nvram"),
        (false, 0x63) => Some("apob-nv"),
        (false, 0x6d) => Some("bios-nv"),
        _ => None,
    }
}

/// Whether AMD's security processor starts this image.
pub(in crate::image) fn has_amd_firmware_structure(bytes: &[u8]) -> bool {
    structures(bytes).next().is_some()
}

fn structures(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let places = (0..bytes.len()).step_by(BANK_BYTES);
    places
        .flat_map(|bank| PLACES.map(|place| bank + place))
        .filter(|start| u32_at(bytes, *start) == Some(SIGNATURE))
}

impl AmdDirectory {
    fn read(bytes: &[u8], offset_bytes: usize) -> Option<Self> {
        let mark: [u8; 4] = array(bytes, offset_bytes)?;
        let (header_bytes, entry_bytes) = match &mark {
            b"$PSP" | b"$PL2" => (16, 16),
            b"$BHD" | b"$BL2" => (16, 24),
            b"2PSP" | b"2BHD" => (32, 16),
            _ => return None,
        };
        let count = u32_at(bytes, offset_bytes + 8).unwrap_or(0) as usize;
        let count = count.min(ENTRIES_MAX);
        let starts = (0..count).map(|nth| offset_bytes + header_bytes + nth * entry_bytes);
        let entries = starts.filter_map(|start| AmdEntry::read(bytes, &mark, start)).collect();
        let room_bytes = bytes.len() - offset_bytes;
        let length_bytes = (header_bytes + count * entry_bytes).min(room_bytes);
        Some(Self { offset_bytes, length_bytes, mark, entries })
    }
}

impl AmdEntry {
    fn read(bytes: &[u8], mark: &[u8; 4], start: usize) -> Option<Self> {
        let address = place(bytes, u64_at(bytes, start + 8)?)?;
        if mark[0] == b'2' {
            return Some(Self::Directory(address));
        }
        let is_of_psp = mark[1] == b'P';
        let kind = *bytes.get(start)?;
        if matches!((is_of_psp, kind), (true, 0x40 | 0x48 | 0x49 | 0x4a) | (false, 0x70)) {
            return Some(Self::Directory(address));
        }
        let length = u32_at(bytes, start + 4)? as usize;
        let is_inside = length > 0 && address + length <= bytes.len();
        is_inside.then(|| Self::Component { kind, range: address..address + length })
    }
}

/// Returns the offset in the chip that an address stands for.
fn place(bytes: &[u8], address: u64) -> Option<usize> {
    let offset = (address & !(0b11 << 62)) as usize & 0xffff_ffff;
    let offset = match address >> 62 {
        // The last 16 MiB below 4 GiB are the chip, or its first bank.
        0 if offset >= 0xff00_0000 => offset & (bytes.len().clamp(1, BANK_BYTES) - 1),
        0 | 1 => offset,
        _ => return None,
    };
    (offset > 0 && offset < bytes.len()).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::super::samples::put;
    use super::*;
    use proptest::prelude::*;

    /// 1 MiB with a structure, a combo directory, the PSP's and the BIOS's with a second level.
    pub(super) fn chip() -> Vec<u8> {
        let mut chip = vec![0xff; 0x10_0000];
        let mut words = |at: usize, words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            put(&mut chip, at, &bytes);
        };
        words(0x2_0000, &[SIGNATURE]);
        words(0x2_0014, &[0xfff3_0000, 0, 0, 0, 0xffff_ffff, 0x4_0000]);
        let combo = u32::from_le_bytes(*b"2PSP");
        words(0x3_0000, &[combo, 0, 1, 0, 0, 0, 0, 0, 0, 7, 0x5_0000, 0x4000_0000]);
        let (psp, bios, second) = (*b"$PSP", *b"$BHD", *b"$BL2");
        words(0x5_0000, &[u32::from_le_bytes(psp), 0, 2, 0]);
        words(0x5_0010, &[0x04, 0x2_0000, 0xfff6_0000, 0, 0x01, 0x100, 0xfff5_8000, 0]);
        words(0x4_0000, &[u32::from_le_bytes(bios), 0, 1, 0]);
        words(0x4_0010, &[0x70, 0x400, 0x4_1000, 0x4000_0000, 0, 0]);
        words(0x4_1000, &[u32::from_le_bytes(second), 0, 2, 0]);
        words(0x4_1010, &[0x63, 0x1_0000, 0xfff8_0000, 0, 0, 0, 0x70, 0, 0x4_0000, 0, 0, 0]);
        chip
    }

    #[test]
    fn data_of_both_processors_is_found_and_a_circle_ends() {
        let found = firmware_data(&chip());
        assert_eq!(found, [("psp-nvram", 0x6_0000..0x8_0000), ("apob-nv", 0x8_0000..0x9_0000)]);
        assert!(has_amd_firmware_structure(&chip()));
        assert_eq!(firmware_data(&vec![0xff; 0x10_0000]), []);
    }

    proptest! {
        #[test]
        fn whatever_stands_there_it_ends_inside_the_chip(
            changes in proptest::collection::vec((0x2_0000usize..0x6_0000, any::<u8>()), 0..64),
            near in proptest::collection::vec((0usize..0x40, 0usize..6, any::<u8>()), 0..32),
        ) {
            let mut chip = chip();
            changes.iter().for_each(|(at, byte)| chip[*at] = *byte);
            let starts = [0x2_0000, 0x3_0000, 0x4_0000, 0x4_1000, 0x5_0000, 0x5_0010];
            near.iter().for_each(|(at, start, byte)| chip[starts[*start] + at] = *byte);
            for (_, range) in firmware_data(&chip) {
                prop_assert!(!range.is_empty() && range.end <= chip.len());
            }
        }
    }
}
