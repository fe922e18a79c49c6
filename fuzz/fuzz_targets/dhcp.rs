//! What a DHCP server, or somebody who plays one, sends to a host in recovery.

#![no_main]

use firmcast::net::MacAddress;
use firmcast::net::dhcp::{DNS_SERVERS_MAX, DhcpClient, LeaseEvent};
use firmcast::net::dns::is_host_name;
use firmcast::time::Time;
use libfuzzer_sys::fuzz_target;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let mut client = DhcpClient::new(MacAddress(MAC), 1, Time::ZERO);
    let mut transaction = [0; 4];
    for mut datagram in datagrams {
        while let Some(transmit) = client.poll_transmit() {
            transaction.copy_from_slice(&transmit.bytes[4..8]);
        }
        // The right transaction and address, or nothing behind them would ever be reached.
        if let Some(place) = datagram.get_mut(4..8) {
            place.copy_from_slice(&transaction);
        }
        if let Some(place) = datagram.get_mut(28..34) {
            place.copy_from_slice(&MAC);
        }
        client.handle_datagram(Time::ZERO, &datagram);
        while let Some(event) = client.poll_event() {
            let LeaseEvent::Bound(lease) = event else { continue };
            assert!(lease.dns.len() <= DNS_SERVERS_MAX);
            assert!(lease.domain.is_none_or(|domain| is_host_name(&domain)));
            if let Some(url) = lease.manager {
                assert_eq!(url.to_string().parse(), Ok(url));
            }
        }
        client.handle_timeout(client.poll_timeout());
    }
});
