//! /etc/crypttab, which people and tools write.

#![no_main]

use firmcast::disks::crypttab::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let crypttab = parse(text);
    let is_told = |line: &str| {
        let first = line.split_ascii_whitespace().next();
        first.is_some_and(|word| !word.starts_with('#'))
    };
    let told = crypttab.entries.len() + crypttab.unknown.len();
    assert!(told <= text.lines().filter(|line| is_told(line)).count());
    for entry in crypttab.entries {
        for binding in [entry.by_tpm, entry.by_script].into_iter().flatten() {
            assert!(!binding.to_string().contains(char::is_control));
        }
    }
});
