//! The service against the real machine of dead hosts.
#![allow(clippy::unwrap_used)]

mod dead_host;
mod strangers;
mod uploads;
mod world;

use std::time::Duration;

use firmcast::reason::Reason;
use firmcast::time::Time;

use super::Policy;
use super::caller::ENLISTMENTS_PER_HOUR_MAX;
use super::note::ServiceEvent;
use crate::news::News;
use dead_host::{Dead, IMAGE_SIZE_BYTES, WITHHELD_FOR};
use world::{World, bundle};

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
    hosts.push(Dead { up_at: Duration::from_millis(7500), ..Dead::default() });
    let mut world = World::new(hosts, &[("b.fcb", good.clone())]);
    world.loss = 0.1;
    world.start();
    assert!(world.run_until(LONG, World::all_rescued));
    assert_eq!(world.campaigns(), 1);
    let started = |(_, news): (Time, &News)| match news {
        News::TransferStarted { hosts, .. } => Some(*hosts),
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
fn once_the_whole_inventory_is_there_nobody_waits_for_others() {
    let came = [0, 1_000, 2_500].map(Duration::from_millis);
    let started_at = |well: u8, unknown_hosts: bool| {
        let hosts = came.map(|up_at| Dead { up_at, ..Dead::default() }).to_vec();
        let mut world = World::new(hosts, &[("b.fcb", bundle("P", "2.0", 1, 1))]);
        (world.well, world.policy.unknown_hosts) = (well, unknown_hosts);
        world.start();
        assert!(world.run_until(LONG, World::all_rescued));
        let started = |(at, news): (Time, &News)| {
            matches!(news, News::TransferStarted { hosts: 3, .. }).then_some(at)
        };
        world.news().find_map(started).unwrap().since(Time::ZERO + came[2])
    };
    let gather = Policy::default().gather();
    assert!(started_at(0, false) < gather / 5);
    assert!(started_at(1, false) > gather, "one that is well may break yet");
    assert!(started_at(0, true) > gather, "strangers may come");
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
    world.service().pardon();
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
    world.service().pardon();
    assert!(world.run_until(LONG, World::all_rescued));
}

/// Runs until the service starts anew after the second rescue, and on from there.
fn after_a_restart(dead: Dead) -> World {
    let mut world = World::new(vec![dead], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
    world.start();
    assert!(world.run_until(LONG, |world| world.hosts[0].attempts == 2));
    assert!(world.run_until(LONG, |world| world.hosts[0].dead.relapses == dead.relapses - 2));
    world.service = None;
    world.start();
    world.run_for(LONG);
    world
}

fn is_parked(world: &mut World) -> bool {
    let now = world.now;
    world.service().status(now).hosts.iter().any(|host| host.parked)
}

#[test]
fn a_restart_pardons_no_host_that_counts_its_rescues_itself() {
    let relapsing = Dead { relapses: 5, counts: true, ..Dead::default() };
    let mut world = after_a_restart(relapsing);
    assert!(is_parked(&mut world));
    assert_eq!((world.hosts[0].attempts, world.hosts[0].dead.rescues), (3, 3));
    // An operator's word does not outweigh what the host has counted either.
    world.service().pardon();
    world.run_for(HOUR);
    assert_eq!((is_parked(&mut world), world.hosts[0].attempts), (true, 3));

    let mut world = after_a_restart(Dead { counts: false, ..relapsing });
    assert!(is_parked(&mut world));
    assert_eq!(world.hosts[0].attempts, 5, "of this one the new service knew nothing");
}

#[test]
fn a_confirmed_stay_between_two_rescues_begins_the_count_anew() {
    let relapsing = Dead { relapses: 5, up_for: 11 * MINUTE, counts: true, ..Dead::default() };
    for (dead, attempts) in [(relapsing, 6), (Dead { counts: false, ..relapsing }, 3)] {
        let mut world = World::new(vec![dead], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
        world.start();
        world.run_for(2 * HOUR);
        assert_eq!(world.hosts[0].attempts, attempts);
        assert_eq!(is_parked(&mut world), attempts == 3);
    }
}

#[test]
fn a_count_that_does_not_grow_pardons_nobody() {
    let stuck = Dead { relapses: 5, counts: true, cannot_write: true, ..Dead::default() };
    let mut world = World::new(vec![stuck], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
    world.start();
    world.run_for(10 * MINUTE);
    assert_eq!((is_parked(&mut world), world.hosts[0].attempts), (true, 3));
}

#[test]
fn a_host_that_tells_of_rescues_in_vain_is_shown_as_parked_though_it_wants_nothing() {
    let telling = Dead { wants_image: false, counts: true, rescues: 3, ..Dead::default() };
    let mut world = World::new(vec![telling], &[]);
    world.start();
    world.run_for(MINUTE);
    let now = world.now;
    let status = world.service().status(now);
    assert_eq!(status.hosts.iter().map(|h| (h.parked, h.rescues)).collect::<Vec<_>>(), [(true, 3)]);
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

/// Its recovery image was built before the update that raised its floor.
#[test]
fn no_host_is_helped_below_the_floor_that_the_manager_knows() {
    let library = [("a", bundle("P", "1", 1, 1)), ("b", bundle("P", "2", 2, 2))];
    let stale = Dead { floor: 0, known_floor: 2, ..Dead::default() };
    let mut world = World::new(vec![stale], &library[..1]);
    world.start();
    world.run_for(3 * MINUTE);
    assert!(world.hosts[0].written.is_empty() && world.hosts[0].held().is_some());

    let mut world = World::new(vec![Dead { known_floor: 1, ..stale }], &library);
    world.start();
    assert!(world.run_until(3 * MINUTE, World::all_rescued));
    assert_eq!(world.hosts[0].written, [digest(&library[1].1)]);
    world.run_for(MINUTE);
    let key = world.hosts[0].key();
    assert_eq!(world.service().poll_floor(), Some((key, 2)), "to be kept");
    assert_eq!(world.service().poll_floor(), None);
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
fn what_a_host_said_before_its_rescue_and_arrives_after_it_begins_no_other() {
    for withheld in 0..12 {
        let dead = Dead { withheld: Some(withheld), ..Dead::default() };
        let mut world = World::new(vec![dead], &[("b.fcb", bundle("P", "2.0", 1, 1))]);
        world.start();
        assert!(world.run_until(LONG, World::all_rescued));
        world.run_for(WITHHELD_FOR * 3);
        let reasons = world.results(0).iter().map(|one| one.reason.clone()).collect::<Vec<_>>();
        assert_eq!(reasons, ["rescued"], "datagram {withheld}");
        assert_eq!(world.campaigns(), 1, "datagram {withheld}");
    }
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
