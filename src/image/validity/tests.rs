#![allow(clippy::unwrap_used)]

mod coreboot;
mod looked_at;
mod quirks;

use proptest::prelude::*;

use super::*;
use crate::image::layout::samples::*;
use crate::image::layout::{FFS1, FFS2, FFS3, Guid};
use coreboot::coreboot;

const FREEFORM: u8 = 0x02;
const DRIVER: u8 = 0x07;
const VOLUME_IMAGE: u8 = 0x0b;
const PAD: u8 = 0xf0;
const JUMP: [u8; 5] = [0x90, 0x90, 0xe9, 0x5b, 0xff];
/// Where the volume of [`firmware`] begins, behind its variables.
const VOLUME_OFFSET: usize = 0x2000;
const VOLUME_HEADER_BYTES: usize = 72;

fn guided(guid: Guid, header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut contents = guid.0.to_vec();
    contents.extend((24 + header.len() as u16).to_le_bytes());
    contents.extend(1u16.to_le_bytes());
    contents.extend(header);
    contents.extend(data);
    section(0x02, &contents)
}

fn crc32_section(data: &[u8]) -> Vec<u8> {
    let guid =
        Guid::new(0xfc1b_cdb0, 0x7d31, 0x49aa, [0x93, 0x6a, 0xa4, 0x60, 0x0d, 0x9d, 0xd0, 0x83]);
    guided(guid, &crc32fast::hash(data).to_le_bytes(), data)
}

/// A program with one section of code.
fn pe(code: &[u8]) -> Vec<u8> {
    const CODE_OFFSET: u32 = 0x40 + 24 + 40;
    let mut image = vec![0; CODE_OFFSET as usize];
    put(&mut image, 0, b"MZ");
    put(&mut image, 0x3c, &0x40u32.to_le_bytes());
    put(&mut image, 0x40, b"PE\0\0");
    put(&mut image, 0x46, &[1]);
    put(&mut image, 0x58 + 16, &(code.len() as u32).to_le_bytes());
    put(&mut image, 0x58 + 20, &CODE_OFFSET.to_le_bytes());
    put(&mut image, 0x58 + 36, &[0x20]);
    image.extend(code);
    image
}

fn pe_section() -> Vec<u8> {
    section(0x10, &pe(b"a driver with some code"))
}

const LZMA: Guid =
    Guid::new(0xee4e_5898, 0x3914, 0x4259, [0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf]);
