//! The service against the real machine of dead hosts.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::reason::Reason;
use firmcast::session::Endpoint;
use firmcast::time::Time;
use firmcast::wire::help::Finding;

use super::Policy;
use super::caller::ENLISTMENTS_PER_HOUR_MAX;
use super::note::ServiceEvent;
use super::service::{STRANGERS_MAX, Service};
use crate::campaign::{Destination, UPLOADS_MAX};
use crate::news::News;
use world::{Dead, DeadHost, IMAGE_SIZE_BYTES, World, bundle};

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(1800);
const HOUR: Duration = Duration::from_secs(3600);

fn digest(bundle: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(firmcast::image::Bundle::parse(bundle).unwrap().payload).into()
}

#[test]
fn many_dead_hosts_are_gathered_and_rescued_by_one_stream_though_a_tenth_is_lost() {
    let good = bundle("P", "2.0", 1, 1);
    let mut hosts: Vec<Dead> =
        (0..8).map(|i| Dead { up_at: Duration::from_millis(400 * i), ..Dead::default() }).collect();
    // It comes when the stream is through.
    hosts.push(Dead { up_at: Duration::from_secs(9), ..Dead::default() });
    let mut world = World::new(hosts, &[("b.fcb", good.clone())]);
    world.loss = 0.1;
    world.start();
    assert!(world.run_until(LONG, World::all_rescued));
    assert_eq!(world.campaigns(), 1);
    let started = |(_, news): (Time, &News)| match news {
        News::TransferStarted { hosts } => Some(*hosts),
        _ => None,
    };
    assert_eq!(world.news().find_map(started), Some(8));
    let on_time = world.stream_bytes;
    assert!(
        on_time < IMAGE_SIZE_BYTES as u64 * 5 / 2,
        "{on_time} bytes for nine hosts, one of them late"
    );
    for host in 0..9 {
        assert_eq!(world.hosts[host].written, [digest(&good)]);
    }
    world.run_for(MINUTE);
    for host in 0..9 {
        let results = world.results(host);
        assert_eq!(results.len(), 1);
        assert_eq!((results[0].reason.as_str(), results[0].reboot_safe), ("rescued", true));
    }
    let status = {
        let now = world.now;
        world.service().status(now)
    };
    assert!(status.campaigns.is_empty(), "{status:?}");
    assert!(status.hosts.iter().all(|host| host.attempts == 1 && host.failures == 0));
}

#[test]
fn two_boards_share_the_link_and_each_gets_its_own() {
    let (p, q) = (bundle("P", "2.0", 1, 1), bundle("Q", "7", 1, 2));
    let mut hosts = vec![Dead::default(); 3];
    hosts.extend([Dead { product: "Q", ..Dead::default() }; 3]);
    let mut world = World::new(hosts, &[("p.fcb", p.clone()), ("q.fcb", q.clone())]);
    world.rate_bits_per_s = 400_000;
    world.start();
    assert!(world.run_until(LONG, World::all_rescued));
    for (index, host) in world.hosts.iter().enumerate() {
        assert_eq!(host.written, [digest(if index < 3 { &p } else { &q })]);
    }
    assert_eq!(world.campaigns(), 2);
    assert!(world.busiest_second <= 400_000 / 8 + 6000, "{}", world.busiest_second);
    // Both were under way at the same time, and ended at about the same time.
    let times: Vec<Time> = world
        .news()
        .filter(|(_, news)| matches!(news, News::Stage { stage, .. } if stage == "verified"))
        .map(|(at, _)| at)
        .collect();
    let spread = times.iter().max().unwrap().since(*times.iter().min().unwrap());
    assert!(spread < Duration::from_secs(1), "{spread:?}");
}

