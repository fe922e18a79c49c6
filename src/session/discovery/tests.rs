#![allow(clippy::unwrap_used)]
use rand_core::SeedableRng as _;

use super::*;
use crate::wire::samples;

struct World {
    manager: ManagerSecretKey,
    stranger: ManagerSecretKey,
    host: HostSecretKey,
    responder: DiscoveryResponder,
    rng: ChaCha20Rng,
    now: Time,
}

impl World {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let manager = ManagerSecretKey::generate(&mut rng);
        let stranger = ManagerSecretKey::generate(&mut rng);
        let host = HostSecretKey::generate(&mut rng);
        let responder = DiscoveryResponder::new(vec![manager.public()]);
        Self { manager, stranger, host, responder, rng, now: Time::from_micros(10_000_000) }
    }

    fn ask(&mut self, from: [u8; 4], datagram: &[u8]) -> Option<Heard> {
        let from = SocketAddr::from((from, 7));
        self.responder.handle(self.now, from, datagram, &mut self.rng)
    }

    fn heard(&mut self, datagram: &[u8]) -> Asked {
        match self.ask([192, 0, 2, 1], datagram) {
            Some(Heard::Asked(asked)) => *asked,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn only_a_trusted_manager_is_answered_once_and_only_it_can_read() {
    let mut world = World::new();
    let foreign = Discovery::new(&world.stranger, 9, [1; 16]);
    assert_eq!(world.ask([192, 0, 2, 1], &foreign.request()), None);

    let discovery = Discovery::new(&world.manager, 10, [2; 16]);
    let request = discovery.request();
    for position in 0..request.len() {
        let mut forged = request.clone();
        forged[position] ^= 1;
        // What only makes the sender a busy host's caller, or the answer longer, is in no mac.
        let is_cookie = (MAC_END..MAC_END + MAC_SIZE + 2).contains(&position);
        let heard = world.ask([192, 0, 2, 1], &forged);
        assert!(is_cookie || heard.is_none(), "byte {position}");
    }
    let mut world = World::new();
    let asked = world.heard(&request);
    assert_eq!(world.ask([192, 0, 2, 1], &request), None, "a replay");

    let identity = samples::longest_identity();
    let answer = world.responder.answer(&asked, &world.host, &identity, [6; 32]).unwrap();
    assert!(answer.len() <= request.len());
    let (key, said) = discovery.open(&world.manager, &answer).unwrap();
    let Said::Identity(told, Versions::OURS) = said else { panic!("{said:?}") };
    // As many findings as fit.
    let findings = identity.findings[..told.findings.len()].to_vec();
    assert!(findings.len() > 10, "{}", findings.len());
    assert_eq!((key, *told), (world.host.public(), Identity { findings, ..identity }));
    assert!(discovery.open(&world.stranger, &answer).is_none());
    assert!(Discovery::new(&world.manager, 11, [3; 16]).open(&world.manager, &answer).is_none());
}

/// Older hosts want zeros where newer managers say what they speak, and older managers want nothing
/// behind the identity.
#[test]
fn older_managers_and_hosts_find_each_other() {
    let mut world = World::new();
    let discovery = Discovery::new(&world.manager, 10, [2; 16]);
    let older = discovery.request_to_older();
    assert!(older[MAC_END..].iter().all(|byte| *byte == 0));
    let asked = world.heard(&older);
    assert_eq!(world.ask([192, 0, 2, 1], &discovery.request()), None, "a copy");
    let identity = samples::longest_identity();
    let answer = world.responder.answer(&asked, &world.host, &identity, [6; 32]).unwrap();
    let (_, said) = discovery.open(&world.manager, &answer).unwrap();
    let understood = Identity { findings: Vec::new(), ..identity.clone() };
    assert_eq!(said, Said::Identity(Box::new(understood), Versions::UNSAID));
    let mut writer = Writer::new();
    identity.write(writer.bytes(&[2; 16]));
    let sealed = DiscoveryAnswer::parse(&answer).unwrap().noise;
    let (_, message) = noise::open(world.manager.exchange(), &sealed).unwrap();
    assert_eq!(message, writer.finish());
}

const MAC_END: usize = 4 + 8 + 16 + 8 + 64 + 16;

#[test]
fn a_manager_whose_clock_was_set_back_hears_of_it_and_nobody_else_does() {
    let mut world = World::new();
    world.heard(&Discovery::new(&world.manager, 1000, [1; 16]).request());
    let late = Discovery::new(&world.manager, 10, [2; 16]);
    let asked = world.heard(&late.request());
    assert!(asked.is_stale());
    let identity = samples::longest_identity();
    let answer = world.responder.answer(&asked, &world.host, &identity, [6; 32]).unwrap();
    let (_, said) = late.open(&world.manager, &answer).unwrap();
    assert_eq!(said, Said::LaterStamp(1000));
    assert!(late.open(&world.stranger, &answer).is_none());
    // A copy of it, and another one soon after, get nothing.
    assert_eq!(world.ask([192, 0, 2, 1], &late.request()), None);
    let soon = Discovery::new(&world.manager, 11, [3; 16]).request();
    assert_eq!(world.ask([192, 0, 2, 1], &soon), None);
    world.now += STALE_ANSWER_INTERVAL;
    assert!(world.heard(&soon).is_stale());
}

/// Whoever has the manager's public key can make a right mac, but no right signature.
#[test]
fn wrong_signatures_keep_no_manager_out() {
    let mut world = World::new();
    let mut flood = Discovery::new(&world.manager, 5, [9; 16]);
    let mac = MacKey::new(MAC_LABEL, &world.manager.public().to_bytes());
    for number in 0..10_000_u64 {
        world.now += Duration::from_micros(100);
        flood.request.stamp = 1_000_000 + number;
        flood.request.mac = mac.compute(&flood.request.checked());
        let heard = world.ask([198, 51, 100, 7], &flood.request());
        assert!(!matches!(heard, Some(Heard::Asked(_))), "{heard:?}");
    }
    let discovery = Discovery::new(&world.manager, 10, [2; 16]);
    let Some(Heard::Busy(reply)) = world.ask([192, 0, 2, 1], &discovery.request()) else {
        panic!("no cookie")
    };
    assert!(reply.len() <= discovery.request().len());
    assert!(Discovery::new(&world.manager, 11, [3; 16]).prove(&reply).is_none());
    let (_, proven) = discovery.prove(&reply).unwrap();
    assert!(!world.heard(&proven).is_stale());
}
