#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::image::layout::samples::*;
use crate::image::layout::{FFS1, FFS2, FFS3, Guid};

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

fn coreboot_file(kind: u32, attributes: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut file = b"LARCHIVE".to_vec();
    let attributes_offset = if attributes.is_empty() { 0 } else { 32u32 };
    let contents_offset = 32 + attributes.len() as u32;
    for field in [contents.len() as u32, kind, attributes_offset, contents_offset] {
        file.extend(field.to_be_bytes());
    }
    file.extend(b"name\0\0\0\0");
    file.extend(attributes);
    file.extend(contents);
    file
}

/// Returns a flash map, and one area with a file that has a digest, room, and the boot block at the
/// end.
fn coreboot() -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let hash = |contents: &[u8]| {
        let mut hash = [0x6873_6148u32, 44, 2].map(u32::to_be_bytes).concat();
        hash.extend(Sha256::digest(contents));
        hash
    };
    let mut boot_block = vec![0x90; 0x1000 - 0x40 - 32 - 44];
    let end = boot_block.len();
    put(&mut boot_block, end - 16, &JUMP);
    let files = [
        coreboot_file(0x50, &hash(&[0x5a; 100]), &[0x5a; 100]),
        coreboot_file(0xffff_ffff, &[], &[0xff; 0x100]),
        coreboot_file(1, &hash(&boot_block), &boot_block),
    ];
    let mut area = Vec::new();
    for file in files {
        area.resize(area.len().next_multiple_of(64), 0xff);
        area.extend(file);
    }
    let start = 0x1000;
    let size = start + area.len();
    let areas = [(0, 0x1000, "FMAP"), (start as u32, area.len() as u32, "COREBOOT")];
    let mut image = flash_map(size as u32, &areas);
    image.resize(start, 0xff);
    image.extend(area);
    image
}

#[test]
fn coreboot_files_follow_one_another_up_to_the_end_of_their_area() {
    let image = coreboot();
    assert_eq!(
        validate(&image).to_string(),
        "valid: flash map, 2 coreboot files, 2 of them with a digest, reset vector, 94 % of it \
        looked at"
    );
    let refusal = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = image.clone();
        change(&mut damaged);
        invalid(&damaged)
    };
    let (at, why) = refusal(&|image| image[0x1000 + 100] ^= 1);
    assert_eq!(
        (at, why.as_str()),
        (0x1000, "coreboot file: its contents do not have its SHA-256 digest")
    );
    let (at, why) = refusal(&|image| image[0x1000] ^= 1);
    assert!(at == 0x1000 && why.contains("expected files up to the end"), "{why}");
    let (at, why) = refusal(&|image| image[0x1000 + 8] = 0x7f);
    assert!(at == 0x1000 && why == "coreboot file ends outside its area COREBOOT", "{why}");
    // The boot block is erased, with its header.
    let second = 0x1000 + 0x100;
    let boot_block = image.len() - 0x1000 + 0x40;
    let (at, why) = refusal(&|image| image[boot_block..].fill(0xff));
    assert!(at > second as u64 && why.contains("expected files up to the end"), "{why}");
    let end = image.len();
    let (at, _) = refusal(&|image| image[end - 16..].fill(0));
    assert_eq!(at, end as u64 - 16);
    // cbfstool writes a pointer there after it took the digest. Then too little is known.
    let mut pointed = image.clone();
    put(&mut pointed, end - 4, &[1, 2, 3, 4]);
    assert!(matches!(validate(&pointed), Verdict::Unknown { .. }));
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

#[test]
fn a_file_without_a_checksum_may_have_the_constant_of_ffs1() {
    let mut constant = file(0x22, DRIVER, false, &pe_section());
    constant[17] = 0x5a;
    assert_valid(&with_files(&[constant.clone()]));
    constant[17] = 0x5b;
    assert!(invalid(&with_files(&[constant])).1.contains("file checksum 0x5b, expected 0xaa"));
}

