//! What the kernel says of links, addresses and routes (rtnetlink), and what is made of it.

#![no_main]

use firmcast::net::config::{ADDRESSES_MAX, NICS_MAX, ROUTES_MAX};
use firmcast::net::survey::survey_of_dump;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, [u8; 4], &[u8])| {
    let (index, manager, dump) = input;
    let Ok(surveyed) = survey_of_dump(dump, index.into(), manager.into()) else { return };
    let interface = &surveyed.interface;
    // An interface that stands on nothing is no way.
    assert!((1..=NICS_MAX).contains(&interface.nics.len()));
    assert!(interface.addresses.len() <= ADDRESSES_MAX);
    assert!(interface.routes.len() <= ROUTES_MAX);
    assert!(!surveyed.to_string().is_empty());
});
