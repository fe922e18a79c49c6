//! The kernel command line, which boot loaders and people write.

#![no_main]

use firmcast::net::config::ADDRESSES_MAX;
use firmcast::net::ip_option::{OPTIONS_MAX, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let wishes = parse(text);
    // A VLAN without an ip= of its own is an interface too.
    assert!(wishes.interfaces.len() <= 2 * OPTIONS_MAX);
    for config in wishes.interfaces {
        assert!(config.addresses.len() <= ADDRESSES_MAX);
    }
    for error in wishes.errors {
        assert!(!error.to_string().chars().any(char::is_control));
    }
});
