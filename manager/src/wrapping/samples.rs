//! Small images of chips, for tests.

/// A chip of `chip_bytes` with an Intel flash descriptor, code that differs from chip to chip only
/// by its size, and a far jump where the processor starts.
pub(super) fn chip(chip_bytes: usize) -> Vec<u8> {
    let mut image: Vec<u8> = (0..chip_bytes).map(|at| (at / 8 % 251) as u8).collect();
    image[..0x1000].fill(0xff);
    let last_page = (chip_bytes / 0x1000 - 1) as u32;
    let mut put = |at: usize, word: u32| image[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(0x10, 0x0ff0_a55a);
    put(0x14, 0x0204_0003);
    put(0x18, 0x1210_0206);
    put(0x1c, 0x0021_0120);
    put(0xefc, 0x0000_04df);
    put(0x60, 0xffff_0000);
    let unused = 0x7fff;
    let registers = [0, last_page << 16 | 1, unused, unused, unused];
    (0..).zip(registers).for_each(|(number, register)| put(0x40 + 4 * number, register));
    image[chip_bytes - 16..chip_bytes - 11].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
    image
}

/// A flash map for a chip of `chip_bytes`, which lies at `own_offset`.
pub(super) fn flash_map(chip_bytes: usize, own_offset: u32) -> Vec<u8> {
    let name = |text: &str| [text.as_bytes(), &vec![0; 32 - text.len()]].concat();
    let mut map = [&b"__FMAP__\x01\x01"[..], &[0; 8], &(chip_bytes as u32).to_le_bytes()].concat();
    map.extend([name("FLASH"), vec![2, 0]].concat());
    for (area, offset, length) in [("COREBOOT", 0x1000u32, 0x1000u32), ("FMAP", own_offset, 512)] {
        map.extend([offset.to_le_bytes(), length.to_le_bytes()].concat());
        map.extend([name(area), vec![0; 2]].concat());
    }
    map
}

/// A capsule of this GUID (as it is stored) around `image`.
pub(super) fn capsule(guid: [u8; 16], header_bytes: usize, image: &[u8]) -> Vec<u8> {
    let mut capsule = vec![0xee; header_bytes];
    capsule[..16].copy_from_slice(&guid);
    let whole_bytes = (header_bytes + image.len()) as u32;
    let fields = [header_bytes as u32, 0x0001_0001, whole_bytes].map(u32::to_le_bytes).concat();
    capsule[16..28].copy_from_slice(&fields);
    if header_bytes >= 32 {
        capsule[28..30].copy_from_slice(&(header_bytes as u16).to_le_bytes());
    }
    [&capsule[..], image].concat()
}

/// GUID of the capsules of the first UEFI specifications, as it is stored.
pub(super) const UEFI: [u8; 16] = [
    0xbd, 0x86, 0x66, 0x3b, 0x76, 0x0d, 0x30, 0x40, 0xb7, 0x0e, 0xb5, 0x51, 0x9e, 0x2f, 0xc5, 0xa0,
];
/// GUID of AMI's signed capsules, as it is stored.
pub(super) const AMI: [u8; 16] = [
    0x8b, 0xa6, 0x3c, 0x4a, 0x23, 0x77, 0xfb, 0x48, 0x80, 0x3d, 0x57, 0x8c, 0xc1, 0xfe, 0xc4, 0x4d,
];
/// GUID of capsules of the firmware management protocol, as it is stored.
pub(super) const FMP: [u8; 16] = [
    0xed, 0xd5, 0xcb, 0x6d, 0x2d, 0xe8, 0x44, 0x4c, 0xbd, 0xa1, 0x71, 0x94, 0x19, 0x9a, 0xd9, 0x2a,
];
