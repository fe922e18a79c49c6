//! Files as makers give them away, and files that somebody made to do harm.
#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write as _};

use cab::{CabinetBuilder, CompressionType};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::samples::{AMI, FMP, UEFI, capsule, chip};
use super::*;

const CHIP_BYTES: usize = 1 << 20;

fn all_options() -> Options {
    Options { strip_capsule: true, strip_extra: true, ..Options::default() }
}

/// What `unwrap` says without options.
fn refusal(file: &[u8]) -> String {
    unwrap(file.to_vec(), &Options::default()).unwrap_err().to_string()
}

/// The image that `unwrap` takes out with all options that cut, and what it says of it.
fn taken(file: &[u8]) -> (Vec<u8>, String) {
    let Unwrapped { image, notes, .. } = unwrap(file.to_vec(), &all_options()).unwrap();
    (image, notes.join("\n"))
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn cabinet(compression: CompressionType, members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = CabinetBuilder::new();
    let folder = builder.add_folder(compression);
    for (name, _) in members {
        folder.add_file(*name);
    }
    let mut writer = builder.build(Cursor::new(Vec::new())).unwrap();
    for (_, contents) in members {
        writer.next_file().unwrap().unwrap().write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn metainfo(sha256: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
        <!-- Copyright ACME --><component type="firmware">
        <id>com.acme.S1.firmware</id><name>S1</name><name xml:lang="de">der S1</name>
        <developer_name>ACME &amp; Sons</developer_name>
        <provides><firmware type="flashed">2082b5e0-7a64-478a-b1b2-e3404fab6dad</firmware>
        </provides><requires><id compare="ge" version="1.9.1">org.freedesktop.fwupd</id></requires>
        <releases><release version="2.1" urgency="critical" date="2026-01-01">
        <checksum filename="s1.cap" target="content" type="sha256">{sha256}</checksum>
        <checksum filename="s1.cab" target="container">00</checksum>
        <description><p>Mends&#x9;the <em>fan</em>.</p><ul><li>And the clock</li></ul></description>
        <issues><issue type="cve">CVE-2026-1</issue></issues>
        </release><release version="2.0"/></releases></component>"#
    )
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_image_passes_as_it_is() {
    let image = chip(CHIP_BYTES);
    let unwrapped = unwrap(image.clone(), &Options::default()).unwrap();
    assert_eq!(unwrapped, Unwrapped { image, ..Unwrapped::default() });
    for odd in [vec![], vec![0x5a], vec![0x5a; 1000]] {
        assert_eq!(unwrap(odd.clone(), &all_options()).unwrap().image, odd);
    }
    assert!(refusal(b"%PDF-1.7").contains("a PDF document: download"));
    let named = Options { member: Some("a".into()), ..Options::default() };
    let error = unwrap(vec![0x5a], &named).unwrap_err().to_string();
    assert!(error.contains("no archive"), "{error}");
}

#[test]
fn capsules_are_cut_only_when_that_is_meant_and_only_where_their_header_says() {
    let image = chip(CHIP_BYTES);
    let own = [0x42; 16];
    for (guid, header_bytes, what) in
        [(UEFI, 0x1c, "UEFI"), (AMI, 0x800, "AMI Aptio, signed"), (own, 0x20, "board's own")]
    {
        let file = capsule(guid, header_bytes, &image);
        let said = refusal(&file);
        assert!(said.contains(what) && said.contains("--strip-capsule"), "{said}");
        let (got, note) = taken(&file);
        assert!(got == image && note.contains("signature is not checked"), "{note}");
        if guid == own {
            continue;
        }
        assert!(refusal(&file[..file.len() - 1]).contains("was cut or appended"));
        assert!(refusal(&[&file[..], &[0]].concat()).contains("was cut or appended"));
        for lie in [0u32, 27, 0x1_0001, file.len() as u32, u32::MAX] {
            let mut file = file.clone();
            file[16..20].copy_from_slice(&lie.to_le_bytes());
            file[28..30].copy_from_slice(&(lie as u16 & 0x1f).to_le_bytes());
            let said = unwrap(file, &all_options()).unwrap_err().to_string();
            assert!(said.contains("header says that it has"), "{said}");
        }
    }
    let programs = fmp::tests::capsule_of(&[0x77; 64]);
    let said = refusal(&capsule(FMP, 0x1c, &programs));
    assert!(said.contains("0 programs and 1 payloads") && said.contains("fwupdtool"), "{said}");
    let file = capsule(FMP, 0x20, &fmp::tests::capsule_of(&image));
    assert!(refusal(&file).contains("--strip-capsule"));
    assert!(taken(&file).0 == image);
}

#[test]
fn what_stands_around_the_image_is_told_and_cut_when_that_is_meant() {
    let image = chip(CHIP_BYTES);
    let mut firmware_before = vec![0x77; 0x8_0000];
    firmware_before[0] = 1;
    let file = [&firmware_before[..], &image, &[0xff; 0x1000]].concat();
    let said = refusal(&file);
    let range = "0x100000 bytes at 0x80000 (an Intel flash descriptor begins it)";
    assert!(said.contains(range) && said.contains("embedded controller's"), "{said}");
    assert!(said.contains("0x1000 behind it (padding of FFh)") && said.contains("--strip-extra"));
    assert!(taken(&file).0 == image);
    let part = Options { is_part: true, ..Options::default() };
    assert!(unwrap(file.clone(), &part).unwrap().image == file, "of a part all is taken");
    let two = [&image[..], &image, &[0x77; 8]].concat();
    assert!(refusal(&two).contains("several images are in it: 0x100000 bytes at 0x0, 0x1"));
}

#[test]
fn the_one_image_of_a_zip_archive_is_taken_and_among_several_one_is_chosen() {
    let image = chip(CHIP_BYTES);
    let readme = ("bios/readme.txt", &b"Read this first, please.\n"[..]);
    let tool = ("bios/afuefi.efi", &b"MZ\x90\0tool"[..]);
    let one = zip(&[readme, ("../../etc/S1.bin", &image), tool]);
    let (got, note) = taken(&one);
    assert!(got == image && note.contains(r#"took "../../etc/S1.bin" out of the ZIP"#), "{note}");
    assert!(taken(&zip(&[("inner.zip", &one)])).0 == image);
    let capsule = capsule(AMI, 0x1000, &image);
    assert!(refusal(&zip(&[readme, ("S1.CAP", &capsule)])).contains("--strip-capsule"));
    let thrice = zip(&[("a.zip", &zip(&[("b.zip", &one)]))]);
    assert!(refusal(&thrice).contains("archives in archives"));

    let other = chip(CHIP_BYTES / 2);
    let two = zip(&[("x/S1.bin", &image), ("x/S2.bin", &other), readme]);
    let said = refusal(&two);
    assert!(said.contains(r#"--member with one of "x/S1.bin", "x/S2.bin""#), "{said}");
    let member = |name: &str| {
        let options = Options { member: Some(name.into()), ..Options::default() };
        unwrap(two.clone(), &options).map(|unwrapped| unwrapped.image)
    };
    assert!(member("x/S2.bin").unwrap() == other && member("S1.bin").unwrap() == image);
    let said = member("S3.bin").unwrap_err().to_string();
    assert!(said.contains(r#"no "S3.bin" is in the archive, only "x/S1.bin""#), "{said}");
    assert!(refusal(&zip(&[readme])).contains(r#"no image is in the archive, only "bios/readme"#));
}

#[test]
fn archives_that_are_made_to_do_harm_are_refused() {
    let bomb = zip(&[("bomb.bin", &vec![0; 300 << 20][..])]);
    assert!(bomb.len() < 1 << 20, "it is small");
    assert!(refusal(&bomb).contains("no image is in the archive"));
    let named = Options { member: Some("bomb.bin".into()), ..Options::default() };
    let said = unwrap(bomb, &named).unwrap_err().to_string();
    assert!(said.contains("expected at most 2"), "{said}");

    let mut lies = zip(&[("S1.bin", &chip(CHIP_BYTES))]);
    let entry = memchr::memmem::find(&lies, b"PK\x01\x02").unwrap();
    lies[entry + 24..entry + 28].copy_from_slice(&[0, 0, 1, 0]);
    assert!(refusal(&lies).contains("cannot be read"), "a length of the table of contents");
    let crowd = b"PK\x01\x02".repeat(5000);
    assert!(refusal(&[&b"PK\x03\x04"[..], &crowd].concat()).contains("more than 4096 members"));

    let image = chip(CHIP_BYTES);
    let whole = cabinet(CompressionType::MsZip, &[("firmware.bin", &image)]);
    let put = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&file)
    };
    let files_at = u32::from_le_bytes(*whole[16..].first_chunk().unwrap()) as usize;
    assert!(put(8, &[0xff; 4]).contains("cabinet ends behind"));
    assert!(put(26, &[0xff; 2]).contains("65535 folders"));
    assert!(put(28, &[0xff; 2]).contains("65535 files"));
    assert!(put(30, &[1]).contains("one of a set"));
    assert!(put(42, &[3, 15]).contains("compression"));
    assert!(put(files_at, &[0xff; 4]).contains("which has not so many"));
    assert!(put(files_at + 4, &[0xff, 0xff, 0xff]).contains("which has not so many"));
    assert!(put(files_at + 8, &[9]).contains("folder 9"));
    let block_at = u32::from_le_bytes(*whole[36..].first_chunk().unwrap()) as usize;
    assert!(put(block_at + 6, &[1, 0]).contains("which its kind cannot"));
    assert!(put(block_at + 12, &[0xaa]).contains("cannot be read: Checksum"));
}

#[test]
fn the_payload_of_a_cabinet_is_the_one_that_its_metainfo_names() {
    let image = chip(CHIP_BYTES);
    let file = capsule([0x42; 16], 0x1c, &image);
    let xml = metainfo(&hex_sha256(&file));
    for compression in [CompressionType::None, CompressionType::MsZip] {
        let cabinet = cabinet(
            compression,
            &[("a/s1.metainfo.xml", xml.as_bytes()), ("firmware.jcat", b"j"), ("s1.cap", &file)],
        );
        let unwrapped = unwrap(cabinet, &all_options()).unwrap();
        assert!(unwrapped.image == image);
        let notes = unwrapped.notes.join("\n");
        assert!(notes.contains("its SHA-256 is that of the metainfo"), "{notes}");
        assert!(notes.contains(r#"the signature in "firmware.jcat" is not checked"#), "{notes}");
        let metainfo = unwrapped.metainfo.unwrap();
        assert_eq!(
            metainfo.lines(),
            [
                "S1 of ACME & Sons (com.acme.S1.firmware), version 2.1, urgency critical",
                "mends CVE-2026-1",
                "is for 2082b5e0-7a64-478a-b1b2-e3404fab6dad",
                "requires id org.freedesktop.fwupd >= 1.9.1: fwupd would check it, firmcast does \
                 not",
                "release notes: Mends the . / And the clock",
            ]
        );
    }
    let changed = metainfo(&hex_sha256(b"other"));
    let cabinet = |members: &[(&str, &[u8])]| cabinet(CompressionType::MsZip, members);
    let said = refusal(&cabinet(&[("s1.cap", &file), ("s1.metainfo.xml", changed.as_bytes())]));
    assert!(said.contains("the payload's SHA-256 is"), "{said}");
    let bare = cabinet(&[("readme.txt", b"Read this"), ("firmware.bin", &image)]);
    assert!(taken(&bare).0 == image, "without metainfo the only image counts");
}

#[test]
fn metainfo_that_is_made_to_do_harm_is_refused() {
    let wrong = |xml: &str| Metainfo::parse(xml).unwrap_err().to_string();
    let bomb = r#"<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>
        <component><id>&b;</id></component>"#;
    assert!(wrong(bomb).contains("document type"));
    assert!(wrong("<component><id>&b;</id></component>").contains("unknown entity \"b\""));
    let deep = "<a>".repeat(100_000);
    assert!(wrong(&deep).contains("more than 32 deep"));
    assert!(wrong("<html></html>").contains("expected <component>"));
    assert!(wrong("<component><id>").contains("it was cut"));
    assert!(wrong("<component></id>").contains("at byte 11"));
    let crowd = "<issue>x</issue>".repeat(10_000);
    let crowd = format!(
        "<component><releases><release><issues>{crowd}</issues></release></releases></component>"
    );
    assert_eq!(Metainfo::parse(&crowd).unwrap().releases[0].issues.len(), 64);
    let large =
        format!("<component><name>\u{202e}\u{1b}[2J{}</name></component>", "é".repeat(90_000));
    let name = Metainfo::parse(&large).unwrap().name;
    assert!(name.len() < 3000 && name.starts_with("[2Jé"), "{name}");
    let told = wrong("<component></\u{1b}[2J>");
    assert!(!told.contains('\u{1b}'), "{told}");
    let xml = vec![b' '; (1 << 20) + 1];
    let file = cabinet(CompressionType::MsZip, &[("a.metainfo.xml", &xml), ("firmware.bin", b"x")]);
    assert!(refusal(&file).contains("expected at most 1048576"));
}

/// A Windows program as far as its headers go, with `contents` behind it.
fn program(contents: &[u8]) -> Vec<u8> {
    let mut file = vec![0x90; 0x400];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c..0x40].copy_from_slice(&0x80u32.to_le_bytes());
    file[0x80..0x84].copy_from_slice(b"PE\0\0");
    file[0xdc..0xde].copy_from_slice(&[2, 0]);
    [&file[..], contents].concat()
}

#[test]
fn a_cabinet_in_an_updater_gives_its_image() {
    let image = chip(CHIP_BYTES);
    let files: [(&str, &[u8]); 2] = [("setup.inf", b"[Version]\r\n"), ("S1.bin", &image)];
    let packed = cabinet(CompressionType::MsZip, &files);
    // The program has the mark in its code, and a signature of its own behind all.
    let around = |cabinet: &[u8]| program(&[b"code MSCF code", cabinet, &[8; 77]].concat());
    let (got, note) = taken(&around(&packed));
    let place = r#"took "S1.bin" out of the cabinet at 0x40e in the program"#;
    assert!(got == image && note.contains(place), "{note}");

    let twice = refusal(&around(&[&packed[..], &packed].concat()));
    assert!(twice.contains("several images are in it: in the cabinets at 0x40e and"), "{twice}");
    let said = refusal(&around(&cabinet(CompressionType::MsZip, &files[..1])));
    assert!(said.contains("a Windows program with a cabinet at 0x40e: no image"), "{said}");
    // What is not in the cabinet may be beside it.
    let beside = [&cabinet(CompressionType::MsZip, &files[..1])[..], &image].concat();
    assert!(taken(&around(&beside)).0 == image);
    let mut lzx = packed.clone();
    lzx[42..44].copy_from_slice(&0x1503u16.to_le_bytes());
    let said = refusal(&around(&lzx));
    assert!(said.contains("cabinet at 0x40e: this is a cabinet, but it is packed with"), "{said}");
    let cut = &packed[..packed.len() - 100];
    assert!(refusal(&program(cut)).contains("without an image that can be seen"));
}

#[test]
fn the_one_image_in_an_updater_is_taken_and_else_its_maker_says_how() {
    let image = chip(CHIP_BYTES);
    let (got, note) = taken(&program(&[&[7; 13][..], &image, &[8; 77]].concat()));
    assert!(got == image && note.contains("0x100000 bytes at 0x40d out of the program"), "{note}");
    let capsule = capsule(AMI, 0x800, &[0x5a; 1 << 20]);
    let file = program(&[&[7; 13][..], &capsule, &[8; 77]].concat());
    assert!(refusal(&file).contains("--strip-capsule"));
    assert!(taken(&file).0 == [0x5a; 1 << 20]);
    assert!(taken(&program(&zip(&[("S1.bin", &image)]))).0 == image, "it unpacks itself");
    let with_marks = program(&[b"PK\x05\x06PK\x01\x02", &image[..]].concat());
    assert!(taken(&with_marks).0 == image, "its code knows archives");
    let two = program(&[&image[..], &image].concat());
    assert!(refusal(&two).contains("several images"));
    for (mark, what) in [
        (&b"\xaa\xee\xaa\x76\x1b\xec\xbb\x20\xf1\xe6\x51"[..], "Dell's"),
        (b"Inno Setup Setup Data (5.5.7)", "/EXTRACT=YES"),
        (b"S\0o\0f\0t\0P\0a\0q\0", "SoftPaq of HP"),
        (b"", "of no maker known here"),
    ] {
        let said = refusal(&program(mark));
        assert!(said.contains("a Windows program") && said.contains(what), "{said}");
    }
}

/// A whole file of each kind, small enough to be changed at every place.
fn whole_files() -> Vec<Vec<u8>> {
    let image = chip(1 << 16);
    let xml = metainfo(&hex_sha256(&image)).replace("s1.cap", "firmware.bin");
    let members = [("a.metainfo.xml", xml.as_bytes()), ("firmware.bin", &image[..])];
    vec![
        capsule(AMI, 0x800, &image),
        capsule(FMP, 0x1c, &fmp::tests::capsule_of(&image)),
        zip(&members),
        cabinet(CompressionType::None, &members),
        cabinet(CompressionType::MsZip, &members),
        program(&image),
        [&[1; 0x1000][..], &image].concat(),
        image,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever a file is, it ends in a sentence or in an image that is no larger than what the
    /// file says, and never in a panic.
    #[test]
    fn a_changed_file_is_refused_or_taken(
        kind in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        head in prop::collection::vec((0usize..128, any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = whole_files().swap_remove(kind);
        for (at, byte) in changes {
            let length = file.len();
            file[at.index(length)] = byte;
        }
        for (at, byte) in head {
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        match unwrap(file, &all_options()) {
            Ok(unwrapped) => prop_assert!(unwrapped.image.len() <= 1 << 20),
            Err(error) => prop_assert!(error.to_string().len() > 10),
        }
    }
}
