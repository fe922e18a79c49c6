//! What holds for every store.

use firmcast_fleet::model::{AttemptState, EventKind, RolloutState, WaveState};
use firmcast_fleet::store::requests::{
    Changed, LookBack, Outcome, Place, Replanned, Retry, SignedApproval, StateChange, WaveChange,
};
use firmcast_fleet::store::{Store, StoreError};

use super::calls;
use super::foresights;
use super::samples::{LEASE_US, Stores, claim, host, release, rollout, run_wave, start};

const CONFIRMED: Outcome<'_> =
    Outcome { confirmed: true, reason: None, flash: Some("new"), detail: "" };
const FAILED: Outcome<'_> =
    Outcome { confirmed: false, reason: Some("write-failed"), flash: Some("old"), detail: "a\0b" };

#[test]
fn every_store_does_the_same() {
    let mut stores = Stores::new();
    for (name, store) in &mut stores.each {
        eprintln!("store: {name}");
        let store = store.as_mut();
        hosts_by_name_and_key(store);
        text_of_any_kind(store);
        releases_once(store);
        rollouts_whole_or_not_at_all(store);
        two_people_at_once(store);
        approvals_once(store);
        the_clock_goes(store);
        claims_in_order_and_no_host_twice(store);
        leases_are_lost_and_reports_refused(store);
        abort_and_retry(store);
        events_in_order(store);
        foresights::kept_until_the_host_holds_something_else(store);
        foresights::measured_by_updates_that_nobody_took_over(store);
        foresights::taken_by_the_next_try(store);
        calls::as_the_worker_knows_them_that_heard_them_last(store);
        calls::a_confirmed_host_holds_the_release_from_then_on(store);
    }
}

fn hosts_by_name_and_key(store: &mut dyn Store) {
    let all: Vec<_> = ["b", "B", "ä", "a", "c", "d"].map(|name| host(name, "north")).into();
    store.put_hosts(&all).unwrap();
    store.put_hosts(&all).unwrap();
    let names = |hosts: Vec<firmcast_fleet::model::Host>| {
        hosts.into_iter().map(|host| host.name).collect::<Vec<_>>()
    };
    assert_eq!(names(store.hosts("", 4).unwrap()), ["B", "a", "b", "c"]);
    assert_eq!(names(store.hosts("c", 4).unwrap()), ["d", "ä"]);
    let mut changed = host("a", "south");
    changed.key = "another key".to_owned();
    store.put_hosts(&[changed.clone()]).unwrap();
    assert_eq!(store.host("a").unwrap(), Some(changed));
    // The key that is free now goes to another host; with it, in the same call, one that is not.
    let (mut heir, mut thief) = (host("e", "north"), host("f", "north"));
    heir.key = "key of a".to_owned();
    thief.key = "key of b".to_owned();
    let refused = store.put_hosts(&[heir.clone(), thief]).unwrap_err();
    assert!(
        matches!(&refused, StoreError::KeyOfAnother { name, owner } if name == "f" && owner == "b"),
        "{refused}"
    );
    assert_eq!(store.host("e").unwrap(), None, "all or none");
    store.put_hosts(&[heir]).unwrap();
    assert!(matches!(store.hosts("", 1 << 20), Err(StoreError::TooMuch { .. })));
}

fn text_of_any_kind(store: &mut dyn Store) {
    let mut strange = host("<b>'; DROP TABLE hosts; --\"\u{202e}", "north");
    for value in ["<script>alert(1)</script>", "'\"`$1?2{id}\\", "\u{feff}\u{7f}\r\n", "🔥"] {
        strange.labels.insert(value.to_owned(), value.to_owned());
    }
    store.put_hosts(&[strange.clone()]).unwrap();
    assert_eq!(store.host(&strange.name).unwrap(), Some(strange));
    let mut nul = host("nul", "north");
    nul.labels.insert("rack".to_owned(), "a\0b".to_owned());
    let refused = store.put_hosts(&[nul]).unwrap_err().to_string();
    let words = "the label rack of host nul contains a NUL character, which no store keeps; \
                 change it and try again";
    assert_eq!(refused, words);
    assert!(store.host("a\0").is_err());
}

fn releases_once(store: &mut dyn Store) {
    assert_eq!(store.add_release(&release()).unwrap(), Changed::Now);
    assert_eq!(store.add_release(&release()).unwrap(), Changed::Before);
    assert_eq!(store.release(&release().digest).unwrap(), Some(release()));
    assert_eq!(store.releases("", 10).unwrap(), [release()]);
}

