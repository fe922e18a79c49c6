//! Any end of an image: its Firmware Interface Table, and what Boot Guard finds by it.

#![no_main]

use firmcast::image::boot_guard::{BootGuard, COMPONENTS_MAX};
use firmcast::image::layout::{FIT_ENTRIES_MAX, Fit};
use libfuzzer_sys::fuzz_target;

/// The size of the image; what is fuzzed is its end.
const IMAGE_BYTES: usize = 0x4000;

fuzz_target!(|end: &[u8]| {
    let mut image = vec![0xff; IMAGE_BYTES.saturating_sub(end.len())];
    image.extend(end);
    if let Ok(Some(fit)) = Fit::find(&image) {
        assert!(fit.range.end <= image.len() && fit.entries.len() < FIT_ENTRIES_MAX);
        let mut offsets = fit.entries.iter().filter_map(|entry| entry.offset_bytes);
        assert!(offsets.all(|offset| offset < image.len()));
    }
    let found = BootGuard::read(&image);
    assert!(found.components().len() <= COMPONENTS_MAX);
    assert!(found.check_against(&found).is_ok());
    assert_eq!(BootGuard::of(found.components().to_vec()), found);
});
