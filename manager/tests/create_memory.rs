//! What `firmcast bundle create` takes of memory: at most three times the image, besides the
//! program itself and the window of its decompressor.
//!
//! This process stays small, because the kernel counts a child's memory from before its `exec`,
//! too.

#![allow(clippy::unwrap_used)]

mod desk;

use std::fs::File;
use std::io::{BufWriter, Write};

use cab::{CabinetBuilder, CompressionType};
use desk::Desk;
use nix::sys::resource::{UsageWho, getrusage};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const IMAGE_KIB: usize = 16 << 10;
/// The program itself, and the decompressor while its window of 4 MiB grows.
const OWN_KIB: usize = 16 << 10;
const CAPSULE_HEADER_BYTES: u32 = 0x800;
const AMI_SIGNED: [u8; 16] = [
    0x8b, 0xa6, 0x3c, 0x4a, 0x23, 0x77, 0xfb, 0x48, 0x80, 0x3d, 0x57, 0x8c, 0xc1, 0xfe, 0xc4, 0x4d,
];

/// Writes an image of which a sixteenth compresses: the least at which the bundle holds it
/// compressed, so that all copies of it are as large as they can be.
fn write_image(to: &mut impl Write) {
    let mut state = 1u32;
    for kib in 0..IMAGE_KIB {
        let mut block = [0; 1024];
        if kib >= IMAGE_KIB / 16 {
            block.fill_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
        }
        if kib == IMAGE_KIB - 1 {
            block[1008..1013].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
        }
        to.write_all(&block).unwrap();
    }
}

fn write_capsule(file: &mut File) {
    let mut header = vec![0; CAPSULE_HEADER_BYTES as usize];
    let fields =
        [CAPSULE_HEADER_BYTES, 0x0001_0001, CAPSULE_HEADER_BYTES + (IMAGE_KIB << 10) as u32];
    header[..16].copy_from_slice(&AMI_SIGNED);
    header[16..28].copy_from_slice(&fields.map(u32::to_le_bytes).concat());
    header[28..30].copy_from_slice(&(CAPSULE_HEADER_BYTES as u16).to_le_bytes());
    file.write_all(&header).unwrap();
    write_image(file);
}

fn write_zip(file: &mut File) {
    let mut writer = ZipWriter::new(file);
    writer.start_file("firmware.bin", SimpleFileOptions::default()).unwrap();
    write_image(&mut writer);
    writer.finish().unwrap();
}

fn write_cabinet(file: &mut File) {
    let mut builder = CabinetBuilder::new();
    builder.add_folder(CompressionType::MsZip).add_file("firmware.bin");
    let mut writer = builder.build(file).unwrap();
    write_image(&mut BufWriter::new(writer.next_file().unwrap().unwrap()));
    writer.finish().unwrap();
}

#[test]
fn a_bundle_is_made_within_three_times_its_image() {
    let desk = Desk::new();
    type Writer = fn(&mut File);
    let kinds: [(&str, Writer); 4] = [
        ("image", |file| write_image(file)),
        ("capsule", write_capsule),
        ("zip", write_zip),
        ("cabinet", write_cabinet),
    ];
    for (kind, write) in kinds {
        write(&mut File::create(desk.path("file")).unwrap());
        let out = format!("{kind}.fcb");
        let about =
            ["--security-version", "1", "--vendor", "V", "--product", "P", "--version", "1"];
        let files = ["--image", "file", "--strip-capsule", "--key", "release.key", "--out", &out];
        let made = desk.run(&[&["bundle", "create"][..], &about, &files].concat());
        assert_eq!(made.status.code(), Some(0), "{kind}: {made:?}");
        let shown = desk.run(&["bundle", "show", &out]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("zstd"), "{kind}: {shown:?}");
        // The largest of all children so far.
        let peak_kib = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as usize;
        let limits = IMAGE_KIB..=3 * IMAGE_KIB + OWN_KIB;
        assert!(limits.contains(&peak_kib), "{kind}: {peak_kib} KiB, expected {limits:?}");
    }
}