fn rollouts_whole_or_not_at_all(store: &mut dyn Store) {
    let hosts = [("b", 1, "north"), ("a", 0, "north"), ("c", 1, "north"), ("ä", 1, "south")];
    let id = store.create_rollout(&rollout("first", &hosts)).unwrap();
    let kept = store.rollout_named("first").unwrap().unwrap();
    assert_eq!(store.rollout(id).unwrap().as_ref(), Some(&kept));
    assert_eq!((kept.rollout.state, kept.waves.len()), (RolloutState::Ready, 2));
    let places = |attempts: Vec<firmcast_fleet::model::Attempt>| {
        let place = |each: firmcast_fleet::model::Attempt| (each.host, each.wave, each.position);
        attempts.into_iter().map(place).collect::<Vec<_>>()
    };
    let page = store.attempts(id, None, 2).unwrap();
    let last = Place::from(page.last().unwrap());
    assert_eq!(places(page), [("a".to_owned(), 0, 0), ("b".to_owned(), 1, 0)]);
    let rest = store.attempts(id, Some(last), 9).unwrap();
    assert_eq!(places(rest), [("c".to_owned(), 1, 1), ("ä".to_owned(), 1, 2)]);
    let counts: Vec<_> = (store.counts(id).unwrap().into_iter())
        .map(|count| (count.wave, count.site, count.attempts))
        .collect();
    let (north, south) = ("north".to_owned(), "south".to_owned());
    assert_eq!(counts, [(0, north.clone(), 1), (1, north, 2), (1, south, 1)]);

    let events = store.events(0, 100).unwrap();
    let again = store.create_rollout(&rollout("first", &hosts)).unwrap_err();
    assert!(matches!(again, StoreError::NameTaken { .. }), "{again}");
    let absent = [("a", 0, "north"), ("absent", 0, "north")];
    let refused = store.create_rollout(&rollout("second", &absent)).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unknown { what: "host", name } if name == "absent"),
        "{refused}"
    );
    let twice = store.create_rollout(&rollout("second", &[("a", 0, "x"), ("a", 1, "x")]));
    assert!(matches!(twice, Err(StoreError::HostTwice { .. })));
    assert_eq!(store.rollouts(0, 10).unwrap(), [kept.rollout]);
    assert_eq!(store.events(0, 100).unwrap(), events);
}

fn two_people_at_once(store: &mut dyn Store) {
    let id = store.rollout_named("first").unwrap().unwrap().rollout.id;
    let from = [RolloutState::Ready];
    let to = RolloutState::Running;
    let begin = StateChange { from: &from, to, reason: "", by: "ann", at: 6, revision: Some(0) };
    assert_eq!(store.change_state(id, &begin).unwrap(), Changed::Now);
    let events = store.events(0, 100).unwrap();
    assert_eq!(store.change_state(id, &begin).unwrap(), Changed::Before);
    assert_eq!(store.events(0, 100).unwrap(), events, "a second start changes nothing");
    let from = [RolloutState::Running];
    let pause = StateChange { from: &from, to: RolloutState::Paused, revision: Some(1), ..begin };
    let abort = StateChange { to: RolloutState::Error, by: "bob", ..pause };
    assert_eq!(store.change_state(id, &pause).unwrap(), Changed::Now);
    let late = store.change_state(id, &abort).unwrap_err();
    let told = "rollout first is paused at revision 2, so it was not changed; \
                look at it again, then decide";
    assert_eq!(late.to_string(), told);
    let from = [RolloutState::Paused];
    let stale = StateChange { from: &from, to: RolloutState::Running, revision: Some(1), ..pause };
    assert!(matches!(store.change_state(id, &stale), Err(StoreError::RolloutMoved { .. })));
    let resume = StateChange { revision: Some(2), ..stale };
    assert_eq!(store.change_state(id, &resume).unwrap(), Changed::Now);
    assert!(matches!(store.change_state(99, &begin), Err(StoreError::Unknown { .. })));

    let waiting = [WaveState::Waiting];
    let wave =
        WaveChange { from: &waiting, to: WaveState::Running, by: "ann", at: 7, revision: None };
    assert_eq!(store.change_wave(id, 0, &wave).unwrap(), Changed::Now);
    assert_eq!(store.change_wave(id, 0, &wave).unwrap(), Changed::Before);
    let other = WaveChange { to: WaveState::Soaking, ..wave };
    assert!(matches!(store.change_wave(id, 0, &other), Err(StoreError::WaveMoved { .. })));
    assert!(matches!(store.change_wave(id, 7, &other), Err(StoreError::Unknown { .. })));
}