#[test]
fn a_service_that_was_restarted_anywhere_rescues_all() {
    let good = bundle("P", "2.0", 1, 1);
    for seconds in [1, 3, 5, 6, 7, 8, 9, 10, 11, 13] {
        let mut world = World::new(vec![Dead::default(); 3], &[("b.fcb", good.clone())]);
        world.rate_bits_per_s = 400_000;
        world.loss = 0.05;
        world.start();
        world.run_for(Duration::from_secs(seconds));
        world.service = None;
        world.run_for(Duration::from_secs(7));
        world.start();
        assert!(world.run_until(LONG, World::all_rescued), "{seconds}");
        assert!(world.hosts.iter().all(|host| host.written == [digest(&good)]), "{seconds}");
        assert!(world.now < Time::ZERO + Duration::from_secs(200), "{seconds}: {:?}", world.now);
    }
}

#[test]
fn a_power_cut_anywhere_in_the_rescue_is_no_failure_before_the_flash_was_touched() {
    let good = bundle("P", "2.0", 1, 1);
    for tenths in [1, 10, 50, 55, 60, 70, 80, 90] {
        let cut = Dead { power_cut: Some(Duration::from_millis(100 * tenths)), ..Dead::default() };
        let mut world = World::new(vec![cut, Dead::default()], &[("b.fcb", good.clone())]);
        world.rate_bits_per_s = 400_000;
        world.start();
        assert!(world.run_until(LONG, World::all_rescued), "{tenths}");
        let now = world.now;
        let status = world.service().status(now);
        assert!(status.hosts.iter().all(|host| !host.parked && host.failures <= 1), "{tenths}");
    }
}

