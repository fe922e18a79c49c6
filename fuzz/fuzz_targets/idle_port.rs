//! What strangers send to an idle agent: no answer, no timer, nothing heard.

#![no_main]

use std::net::SocketAddr;

use firmcast::keys::{ManagerSecretKey, SecretKey};
use firmcast::session::Endpoint;
use firmcast::session::discovery::DiscoveryResponder;
use firmcast::time::Time;
use libfuzzer_sys::fuzz_target;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let manager = ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([1; 32])).public();
    let mut endpoint = Endpoint::new([2; 32], [3; 32]);
    endpoint.allow(*manager.exchange());
    let mut discovery = DiscoveryResponder::new(vec![manager]);
    let from = SocketAddr::from(([192, 0, 2, 1], 1));
    let mut rng = ChaCha20Rng::from_seed([4; 32]);
    for datagram in &datagrams {
        assert!(discovery.handle(Time::ZERO, from, datagram, &mut rng).is_none());
        assert!(endpoint.handle_datagram(Time::ZERO, from, datagram).is_none());
    }
    assert!(endpoint.poll_transmit().is_none() && endpoint.poll_timeout().is_none());
});