fn the_clock_goes(store: &mut dyn Store) {
    let unix_us = || {
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
    };
    let (before, now, after) = (unix_us(), store.now().unwrap(), unix_us());
    assert!((before..=after).contains(&now), "all of these run here: {before} {now} {after}");
}

fn approvals_once(store: &mut dyn Store) {
    let id = store.rollout_named("first").unwrap().unwrap().rollout.id;
    let approval = SignedApproval {
        wave: 1,
        key: "fingerprint".to_owned(),
        signature: "signature".to_owned(),
        by: "bob".to_owned(),
        at: 8,
    };
    assert_eq!(store.approve(id, &approval).unwrap(), Changed::Now);
    assert_eq!(store.approve(id, &approval).unwrap(), Changed::Before);
    assert_eq!(store.approvals(id).unwrap(), std::slice::from_ref(&approval));
    assert!(store.approve(id, &SignedApproval { wave: 2, ..approval }).is_err());
}

/// The names of the hosts that a worker gets.
fn claimed(store: &mut dyn Store, site: &str, worker: &str, at: i64, limit: usize) -> Vec<String> {
    let claims = store.claim(&claim(site, worker, at, limit)).unwrap();
    claims.into_iter().map(|claim| claim.attempt.host).collect()
}

fn claims_in_order_and_no_host_twice(store: &mut dyn Store) {
    let first = store.rollout_named("first").unwrap().unwrap().rollout.id;
    assert_eq!(claimed(store, "north", "w1", 10, 9), ["a"], "the second wave waits");
    run_wave(store, first, 1);
    // The host a is in flight, and b stands in two rollouts.
    let hosts = [("a", 0, "north"), ("b", 0, "north"), ("d", 0, "north")];
    let second = store.create_rollout(&rollout("second", &hosts)).unwrap();
    start(store, second);
    assert_eq!(claimed(store, "north", "w2", 11, 9), ["b", "c", "d"]);
    assert_eq!(claimed(store, "north", "w2", 11, 9), [""; 0]);
    assert_eq!(claimed(store, "south", "w3", 11, 0), [""; 0]);
    assert_eq!(claimed(store, "south", "w3", 11, 9), ["ä"]);
}

fn leases_are_lost_and_reports_refused(store: &mut dyn Store) {
    let first = store.rollout_named("first").unwrap().unwrap().rollout.id;
    let canary = store.attempts(first, None, 1).unwrap().remove(0);
    store.tell_stage(canary.id, "w1", "flashing", 12).unwrap();
    assert_eq!(store.renew("w1", &[canary.id, 99], 12, LEASE_US).unwrap(), [canary.id]);
    let others: Vec<i64> = (1..20).collect();
    assert_eq!(store.renew("w2", &others, 12, LEASE_US).unwrap().len(), 3);
    assert_eq!(claimed(store, "north", "w4", LEASE_US + 11, 9), [""; 0], "all were renewed");
    let taken = store.claim(&claim("north", "w4", LEASE_US + 12, 1)).unwrap().remove(0);
    assert_eq!((taken.attempt.id, taken.taken_from.as_deref()), (canary.id, Some("w1")));
    let late = store.report(canary.id, "w1", &CONFIRMED, LEASE_US + 13).unwrap_err();
    assert!(
        matches!(&late, StoreError::LeaseLost { holder: Some(holder), .. } if holder == "w4"),
        "{late}"
    );
    assert!(store.tell_stage(canary.id, "w1", "late", 12).is_err());
    let reached = store.attempts(first, None, 1).unwrap().remove(0).stage;
    assert_eq!(reached.as_deref(), Some("flashing"));
    assert_eq!(store.renew("w1", &others, LEASE_US + 13, LEASE_US).unwrap(), [0; 0]);
    let known = |store: &mut dyn Store| {
        let host = store.host("a").unwrap().unwrap();
        (host.bios_version, host.security_version_floor)
    };
    assert_eq!(known(store), ("1".to_owned(), 3), "nobody has confirmed it yet");
    assert_eq!(store.report(canary.id, "w4", &CONFIRMED, 40).unwrap(), Changed::Now);
    assert_eq!(known(store), (release().version, release().security_version));
    assert_eq!(store.report(canary.id, "w4", &CONFIRMED, 41).unwrap(), Changed::Before);
    assert!(store.report(canary.id, "w4", &FAILED, 42).is_err(), "it has ended otherwise");
    let ended = store.attempts(first, None, 1).unwrap().remove(0);
    assert_eq!((ended.state, ended.ended_at), (AttemptState::Confirmed, Some(40)));
    // It is free for the other rollout.
    assert_eq!(claimed(store, "north", "w1", 43, 9), ["a"]);
}