#[test]
fn a_host_that_fails_too_often_is_parked_and_a_new_policy_lets_it_try_again() {
    // The host itself tries four times in each attempt.
    let broken = Dead { bad_writes: 12, ..Dead::default() };
    let mut world =
        World::new(vec![broken, Dead::default()], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
    world.start();
    world.run_for(LONG);
    assert!(!world.hosts[0].is_rescued() && world.hosts[1].is_rescued());
    assert_eq!(world.hosts[0].attempts, 12);
    let results = world.results(0);
    assert_eq!(results.len(), 3, "{results:?}");
    assert!(results.iter().all(|result| result.reason == "write-failed" && !result.reboot_safe));
    assert!(world.events().any(|event| matches!(event, ServiceEvent::Parked { failures: 3, .. })));
    assert!(
        world.hosts[0].held().unwrap().contains("failed too often"),
        "{:?}",
        world.hosts[0].held()
    );
    let attempts = world.hosts[0].attempts;
    world.run_for(LONG);
    assert_eq!(world.hosts[0].attempts, attempts);
    let policy = world.policy.clone();
    world.service().set_policy(policy);
    assert!(world.run_until(LONG, World::all_rescued));
}

#[test]
fn a_host_that_comes_back_damaged_after_its_rescues_is_parked_and_shown() {
    let relapsing = Dead { relapses: 3, ..Dead::default() };
    let mut world =
        World::new(vec![relapsing, Dead::default()], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
    world.start();
    world.run_for(LONG);
    assert!(!world.hosts[0].is_rescued() && world.hosts[1].is_rescued());
    assert_eq!(world.hosts[0].attempts, 3);
    let parked = ServiceEvent::Parked {
        host: world.hosts[0].name(),
        failures: 0,
        rescues: 3,
        reason: "rescued".into(),
    };
    assert_eq!(world.events().filter(|event| **event == parked).count(), 1);
    assert!(parked.to_text().contains("was rescued 3 times within a day"), "{parked:?}");
    let now = world.now;
    let status = world.service().status(now);
    let host = status.hosts.iter().find(|host| host.parked).unwrap();
    assert_eq!((host.rescues, host.held.as_deref()), (3, Some("parked")));
    let policy = world.policy.clone();
    world.service().set_policy(policy);
    assert!(world.run_until(LONG, World::all_rescued));
}

#[test]
fn two_machines_that_call_with_one_key_are_told_as_a_conflict() {
    for (twin_of, expected) in [(Some(0), 1), (None, 0)] {
        let mut world = World::new(vec![Dead::default(), Dead { twin_of, ..Dead::default() }], &[]);
        world.start();
        world.run_for(10 * MINUTE);
        let is_told = |(_, news): &(Time, &News)| match news {
            News::Warning { message } => message.contains("CONFLICT: several machines"),
            _ => false,
        };
        assert_eq!(world.news().filter(is_told).count(), expected);
        let now = world.now;
        let status = world.service().status(now);
        assert_eq!(status.hosts.iter().filter(|host| host.conflict).count(), expected);
    }
}

#[test]
fn one_key_has_the_image_broadcast_so_often_in_an_hour_and_no_more() {
    let relapsing = Dead { relapses: 1000, ..Dead::default() };
    let mut world = World::new(vec![relapsing], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
    world.policy.attempts_max = 100;
    world.start();
    world.run_for(HOUR - MINUTE);
    let most = u32::try_from(ENLISTMENTS_PER_HOUR_MAX).unwrap();
    assert_eq!(world.hosts[0].attempts, most);
    let images = u64::from(most + 1) * IMAGE_SIZE_BYTES as u64;
    assert!(world.stream_bytes < images * 5 / 4, "{}", world.stream_bytes);
    let now = world.now;
    assert_eq!(world.service().status(now).hosts[0].held.as_deref(), Some("busy"));
    // It is helped on, and not sooner.
    world.run_for(HOUR);
    let attempts = world.hosts[0].attempts;
    assert!(attempts > most && attempts <= 2 * most + 1, "{attempts}");
}

#[test]
fn what_the_policy_says_is_brought_and_nothing_else() {
    let library = [
        ("a", bundle("P", "1.9", 1, 1)),
        ("b", bundle("P", "1.10", 1, 2)),
        ("c", bundle("P", "0.9", 2, 3)),
        ("d", bundle("Q", "9", 9, 4)),
    ];
    let text = |text: &str| Policy::parse(text).unwrap();
    let cases = [
        (text(""), 0, Some(2)),
        (text("[[rule]]\nversion = \"1.10\""), 0, Some(1)),
        (text("[[rule]]\nversion = \"1.10\""), 2, None),
        (text("[[rule]]\nproduct = \"Q\"\nhold = true"), 0, Some(2)),
        (text("[[rule]]\nvendor = \"V\"\nhold = true"), 0, None),
        (text("[[rule]]\nversion = \"5\""), 0, None),
        (text(""), 3, None),
    ];
    for (policy, floor, expected) in cases {
        let mut world = World::new(vec![Dead { floor, ..Dead::default() }], &library);
        world.policy = policy.clone();
        world.start();
        world.run_until(3 * MINUTE, World::all_rescued);
        let written: Vec<[u8; 32]> =
            expected.map(|index: usize| digest(&library[index].1)).into_iter().collect();
        assert_eq!(world.hosts[0].written, written, "{policy:?} {floor}");
        assert_eq!(world.hosts[0].held().is_some(), expected.is_none());
    }
}

#[test]
fn a_host_that_only_tells_something_is_heard_and_boots_on() {
    let tells = Dead { wants_image: false, ..Dead::default() };
    let mut world = World::new(vec![tells], &[("b", bundle("P", "2.0", 1, 1))]);
    world.start();
    world.run_for(MINUTE);
    let told = world.events().filter(|event| match event {
        ServiceEvent::HelpRequest(facts) => !facts.wants_image && facts.why == "torn",
        _ => false,
    });
    assert_eq!(told.count(), 1);
    assert!(world.hosts[0].conclusion.is_some() && world.campaigns() == 0);
}

#[test]
fn a_bundle_that_is_gone_when_it_is_wanted_gives_way_to_the_next() {
    let library = [("a", bundle("P", "1", 1, 1)), ("b", bundle("P", "2", 1, 2))];
    let mut world = World::new(vec![Dead::default()], &library);
    world.start();
    world.library.remove("b");
    assert!(world.run_until(MINUTE, World::all_rescued));
    assert_eq!(world.hosts[0].written, [digest(&library[0].1)]);
    assert!(
        world
            .events()
            .any(|event| matches!(event, ServiceEvent::BundleRefused { file, .. } if file == "b"))
    );
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
        let mut secret = [7; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let mut endpoint = Endpoint::new(secret, secret);
        endpoint.connect(world.now, manager(), ([10, 0, 0, 1], 9848).into());
        let call = endpoint.poll_transmit().unwrap().bytes;
        world.send(([10, 9, 9, 9], 1).into(), call);
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
        let mut secret = [7; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let mut endpoint = Endpoint::new(secret, secret);
        endpoint.connect(world.now, manager(), ([10, 0, 0, 1], 9848).into());
        let call = endpoint.poll_transmit().unwrap().bytes;
        world.send(([10, 9, 9, 9], 1).into(), call);
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
        let mut secret = [7; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let [_, _, high, low] = number.to_be_bytes();
        let asks_at = Time::from_micros(u64::from(number) * 1000);
        let address = ([10, 9, high, low], 1).into();
        Self { endpoint: Endpoint::new(secret, secret), address, asks_at }
    }

    /// Calls anew again and again, because it may have been forgotten.
    fn turn(&mut self, now: Time, service: &mut Service) {
        if self.asks_at <= now {
            self.asks_at = now + Duration::from_secs(20);
            self.endpoint.connect(now, manager(), ([10, 0, 0, 1], 9848).into());
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
        let heard = self.endpoint.handle_datagram(now, ([10, 0, 0, 1], 9848).into(), bytes);
        if let Some(SessionEvent::Connected { peer, .. }) = heard {
            let (why, identity) = (String::new(), samples::identity());
            let (wants_image, finding) = (true, Finding::Invalid);
            let request = HelpRequest { wants_image, finding, offset_bytes: 0, why, identity };
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
    endpoint.connect(Time::ZERO, manager(), ([10, 0, 0, 1], 9848).into());
    recorded.push(endpoint.poll_transmit().unwrap().bytes);
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
fn a_host_that_asks_all_the_time_is_not_answered_more_than_twice_a_second() {
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
    endpoint.connect(now, manager(), ([10, 0, 0, 1], 9848).into());
    service.handle_datagram(now, at, &endpoint.poll_transmit().unwrap().bytes);
    while let Some(said) = service.poll_transmit(now) {
        endpoint.handle_datagram(now, ([10, 0, 0, 1], 9848).into(), &said.bytes);
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
    assert!((1..=4).contains(&answers), "{answers}");
}

#[test]
fn a_thousand_hosts_at_once_are_rescued_and_answers_and_memory_stay_bounded() {
    let hosts = vec![Dead::default(); 1000];
    let mut world = World::new(hosts, &[("b", bundle("P", "2.0", 1, 1))]);
    world.start();
    assert!(world.run_until(LONG, World::all_rescued));
    assert_eq!(world.campaigns(), 1);
    assert!(world.stream_bytes < IMAGE_SIZE_BYTES as u64 * 5 / 4, "{}", world.stream_bytes);
    assert!(world.said <= world.heard, "{} answers to {} datagrams", world.said, world.heard);
    world.run_for(MINUTE);
    let service = world.service();
    assert!(service.courses.is_empty() && service.loading.is_empty());
    assert_eq!(service.callers.len(), 1000);
    // What is held for each host, its sessions apart.
    let held = size_of::<super::caller::Caller>() + size_of::<crate::campaign::Host>();
    assert!(held < 4096, "{held}");
    let reason = Reason::Rescued.name();
    assert!(
        (0..1000)
            .all(|host| world.results(host).len() == 1 && world.results(host)[0].reason == reason)
    );
}

#[test]
fn with_escrow_a_chip_that_is_whole_is_kept_first_and_a_damaged_one_repaired_at_once() {
    let whole = Dead { finding: Finding::Valid, ..Dead::default() };
    let mut world =
        World::new(vec![whole, Dead::default()], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
    world.policy.escrow = true;
    world.loss = 0.05;
    world.start();
    assert!(world.run_until(LONG, World::all_rescued));
    assert_eq!(world.backups, [(world.hosts[0].name(), "b.fcb".to_owned())]);
    let stored = world.news().filter(|(_, news)| matches!(news, News::BackupStored { .. }));
    assert_eq!(stored.count(), 1);
}

#[test]
fn all_courses_together_have_one_budget_of_uploads() {
    let whole = Dead { finding: Finding::Valid, ..Dead::default() };
    let mut hosts = vec![whole; 20];
    hosts.extend([Dead { product: "Q", ..whole }; 20]);
    let library = [("p.fcb", bundle("P", "2.0", 1, 1)), ("q.fcb", bundle("Q", "2.0", 1, 2))];
    let mut world = World::new(hosts, &library);
    world.policy.escrow = true;
    world.rate_bits_per_s = 20_000_000;
    world.start();
    let uploads = |world: &World| -> Vec<usize> {
        let courses = world.service.iter().flat_map(|service| &service.courses);
        courses.map(|running| running.course.uploads().held).collect()
    };
    let both = std::cell::Cell::new(false);
    let too_many = |world: &World| {
        let now = uploads(world);
        both.set(both.get() || now.len() == 2 && now.iter().all(|count| *count > 0));
        now.iter().sum::<usize>() > UPLOADS_MAX
    };
    world.run_until(LONG, |world| too_many(world) || world.all_rescued());
    assert!(world.all_rescued(), "{:?} uploads at a time", uploads(&world));
    assert!(both.get(), "one board waited until the other was through");
    assert_eq!(world.backups.len(), 40);
}

#[test]
fn strangers_that_hold_their_uploads_back_keep_no_turn_from_others() {
    let whole = Dead { finding: Finding::Valid, ..Dead::default() };
    let mut hosts = vec![Dead { is_known: false, dawdles: true, ..whole }; 7];
    let late = Dead { up_at: MINUTE, ..whole };
    hosts.extend([late, Dead { product: "Q", is_known: false, ..late }]);
    let library = [("p.fcb", bundle("P", "2.0", 1, 1)), ("q.fcb", bundle("Q", "2.0", 1, 2))];
    let mut world = World::new(hosts, &library);
    (world.policy.escrow, world.policy.unknown_hosts) = (true, true);
    world.rate_bits_per_s = 2_000_000;
    world.start();
    let honest = |world: &World| world.hosts[7..].iter().all(DeadHost::is_rescued);
    assert!(world.run_until(3 * MINUTE, honest), "a known host, and a stranger with another board");
    // Those that dawdle lose their turns.
    world.run_for(10 * MINUTE);
    let results: Vec<_> = (0..7).flat_map(|host| world.results(host)).collect();
    assert_eq!(results.len(), 5);
    assert!(results.iter().all(|result| result.reason == "escrow-failed" && result.reboot_safe));
}

#[test]
fn a_service_that_stops_lets_go_whom_it_can_and_they_ask_again() {
    let good = bundle("P", "2.0", 1, 1);
    let mut world = World::new(vec![Dead::default(); 2], &[("b.fcb", good.clone())]);
    world.rate_bits_per_s = 400_000;
    world.start();
    world.run_for(Duration::from_secs(7));
    let now = world.now;
    world.service().stop(now);
    world.run_for(Duration::from_secs(2));
    let ended = |host: usize| world.results(host)[0].reason.clone();
    assert_eq!((ended(0), ended(1)), ("interrupted".to_owned(), "interrupted".to_owned()));
    assert!(world.results(0).iter().all(|result| !result.reboot_safe));
    world.start();
    assert!(world.run_until(MINUTE, World::all_rescued));
    assert!(world.hosts.iter().all(|host| host.attempts == 1));
}
