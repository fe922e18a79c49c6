//! Whom the service does not know, and who shouts.

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::session::Endpoint;
use firmcast::time::Time;
use firmcast::wire::help::Finding;

use super::super::caller::REQUESTS_PER_SECOND;
use super::super::known::STRANGERS_MAX;
use super::super::service::Service;
use super::dead_host::Dead;
use super::world::{World, bundle};
use super::{LONG, MINUTE};
use crate::campaign::Destination;

/// The sessions of a stranger with a key of its own.
fn sessions_of(number: u32) -> Endpoint {
    let mut secret = [7; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    Endpoint::new(secret, secret)
}

/// The first datagram of a call to the service.
fn call_of(endpoint: &mut Endpoint, now: Time) -> Vec<u8> {
    endpoint.connect(now, manager(), service_address());
    endpoint.poll_transmit().unwrap().bytes
}

fn service_address() -> SocketAddr {
    ([10, 0, 0, 1], 9848).into()
}

#[test]
fn strangers_are_answered_only_where_the_policy_says_so_and_have_limited_room() {
    let stranger = Dead { is_known: false, ..Dead::default() };
    let mut world = World::new(vec![stranger], &[("b", bundle("P", "2.0", 1, 1))]);
    world.start();
    world.run_for(MINUTE);
    assert!(world.notes.is_empty() && world.said == 0, "{:?}", world.notes);

    world.policy.unknown_hosts = true;
    world.start();
    // Others fill all the room, and say nothing.
    for number in 0..STRANGERS_MAX as u32 + 50 {
        world.send(([10, 9, 9, 9], 1).into(), call_of(&mut sessions_of(number), world.now));
    }
    world.run_for(Duration::from_secs(1));
    assert!(world.service().endpoint.strangers().count() <= STRANGERS_MAX);
    assert!(world.run_until(LONG, World::all_rescued), "room was made");
    let now = world.now;
    assert_eq!(world.service().status(now).hosts.len(), 1);
    assert!(world.service().endpoint.strangers().count() <= 2);
}

#[test]
fn handshakes_alone_keep_no_stranger_out() {
    let up_at = Duration::from_millis(900);
    let mut world = World::new(vec![Dead { is_known: false, up_at, ..Dead::default() }], &[]);
    world.policy.unknown_hosts = true;
    world.start();
    for number in 0..2500u32 {
        world.send(([10, 9, 9, 9], 1).into(), call_of(&mut sessions_of(number), world.now));
        world.run_for(Duration::from_micros(600));
    }
    assert_eq!(world.service().callers.len(), 1, "in the middle of it");
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.service().endpoint.strangers().count(), 1, "those that say nothing leave");
}

/// A stranger with a key that it made itself, which asks for help again and again.
struct Shouter {
    endpoint: Endpoint,
    address: SocketAddr,
    asks_at: Time,
}

impl Shouter {
    fn new(number: u32) -> Self {
        let [_, _, high, low] = number.to_be_bytes();
        let asks_at = Time::from_micros(u64::from(number) * 1000);
        let address = ([10, 9, high, low], 1).into();
        Self { endpoint: sessions_of(number), address, asks_at }
    }

    /// Calls anew again and again, because it may have been forgotten.
    fn turn(&mut self, now: Time, service: &mut Service) {
        if self.asks_at <= now {
            self.asks_at = now + Duration::from_secs(20);
            self.endpoint.connect(now, manager(), service_address());
        }
        self.endpoint.handle_timeout(now);
        while let Some(said) = self.endpoint.poll_transmit() {
            service.handle_datagram(now, self.address, &said.bytes);
        }
    }

    /// Asks as soon as it has a session.
    fn hear(&mut self, now: Time, bytes: &[u8]) {
        use firmcast::session::SessionEvent;
        use firmcast::wire::answer::Answer;
        use firmcast::wire::help::HelpRequest;
        use firmcast::wire::samples;
        let heard = self.endpoint.handle_datagram(now, service_address(), bytes);
        if let Some(SessionEvent::Connected { peer, .. }) = heard {
            let (why, identity) = (String::new(), samples::identity());
            let (wants_image, finding) = (true, Finding::Invalid);
            let (offset_bytes, rescues) = (0, None);
            let request =
                HelpRequest { wants_image, finding, offset_bytes, why, identity, rescues };
            self.endpoint.send(now, &peer, &Answer::HelpRequest(Box::new(request)).emit());
        }
    }
}

