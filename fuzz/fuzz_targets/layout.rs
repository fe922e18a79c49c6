//! Any contents of a chip: its layout, and whether it is whole.

#![no_main]

use firmcast::image::layout::{Layout, boot_offset, host_access};
use firmcast::image::validity::{Verdict, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|chip: &[u8]| {
    let size_bytes = chip.len() as u64;
    assert!(boot_offset(chip).offset_bytes <= size_bytes);
    let _ = host_access(chip);
    let layout = Layout::read(chip);
    if let Ok(layout) = &layout {
        let again = Layout::new(layout.regions().to_vec(), size_bytes);
        assert_eq!(again.as_ref(), Ok(layout));
    }
    match validate(chip) {
        Verdict::Valid { .. } | Verdict::Unknown { .. } => assert!(layout.is_ok()),
        Verdict::Doubtful { offset_bytes, .. } | Verdict::Invalid { offset_bytes, .. } => {
            assert!(offset_bytes <= size_bytes);
        }
    }
    if let Ok(text) = std::str::from_utf8(chip) {
        let _ = Layout::parse_text(text, 0x100_0000);
    }
});
