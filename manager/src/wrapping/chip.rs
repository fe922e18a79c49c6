//! What chips can hold: their sizes, and where in a file the image of one lies.

use std::ops::Range;

use firmcast::image::layout::{FirmwareVolume, FoundVolume, Volumes, boot_offset};

use super::fields::{array, u16_at, u32_at};

/// Smallest chip that holds firmware, in bytes.
const CHIP_BYTES_MIN: usize = 64 << 10;
/// Smallest of two chips that hold the firmware together, in bytes.
const CHIP_OF_TWO_BYTES_MIN: usize = 1 << 20;
/// Most signatures of a kind that are followed.
const PLACES_MAX: usize = 64;
/// Images in a larger file begin at multiples of this, as far as no signature tells.
const ALIGNMENT: usize = 0x1000;

const DESCRIPTOR_SIGNATURE: [u8; 4] = 0x0ff0_a55a_u32.to_le_bytes();
/// Before the 5 series it stood at the very start.
const DESCRIPTOR_SIGNATURE_OFFSETS: [usize; 2] = [16, 0];

/// Returns whether one chip, or two that together are the firmware's, can have so many bytes.
pub fn is_chip_size(bytes: usize) -> bool {
    let smaller = 1usize.checked_shl(bytes.trailing_zeros()).unwrap_or(0);
    let larger = bytes - smaller.min(bytes);
    match larger {
        0 => bytes >= CHIP_BYTES_MIN,
        _ => larger.is_power_of_two() && smaller >= CHIP_OF_TWO_BYTES_MIN,
    }
}

/// Where an image lies in a file, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) why: &'static str,
}

/// Returns where in `bytes`, which are more than a chip's, the image of a chip lies. The first kind
/// of evidence that there is decides; several images are for a person to choose from.
pub(super) fn find(bytes: &[u8]) -> Vec<Found> {
    let kinds = [behind_descriptors, by_flash_maps, behind_insyde_marks];
    let found = kinds.into_iter().map(|kind| apart(kind(bytes)));
    found.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
}

/// Returns the image that `bytes` begin or end with, where what stands before or behind it makes
/// them larger than any chip.
pub(super) fn around(bytes: &[u8]) -> Vec<Found> {
    let found = find(bytes);
    if !found.is_empty() {
        return found;
    }
    let Some(exponent) = bytes.len().checked_ilog2() else { return Vec::new() };
    let chip_bytes = 1usize << exponent;
    let ends = [0..chip_bytes, bytes.len() - chip_bytes..bytes.len()];
    // Firmware volumes on either side belong to the image, which then is a region of odd size.
    let has_volumes = |beside: &[u8]| Volumes::of(beside).next().is_some();
    let found = ends.into_iter().filter(|range| {
        range.start % ALIGNMENT == 0
            && is_chip_size(chip_bytes)
            && starts_at_end(&bytes[range.clone()])
            && !has_volumes(&bytes[..range.start])
            && !has_volumes(&bytes[range.end..])
    });
    found.map(|range| Found { range, why: "the processor starts at its end" }).collect()
}

/// Returns the runs of firmware volumes that end where a processor starts, and are as large as a
/// chip. Programs hold them at any offset.
pub(super) fn runs_of_volumes(bytes: &[u8]) -> Vec<Found> {
    let marks = memchr::memmem::find_iter(bytes, b"_FVH").take(PLACES_MAX * 16);
    let starts = marks.filter_map(|mark| mark.checked_sub(40));
    let mut runs: Vec<Range<usize>> = Vec::new();
    for start in starts {
        let Ok(volume) = FirmwareVolume::parse(bytes, start) else { continue };
        let end = start + volume.length_bytes;
        match runs.last_mut() {
            Some(run) if start == run.end => run.end = end,
            Some(run) if start < run.end => {}
            _ => runs.push(start..end),
        }
    }
    let is_image =
        |run: &Range<usize>| is_chip_size(run.len()) && starts_at_end(&bytes[run.clone()]);
    let runs = runs.into_iter().filter(is_image);
    runs.map(|range| Found {
        range,
        why: "volumes of UEFI firmware up to where a processor starts",
    })
    .collect()
}

