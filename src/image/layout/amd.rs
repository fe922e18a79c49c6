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

/// Where AMD's firmware keeps data, with a name for it.
pub(super) fn firmware_data(bytes: &[u8]) -> Vec<(&'static str, Range<usize>)> {
    let mut waiting: Vec<usize> =
        structures(bytes).flat_map(|start| DIRECTORIES.map(|at| start + at)).collect();
    waiting =
        waiting.into_iter().filter_map(|at| place(bytes, u64::from(u32_at(bytes, at)?))).collect();
    let (mut seen, mut found) = (Vec::new(), Vec::new());
    while let Some(directory) = waiting.pop() {
        if seen.contains(&directory) || seen.len() >= DIRECTORIES_MAX {
            continue;
        }
        seen.push(directory);
        for entry in entries(bytes, directory) {
            match entry {
                Entry::Directory(place) => waiting.push(place),
                Entry::Data(name, range) if !found.contains(&(name, range.clone())) => {
                    found.push((name, range));
                }
                Entry::Data(..) => {}
            }
        }
    }
    found.sort_by_key(|(_, range)| range.start);
    found
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

enum Entry {
    Directory(usize),
    Data(&'static str, Range<usize>),
}

fn entries(bytes: &[u8], directory: usize) -> Vec<Entry> {
    let cookie = array(bytes, directory).unwrap_or_default();
    let (header_bytes, entry_bytes) = match &cookie {
        b"$PSP" | b"$PL2" => (16, 16),
        b"$BHD" | b"$BL2" => (16, 24),
        b"2PSP" | b"2BHD" => (32, 16),
        _ => return Vec::new(),
    };
    let count = u32_at(bytes, directory + 8).unwrap_or(0) as usize;
    let starts =
        (0..count.min(ENTRIES_MAX)).map(|nth| directory + header_bytes + nth * entry_bytes);
    starts.filter_map(|start| entry(bytes, &cookie, start)).collect()
}

fn entry(bytes: &[u8], cookie: &[u8; 4], start: usize) -> Option<Entry> {
    let address = place(bytes, u64_at(bytes, start + 8)?)?;
    if cookie[0] == b'2' {
        return Some(Entry::Directory(address));
    }
    let is_of_psp = cookie[1] == b'P';
    let name = match (is_of_psp, bytes.get(start)?) {
        (true, 0x40 | 0x48 | 0x49 | 0x4a) | (false, 0x70) => {
            return Some(Entry::Directory(address));
        }
        (true, 0x04) => "psp-nvram",
        (true, 0x54) => "psp-rpmc-nvram",
        (false, 0x63) => "apob-nv",
        (false, 0x6d) => "bios-nv",
        _ => return None,
    };
    let length = u32_at(bytes, start + 4)? as usize;
    let is_plausible = (1..=DATA_BYTES_MAX).contains(&length) && address + length <= bytes.len();
    is_plausible.then(|| Entry::Data(name, address..address + length))
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