fn lzma(data: &[u8]) -> Vec<u8> {
    use lzma_rust2::{LzmaOptions, LzmaWriter, Write as _};
    let options = LzmaOptions::with_preset(6);
    let mut writer =
        LzmaWriter::new_use_header(Vec::new(), &options, Some(data.len() as u64)).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

/// Bytes that nothing makes shorter.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A compressed volume with a driver.
fn lzma_section() -> Vec<u8> {
    let driver = file(0x66, DRIVER, false, &section(0x10, &pe(&noise(300))));
    let inner = file_volume(0x1000, &[driver]);
    guided(LZMA, &[], &lzma(&section(0x17, &inner)))
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

/// Variables, then a volume with files of every sort, the last of which is a volume with a driver,
/// and a reset vector.
fn firmware() -> Vec<u8> {
    let program = pe_section();
    let name = section(0x15, b"D\0r\0\0\0");
    let inner = file_volume(0x1000, &[file(0x77, DRIVER, true, &program)]);
    let files = [
        file(0x11, PAD, false, &[0xff; 33]),
        file(0x22, DRIVER, true, &sections(&[program.clone(), name])),
        file(0x33, FREEFORM, false, &sections(&[crc32_section(&program), lzma_section()])),
        file(0x44, VOLUME_IMAGE, true, &sections(&[section(0x17, &inner)])),
    ];
    let mut image = variable_store(VOLUME_OFFSET);
    image.extend(file_volume(0x3000, &files));
    let end = image.len();
    put(&mut image, end - 16, &JUMP);
    image
}

fn invalid(image: &[u8]) -> (u64, String) {
    match validate(image) {
        Verdict::Invalid { offset_bytes, why } => (offset_bytes, why),
        other => panic!("expected invalid, got {other}"),
    }
}

/// Returns the offset of the file whose name is sixteen times this byte.
fn offset_of(image: &[u8], name: u8) -> usize {
    image.windows(16).position(|window| window == [name; 16]).unwrap()
}

#[test]
fn whole_firmware_is_valid_and_says_by_what() {
    assert_eq!(
        validate(&firmware()).to_string(),
        "valid: 4 firmware volumes with 6 files, 3 of them with a checksum of the contents, reset \
        vector, 91 % of it looked at"
    );
}

#[test]
fn every_flipped_bit_of_a_header_is_found_where_it_is() {
    let image = firmware();
    let mut damaged = image.clone();
    let mut check = |offset: usize, bits: std::ops::Range<usize>, place: usize, is_volume| {
        for bit in bits {
            damaged[offset] ^= 1 << bit;
            let verdict = validate(&damaged);
            match &verdict {
                Verdict::Invalid { offset_bytes, .. } => assert_eq!(*offset_bytes, place as u64),
                // What nothing else tells, and variables.
                verdict if is_volume && matches!(offset - place, 0..16 | 44..48 | 50..54) => {
                    let is_doubtful = matches!(verdict, Verdict::Doubtful { .. });
                    assert!(is_doubtful || place == 0, "bit {bit} of 0x{offset:x}: {verdict}");
                }
                verdict => panic!("bit {bit} of 0x{offset:x}: {verdict}"),
            }
            damaged[offset] ^= 1 << bit;
        }
    };
    for start in [0, VOLUME_OFFSET] {
        for offset in 0..VOLUME_HEADER_BYTES {
            // Behind an extended header that is not there no file begins.
            if !(52..54).contains(&offset) {
                check(start + offset, 0..8, start, true);
            }
        }
    }
    for name in [0x11, 0x22, 0x33, 0x44] {
        let start = offset_of(&image, name);
        for offset in 0..23 {
            check(start + offset, 0..8, start, false);
        }
        // Bits 3 and 4 of the state say "marked for update" and "deleted", which whole files may
        // be; bit 5 that only the header is invalid.
        check(start + 23, 0..3, start, false);
        check(start + 23, 6..8, start, false);
    }
    // Where nothing of the volume it lies in is checked: in the volume inside a file, the file's
    // checksum is what is wrong.
    check(offset_of(&image, 0x77), 0..8, offset_of(&image, 0x44), false);
}

#[test]
fn damaged_contents_are_found_where_the_firmware_has_checksums() {
    let image = firmware();
    let refusal = |offset: usize, byte: u8| {
        let mut damaged = image.clone();
        damaged[offset] ^= byte;
        invalid(&damaged).1
    };
    let driver = offset_of(&image, 0x22);
    assert!(refusal(driver + 30, 1).contains("file checksum 0x"));
    let freeform = offset_of(&image, 0x33);
    // Section header, GUID and CRC-32 come before the contents.
    let contents = freeform + 24 + 28;
    assert!(refusal(contents + 8, 1).contains("CRC-32 0x"));
    assert!(refusal(freeform + 24 + 3, 0x40).starts_with("section: type 0x42"));
    assert!(refusal(freeform + 24 + 2, 0x40).contains("its size does not fit into its file"));
    let lzma = image.windows(4).position(|window| window == [0xcf, 0x18, 0, 1]).unwrap() + 5;
    assert!(refusal(lzma, 0xbf).contains("LZMA with properties"));
    assert!(refusal(lzma + 10, 0x01).contains("expected plausible ones"));
    // What is compressed is unpacked, and every bit of it counts but the first byte's.
    assert!(refusal(lzma + 130, 1).starts_with("section: LZMA: "));
    // Into variables nobody looks.
    let mut unseen = image.clone();
    unseen[0x1000] ^= 1;
    assert!(matches!(validate(&unseen), Verdict::Valid { .. }));
}

#[test]
fn what_an_interrupted_update_leaves_is_invalid() {
    let image = firmware();
    let refusal = |change: &dyn Fn(&mut [u8])| {
        let mut damaged = image.clone();
        change(&mut damaged);
        invalid(&damaged)
    };
    // An erased block with a file in it, and a whole file behind.
    let [second, third] = [0x22, 0x33].map(|name| offset_of(&image, name));
    let (at, why) = refusal(&|image| image[second..third].fill(0xff));
    assert_eq!(at, second as u64);
    assert!(why.contains(&format!("the next one is only at 0x{third:x}")), "{why}");
    // The block with the reset vector.
    let end = image.len();
    let (at, why) = refusal(&|image| image[end - 16..].fill(0xff));
    assert_eq!(at, end as u64 - 16);
    assert!(why.starts_with("reset vector: [ff, ff"), "{why}");
    // A file that was being written.
    let (_, why) = refusal(&|image| image[second + 23] = 0xfc);
    assert!(why.contains("state 0x03, expected a file that is written as a whole"), "{why}");
    for blank in [0x00, 0xff] {
        assert_eq!(
            invalid(&vec![blank; 0x1_0000]),
            (0, format!("every byte is 0x{blank:02x}, expected firmware"))
        );
    }
    assert_eq!(invalid(&[]).0, 0);
}

#[test]
fn a_file_that_is_deleted_may_hold_anything() {
    let mut image = firmware();
    let start = offset_of(&image, 0x22);
    image[start + 23] &= !0x10;
    image[start + 40] ^= 0xff;
    assert!(matches!(validate(&image), Verdict::Valid { .. }));
}

/// The size of 8 bytes counts, and its bytes are part of the header's checksum, but only in FFS3.
#[test]
fn a_large_file_has_its_size_behind_the_header() {
    let mut large = file(0x22, FREEFORM, false, &[0; 8]);
    put(&mut large, 19, &[0x01, 0, 0, 0]);
    put(&mut large, 24, &(32u64 + 8).to_le_bytes());
    large.extend(section(0x19, b"raw!"));
    large[16] = 0;
    let sum = large[..32].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    large[16] = sum.wrapping_sub(large[17]).wrapping_sub(large[23]).wrapping_neg();
    let image = |file_system, large: &[u8]| {
        let mut image = volume(file_system, 0x1000, large);
        put(&mut image, 0xff0, &JUMP);
        image
    };
    assert!(matches!(validate(&image(FFS3, &large)), Verdict::Valid { .. }));
    assert!(invalid(&image(FFS2, &large)).1.contains("header sums up to"));
    large[31] ^= 1;
    assert!(invalid(&image(FFS3, &large)).1.contains("header sums up to"));
    large[16] = large[16].wrapping_sub(1);
    assert!(invalid(&image(FFS3, &large)).1.contains("0x100000000000028 bytes, expected at most"));
}

/// EDK2 puts the extended header into a padding file; files begin behind it.
#[test]
fn files_begin_behind_the_extended_header() {
    let extended = [[0x99; 16].as_slice(), &[20, 0, 0, 0]].concat();
    let mut contents = extended;
    contents.resize(24, 0xff);
    contents.extend(file(0x22, FREEFORM, true, &[]));
    let mut image = volume(FFS2, 0x1000, &contents);
    put(&mut image, 0xff0, &JUMP);
    assert!(invalid(&image).1.starts_with("firmware file 99999999-"));
    put(&mut image, 52, &72u16.to_le_bytes());
    fix_volume_checksum(&mut image);
    assert_eq!(
        validate(&image).to_string(),
        "valid: 1 firmware volumes with 1 files, 1 of them with a checksum of the contents, reset \
        vector, 50 % of it looked at"
    );
    // One that would end outside leaves no room for files.
    put(&mut image, 72 + 16, &u32::MAX.to_le_bytes());
    assert!(matches!(validate(&image), Verdict::Valid { .. } | Verdict::Unknown { .. }));
}

#[test]
fn arm_firmware_has_no_reset_vector_at_the_end() {
    let mut image = file_volume(0x2000, &[file(0x22, FREEFORM, true, &[])]);
    assert!(invalid(&image).1.starts_with("reset vector"));
    put(&mut image, 0, &[0x00, 0x04, 0x00, 0x14]);
    fix_volume_checksum(&mut image);
    assert!(matches!(validate(&image), Verdict::Valid { .. }));
}

#[test]
fn a_legacy_bios_has_code_where_its_reset_vector_leads() {
    let mut image = vec![0xff; 0x2_0000];
    put(&mut image, 0x1_fff0, &[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
    assert_eq!(invalid(&image).0, 0x1_e05b);
    put(&mut image, 0x1_e05b, &[0x31, 0xc0]);
    // A jump and code alone prove nothing of the rest.
    assert!(matches!(validate(&image), Verdict::Unknown { .. }));
    // Less than the segment it jumps into.
    assert!(matches!(validate(&image[0x1_8000..]), Verdict::Unknown { .. }));
}

#[test]
fn what_shows_no_program_is_unknown() {
    let mut image = vec![0xff; 0x10_0000];
    image[77] = 1;
    put(&mut image, 0xf_fff0, &JUMP);
    let unknown = |image: &[u8]| matches!(validate(image), Verdict::Unknown { .. });
    assert!(unknown(&image));
    assert!(unknown(&variable_store(0x1_0000)));
    // Behind an Intel descriptor there is an x86 processor, so there has to be a reset vector.
    let mut regions = [UNUSED; 16];
    regions[0] = pages(0, 0);
    regions[1] = pages(1, 0xff);
    descriptor_skylake(&mut image, &regions, 0);
    assert!(unknown(&image));
    image[0xf_fff0..].fill(0);
    assert_eq!(invalid(&image).0, 0xf_fff0);
}

#[test]
fn a_layout_that_contradicts_itself_is_doubtful() {
    let mut image = firmware();
    let size = image.len() as u32;
    put(&mut image, VOLUME_OFFSET - 0x200, &flash_map(size, &[(0x1000, 0x1001, "RW_VPD")]));
    let doubt = validate(&image).to_string();
    assert!(
        doubt.starts_with(
            "doubtful at 0x1000: region variable-store at 0x0-0x1fff overlaps region RW_VPD at \
            0x1000-0x2000, expected"
        ),
        "{doubt}"
    );
    // What is broken elsewhere counts for more.
    image[VOLUME_OFFSET + 16] ^= 1;
    assert_eq!(invalid(&image).0, VOLUME_OFFSET as u64);
}

#[test]
fn a_limit_behind_the_end_is_doubtful() {
    let mut regions = [UNUSED; 16];
    regions[0] = pages(0, 0);
    regions[1] = pages(2, 0x1ff);
    let mut image = vec![0xff; 0x2000];
    descriptor_skylake(&mut image, &regions, 0);
    image.extend(firmware());
    let doubt = validate(&image).to_string();
    assert!(
        doubt.starts_with("doubtful at 0x2000: region bios at 0x2000-0x1fffff ends"),
        "{doubt}"
    );
}

#[test]
fn sections_that_nest_without_end_are_refused() {
    let mut contents = section(0x19, b"");
    for _ in 0..40 {
        contents = section(0x03, &contents);
    }
    let volume = volume(FFS2, 0x1000, &file(0x22, FREEFORM, false, &contents));
    assert!(invalid(&volume).1.starts_with("sections in sections"));
}

#[test]
fn no_truncation_panics_and_a_cut_volume_is_never_whole() {
    for image in [firmware(), coreboot()] {
        for end in (0..image.len()).rev().step_by(7) {
            let verdict = validate(&image[..end]);
            if end > VOLUME_OFFSET + VOLUME_HEADER_BYTES {
                assert!(!matches!(verdict, Verdict::Valid { .. }), "0x{end:x}: {verdict}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..0x400)) {
        let _ = validate(&bytes);
        let volume = volume(FFS2, 0x1000, &bytes);
        let _ = validate(&volume);
    }

    /// Whatever happens to it, the verdict is about bytes that exist.
    #[test]
    fn arbitrary_changes_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        is_coreboot: bool,
    ) {
        let mut image = if is_coreboot { coreboot() } else { firmware() };
        for (index, byte) in changes {
            let index = index.index(image.len());
            image[index] = byte;
        }
        if let Verdict::Invalid { offset_bytes, .. } = validate(&image) {
            prop_assert!(offset_bytes <= image.len() as u64);
        }
    }
}

fn around(image: &[u8], start: usize, end: usize) -> Verdict {
    let closed: ByteRanges = std::iter::once(start as u64..end as u64).collect();
    let mut image = image.to_vec();
    image[start..end].fill(0xff);
    validate_around(&image, &closed)
}

/// Wherever a range is closed, whole firmware does not become invalid by it; and what is damaged
/// elsewhere still is.
#[test]
fn a_closed_range_is_neither_damage_nor_an_excuse_for_damage_elsewhere() {
    let images = [firmware(), coreboot()];
    for image in &images {
        for start in (0..image.len()).step_by(0x40) {
            for length in [1, 0x100, 0x1000] {
                let end = image.len().min(start + length);
                let found = around(image, start, end);
                let is_invalid = matches!(found, Verdict::Invalid { .. });
                assert!(!is_invalid, "{start:#x}-{end:#x} is closed: {found}");
            }
        }
    }
    let [image, _] = images;
    let mut damaged = image.clone();
    damaged[VOLUME_OFFSET + 16] ^= 1;
    let found = around(&damaged, 0x100, VOLUME_OFFSET);
    let Verdict::Invalid { offset_bytes, .. } = found else { panic!("{found}") };
    assert_eq!(offset_bytes, VOLUME_OFFSET as u64);
    assert!(matches!(around(&image, 0, image.len()), Verdict::Unknown { .. }));
    let blank = vec![0xff; 0x1000];
    assert!(matches!(around(&blank, 0, 0x800), Verdict::Invalid { .. }));
}

/// An image of one volume with these files, and a reset vector behind it.
fn with_files(files: &[Vec<u8>]) -> Vec<u8> {
    let length = files.iter().map(|file| file.len() + 8).sum::<usize>() + 0x100;
    let mut image = file_volume(length.next_multiple_of(0x1000), files);
    let mut end = vec![0xff; 0x1000];
    put(&mut end, 0xff0, &JUMP);
    image.extend(end);
    image
}

fn fix_header_checksum(file: &mut [u8]) {
    file[16] = 0;
    let sum = file[..24].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    file[16] = sum.wrapping_sub(file[17]).wrapping_sub(file[23]).wrapping_neg();
}

fn doubtful(image: &[u8]) -> (u64, String) {
    match validate(image) {
        Verdict::Doubtful { offset_bytes, why } => (offset_bytes, why),
        other => panic!("expected doubtful, got {other}"),
    }
}

fn assert_valid(image: &[u8]) {
    let verdict = validate(image);
    assert!(matches!(verdict, Verdict::Valid { .. }), "{verdict}");
}
