//! `firmcast bundle create` on the files that makers give away.

#![allow(clippy::unwrap_used)]

mod desk;

use std::fs;
use std::io::{Cursor, Write as _};

use cab::{CabinetBuilder, CompressionType};
use desk::Desk;
use serde_json::Value;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const CHIP_BYTES: usize = 1 << 20;
const AMI_SIGNED: [u8; 16] = [
    0x8b, 0xa6, 0x3c, 0x4a, 0x23, 0x77, 0xfb, 0x48, 0x80, 0x3d, 0x57, 0x8c, 0xc1, 0xfe, 0xc4, 0x4d,
];
const FOR_WHOM: [&str; 6] = ["--vendor", "ACME", "--product", "S1", "--version", "2.1"];

/// Makes `new.fcb` of a file with these contents; returns status and what was said.
fn create(desk: &Desk, file: &[u8], more: &[&str]) -> (Option<i32>, String) {
    fs::write(desk.path("file"), file).unwrap();
    let _ = fs::remove_file(desk.path("new.fcb"));
    let rest = ["--security-version", "7", "--key", "release.key", "--out", "new.fcb"];
    let words = [&["bundle", "create", "--image", "file"][..], &rest, more].concat();
    let output = desk.run(&words);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains("panicked"), "{told}");
    let is_signed = desk.path("new.fcb").exists();
    assert_eq!(is_signed, output.status.success(), "{told}");
    (output.status.code(), told)
}

/// Asserts that the bundle holds this image.
#[track_caller]
fn assert_holds(desk: &Desk, image: &[u8]) {
    use sha2::Digest as _;
    let shown = desk.run(&["bundle", "show", "new.fcb", "--json"]);
    let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let digest = sha2::Sha256::digest(image);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(json["image"]["sha256"], digest.as_str());
}

#[track_caller]
fn assert_refused(desk: &Desk, file: &[u8], more: &[&str], why: &str) {
    let (code, told) = create(desk, file, &[&FOR_WHOM, more].concat());
    assert!(code == Some(1) && told.contains(why), "{code:?} {told}");
}

#[track_caller]
fn assert_taken(desk: &Desk, file: &[u8], more: &[&str], image: &[u8], note: &str) {
    let (code, told) = create(desk, file, &[&FOR_WHOM, more].concat());
    assert!(code == Some(0) && told.contains(note), "{code:?} {told}");
    assert_holds(desk, image);
}

/// The header of a firmware volume of 8000h bytes.
const VOLUME: [u8; 72] = {
    let mut header = [0; 72];
    let fields: [(usize, &[u8]); 4] = [
        (16, b"\x78\xe5\x8c\x8c\x3d\x8a\x1c\x4f\x99\x35\x89\x61\x85\xc3\x2d\xd3\0\x80"),
        (40, b"_FVH\xff\xfe\x04\0\x48\0\xc7\x66"),
        (55, b"\x02\x08"),
        (61, b"\x10"),
    ];
    let mut field = 0;
    while field < fields.len() {
        let (at, bytes) = fields[field];
        let mut byte = 0;
        while byte < bytes.len() {
            header[at + byte] = bytes[byte];
            byte += 1;
        }
        field += 1;
    }
    header
};

/// A chip of 1 MiB with a legacy BIOS.
fn chip() -> Vec<u8> {
    let mut image: Vec<u8> = (0..CHIP_BYTES).map(|at| (at / 8 % 251) as u8).collect();
    let start = CHIP_BYTES - 16;
    image[start..start + 5].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
    image
}