/// Returns whether something says that `bytes` are an image of firmware, from its start to its end.
pub(super) fn looks_whole(bytes: &[u8]) -> bool {
    let begins = |found: FoundVolume| match found {
        FoundVolume::Whole(volume) => volume.offset_bytes == 0,
        FoundVolume::Damaged { .. } => false,
    };
    descriptor_chip_bytes(bytes).is_some_and(|chip_bytes| chip_bytes <= bytes.len())
        || by_flash_maps(bytes).iter().any(|found| found.range == (0..bytes.len()))
        || Volumes::of(bytes).next().is_some_and(begins)
        || (is_chip_size(bytes.len()) && starts_at_end(bytes))
}

fn starts_at_end(image: &[u8]) -> bool {
    let boot = boot_offset(image);
    boot.by.is_known() && boot.offset_bytes as usize + 16 >= image.len() && !image.is_empty()
}

/// Leaves out what lies inside another one.
fn apart(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|found| (found.range.start, std::cmp::Reverse(found.range.end)));
    let mut end = 0;
    found.retain(|found| {
        let is_apart = found.range.start >= end;
        end = end.max(found.range.end);
        is_apart
    });
    found
}

fn behind_descriptors(bytes: &[u8]) -> Vec<Found> {
    let marks = memchr::memmem::find_iter(bytes, &DESCRIPTOR_SIGNATURE).take(PLACES_MAX);
    let starts = marks.flat_map(|mark| {
        DESCRIPTOR_SIGNATURE_OFFSETS.into_iter().filter_map(move |offset| mark.checked_sub(offset))
    });
    let found = starts.filter_map(|start| {
        let chip_bytes = descriptor_chip_bytes(&bytes[start..])?;
        let range = start..start.checked_add(chip_bytes)?;
        let why = "an Intel flash descriptor begins it";
        (range.end <= bytes.len()).then_some(Found { range, why })
    });
    found.collect()
}

/// Returns the size of the chip that the Intel flash descriptor at the start of `bytes` divides: up
/// to the end of the first five regions, which every generation has ([`Layout`] cuts regions at the
/// end of the bytes it gets, so it does not tell).
///
/// [`Layout`]: firmcast::image::layout::Layout
fn descriptor_chip_bytes(bytes: &[u8]) -> Option<usize> {
    const MAP_OFFSET: usize = 4;
    const REGIONS: usize = 5;
    const UNUSED: u32 = 0x7fff;
    let has_signature = |offset: &usize| array(bytes, *offset) == Some(DESCRIPTOR_SIGNATURE);
    let signature = DESCRIPTOR_SIGNATURE_OFFSETS.into_iter().find(has_signature)?;
    let table = (u32_at(bytes, signature + MAP_OFFSET)? >> 16 & 0xff) as usize * 16;
    let registers = (0..REGIONS).map(|number| u32_at(bytes, table + 4 * number));
    let mut end_pages = 0;
    for (number, register) in registers.enumerate() {
        let (base, limit) = (register? & UNUSED, register? >> 16 & UNUSED);
        if number == 0 && base != 0 {
            return None;
        }
        if base <= limit && base != UNUSED && (number == 0 || register != Some(0)) {
            end_pages = end_pages.max(limit as usize + 1);
        }
    }
    let end_bytes = end_pages * ALIGNMENT;
    let chip_bytes =
        if is_chip_size(end_bytes) { end_bytes } else { end_bytes.next_power_of_two() };
    is_chip_size(chip_bytes).then_some(chip_bytes)
}

/// A flash map tells the chip's size, and by its area `FMAP` where it lies on the chip itself.
fn by_flash_maps(bytes: &[u8]) -> Vec<Found> {
    const SIZE_OFFSET: usize = 18;
    const COUNT_OFFSET: usize = 54;
    const AREAS_OFFSET: usize = 56;
    const AREA_BYTES: usize = 42;
    const AREAS_MAX: usize = 128;
    let marks = memchr::memmem::find_iter(bytes, b"__FMAP__\x01").take(PLACES_MAX);
    let found = marks.filter_map(|mark| {
        let chip_bytes = u32_at(bytes, mark + SIZE_OFFSET)? as usize;
        let count = usize::from(u16_at(bytes, mark + COUNT_OFFSET)?).min(AREAS_MAX);
        let mut areas = (0..count).map(|number| mark + AREAS_OFFSET + number * AREA_BYTES);
        let own = areas.find(|area| array(bytes, area + 8) == Some(*b"FMAP\0"))?;
        let start = mark.checked_sub(u32_at(bytes, own)? as usize)?;
        let range = start..start.checked_add(chip_bytes)?;
        let fits = range.end <= bytes.len() && is_chip_size(chip_bytes);
        fits.then_some(Found { range, why: "a flash map tells its size and place" })
    });
    found.collect()
}

