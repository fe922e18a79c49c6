//! Small images with everything that a tree has.

use crate::image::layout::Guid;
use crate::image::layout::samples::*;

const PADDING: u8 = 0xf0;
const DRIVER: u8 = 0x07;
const FREEFORM: u8 = 0x02;
const VOLUME_IMAGE: u8 = 0x0b;

fn words(image: &mut [u8], at: usize, words: &[u32]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    put(image, at, &bytes);
}

fn text(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Sections one after the other, at multiples of 4.
fn sections(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut contents = Vec::new();
    for part in parts {
        contents.resize(contents.len().next_multiple_of(4), 0);
        contents.extend(part);
    }
    contents
}

fn guided(guid: Guid, data: &[u8]) -> Vec<u8> {
    section(0x02, &[&guid.0[..], &[24, 0, 1, 0], data].concat())
}

fn lzma(data: &[u8]) -> Vec<u8> {
    use lzma_rust2::{LzmaOptions, LzmaWriter, Write as _};
    const LZMA: Guid =
        Guid::new(0xee4e_5898, 0x3914, 0x4259, [0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf]);
    let options = LzmaOptions::with_preset(1);
    let mut writer =
        LzmaWriter::new_use_header(Vec::new(), &options, Some(data.len() as u64)).unwrap();
    writer.write_all(data).unwrap();
    guided(LZMA, &writer.finish().unwrap())
}

/// A Management Engine of version 11.8.50.3460.
fn engine() -> Vec<u8> {
    let mut region = vec![0xff; 0x2000];
    put(&mut region, 0x10, b"$FPT\x01\0\0\0");
    put(&mut region, 0x30, b"FTPR\0\0\0\0\0\x10\0\0\0\x10\0\0");
    put(&mut region, 0x1000, b"$CPD\x01\0\0\0\x01\x01\x10\0FTPR");
    put(&mut region, 0x1010, b"FTPR.man\0\0\0\0\x58\0\0\0");
    put(&mut region, 0x1058 + 0x1c, b"$MN2\0\0\0\0\x0b\0\x08\0\x32\0\x84\x0d");
    region
}

/// A processor's microcode of 0x60 bytes.
fn microcode() -> Vec<u8> {
    let mut update = vec![0xa5; 0x60];
    words(&mut update, 0, &[1, 0xf0, 0x1112_2021, 0x506e3, 0, 1, 2, 0x30, 0x60]);
    update
}

/// 64 KiB: descriptor, Management Engine, variables, programs, and a table that leads to microcode.
pub(super) fn intel_chip() -> Vec<u8> {
    let mut regions = [UNUSED; 16];
    (regions[0], regions[1], regions[2]) = (pages(0, 0), pages(3, 15), pages(1, 2));
    let program = section(0x10, b"MZ a program");
    let facts = [
        program.clone(),
        section(0x15, &text("Dr")),
        section(0x14, &[7, 0, b'1', 0, b'.', 0, b'2', 0, 0, 0]),
    ];
    let inner = file_volume(0x1000, &[file(0x77, DRIVER, true, &sections(&facts))]);
    let brotli =
        Guid::new(0x3d53_2050, 0x5cda, 0x4fd0, [0x87, 0x9e, 0x0f, 0x7f, 0x63, 0x0d, 0x5a, 0xfb]);
    let files = [
        file(0x11, PADDING, false, &[0xff; 33]),
        file(0x22, DRIVER, true, &sections(&facts)),
        file(0x33, VOLUME_IMAGE, true, &lzma(&section(0x17, &inner))),
        file(0x44, DRIVER, true, &lzma(&sections(&facts))),
        file(0x55, FREEFORM, true, &guided(brotli, b"packed")),
        file(0x66, VOLUME_IMAGE, true, &section(0x17, &inner)),
        file(0x88, 0x01, true, &microcode()),
    ];
    let mut image = vec![0xff; 0x1_0000];
    descriptor_skylake(&mut image, &regions, 0xffff_ffff);
    put(&mut image, 0x1000, &engine());
    put(&mut image, 0x3000, &variable_store(0x1000));
    put(&mut image, 0x4000, &file_volume(0x8000, &files));
    let at = image.windows(8).position(|window| window == &microcode()[..8]).unwrap();
    let address = |offset: usize| 0xffff_0000 + offset as u32;
    put(&mut image, 0xd000, b"_FIT_   \x02\0\0\0\0\x01\0\0");
    words(&mut image, 0xd010, &[address(at), 0, 0, 0x0001_0100]);
    words(&mut image, 0xffc0, &[address(0xd000), 0]);
    put(&mut image, 0xfff0, &[0x90, 0x90, 0xe9, 0x5b, 0xff]);
    image
}

/// Flash map, a file that tells of the build, a compressed one, room, the boot block.
pub(super) fn coreboot() -> Vec<u8> {
    let compression = [*b"BCZL", [0, 0, 0, 16], [0, 0, 0, 1], [0, 0, 1, 0]].concat();
    let files = [
        ("revision", 0x50, vec![], b"#define COREBOOT_VERSION \"4.22-7\"\n#define X 1\n".to_vec()),
        ("fallback/ramstage", 0x11, compression, vec![0xa5; 100]),
        ("", 0xffff_ffff, vec![], vec![0xff; 0x100]),
        ("bootblock", 1, vec![], vec![0x90; 0x400]),
    ];
    let mut area = Vec::new();
    for (name, kind, attributes, contents) in files {
        area.resize(area.len().next_multiple_of(64), 0xff);
        let attributes_offset = if attributes.is_empty() { 0 } else { 48u32 };
        area.extend(b"LARCHIVE");
        let contents_offset = 48 + attributes.len() as u32;
        for field in [contents.len() as u32, kind, attributes_offset, contents_offset] {
            area.extend(field.to_be_bytes());
        }
        area.extend(name.as_bytes());
        area.extend(vec![0; 24 - name.len()]);
        area.extend(attributes);
        area.extend(contents);
    }
    let size = 0x1000 + area.len() as u32;
    let areas =
        [(0, 0x1000, "FMAP"), (0xf00, 0x40, "RO_FRID"), (0x1000, size - 0x1000, "COREBOOT")];
    let mut image = flash_map(size, &areas);
    image.resize(0x1000, 0xff);
    put(&mut image, 0xf00, b"Google_Link.2695.1.133\0");
    image.extend(area);
    image
}

/// 1 MiB with directories of the security processor and of the BIOS.
pub(super) fn amd_chip() -> Vec<u8> {
    let mut chip = vec![0xff; 0x10_0000];
    words(&mut chip, 0x2_0000, &[0x55aa_55aa]);
    words(&mut chip, 0x2_0014, &[0xfff5_0000, 0, 0, 0, 0xffff_ffff, 0x4_0000]);
    put(&mut chip, 0x5_0000, b"$PSP");
    words(&mut chip, 0x5_0004, &[0, 2, 0, 0x04, 0x2_0000, 0xfff6_0000, 0]);
    words(&mut chip, 0x5_0020, &[0x08, 0x100, 0xfff5_8000, 0]);
    put(&mut chip, 0x5_8010, b"$PS1");
    put(&mut chip, 0x5_8060, &[0x0a, 0x21, 0x2d, 0]);
    put(&mut chip, 0x4_0000, b"$BHD");
    words(&mut chip, 0x4_0004, &[0, 1, 0, 0x66, 0x200, 0xfff4_8000, 0, 0, 0]);
    words(&mut chip, 0x4_8000, &[0x2020_0904, 0x0830_104d]);
    chip
}
