//! Firmware of coreboot: a flash map, and files in its areas.

use super::*;

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
pub(super) fn coreboot() -> Vec<u8> {
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
