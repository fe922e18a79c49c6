//! A discovery, a handshake, and datagrams of its session, all from fixed seeds.

use std::net::SocketAddr;

use firmcast::keys::SecretKey as _;
use firmcast::session::discovery::{Discovery, DiscoveryResponder, Heard, Said};
use firmcast::session::{Endpoint, SessionEvent};
use firmcast::time::Time;
use firmcast::wire::samples;
use firmcast::wire::versions::Versions;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};

use super::{cookies, hex, keys};

pub(super) const STAMP: u64 = 1_700_000_000_000_000;
pub(super) const MANAGER_SEED: [u8; 32] = [0x77; 32];
pub(super) const HOST_SEED: [u8; 32] = [0x88; 32];
pub(super) const DISCOVERY_SEED: [u8; 32] = [0x99; 32];

pub(super) fn vectors() -> Value {
    json!({
        "form": firmcast::wire::PROTOCOL_VERSION,
        "versions": [Versions::OURS.lowest, Versions::OURS.highest],
        "keys": "keys.json",
        "discovery": discovery(),
        "handshake": handshake(),
        "cookie in a session": cookies::in_a_session(),
        "cookie in discovery": cookies::in_discovery(),
        "old stamp in discovery": cookies::old_stamp(),
    })
}

/// Returns the secret ephemeral key of a handshake that was given `seed`.
pub(super) fn ephemeral(seed: [u8; 32]) -> [u8; 32] {
    let mut secret = [0; 32];
    ChaCha20Rng::from_seed(seed).fill_bytes(&mut secret);
    secret
}

fn public_of(secret: [u8; 32]) -> [u8; 32] {
    x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(secret)).to_bytes()
}

fn discovery() -> Value {
    let nonce = core::array::from_fn(|index| index as u8);
    let discovery = Discovery::new(&keys::manager(), STAMP, nonce);
    let (request, with_versions) = (discovery.request_to_older(), discovery.request());
    let answer = |request: &[u8], versions| answered(&discovery, request, versions);
    json!({
        "stamp": STAMP,
        "nonce": hex(&nonce),
        "request": hex(&request),
        "request with versions": hex(&with_versions),
        "ephemeral of the answer": hex(&ephemeral(DISCOVERY_SEED)),
        "identity": super::answers::identity_fields(&samples::identity()),
        "answer": hex(&answer(&request, Versions::UNSAID)),
        "answer with versions": hex(&answer(&with_versions, Versions::OURS)),
    })
}

/// Returns a host's answer, which the manager reads as one of a host that speaks these versions.
fn answered(discovery: &Discovery, request: &[u8], versions: Versions) -> Vec<u8> {
    let (manager, host) = (keys::manager(), keys::host());
    let mut responder = DiscoveryResponder::new(vec![manager.public()]);
    let mut rng = ChaCha20Rng::from_seed([0; 32]);
    let from = SocketAddr::from(([192, 0, 2, 1], 9848));
    let heard = responder.handle(Time::ZERO, from, request, &mut rng);
    let Some(Heard::Asked(asked)) = heard else { panic!("{heard:?}") };
    let identity = samples::identity();
    let answer = responder.answer(&asked, &host, &identity, DISCOVERY_SEED).unwrap();
    let said = Said::Identity(Box::new(identity), versions);
    assert_eq!(discovery.open(&manager, &answer).unwrap(), (host.public(), said));
    answer
}

/// The manager calls, the host answers, both say something; the last line of each is a message.
fn handshake() -> Value {
    let at: SocketAddr = "192.0.2.1:9847".parse().unwrap();
    let (manager_key, host_key) = (keys::manager(), keys::host());
    let mut manager = Endpoint::new(*manager_key.exchange(), MANAGER_SEED);
    let mut host = Endpoint::new(*host_key.exchange(), HOST_SEED);
    let (manager_id, host_id) = (*manager_key.public().exchange(), *host_key.public().exchange());
    host.allow(manager_id);
    manager.set_stamp(STAMP - 1);
    manager.connect(Time::ZERO, host_id, at);
    let initiation = manager.poll_transmit().unwrap().bytes;
    assert_eq!(host.handle_datagram(Time::ZERO, at, &initiation), None);
    let response = host.poll_transmit().unwrap().bytes;
    manager.handle_datagram(Time::ZERO, at, &response).unwrap();
    let first = manager.poll_transmit().unwrap().bytes;
    host.handle_datagram(Time::ZERO, at, &first).unwrap();
    let versions = host.poll_transmit().unwrap().bytes;
    assert_eq!(manager.handle_datagram(Time::ZERO, at, &versions), None);
    let query = said(&mut manager, &host_id, &mut host, &[0x01]);
    let held = [0x83, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9];
    let answer = said(&mut host, &manager_id, &mut manager, &held);
    let initiator = initiator_ephemeral();
    let responder = responder_ephemeral();
    assert_eq!(initiation[8..40], public_of(initiator), "the vectors' ephemeral key");
    assert_eq!(response[12..44], public_of(responder), "the vectors' ephemeral key");
    json!({
        "stamp": STAMP,
        "initiator's ephemeral": hex(&initiator),
        "responder's ephemeral": hex(&responder),
        "initiation": hex(&initiation),
        "response": hex(&response),
        "transport": [
            { "from": "manager", "counter": 0, "message": "000204", "datagram": hex(&first) },
            { "from": "host", "counter": 0, "message": "800204", "datagram": hex(&versions) },
            { "from": "manager", "counter": 1, "message": "01", "datagram": hex(&query) },
            { "from": "host", "counter": 1, "message": hex(&held), "datagram": hex(&answer) },
        ],
    })
}

/// Returns the datagram that carried `message`, which arrived.
fn said(from: &mut Endpoint, to: &[u8; 32], there: &mut Endpoint, message: &[u8]) -> Vec<u8> {
    let at: SocketAddr = "192.0.2.1:9847".parse().unwrap();
    assert!(from.send(Time::ZERO, to, message));
    let datagram = from.poll_transmit().unwrap().bytes;
    match there.handle_datagram(Time::ZERO, at, &datagram) {
        Some(SessionEvent::Message { bytes, .. }) => assert_eq!(bytes, message),
        other => panic!("{other:?}"),
    }
    datagram
}

/// An endpoint draws the index of a call, then the seed of its handshake.
fn initiator_ephemeral() -> [u8; 32] {
    let mut rng = ChaCha20Rng::from_seed(MANAGER_SEED);
    rng.next_u32();
    ephemeral(firmcast::random::seed(&mut rng))
}

/// Who is called draws the seed first.
fn responder_ephemeral() -> [u8; 32] {
    ephemeral(firmcast::random::seed(&mut ChaCha20Rng::from_seed(HOST_SEED)))
}