#[test]
fn strangers_that_never_stop_asking_keep_no_other_out_for_long() {
    let mut world = World::new(Vec::new(), &[]);
    world.policy.unknown_hosts = true;
    world.start();
    let service = world.service();
    let many = u32::try_from(STRANGERS_MAX).unwrap() + 200;
    let mut shouters: Vec<Shouter> = (0..many + 1).map(Shouter::new).collect();
    let late = shouters.len() - 1;
    shouters[late].asks_at = Time::ZERO + MINUTE;
    let (late_address, mut fullest) = (shouters[late].address, 0);
    for tick in 0..5 * 60 * 2 {
        let now = Time::ZERO + Duration::from_millis(500) * tick;
        shouters.iter_mut().for_each(|shouter| shouter.turn(now, service));
        service.handle_timeout(now);
        while let Some(said) = service.poll_transmit(now) {
            let Destination::Host(SocketAddr::V4(to)) = said.destination else { continue };
            let [_, _, high, low] = to.ip().octets();
            shouters[usize::from(u16::from_be_bytes([high, low]))].hear(now, &said.bytes);
        }
        while service.poll_note().is_some() {}
        fullest = fullest.max(service.callers.len());
        assert!(service.callers.len() <= STRANGERS_MAX);
        if service.callers.values().any(|caller| caller.address == late_address) {
            assert_eq!(fullest, STRANGERS_MAX, "all the room was taken");
            return;
        }
    }
    panic!("it was not heard within four minutes");
}

fn manager() -> [u8; 32] {
    use firmcast::keys::{ManagerSecretKey, SecretKey as _};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;
    let key = ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([1; 32]));
    *key.public().exchange()
}

#[test]
fn noise_forged_and_replayed_datagrams_leave_nothing_behind() {
    let mut world = World::new(vec![Dead::default()], &[("b", bundle("P", "2.0", 1, 1))]);
    world.policy.unknown_hosts = true;
    world.start();
    let mut recorded = Vec::new();
    let mut endpoint = Endpoint::new([9; 32], [9; 32]);
    recorded.push(call_of(&mut endpoint, Time::ZERO));
    let original = recorded[0].clone();
    for position in 0..original.len() {
        let mut forged = original.clone();
        forged[position] ^= 1;
        recorded.push(forged);
        recorded.push(original[..position].to_vec());
    }
    for kind in 0..9u8 {
        recorded.push(vec![kind; 1200]);
    }
    for _ in 0..20 {
        for bytes in &recorded {
            world.send(([10, 9, 9, 9], 1).into(), bytes.clone());
        }
        world.run_for(Duration::from_secs(1));
    }
    assert!(world.run_until(MINUTE, World::all_rescued));
    world.run_for(MINUTE);
    let service: &Service = world.service();
    assert_eq!(service.callers.len(), 1);
    assert!(service.courses.is_empty());
}

#[test]
fn a_host_that_asks_all_the_time_is_answered_so_often_in_a_second_and_not_more() {
    use firmcast::keys::SecretKey as _;
    use firmcast::wire::answer::Answer;
    let mut world = World::new(vec![Dead::default()], &[]);
    world.start();
    world.run_for(Duration::from_secs(3));
    let request = world.service().callers.values().next().unwrap().request.clone().unwrap();
    // The host's own session is taken over by one that shouts.
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&0u64.to_be_bytes());
    let secret = firmcast::keys::HostSecretKey::generate(
        &mut <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::from_seed(seed),
    );
    assert_eq!(*secret.public().exchange(), world.hosts[0].key());
    let mut endpoint = Endpoint::new(*secret.exchange(), [77; 32]);
    let now = world.now;
    let at = world.hosts[0].address;
    let service = world.service();
    service.handle_datagram(now, at, &call_of(&mut endpoint, now));
    while let Some(said) = service.poll_transmit(now) {
        endpoint.handle_datagram(now, service_address(), &said.bytes);
    }
    let mut answers = 0;
    for step in 0..1000u64 {
        let now = now + Duration::from_millis(step);
        endpoint.send(now, &manager(), &Answer::HelpRequest(request.clone()).emit());
        while let Some(asked) = endpoint.poll_transmit() {
            service.handle_datagram(now, at, &asked.bytes);
        }
        answers += std::iter::from_fn(|| service.poll_transmit(now)).count();
        while service.poll_note().is_some() {}
    }
    // As many at once, as many in the second, and eight times what the manager speaks.
    let most = 2 * REQUESTS_PER_SECOND as usize + 8;
    assert!((1..=most).contains(&answers), "{answers}");
}
