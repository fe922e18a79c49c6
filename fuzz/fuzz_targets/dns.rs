//! What a name server, or somebody who plays one, answers to a host that looks for its manager.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use firmcast::net::dns::{ADDRESSES_MAX, Resolver, Wanted};
use firmcast::time::Time;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let wanted = Wanted::Service { domain: "example.org".into() };
    let server = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let mut resolver = Resolver::new(&wanted, &[server], 1, Time::ZERO);
    for datagram in datagrams {
        let Some(transmit) = resolver.poll_transmit() else { break };
        // The right id and question, or nothing behind them would ever be reached.
        let mut bytes = transmit.bytes.clone();
        bytes[2] |= 0x80;
        let counts = bytes.get_mut(6..12).into_iter().flatten();
        for (place, byte) in counts.zip(&datagram) {
            *place = *byte;
        }
        bytes.extend(datagram.iter().skip(6));
        resolver.handle_datagram(Time::ZERO, transmit.destination, &bytes);
    }
    while let Some(deadline) = resolver.poll_timeout() {
        resolver.handle_timeout(deadline);
    }
    match resolver.poll_result() {
        Some(Ok(found)) => assert!((1..=ADDRESSES_MAX).contains(&found.len())),
        Some(Err(_)) => {}
        None => panic!("a search without an end"),
    }
});
