//! Bundles for a part of a chip, made and tried as an operator does.

#![allow(clippy::unwrap_used)]

mod desk;

use std::fs;
use std::process::Output;

use desk::Desk;
use serde_json::{Value, json};

const CHIP_BYTES: usize = 0x2_0000;

fn put(desk: &Desk, name: &str, bytes: &[u8]) {
    fs::write(desk.path(name), bytes).unwrap();
}

fn create(desk: &Desk, out: &str, more: &[&str]) -> Output {
    let mut args = vec!["bundle", "create", "--version", "2", "--security-version", "2"];
    args.extend(["--vendor", "V", "--product", "P", "--key", "release.key", "--out", out]);
    args.extend(more);
    desk.run(&args)
}

/// Returns the exit status and what `bundle try` prints as JSON.
fn try_on(desk: &Desk, bundle: &str, chip: &str) -> (Option<i32>, Value) {
    let trust = "release.pub";
    let args = ["bundle", "try", bundle, "--trust", trust, "--chip", chip, "--json"];
    let tried = desk.run(&args);
    let told = serde_json::from_slice(&tried.stdout).unwrap_or_else(|_| panic!("{tried:?}"));
    (tried.status.code(), told)
}

/// A chip with a descriptor as Sky Lake machines have it: GbE at this page, BIOS from 0x10 on.
fn chip(gbe_page: u32, fill: u8) -> Vec<u8> {
    let mut chip = vec![fill; CHIP_BYTES];
    chip[..0x1000].fill(0xff);
    let mut put = |at: usize, word: u32| chip[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(0x10, 0x0ff0_a55a);
    put(0x14, 0x0004_0003);
    put(0x18, 0x4510_0208);
    put(0x1c, 0x0031_0330);
    put(0xefc, 0x0000_04df);
    for region in 0..16 {
        put(0x40 + 4 * region, 0x7fff);
    }
    put(0x40, 0);
    put(0x44, 0x1f << 16 | 0x10);
    put(0x4c, (gbe_page + 1) << 16 | gbe_page);
    put(0x80, 0xffff_ff00);
    chip[gbe_page as usize * 0x1000..][..0x2000].fill(0xc0 | fill);
    chip[CHIP_BYTES - 16..CHIP_BYTES - 13].copy_from_slice(&[0xe9, 0, 0xff]);
    chip
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn images_of_two_chips_are_one_bios_in_one_order_alone() {
    let desk = Desk::new();
    let (old, new) = (chip(1, 0x21), chip(1, 0x02));
    let (low, high) = new.split_at(CHIP_BYTES / 2);
    put(&desk, "low.bin", low);
    put(&desk, "high.bin", high);
    let made = create(&desk, "both.fcb", &["--image", "low.bin", "--image", "high.bin"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let made = create(&desk, "swapped.fcb", &["--image", "high.bin", "--image", "low.bin"]);
    assert_eq!(made.status.code(), Some(1), "{made:?}");
    let told = text(&made.stderr);
    assert!(told.contains("a flash descriptor begins number 2"), "{told}");
    assert!(told.contains("lower addresses first"), "{told}");
    assert!(!desk.path("swapped.fcb").exists());

    // The host reads its chips one behind the other, too; its dump says where.
    let facts = json!({
        "vendor": "V", "product": "P", "bios_version": "1",
        "joints": [CHIP_BYTES / 2], "eraseblocks": [{ "bytes": 4096, "count": 32 }],
    });
    put(&desk, "board.json", facts.to_string().as_bytes());
    put(&desk, "chip.bin", &old);
    put(&desk, "turned.bin", &[&old[CHIP_BYTES / 2..], &old[..CHIP_BYTES / 2]].concat());
    let tried = |dump: &str| {
        let trust = ["--trust", "release.pub", "--board", "board.json"];
        desk.run(&[&["bundle", "try", "both.fcb", "--chip", dump], &trust[..]].concat())
    };
    let fits = tried("chip.bin");
    assert_eq!(fits.status.code(), Some(0), "{fits:?}");
    let turned = tried("turned.bin");
    assert_eq!(turned.status.code(), Some(1), "{turned:?}");
    let told = text(&turned.stdout) + &text(&turned.stderr);
    assert!(told.contains("joined in the wrong order"), "{told}");
}

#[test]
fn a_bundle_for_the_bios_region_changes_that_alone() {
    let desk = Desk::new();
    put(&desk, "chip.bin", &chip(1, 0x21));
    put(&desk, "bios.bin", &chip(1, 0x02)[0x1_0000..]);
    let made = create(&desk, "bios.fcb", &["--region", "bios", "--image", "bios.bin"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let (status, plan) = try_on(&desk, "bios.fcb", "chip.bin");
    assert_eq!((status, &plan["possible"]), (Some(0), &json!(true)), "{plan}");
    let is_bios = |change: &Value| change["offset_bytes"].as_u64().unwrap() >= 0x1_0000;
    assert!(plan["changes"].as_array().unwrap().iter().all(is_bios), "{plan}");
    assert_eq!(plan["changed_eraseblocks"], 16);

    let shown = text(&desk.run(&["bundle", "show", "bios.fcb"]).stdout);
    let line = "bios: 0x10000 bytes at 0x0 of the image, in the region bios of each chip\n";
    assert!(shown.contains(line), "{shown}");
    let svg = ["--trust", "release.pub", "--svg", "bios.svg"];
    desk.run(&[&["bundle", "show", "bios.fcb"][..], &svg].concat());
    let svg = fs::read_to_string(desk.path("bios.svg")).unwrap();
    assert!(svg.contains("only part bios: 0x10000 bytes at 0x0 of the image"), "{svg}");
    let places = ["--region", "low=0x4000:64K", "--region", "high=0x1c000:64K"];
    let images = ["--image", "bios.bin", "--image", "bios.bin"];
    let made = create(&desk, "ranges.fcb", &[places, images].concat());
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let shown = desk.run(&["bundle", "show", "ranges.fcb", "--json"]).stdout;
    let parts = &serde_json::from_slice::<Value>(&shown).unwrap()["parts"];
    let places = (&parts[1]["offset_bytes"], &parts[1]["image_offset_bytes"]);
    assert_eq!(places, (&json!(0x1_c000), &json!(0x1_0000)), "{parts}");

    // The same from an image of a whole chip; and onto a base, which makes one.
    put(&desk, "whole.bin", &chip(5, 0x02));
    let made = create(&desk, "whole.fcb", &["--region", "bios", "--image", "whole.bin"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    assert_eq!(try_on(&desk, "whole.fcb", "chip.bin").1["changes"], plan["changes"]);
    let on_base = ["--region", "bios", "--image", "bios.bin", "--base", "chip.bin"];
    assert_eq!(create(&desk, "base.fcb", &on_base).status.code(), Some(0));
    let (_, on_base) = try_on(&desk, "base.fcb", "chip.bin");
    assert_eq!((&on_base["changes"], &on_base["possible"]), (&plan["changes"], &json!(true)));

    // What does not belong on a chip is told before anybody is asked.
    put(&desk, "short.bin", &[0x02; 0x8000]);
    let made = create(&desk, "short.fcb", &["--region", "bios", "--image", "short.bin"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let (status, refused) = try_on(&desk, "short.fcb", "chip.bin");
    assert_eq!((status, &refused["reason"]), (Some(1), &json!("layout-mismatch")), "{refused}");
    for (more, why) in [
        (&["--region", "me", "--image", "bios.bin", "--base", "chip.bin"][..], "does not have"),
        (&["--region", "bios", "--image", "short.bin", "--base", "chip.bin"], "0x8000 bytes"),
        (&["--region", "x=0x1f000:32K", "--image", "short.bin", "--base", "chip.bin"], "0x20000"),
        (&["--region", "x=0:16K", "--image", "short.bin"], "0x8000 bytes"),
        (&["--region", "bios", "--region", "gbe", "--image", "bios.bin"], "one --image for each"),
        (&["--image", "bios.bin", "--base", "chip.bin"], "--region"),
    ] {
        let refused = create(&desk, "none.fcb", more);
        assert_ne!(refused.status.code(), Some(0), "{more:?}");
        assert!(text(&refused.stderr).contains(why), "{more:?}: {}", text(&refused.stderr));
        assert!(!desk.path("none.fcb").exists());
    }
}

/// A chip like `chip` whose BIOS region has a volume with twelve programs, of this board.
fn with_programs(board: u8, version: u8) -> Vec<u8> {
    let mut chip = chip(1, 0x21);
    let mut files = Vec::new();
    for program in 0..12u8 {
        let mut head = [board; 24];
        head[0] = program;
        let size = 24 + 8u32;
        (head[16], head[17], head[18], head[19]) = (0, 0xaa, 0x01, 0);
        head[20..23].copy_from_slice(&size.to_le_bytes()[..3]);
        head[23] = 0;
        head[16] =
            head[..17].iter().chain(&head[18..23]).fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
        head[23] = 0xf8;
        files.extend(head);
        files.extend([version; 8]);
    }
    let mut volume = vec![0xff; 0x4000];
    volume[..72].fill(0);
    volume[16..32].copy_from_slice(&FFS2);
    volume[32..40].copy_from_slice(&0x4000u64.to_le_bytes());
    volume[40..44].copy_from_slice(b"_FVH");
    volume[44..48].copy_from_slice(&0x0004_feffu32.to_le_bytes());
    volume[48..50].copy_from_slice(&72u16.to_le_bytes());
    volume[55] = 2;
    volume[56..64].copy_from_slice(&[4, 0, 0, 0, 0, 0x10, 0, 0]);
    let words = volume[..72].chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0u16, u16::wrapping_add);
    volume[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    volume[72..72 + files.len()].copy_from_slice(&files);
    chip[0x1_0000..0x1_4000].copy_from_slice(&volume);
    chip
}

/// 8c8ce578-8a3d-4f1c-9935-896185c32dd3.
const FFS2: [u8; 16] = [
    0x78, 0xe5, 0x8c, 0x8c, 0x3d, 0x8a, 0x1c, 0x4f, 0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3,
];

#[test]
fn the_base_of_another_board_is_refused() {
    let desk = Desk::new();
    put(&desk, "bios.bin", &with_programs(1, 2)[0x1_0000..]);
    put(&desk, "same.bin", &with_programs(1, 1));
    put(&desk, "other.bin", &with_programs(9, 1));
    let on = |base| ["--region", "bios", "--image", "bios.bin", "--base", base];
    let made = create(&desk, "same.fcb", &on("same.bin"));
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let refused = create(&desk, "other.fcb", &on("other.bin"));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("only 0 of its 12 programs are in the image"), "{said}");
    assert!(!desk.path("other.fcb").exists());
}

#[test]
fn a_region_that_moves_is_told_and_what_would_be_lost_is_refused() {
    let desk = Desk::new();
    put(&desk, "chip.bin", &chip(1, 0x21));
    put(&desk, "new.bin", &chip(5, 0x02));
    let new = ["--image", "new.bin", "--new-layout"];
    assert_eq!(create(&desk, "keeps.fcb", &new).status.code(), Some(0));
    let (status, refused) = try_on(&desk, "keeps.fcb", "chip.bin");
    assert_eq!((status, &refused["reason"]), (Some(1), &json!("layout-mismatch")));
    assert!(refused["detail"].as_str().unwrap().contains("--replace descriptor"), "{refused}");
    let moves = create(&desk, "moves.fcb", &[&new[..], &["--replace", "descriptor"]].concat());
    assert_eq!(moves.status.code(), Some(0), "{moves:?}");
    let (status, plan) = try_on(&desk, "moves.fcb", "chip.bin");
    assert_eq!(status, Some(0), "{plan}");
    let moved = json!([{
        "from_offset_bytes": 0x1000, "to_offset_bytes": 0x5000, "length_bytes": 0x2000
    }]);
    assert_eq!(plan["moved"], moved);

    // A board file says what machine it is, and how large its eraseblocks are.
    let facts = json!({
        "vendor": "V", "product": "P", "bios_version": "1",
        "eraseblocks": [{ "bytes": 0x1_0000, "count": 2 }],
    });
    put(&desk, "chip.bin.json", facts.to_string().as_bytes());
    let (status, refused) = try_on(&desk, "moves.fcb", "chip.bin");
    assert_eq!((status, &refused["reason"]), (Some(1), &json!("layout-mismatch")), "{refused}");
    let facts = json!({ "vendor": "V", "product": "Q", "bios_version": "1" });
    put(&desk, "chip.bin.json", facts.to_string().as_bytes());
    assert_eq!(try_on(&desk, "moves.fcb", "chip.bin").1["reason"], "wrong-board");
}