fn abort_and_retry(store: &mut dyn Store) {
    let id = store.rollout_named("second").unwrap().unwrap().rollout.id;
    let states = |store: &mut dyn Store| {
        let attempts = store.attempts(id, None, 9).unwrap();
        let of_host = store.attempts_of(&attempts[0].host, 9).unwrap();
        assert!(of_host.windows(2).all(|pair| pair[0].id > pair[1].id), "{of_host:?}");
        assert!(of_host.contains(&attempts[0]));
        attempts.into_iter().map(|each| (each.host, each.state, each.retry)).collect::<Vec<_>>()
    };
    let d = store.attempts(id, None, 9).unwrap().remove(2);
    store.report(d.id, "w2", &FAILED, 50).unwrap();
    assert_eq!(store.host("d").unwrap(), Some(host("d", "north")), "what was known of it holds");
    let ended = store.attempts(id, None, 9).unwrap().remove(2);
    assert_eq!(ended.detail, "a\u{fffd}b", "NUL does not keep an attempt from ending");
    let retry = Retry { by: "ann", at: 51, revision: None, around_s: None };
    let seen = store.rollout(id).unwrap().unwrap().rollout.revision;
    let late = store.retry_failed(id, &Retry { revision: Some(seen - 1), ..retry }).unwrap_err();
    let is_told = matches!(late, StoreError::RolloutMoved { revision, .. } if revision == seen);
    assert!(is_told, "{late}");
    let planned = store.retry_failed(id, &Retry { revision: Some(seen), ..retry }).unwrap();
    let again = Replanned { host: d.host, site: d.site, before_s: 1, predicted_s: 1 };
    assert_eq!(planned, [again]);
    assert_eq!(store.retry_failed(id, &retry).unwrap(), []);
    let from = [RolloutState::Running];
    let to = RolloutState::Error;
    let abort = StateChange { from: &from, to, reason: "<why>", by: "bob", at: 52, revision: None };
    store.change_state(id, &abort).unwrap();
    let name = str::to_owned;
    let expected = [
        (name("a"), AttemptState::InFlight, 0),
        (name("b"), AttemptState::Skipped, 0),
        (name("d"), AttemptState::Failed, 0),
        (name("d"), AttemptState::Skipped, 1),
    ];
    assert_eq!(states(store), expected);
    // What has begun is brought to its end, whatever the rollout's state.
    let taken = claimed(store, "north", "w5", 3 * LEASE_US, 9);
    assert_eq!(taken, ["b", "c", "a"], "by rollout and wave");
}

fn events_in_order(store: &mut dyn Store) {
    let all = store.events(0, 1000).unwrap();
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));
    let middle = all[4].id;
    assert_eq!(store.events(middle, 3).unwrap(), all[5..8]);
    let mut back = store.past_events(&LookBack { before: middle, ..LookBack::ALL }, 1000).unwrap();
    back.reverse();
    assert_eq!(back, all[..4]);
    let about_a = LookBack { rollout: Some(1), host: Some("a"), ..LookBack::ALL };
    let last = store.past_events(&about_a, 1).unwrap();
    let is_about_a = |event: &&firmcast_fleet::model::Event| {
        event.rollout == Some(1) && event.host.as_deref() == Some("a")
    };
    assert_eq!(last.first(), all.iter().rfind(is_about_a));
    assert!(
        last.len() == 1
            && store
                .past_events(&LookBack { host: Some("?"), ..LookBack::ALL }, 9)
                .unwrap()
                .is_empty()
    );
    let count = |kind| all.iter().filter(|event| event.kind == kind).count();
    let counts = [
        EventKind::Created,
        EventKind::State,
        EventKind::Wave,
        EventKind::Approved,
        EventKind::Claimed,
        EventKind::Stage,
        EventKind::Ended,
        EventKind::LeaseLost,
    ]
    .map(count);
    assert_eq!(counts, [2, 6, 3, 1, 6, 1, 2, 4]);
    let taken = all.iter().find(|event| event.kind == EventKind::LeaseLost).unwrap();
    assert_eq!((taken.by.as_str(), taken.detail.as_str()), ("w4", "w1"));
    assert_eq!(taken.host.as_deref(), Some("a"));
}