/// Its header's checksum is right, so it was written so; where the next file is nothing tells.
#[test]
fn a_file_of_no_bytes_is_doubtful() {
    let mut empty = file(0x33, FREEFORM, false, &[]);
    empty[20..23].fill(0);
    fix_header_checksum(&mut empty);
    let image = with_files(&[file(0x22, DRIVER, false, &pe_section()), empty]);
    let (at, why) = doubtful(&image);
    assert_eq!(at as usize, offset_of(&image, 0x33));
    assert!(why.contains("0x0 bytes"), "{why}");
}

#[test]
fn a_header_that_says_it_is_invalid_is_skipped() {
    let mut header = vec![0x99; 24];
    header[23] = !0x21;
    let driver = file(0x22, DRIVER, false, &pe_section());
    let image = with_files(&[header.clone(), driver.clone()]);
    assert_valid(&image);
    header[23] = !0x01;
    assert!(invalid(&with_files(&[header, driver])).1.contains("header sums up to"));
}

#[test]
fn a_store_of_variables_may_have_a_constant_for_its_checksum() {
    let mut image = variable_store(0x2000);
    put(&mut image, 50, &[0xaa, 0x55]);
    image.extend(with_files(&[file(0x22, DRIVER, false, &pe_section())]));
    assert_valid(&image);
    assert_eq!(Layout::read(&image).unwrap().regions().len(), 1);
    // Of programs it is doubtful, and so are they looked at.
    put(&mut image, 0x2000 + 50, &[0xaa, 0x55]);
    let (at, why) = doubtful(&image);
    assert!(at == 0x2000 && why.contains("header sums up to"), "{why}");
    put(&mut image, 0x2000 + 72 + 16, &[0]);
    assert!(invalid(&image).1.contains("header sums up to"));
}

#[test]
fn a_spare_copy_of_a_header_is_no_volume() {
    let volume = with_files(&[file(0x22, DRIVER, false, &section(0x10, &pe(&noise(0x400))))]);
    let mut image = vec![0xff; 0x1000];
    put(&mut image, 0x100, &volume[..VOLUME_HEADER_BYTES]);
    // What stands behind it is no file.
    put(&mut image, 0x148, &[0x77; 0x40]);
    image.extend(&volume);
    let by = |image: &[u8]| validate(image).to_string();
    assert!(by(&image).contains("1 firmware volumes with 1 files"), "{}", by(&image));
    // Not where files follow: there a whole volume has a twin, and damage counts.
    let mut twins = [volume.clone(), volume.clone()].concat();
    let second = file(0x33, FREEFORM, true, &noise(64));
    put(&mut twins, 0x200, &second);
    twins[VOLUME_HEADER_BYTES] ^= 1;
    assert_eq!(invalid(&twins).0, VOLUME_HEADER_BYTES as u64);
}

#[test]
fn files_of_ffs1_have_checksums_and_tails() {
    let contents = pe_section();
    let mut tailed = file(0x22, DRIVER, true, &contents);
    tailed[19] |= 0x01;
    tailed[20] += 2;
    fix_header_checksum(&mut tailed);
    tailed.extend([!tailed[16], !tailed[17]]);
    let mut plain = file(0x33, FREEFORM, false, &sections(&[section(0x15, b"D\0\0\0")]));
    plain[17] = 0x5a;
    let image = |tailed: &[u8]| {
        let mut contents = tailed.to_vec();
        contents.resize(contents.len().next_multiple_of(8), 0xff);
        contents.extend(&plain);
        let mut image = volume(FFS1, 0x1000, &contents);
        put(&mut image, 0xff0, &JUMP);
        image
    };
    assert!(validate(&image(&tailed)).to_string().contains("with 2 files, 1 of them"));
    let end = tailed.len() - 1;
    let mut damaged = tailed.clone();
    damaged[end] ^= 1;
    assert!(invalid(&image(&damaged)).1.contains("tail 0x"));
    let mut damaged = tailed.clone();
    damaged[60] ^= 1;
    assert!(invalid(&image(&damaged)).1.contains("file checksum"));
}

