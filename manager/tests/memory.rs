//! What taking an image out of a maker's file takes of memory: at most three times the image, the
//! file included.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write as _};

use cab::{CabinetBuilder, CompressionType};
use firmcast_manager::wrapping::{Options, unwrap};
use peak_alloc::PeakAlloc;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const CHIP_BYTES: usize = 16 << 20;

/// Bytes that do not compress, which is the worst case, with a far jump where x86 starts.
fn chip() -> Vec<u8> {
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let mut image: Vec<u8> = noise.take(CHIP_BYTES).collect();
    image[CHIP_BYTES - 16..CHIP_BYTES - 11].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
    image
}

fn zip(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    writer.start_file(name, stored).unwrap();
    writer.write_all(contents).unwrap();
    writer.finish().unwrap().into_inner()
}

fn cabinet(contents: &[u8]) -> Vec<u8> {
    let mut builder = CabinetBuilder::new();
    builder.add_folder(CompressionType::MsZip).add_file("firmware.bin");
    let mut writer = builder.build(Cursor::new(Vec::new())).unwrap();
    writer.next_file().unwrap().unwrap().write_all(contents).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn an_image_is_taken_out_within_three_times_its_size() {
    let padded = [&[0xff; 0x1000][..], &chip()].concat();
    let nested = zip("inner.zip", &zip("padded.bin", &padded));
    let in_cabinet = cabinet(&padded);
    let options = Options { strip_extra: true, ..Options::default() };
    for (what, wrapped) in [("padding", padded), ("zip", nested), ("cabinet", in_cabinet)] {
        let before = ALLOCATOR.current_usage();
        let file = wrapped.clone();
        ALLOCATOR.reset_peak_usage();
        let image = unwrap(file, &options).unwrap().image;
        let peak = ALLOCATOR.peak_usage() - before;
        let percent = peak * 100 / CHIP_BYTES;
        assert_eq!(image.len(), CHIP_BYTES, "{what}");
        assert!((100..=300).contains(&percent), "{what}: {percent} % of the image");
    }
}
