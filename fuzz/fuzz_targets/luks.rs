//! Headers of encrypted disks, which anybody who has held the disk may have written.

#![no_main]

use firmcast::disks::luks::{HEAD_SIZE, HEADER_SIZE_MAX, Head, Told, of_json, of_luksmeta};
use libfuzzer_sys::fuzz_target;

// What stands at the place of a LUKS2 header cannot be nothing: bindings are found, or a damage
// is.
fuzz_target!(|bytes: &[u8]| {
    if let Some(Ok(Head { told: Told::Json { header_bytes }, uuid })) = Head::parse(bytes) {
        assert!(header_bytes > HEAD_SIZE as u64 && header_bytes <= HEADER_SIZE_MAX);
        assert!(!uuid.contains(char::is_control));
    }
    let area = bytes.get(HEAD_SIZE..).unwrap_or(bytes);
    for binding in of_json(area).into_iter().chain(of_luksmeta(bytes)) {
        assert!(!binding.to_string().contains(char::is_control));
    }
});
