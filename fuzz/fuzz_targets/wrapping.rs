//! Any file of a maker: refused with a sentence, or an image.

#![no_main]

use firmcast_manager::wrapping::{Metainfo, Options, unwrap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    for strip in [false, true] {
        let options = Options { strip_capsule: strip, strip_extra: strip, ..Options::default() };
        match unwrap(file.to_vec(), &options) {
            Ok(unwrapped) => {
                assert!(unwrapped.notes.is_empty() == (file == unwrapped.image), "all is told");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Ok(text) = std::str::from_utf8(file)
        && let Ok(metainfo) = Metainfo::parse(text)
    {
        let lines = metainfo.lines();
        assert!(lines.iter().all(|line| !line.contains(char::is_control)));
    }
});
