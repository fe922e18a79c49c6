//! What lax parsers call whole: compressed contents, code, lost headers; and how much was looked
//! at.

use super::*;

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