/// Insyde's updaters have the image behind a mark and two lengths: room, and what is used of it.
///
/// Source: the public unpackers of Insyde's `isflash.bin`, which agree on it.
fn behind_insyde_marks(bytes: &[u8]) -> Vec<Found> {
    const MARK: &[u8; 16] = b"$_IFLASH_BIOSIMG";
    const USED_OFFSET: usize = 20;
    const HEADER_BYTES: usize = 24;
    let marks = memchr::memmem::find_iter(bytes, MARK).take(PLACES_MAX);
    let found = marks.filter_map(|mark| {
        let start = mark + HEADER_BYTES;
        let range = start..start.checked_add(u32_at(bytes, mark + USED_OFFSET)? as usize)?;
        let image = bytes.get(range.clone())?;
        let fits = is_chip_size(image.len()) && starts_at_end(image);
        fits.then_some(Found { range, why: "Insyde's mark of the BIOS image stands before it" })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn chips_have_powers_of_two_and_two_chips_their_sum() {
        for bytes in [64 << 10, 256 << 10, MIB, 16 * MIB, 12 * MIB, 24 * MIB, 3 * MIB, 64 * MIB] {
            assert!(is_chip_size(bytes), "{bytes:#x}");
        }
        for bytes in [0, 1, 1024, 8 * MIB + (512 << 10), 7 * MIB, 11 * MIB, 16 * MIB + 0x1000] {
            assert!(!is_chip_size(bytes), "{bytes:#x}");
        }
    }

    #[test]
    fn the_descriptor_a_flash_map_or_the_first_instruction_tell_where_the_image_lies() {
        let image = super::super::samples::chip(MIB);
        let wrapped = [&[0x11; 0x3000][..], &image, &[0xff; 0x777]].concat();
        let found = around(&wrapped);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].range, 0x3000..0x3000 + MIB);
        let mut map = vec![0x22; MIB];
        map[0x500..0x500 + 140].copy_from_slice(&super::super::samples::flash_map(MIB, 0x500));
        let found = around(&[&[0; 0x123][..], &map].concat());
        assert_eq!(found[0].range, 0x123..0x123 + MIB);
        let mut bare = vec![0x33; MIB];
        bare[MIB - 16..MIB - 11].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
        assert_eq!(around(&[&[0; 0x8000][..], &bare].concat())[0].range, 0x8000..0x8000 + MIB);
        assert_eq!(around(&[&bare[..], &[0xff; 99]].concat())[0].range, 0..MIB);
        assert!(around(&[&[0; 0x8001][..], &bare].concat()).is_empty(), "not at a block's start");
        assert!(around(&vec![0x44; MIB + 0x1000]).is_empty(), "nothing tells");
        let two = [&image[..], &image, &[0; 8]].concat();
        assert_eq!(around(&two).len(), 2);
    }

    #[test]
    fn descriptors_of_three_generations_tell_their_chips() {
        let chip_of = |signature_offset: usize, map: u32, registers: &[u32]| {
            let table = (map >> 16 & 0xff) as usize * 16;
            let mut page = vec![0xff; 0x1000];
            let mut put =
                |at: usize, word: u32| page[at..at + 4].copy_from_slice(&word.to_le_bytes());
            put(signature_offset, 0x0ff0_a55a);
            put(signature_offset + 4, map);
            (0..).zip(registers).for_each(|(number, register)| put(table + 4 * number, *register));
            descriptor_chip_bytes(&page)
        };
        let ivy_bridge = [0, 0x07ff_0200, 0x01ff_0001, 0x1fff, 0x1fff];
        assert_eq!(chip_of(16, 0x0204_0003, &ivy_bridge), Some(8 * MIB));
        let purley = [0, 0x1fff_1000, 0x0a25_0003, 0x0002_0001, 0x7fff];
        assert_eq!(chip_of(16, 0x0004_0003, &purley), Some(32 * MIB));
        let ich9 = [0, 0x07ff_0600, 0x05f5_0001, 0x05f7_05f6, 0x05ff_05f8];
        assert_eq!(chip_of(0, 0x0204_0001, &ich9), Some(8 * MIB));
        assert_eq!(chip_of(16, u32::MAX, &[]), None, "a dummy");
        assert_eq!(chip_of(16, 0x0204_0003, &[0x0001_0001]), None, "not at its start");
    }
}