fn capsule(image: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 0x800];
    header[..16].copy_from_slice(&AMI_SIGNED);
    let length = (header.len() + image.len()) as u32;
    header[16..28].copy_from_slice(&[0x800, 0x0001_0001, length].map(u32::to_le_bytes).concat());
    header[28..30].copy_from_slice(&0x800u16.to_le_bytes());
    [&header[..], image].concat()
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn cabinet(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = CabinetBuilder::new();
    let folder = builder.add_folder(CompressionType::MsZip);
    for (name, _) in members {
        folder.add_file(*name);
    }
    let mut writer = builder.build(Cursor::new(Vec::new())).unwrap();
    for (_, contents) in members {
        writer.next_file().unwrap().unwrap().write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_capsule_is_refused_and_cut_when_that_is_meant() {
    let desk = Desk::new();
    let file = capsule(&chip());
    assert_refused(&desk, &file, &[], "this is a capsule (AMI Aptio, signed, GUID 4a3ca68b-");
    let note = "note: file: cut the 0x800 bytes of a capsule's header";
    assert_taken(&desk, &file, &["--strip-capsule"], &chip(), note);
    // A part may have any size, so nothing around it is looked for.
    let part = [&[1; 0x3000][..], &chip()].concat();
    let more = ["--strip-capsule", "--region", "bios"];
    assert_taken(&desk, &capsule(&part), &more, &part, note);
    let mut lies = file.clone();
    lies[28..30].copy_from_slice(&0xffffu16.to_le_bytes());
    lies.truncate(0x9000);
    lies[24..28].copy_from_slice(&0x9000u32.to_le_bytes());
    assert_refused(
        &desk,
        &lies,
        &["--strip-capsule"],
        "whose header says that it has 0xffff bytes",
    );
}

#[test]
fn an_archive_gives_its_image_and_padding_is_cut_when_that_is_meant() {
    let desk = Desk::new();
    let text = ("readme.txt", &b"Read this before the update.\r\n"[..]);
    let file = zip(&[text, ("bios/S1.bin", &chip())]);
    assert_taken(&desk, &file, &[], &chip(), "took \"bios/S1.bin\" out of the ZIP archive");
    let mut other = chip();
    other[0] ^= 1;
    let file = zip(&[("S1.bin", &chip()), ("S2.bin", &other)]);
    assert_refused(&desk, &file, &[], "give --member with one of \"S1.bin\", \"S2.bin\"");
    assert_taken(&desk, &file, &["--member", "S2.bin"], &other, "took \"S2.bin\"");
    let padded = [&[0xff; 0x1_0000][..], &chip()].concat();
    assert_refused(&desk, &padded, &[], "0x10000 bytes before it (padding of FFh)");
    assert_taken(&desk, &padded, &["--strip-extra"], &chip(), "cut 0x10000 bytes before the image");
    assert_refused(&desk, b"<!doctype html><p>404", &[], "this is an HTML page");
}

#[test]
fn a_cabinet_proposes_whom_its_payload_is_for() {
    let desk = Desk::new();
    let metainfo = r#"<component><id>com.acme.S1</id><name>S1 System</name>
        <developer_name>ACME's</developer_name><releases><release version="2.1" urgency="high">
        <checksum filename="s1.cap" target="content"/></release></releases></component>"#;
    let members = [("s1.metainfo.xml", metainfo.as_bytes()), ("s1.cap", &capsule(&chip())[..])];
    let file = cabinet(&members);
    let (code, told) = create(&desk, &file, &["--strip-capsule"]);
    assert_eq!(code, Some(2), "{told}");
    let all = r"proposes: --version '2.1' --vendor 'ACME'\''s' --product 'S1 System'; compare";
    assert!(told.contains(all), "{told}");
    let (code, told) = create(&desk, &chip(), &["--version", "2.1"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("give --vendor, --product; firmcast discover shows"), "{told}");
    assert_refused(&desk, &file, &[], "this is a capsule");
    let line = "metainfo: S1 System of ACME's (com.acme.S1), version 2.1, urgency high";
    assert_refused(&desk, &file, &[], line);
    assert_taken(&desk, &file, &["--strip-capsule"], &chip(), line);
    let bomb = "<!DOCTYPE c [<!ENTITY a 'b'>]><component><id>&a;</id></component>";
    let file = cabinet(&[("s1.metainfo.xml", bomb.as_bytes()), ("firmware.bin", &chip())]);
    assert_refused(&desk, &file, &[], "XML bomb");
}

#[test]
fn an_image_that_every_host_would_refuse_is_not_signed() {
    let desk = Desk::new();
    assert_refused(&desk, &vec![0xff; CHIP_BYTES], &[], "damaged at 0x0: every byte is 0xff");
    let mut image = chip();
    image.extend(vec![0xff; CHIP_BYTES]);
    let volume = CHIP_BYTES + 0x8_0000;
    image[volume..volume + VOLUME.len()].copy_from_slice(&VOLUME);
    image[volume + 56] ^= 1;
    let why = "damaged at 0x180000: firmware volume: header sums up to";
    assert_refused(&desk, &image, &[], why);
    // What every chip keeps is no reason to refuse the image.
    let kept = ["--preserve", "kept=0x180000:0x10000"];
    assert_taken(&desk, &image, &kept, &image, "warning: ");
}