/// Sections that others have compressed are walked like all: what is damaged in them counts.
#[test]
fn what_is_inside_compressed_sections_is_walked() {
    let mut inner = file_volume(0x1000, &[file(0x66, DRIVER, true, &pe_section())]);
    let image = |inner: &[u8]| {
        let packed = guided(LZMA, &[], &lzma(&section(0x17, inner)));
        // A section in a section in a section.
        let packed = guided(LZMA, &[], &lzma(&packed));
        with_files(&[file(0x22, VOLUME_IMAGE, false, &packed)])
    };
    let whole = image(&inner);
    assert!(validate(&whole).to_string().contains("2 firmware volumes with 2 files, 1 of them"));
    inner[200] ^= 1;
    let damaged = image(&inner);
    let (at, why) = invalid(&damaged);
    assert_eq!(at as usize, offset_of(&damaged, 0x22) + 24);
    assert!(why.starts_with("unpacked: unpacked: firmware file 66666666-"), "{why}");
}

#[test]
fn an_erased_block_is_noticed_in_what_is_compressed_and_in_code() {
    let erased = |image: &[u8], block: usize| {
        let mut image = image.to_vec();
        image[block..block + 0x1000].fill(0xff);
        invalid(&image)
    };
    let inner = section(0x10, &pe(&noise(0x8000)));
    let packed = with_files(&[file(0x22, DRIVER, false, &guided(LZMA, &[], &lzma(&inner)))]);
    assert_valid(&packed);
    for block in (0x1000..0x8000).step_by(0x1000) {
        let (at, why) = erased(&packed, block);
        assert_eq!((at, why.as_str()), (block as u64, "4 KiB of a compressed section are erased"));
    }
    let code = with_files(&[file(0x22, DRIVER, false, &section(0x10, &pe(&noise(0x4000))))]);
    assert_valid(&code);
    let (at, why) = erased(&code, 0x2000);
    assert_eq!((at, why.as_str()), (0x2000, "4 KiB of a program's code are erased"));
    // In raw contents it says nothing: the bytes may be so.
    let raw = with_files(&[file(0x22, FREEFORM, false, &section(0x19, &[0xff; 0x3000]))]);
    assert!(!matches!(validate(&raw), Verdict::Invalid { .. }));
}

#[test]
fn a_block_that_is_erased_across_the_last_header_is_doubtful() {
    let pad = file(0x22, PAD, false, &[0xff; 0x1800]);
    let programs = file(0x33, DRIVER, false, &section(0x10, &pe(&noise(0x4000))));
    let last = file(0x44, 0x01, false, &noise(0x1000));
    let image = with_files(&[programs, pad, last]);
    assert_valid(&image);
    let header = offset_of(&image, 0x44);
    let block = header / 0x1000 * 0x1000;
    let mut erased = image.clone();
    erased[block..block + 0x1000].fill(0xff);
    let (at, why) = doubtful(&erased);
    assert!(at == block as u64 && why.contains("a file may be lost"), "{at:x} {why}");
    // What a maker keeps in the free space of a volume is none of this.
    let mut kept = with_files(&[file(0x33, DRIVER, false, &section(0x10, &pe(&noise(0x1f00))))]);
    assert_eq!(kept.len(), 0x4000);
    kept.splice(0x3000..0x3000, vec![0xff; 0x2000]);
    put(&mut kept, 32, &0x5000u64.to_le_bytes());
    put(&mut kept, 56, &5u32.to_le_bytes());
    fix_volume_checksum(&mut kept);
    put(&mut kept, 0x4000, b"kept");
    assert_valid(&kept);
}

/// The first block of a volume is erased: its files are left, and what they need is not.
#[test]
fn files_without_a_volume_are_damage() {
    let driver = |name| file(name, DRIVER, false, &section(0x10, &pe(&noise(0x800))));
    let lost = file_volume(0x6000, &[0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47].map(driver));
    let mut image = lost.clone();
    image.extend(with_files(&[driver(0x22)]));
    assert_valid(&image);
    image[..0x1000].fill(0xff);
    let (at, why) = invalid(&image);
    assert_eq!(at as usize, offset_of(&image, 0x43));
    assert!(why.starts_with("firmware files that lie in no volume"), "{why}");
    // One that happens to look like a file is no proof.
    let mut alone = vec![0xff; 0x1000];
    put(&mut alone, 0x200, &file(0x41, FREEFORM, false, &[]));
    alone.extend(with_files(&[driver(0x22)]));
    assert!(!matches!(validate(&alone), Verdict::Invalid { .. }));
}

