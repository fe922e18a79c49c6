//! Small images of each format, built field by field as the specifications have them, for tests.

use super::variables::NVAR_FILE;
use super::volume::NV_DATA;
use super::{FFS2, Guid};

pub(crate) fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// FLREGn for the pages `first` to `last`.
pub(crate) fn pages(first: u32, last: u32) -> u32 {
    last << 16 | first
}

pub(crate) const UNUSED: u32 = 0x0000_7fff;

/// A descriptor as Sky Lake machines have it: FCBA 30h, FRBA 40h, FMBA 80h, FISBA 100h with 0x15
/// words, FLMAP2 with ICCRIBA 31h.
pub(crate) fn descriptor_skylake(image: &mut [u8], regions: &[u32; 16], host_master: u32) {
    image[..0x1000].fill(0xff);
    put(image, 0x10, &0x0ff0_a55a_u32.to_le_bytes());
    put(image, 0x14, &0x0004_0003_u32.to_le_bytes());
    put(image, 0x18, &0x4510_0208_u32.to_le_bytes());
    put(image, 0x1c, &0x0031_0330_u32.to_le_bytes());
    put(image, 0xefc, &0x0000_04df_u32.to_le_bytes());
    for (index, region) in regions.iter().enumerate() {
        put(image, 0x40 + 4 * index, &region.to_le_bytes());
    }
    put(image, 0x80, &host_master.to_le_bytes());
}

/// A descriptor as Ivy Bridge machines have it (NR 2, five registers, FMBA 60h, ICCRIBA 12h).
pub(in crate::image) fn descriptor_ivy_bridge(
    image: &mut [u8],
    regions: &[u32; 5],
    host_master: u32,
) {
    image[..0x1000].fill(0xff);
    put(image, 0x10, &0x0ff0_a55a_u32.to_le_bytes());
    put(image, 0x14, &0x0204_0003_u32.to_le_bytes());
    put(image, 0x18, &0x1210_0206_u32.to_le_bytes());
    put(image, 0x1c, &0x0021_0120_u32.to_le_bytes());
    put(image, 0xefc, &0x0000_04df_u32.to_le_bytes());
    for (index, region) in regions.iter().enumerate() {
        put(image, 0x40 + 4 * index, &region.to_le_bytes());
    }
    put(image, 0x60, &host_master.to_le_bytes());
}

/// A flash map with areas of offset, size and name.
pub(crate) fn flash_map(size_bytes: u32, areas: &[(u32, u32, &str)]) -> Vec<u8> {
    let name = |text: &str| {
        let mut field = [0; 32];
        field[..text.len()].copy_from_slice(text.as_bytes());
        field
    };
    let mut map = b"__FMAP__\x01\x01".to_vec();
    map.extend(u64::from(size_bytes).wrapping_neg().to_le_bytes());
    map.extend(size_bytes.to_le_bytes());
    map.extend(name("FLASH"));
    map.extend((areas.len() as u16).to_le_bytes());
    for (offset, size, text) in areas {
        map.extend(offset.to_le_bytes());
        map.extend(size.to_le_bytes());
        map.extend(name(text));
        map.extend([0, 0]);
    }
    map
}

/// A volume of `length_bytes` (a multiple of 4 KiB), of which `contents` are what follows the
/// header.
pub(in crate::image) fn volume(file_system: Guid, length_bytes: usize, contents: &[u8]) -> Vec<u8> {
    const HEADER_BYTES: usize = 72;
    let mut volume = vec![0xff; length_bytes];
    volume[..16].fill(0);
    put(&mut volume, 16, &file_system.0);
    put(&mut volume, 32, &(length_bytes as u64).to_le_bytes());
    put(&mut volume, 40, b"_FVH");
    put(&mut volume, 44, &0x0004_feffu32.to_le_bytes());
    put(&mut volume, 48, &(HEADER_BYTES as u16).to_le_bytes());
    put(&mut volume, 50, &[0, 0, 0, 0, 0, 2]);
    put(&mut volume, 56, &((length_bytes / 0x1000) as u32).to_le_bytes());
    put(&mut volume, 60, &0x1000u32.to_le_bytes());
    put(&mut volume, 64, &[0; 8]);
    fix_volume_checksum(&mut volume);
    put(&mut volume, HEADER_BYTES, contents);
    volume
}

pub(in crate::image) fn fix_volume_checksum(volume: &mut [u8]) {
    put(volume, 50, &[0, 0]);
    let words = volume[..72].chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0u16, u16::wrapping_add);
    put(volume, 50, &sum.wrapping_neg().to_le_bytes());
}

/// A store of variables without any, as OVMF has it.
pub(in crate::image) fn variable_store(length_bytes: usize) -> Vec<u8> {
    volume(NV_DATA, length_bytes, &[])
}

/// A volume with files one after the other.
pub(in crate::image) fn file_volume(length_bytes: usize, files: &[Vec<u8>]) -> Vec<u8> {
    let mut contents = Vec::new();
    for file in files {
        contents.extend(file);
        contents.resize(contents.len().next_multiple_of(8), 0xff);
    }
    volume(FFS2, length_bytes, &contents)
}

/// A file; `checked` for one with a checksum of its contents.
pub(in crate::image) fn file(name: u8, kind: u8, checked: bool, contents: &[u8]) -> Vec<u8> {
    let size = (24 + contents.len() as u32).to_le_bytes();
    let mut file = vec![name; 16];
    file.extend([0, 0, kind, u8::from(checked) * 0x40, size[0], size[1], size[2], 0]);
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    file[16] = sum(&file).wrapping_neg();
    file[17] = if checked { sum(contents).wrapping_neg() } else { 0xaa };
    file[23] = 0xf8;
    file.extend(contents);
    file
}

/// The file in which AMI's firmware keeps variables: `length_bytes` that start with `begin`.
pub(in crate::image) fn nvar_file(begin: &[u8], length_bytes: usize) -> Vec<u8> {
    let mut variables = vec![0xff; length_bytes];
    put(&mut variables, 0, begin);
    let mut nvar = file(0, 0x01, false, &variables);
    put(&mut nvar, 0, &NVAR_FILE.0);
    let sum = NVAR_FILE.0.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    // The name of zeros did not count in the header's checksum.
    nvar[16] = nvar[16].wrapping_sub(sum);
    nvar
}

/// A volume with such a file and nothing else.
pub(in crate::image) fn nvar_volume(length_bytes: usize) -> Vec<u8> {
    file_volume(length_bytes, &[nvar_file(b"NVAR\x20\x00", length_bytes / 2)])
}

/// A section with its header.
pub(in crate::image) fn section(kind: u8, contents: &[u8]) -> Vec<u8> {
    let size = (4 + contents.len() as u32).to_le_bytes();
    let mut section = vec![size[0], size[1], size[2], kind];
    section.extend(contents);
    section
}
