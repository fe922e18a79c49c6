//! What strict parsers call broken, and firmware lives with.

use super::*;

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
    assert_eq!(crate::image::layout::Layout::read(&image).unwrap().regions().len(), 1);
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