#[test]
fn an_erased_descriptor_is_doubtful_where_a_management_engine_needs_it() {
    let mut image = vec![0xff; 0x3000];
    put(&mut image, 0x1010, b"$FPT\x05\0\0\0");
    image.extend(with_files(&[file(0x22, DRIVER, false, &section(0x10, &pe(&noise(0x1000))))]));
    let (at, why) = doubtful(&image);
    assert!(at == 0 && why.contains("partitions lie at 0x1000"), "{why}");
    // A dummy on a board without one.
    put(&mut image, 0x10, &0x0ff0_a55a_u32.to_le_bytes());
    assert_eq!(doubtful(&image).0, 0);
    put(&mut image, 0x1010, b"none");
    assert_valid(&image);
    // The beginning is something else: no whole chip.
    put(&mut image, 0x1010, b"$FPT\x05\0\0\0");
    put(&mut image, 0x200, b"BIOS");
    assert_valid(&image);
}

#[test]
fn firmware_of_which_little_was_looked_at_is_unknown() {
    let driver = file(0x22, DRIVER, false, &section(0x10, &pe(&noise(0x1000))));
    let raw = |length| file(0x33, 0x01, false, &noise(length));
    assert_valid(&with_files(&[driver.clone(), raw(0x800)]));
    let unknown = validate(&with_files(&[driver.clone(), raw(0x8000)])).to_string();
    assert!(unknown.starts_with("unknown: only 11 % of it could be looked at, 0x10"), "{unknown}");
    // What is closed to the host does not count.
    let image = with_files(&[driver, raw(0x800)]);
    let mut chip = noise(0x8000);
    chip.extend(&image);
    assert!(matches!(validate(&chip), Verdict::Unknown { .. }));
    let closed: ByteRanges = std::iter::once(0..0x8000).collect();
    let verdict = validate_around(&chip, &closed);
    assert!(matches!(verdict, Verdict::Valid { .. }), "{verdict}");
}

#[test]
fn programs_that_end_outside_and_dependencies_without_an_end_are_doubtful() {
    let image = |section: Vec<u8>| with_files(&[file(0x22, DRIVER, false, &section)]);
    let mut program = pe(b"code");
    program[0x58 + 17] = 1;
    assert!(doubtful(&image(section(0x10, &program))).1.contains("sections end outside"));
    let te = |length: u8| {
        let mut te = vec![0; 80];
        put(&mut te, 0, b"VZ");
        te[4] = 1;
        te[6] = 40;
        te[40 + 16] = length;
        te[40 + 20] = 80;
        te[40 + 36] = 0x20;
        te.extend([0x90; 16]);
        section(0x12, &te)
    };
    assert_valid(&image(te(16)));
    assert!(doubtful(&image(te(17))).1.contains("sections end outside"));
    let dependencies = |code: &[u8]| image(sections(&[section(0x13, code), pe_section()]));
    assert_valid(&dependencies(&[&[0x02][..], &[0x55; 16], &[0x06, 0x03, 0x08]].concat()));
    assert!(doubtful(&dependencies(&[0x02, 0x55])).1.contains("dependencies without an end"));
    assert!(doubtful(&dependencies(&[0x06, 0x0a, 0x08])).1.contains("dependencies"));
}

#[test]
fn an_area_that_ends_outside_is_doubtful() {
    let mut image = coreboot();
    let size = image.len() as u32;
    let areas = [(0, 0x1000, "FMAP"), (0x1000, size, "COREBOOT"), (size + 5, 9, "FW_MAIN_A")];
    put(&mut image, 0, &flash_map(size, &areas));
    assert!(doubtful(&image).1.contains("does not fit"));
}
