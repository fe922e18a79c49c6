#![allow(clippy::unwrap_used)]

mod samples;

use proptest::prelude::*;
use samples::{amd_chip, coreboot, intel_chip};

use super::*;
use crate::image::layout::samples::flash_map;

/// A line for each node: where it lies, what it is, what is said of it.
fn lines(nodes: &[Node]) -> Vec<String> {
    let mut found = Vec::new();
    for node in nodes {
        let facts = [&node.name, &node.version, &node.detail, &node.flaw];
        let guid = node.guid.map(|guid| guid.to_string()[..8].to_owned());
        let facts = guid.iter().chain(facts.into_iter().flatten());
        let unpacked = node.unpacked_bytes.map(|bytes| format!("0x{bytes:x} unpacked"));
        let facts: Vec<&str> = facts.chain(&unpacked).map(String::as_str).collect();
        let (offset, length, kind) = (node.offset_bytes, node.length_bytes, node.kind.name());
        found.push(format!("{offset:x}+{length:x} {kind}: {}", facts.join(", ")));
        found.extend(lines(&node.children).into_iter().map(|line| format!("  {line}")));
    }
    found
}

fn assert_tree(image: &[u8], expected: &[&str]) {
    let tree = Tree::read(image);
    assert_eq!(lines(&tree.nodes), expected, "{:#?}", lines(&tree.nodes));
    assert_eq!((tree.is_cut, tree.layout_flaw), (false, None));
}

#[test]
fn a_chip_behind_intels_descriptor_is_listed_down_to_what_is_compressed() {
    assert_tree(
        &intel_chip(),
        &[
            "0+1000 region: fd, descriptor",
            "1000+2000 region: me, 11.8.50.3460, me",
            "3000+d000 region: bios, bios",
            "  3000+1000 region: variable-store, variable-store",
            "    3000+1000 volume: fff12b8d, file system fff12b8d-7696-4c8b-a985-2747075b4f50",
            "  4000+8000 volume: 8c8ce578, FFS2",
            "    4048+39 padding: ",
            "    4088+42 file: 22222222, Dr, 1.2, driver, PE32",
            "    40d0+ba file: 33333333, volume image",
            "      40e8+a2 section: LZMA, 0x1004 unpacked",
            "        4+1000 volume: 8c8ce578, FFS2",
            "          4c+42 file: 77777777, Dr, 1.2, driver, PE32",
            "    4190+69 file: 44444444, Dr, 1.2, driver, PE32",
            "    4200+36 file: 55555555, freeform",
            "      4218+1e section: Brotli, not looked at: nothing here unpacks it",
            "    4238+101c file: 66666666, volume image",
            "      4254+1000 volume: 8c8ce578, FFS2",
            "        429c+42 file: 77777777, Dr, 1.2, driver, PE32",
            "    5258+78 file: 88888888, raw",
            "      5270+60 microcode: CPU 0x506e3, 0xf0 of 2021-11-12",
            "  d000+20 fit: ",
        ],
    );
}

#[test]
fn files_of_coreboot_have_names_types_and_the_version_of_the_build() {
    assert_tree(
        &coreboot(),
        &[
            "0+1000 region: FMAP, other",
            "  f00+40 region: RO_FRID, Google_Link.2695.1.133, other",
            "1000+6b0 region: COREBOOT, other",
            "  1000+5e coreboot-file: revision, 4.22-7, raw",
            "  1080+a4 coreboot-file: fallback/ramstage, stage, LZMA",
            "  1140+130 coreboot-room: empty",
            "  1280+430 coreboot-file: bootblock, boot block",
        ],
    );
}

#[test]
fn what_amds_directories_name_is_listed_where_it_lies() {
    assert_tree(
        &amd_chip(),
        &[
            "40000+28 amd-directory: $BHD",
            "48000+200 amd-component: BIOS 0x66, 0x830104d, microcode",
            "50000+30 amd-directory: $PSP",
            "58000+100 amd-component: PSP 0x08, 0.2D.21.A, SMU firmware",
            "60000+20000 region: psp-nvram, firmware-data",
            "  60000+20000 amd-component: PSP 0x04, NVRAM",
        ],
    );
}

#[test]
fn what_is_damaged_is_listed_with_what_is_wrong_and_the_rest_beside_it() {
    let mut image = intel_chip();
    // The header of the second driver, the body of the first, and the volume of variables.
    image[0x4190 + 20] ^= 1;
    image[0x4088 + 30] ^= 1;
    image[0x3000 + 48] ^= 0x10;
    let lines = lines(&Tree::read(&image).nodes);
    let flawed: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    let begins = |with: &str| flawed.iter().any(|line| line.starts_with(with));
    assert!(begins("3000+38 volume: firmware volume: "), "{flawed:#?}");
    let programs = flawed.iter().find(|line| line.starts_with("4000+8000 volume: ")).unwrap();
    assert!(programs.contains("at 0x4088: firmware file 22222222-"), "{programs}");
    assert!(programs.contains("file checksum 0x"), "{programs}");
    assert!(begins("d000+20 fit:"), "{flawed:#?}");
}

/// Every node lies in what it is inside of, siblings are sorted, and texts are short and visible.
fn assert_inside(nodes: &[Node], start: u64, end: u64) {
    assert!(nodes.is_sorted_by_key(|node| node.offset_bytes));
    for node in nodes {
        assert!(start <= node.offset_bytes && node.end_bytes() <= end, "{node:?}");
        assert!(node.length_bytes > 0, "{node:?}");
        let texts = [&node.name, &node.version, &node.detail, &node.flaw].into_iter().flatten();
        for text in texts {
            assert!(text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control));
        }
        match node.unpacked_bytes {
            Some(unpacked_bytes) => assert_inside(&node.children, 0, unpacked_bytes),
            None => assert_inside(&node.children, node.offset_bytes, node.end_bytes()),
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_have_a_tree_inside_them(
        bytes in proptest::collection::vec(any::<u8>(), 0..0x400),
    ) {
        assert_inside(&Tree::read(&bytes).nodes, 0, bytes.len() as u64);
    }

    #[test]
    fn changed_and_cut_images_have_a_tree_inside_them(
        which in 0usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..24),
        end in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut image = [intel_chip, coreboot, amd_chip][which]();
        // Bytes that something stands in; most of the chips are erased.
        let used: Vec<usize> = (0..image.len()).filter(|at| image[*at] != 0xff).collect();
        for (at, byte) in &changes {
            image[*at.get(&used)] = *byte;
        }
        if is_cut {
            image.truncate(end.index(image.len()));
        }
        assert_inside(&Tree::read(&image).nodes, 0, image.len() as u64);
    }
}

#[test]
fn a_tree_has_limits_and_says_so() {
    let image = [0; 0x100];
    let mut maker = Maker { nodes_left: 3, digest_bytes_left: 0x100, is_cut: false };
    let mut node = |length| maker.node(NodeKind::FirmwareFile, &image, 0..length).is_some();
    assert_eq!([node(0x80), node(0x81), node(0x80), node(0)], [true, false, true, true]);
    assert_eq!((node(0), maker.is_cut), (false, true));
}

#[test]
fn names_from_an_image_move_no_cursor() {
    let mut image = flash_map(0x1000, &[(0, 0x800, "A\u{1b}[2J\u{202e}B")]);
    image.resize(0x1000, 0xff);
    let tree = Tree::read(&image);
    assert_eq!(tree.nodes[0].name.as_deref(), Some("A\u{fffd}[2J\u{fffd}B"));
    let flaw = tree.layout_flaw.unwrap();
    assert!(flaw.contains("A\\u{1b}[2J"), "{flaw}");
}
