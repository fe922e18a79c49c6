//! What a busy host says, and what a manager makes of that; and the answer to an old stamp.

use std::net::SocketAddr;

use firmcast::keys::SecretKey as _;
use firmcast::session::Endpoint;
use firmcast::session::discovery::{Discovery, DiscoveryResponder, Heard, REQUESTS_PER_SECOND};
use firmcast::session::endpoint::HANDSHAKES_PER_SECOND;
use firmcast::time::Time;
use firmcast::wire::samples;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::{Value, json};

use super::session::{DISCOVERY_SEED, HOST_SEED, MANAGER_SEED, STAMP, ephemeral};
use super::{hex, keys};

fn manager_address() -> SocketAddr {
    "192.0.2.1:9848".parse().unwrap()
}

fn host_address() -> SocketAddr {
    "192.0.2.10:9847".parse().unwrap()
}

/// A host that has used up a second's handshakes is called.
pub(super) fn in_a_session() -> Value {
    let (manager_key, host_key) = (keys::manager(), keys::host());
    let host_id = *host_key.public().exchange();
    let mut host = Endpoint::new(*host_key.exchange(), HOST_SEED);
    host.allow(*manager_key.public().exchange());
    let calling = |seed: [u8; 32], stamp: u64| {
        let mut manager = Endpoint::new(*manager_key.exchange(), seed);
        manager.set_stamp(stamp);
        manager.connect(Time::ZERO, host_id, host_address());
        let initiation = manager.poll_transmit().unwrap().bytes;
        (manager, initiation)
    };
    for number in 1..=HANDSHAKES_PER_SECOND {
        let (_, initiation) = calling([number as u8; 32], u64::from(number));
        assert_eq!(host.handle_datagram(Time::ZERO, manager_address(), &initiation), None);
        assert_eq!(host.poll_transmit().unwrap().bytes[0], 2, "a response");
    }
    let (mut manager, initiation) = calling(MANAGER_SEED, STAMP);
    assert_eq!(host.handle_datagram(Time::ZERO, manager_address(), &initiation), None);
    let reply = host.poll_transmit().unwrap().bytes;
    assert_eq!(manager.handle_datagram(Time::ZERO, host_address(), &reply), None);
    let proven = manager.poll_transmit().unwrap().bytes;
    assert_eq!(host.handle_datagram(Time::ZERO, manager_address(), &proven), None);
    assert_eq!(host.poll_transmit().unwrap().bytes[0], 2, "a response");
    json!({
        "initiation": hex(&initiation),
        "cookie": hex(&reply[8..24]),
        "reply": hex(&reply),
        "initiation with the cookie": hex(&proven),
    })
}

/// A host that has used up a second's signatures is asked.
pub(super) fn in_discovery() -> Value {
    let manager = keys::manager();
    let mut responder = DiscoveryResponder::new(vec![manager.public()]);
    let mut rng = ChaCha20Rng::from_seed(DISCOVERY_SEED);
    let mut hear = |request: &[u8]| {
        responder.handle(Time::ZERO, manager_address(), request, &mut rng).unwrap()
    };
    for number in 1..=REQUESTS_PER_SECOND {
        let question = Discovery::new(&manager, number.into(), [number as u8; 16]);
        assert!(matches!(hear(&question.request()), Heard::Asked(_)));
    }
    let question = Discovery::new(&manager, STAMP, [0xee; 16]);
    let Heard::Busy(reply) = hear(&question.request()) else { panic!("busy") };
    let (_, proven) = question.prove(&reply).unwrap();
    assert!(matches!(hear(&proven), Heard::Asked(_)));
    json!({
        "stamp": STAMP,
        "nonce": "ee".repeat(16),
        "cookie": hex(&reply[8..24]),
        "reply": hex(&reply),
        "request with the cookie": hex(&proven),
    })
}

/// A request with an old stamp is answered with the newest one.
pub(super) fn old_stamp() -> Value {
    let (manager, host) = (keys::manager(), keys::host());
    let mut responder = DiscoveryResponder::new(vec![manager.public()]);
    let mut rng = ChaCha20Rng::from_seed(DISCOVERY_SEED);
    let mut ask = |stamp: u64, nonce: u8| {
        let request = Discovery::new(&manager, stamp, [nonce; 16]).request();
        let heard = responder.handle(Time::ZERO, manager_address(), &request, &mut rng);
        let Some(Heard::Asked(asked)) = heard else { panic!("{heard:?}") };
        responder.answer(&asked, &host, &samples::identity(), DISCOVERY_SEED).unwrap()
    };
    ask(STAMP, 1);
    let answer = ask(STAMP - 1, 2);
    json!({
        "nonce": "02".repeat(16),
        "newest stamp": STAMP,
        "ephemeral of the answer": hex(&ephemeral(DISCOVERY_SEED)),
        "answer": hex(&answer),
    })
}
