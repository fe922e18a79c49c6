//! What limits and windows do, in every store.

use firmcast_fleet::model::{
    AttemptState, EventKind, Health, Host, Look, RolloutId, RolloutState, WaveState,
};
use firmcast_fleet::rollout::limits::{
    Action, Amount, Counters, Domain, FailureLimit, InFlightLimit, Limits, Scope,
};
use firmcast_fleet::store::requests::{
    Changed, ClaimRequest, LookRequest, Open, Outcome, Retry, StateChange, WaveChange,
};
use firmcast_fleet::store::{Store, StoreError};

use super::samples::{LEASE_US, Stores, claim, host, limited, release, start};
use super::watch::UNREACHABLE;

#[test]
fn every_store_keeps_limits_and_windows() {
    let mut stores = Stores::new();
    for (name, store) in &mut stores.each {
        eprintln!("store: {name}");
        let store = store.as_mut();
        store.add_release(&release()).unwrap();
        full_racks_hide_nobody(store);
        a_window_closes_in_time(store);
        failures_pause_and_stop_at_once(store);
        sick_hosts_count_as_failed(store);
        a_retry_comes_before_who_was_about_to_finish(store);
        hosts_that_no_limit_would_count_are_refused(store);
    }
}

fn rack() -> Scope {
    Scope::Label("rack".to_owned())
}

fn placed(name: &str, rack: &str) -> Host {
    let mut host = host(name, "north");
    host.labels.insert("rack".to_owned(), rack.to_owned());
    host
}

/// Creates and starts a rollout.
fn run(store: &mut dyn Store, name: &str, limits: Limits, hosts: &[Host]) -> RolloutId {
    store.put_hosts(hosts).unwrap();
    let hosts: Vec<_> = hosts.iter().map(|host| (host.clone(), 0)).collect();
    let id = store.create_rollout(&limited(name, limits, &hosts)).unwrap();
    start(store, id);
    id
}

/// The numbers and hosts that a worker gets of one rollout.
fn claimed(store: &mut dyn Store, open: Open, limit: usize) -> Vec<(i64, String)> {
    let request = ClaimRequest { open: &[open], ..claim("north", "w1", 10, limit) };
    let claims = store.claim(&request).unwrap();
    claims.into_iter().map(|claim| (claim.attempt.id, claim.attempt.host)).collect()
}

fn report(store: &mut dyn Store, attempt: i64, reason: Option<&str>) {
    let outcome = Outcome { confirmed: reason.is_none(), reason, flash: None, detail: "" };
    store.report(attempt, "w1", &outcome, 11).unwrap();
}

/// More hosts of full racks wait than one claim looks at, and yet the last host is found.
fn full_racks_hide_nobody(store: &mut dyn Store) {
    let in_racks =
        (0..1000).map(|number| placed(&format!("full{number:03}"), &format!("r{}", number / 25)));
    let hosts: Vec<Host> = in_racks.chain([placed("last", "far")]).collect();
    let in_flight = vec![InFlightLimit { scope: rack(), amount: Amount::Percent(5) }];
    let rollout = run(store, "racks", Limits { in_flight, failures: Vec::new() }, &hosts);
    let open = Open { rollout, seconds: u32::MAX };
    let mut begun = Vec::new();
    loop {
        let claims = claimed(store, open, 30);
        if claims.is_empty() {
            break;
        }
        begun.extend(claims);
    }
    let first = |number: usize| format!("full{:03}", number * 25);
    let expected: Vec<String> = (0..40).map(first).chain(["last".to_owned()]).collect();
    let names: Vec<&String> = begun.iter().map(|(_, name)| name).collect();
    assert_eq!(names, expected.iter().collect::<Vec<_>>(), "one in each rack");
    report(store, begun[7].0, None);
    let next = claimed(store, open, 30).remove(0);
    assert_eq!(next.1, "full176");
    let domain = Domain(rack(), "north/r7".to_owned());
    let counters = store.counters(rollout).unwrap().of(&domain);
    assert_eq!(counters, Counters { planned: 25, in_flight: 1, confirmed: 1, ..counters });
    begun.push(next);
    begun.remove(7);
    begun.into_iter().for_each(|(attempt, _)| report(store, attempt, None));
}

fn a_window_closes_in_time(store: &mut dyn Store) {
    let mut new = limited("window", Limits::default(), &[(placed("w", "far"), 0)]);
    store.put_hosts(&[placed("w", "far")]).unwrap();
    new.attempts[0].predicted_s = 100;
    let rollout = store.create_rollout(&new).unwrap();
    start(store, rollout);
    assert_eq!(claimed(store, Open { rollout, seconds: 99 }, 9), []);
    assert_eq!(claimed(store, Open { rollout: 99, seconds: 100 }, 9), []);
    let begun = claimed(store, Open { rollout, seconds: 100 }, 9);
    assert_eq!(begun[0].1, "w");
    // What has begun is brought to its end outside of windows, too.
    let late = ClaimRequest { open: &[], ..claim("north", "w1", 10 + LEASE_US, 9) };
    let taken = store.claim(&late).unwrap();
    assert_eq!((taken.len(), taken[0].attempt.id), (1, begun[0].0));
    report(store, begun[0].0, None);
}

fn failures_pause_and_stop_at_once(store: &mut dyn Store) {
    let failures = |scope, hosts, unreachable, action| FailureLimit {
        scope,
        amount: Amount::Hosts(hosts),
        sample: 0,
        unreachable,
        action,
    };
    let failures = vec![
        failures(rack(), 1, false, Action::Pause),
        failures(Scope::All, 2, true, Action::Stop),
    ];
    let hosts: Vec<_> = (0..9).map(|number| placed(&format!("h{number}"), "r1")).collect();
    let rollout = run(store, "failures", Limits { in_flight: Vec::new(), failures }, &hosts);
    let open = Open { rollout, seconds: u32::MAX };
    let state = |store: &mut dyn Store| {
        let rollout = store.rollout(rollout).unwrap().unwrap().rollout;
        (rollout.state, rollout.reason)
    };
    let begun = claimed(store, open, 5);
    report(store, begun[0].0, Some(UNREACHABLE));
    assert_eq!(state(store).0, RolloutState::Running, "the rack does not count it");
    report(store, begun[1].0, None);
    report(store, begun[2].0, Some("write-failed"));
    // Both limits are reached, and stop comes before pause.
    let reason = "2 of 3 hosts failed in the rollout; the limit is 2";
    assert_eq!(state(store), (RolloutState::Error, reason.to_owned()));
    let states = store.attempts(rollout, None, 99).unwrap();
    let skipped = states.iter().filter(|each| each.state == AttemptState::Skipped).count();
    let in_flight = states.iter().filter(|each| each.state == AttemptState::InFlight).count();
    assert_eq!((skipped, in_flight), (4, 2));
    let all = Domain(Scope::All, String::new());
    let expected = Counters { planned: 9, in_flight: 2, confirmed: 1, failed: 1, unreachable: 1 };
    assert_eq!(store.counters(rollout).unwrap().of(&all), expected);
    report(store, begun[3].0, Some("write-failed"));
    report(store, begun[4].0, None);
    resumed_after_a_pause(store);
    let told = store.events(0, 10_000).unwrap();
    let by_worker = |event: &&firmcast_fleet::model::Event| event.by == "w1";
    let told: Vec<_> =
        told.iter().filter(by_worker).filter(|event| event.kind == EventKind::State).collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].detail, format!("error: {reason}"));
}

fn resumed_after_a_pause(store: &mut dyn Store) {
    let failures = vec![FailureLimit {
        scope: Scope::All,
        amount: Amount::Percent(50),
        sample: 2,
        unreachable: false,
        action: Action::Pause,
    }];
    let hosts: Vec<_> = (0..9).map(|number| placed(&format!("h{number}"), "r1")).collect();
    let rollout = run(store, "paused", Limits { in_flight: Vec::new(), failures }, &hosts);
    let open = Open { rollout, seconds: u32::MAX };
    let begun = claimed(store, open, 3);
    report(store, begun[0].0, Some("write-failed"));
    assert_eq!(claimed(store, open, 1).len(), 1, "one host is no sample");
    // The second host completes the sample, although it ended well.
    report(store, begun[1].0, None);
    let paused = store.rollout(rollout).unwrap().unwrap().rollout;
    let reason = "1 of 2 hosts failed in the rollout; the limit is 50 %";
    assert_eq!((paused.state, paused.reason.as_str()), (RolloutState::Paused, reason));
    assert_eq!(claimed(store, open, 9), []);
    let from = [RolloutState::Paused];
    let to = RolloutState::Running;
    let resume = StateChange { from: &from, to, reason: "", by: "ann", at: 12, revision: None };
    store.change_state(rollout, &resume).unwrap();
    let all = Domain(Scope::All, String::new());
    let expected = Counters { planned: 9, in_flight: 2, ..Counters::default() };
    assert_eq!(store.counters(rollout).unwrap().of(&all), expected);
    assert_eq!(claimed(store, open, 9).len(), 5);
}

/// Confirmed hosts are looked at by lease. Of four that were confirmed, one before a resume, two
/// are sick: that is half of what counts.
fn sick_hosts_count_as_failed(store: &mut dyn Store) {
    let failures = vec![FailureLimit {
        scope: Scope::All,
        amount: Amount::Percent(50),
        sample: 3,
        unreachable: true,
        action: Action::Pause,
    }];
    let hosts: Vec<_> = (0..4).map(|number| placed(&format!("s{number}"), "r1")).collect();
    let rollout = run(store, "sick", Limits { in_flight: Vec::new(), failures }, &hosts);
    let begun = claimed(store, Open { rollout, seconds: u32::MAX }, 9);
    report(store, begun[0].0, None);
    let change = |store: &mut dyn Store, from, to| {
        let change =
            StateChange { from: &[from], to, reason: "", by: "ann", at: 12, revision: None };
        store.change_state(rollout, &change).unwrap();
    };
    change(store, RolloutState::Running, RolloutState::Paused);
    change(store, RolloutState::Paused, RolloutState::Running);
    begun[1..].iter().for_each(|(attempt, _)| report(store, *attempt, None));
    let request =
        LookRequest { site: "north", worker: "w1", at: 20, lease_us: 5, limit: 9, lacking: &[] };
    assert_eq!(store.claim_looks(&request).unwrap(), [], "it still runs");
    let wave = |store: &mut dyn Store, to| {
        let from = [WaveState::Running, WaveState::Looking];
        let change = WaveChange { from: &from, to, by: "w1", at: 21, revision: None };
        store.change_wave(rollout, 0, &change).unwrap();
    };
    wave(store, WaveState::Looking);
    let looked = |store: &mut dyn Store, request: LookRequest<'_>| {
        let claimed = store.claim_looks(&request).unwrap();
        claimed.into_iter().map(|attempt| attempt.id).collect::<Vec<_>>()
    };
    let ids: Vec<i64> = begun.iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(looked(store, LookRequest { limit: 3, ..request }), ids[..3]);
    assert_eq!(looked(store, LookRequest { worker: "w2", at: 24, ..request }), ids[3..]);
    assert_eq!(store.renew("w1", &ids, 24, 5).unwrap(), ids[..3]);
    assert_eq!(looked(store, LookRequest { worker: "w3", at: 29, ..request }), ids);
    let tell = |store: &mut dyn Store, place: usize, health| {
        let (reason, detail) = ("wrong-digest".to_owned(), "why".to_owned());
        store.report_look(ids[place], "w3", &Look { health, at: 30, reason, detail })
    };
    assert_eq!(tell(store, 1, Health::Healthy).unwrap(), Changed::Now);
    assert_eq!(tell(store, 1, Health::Healthy).unwrap(), Changed::Before);
    assert!(tell(store, 1, Health::Sick).is_err(), "the look has ended");
    assert_eq!(tell(store, 2, Health::Unclear).unwrap(), Changed::Now);
    let version = |store: &mut dyn Store, host| store.host(host).unwrap().unwrap().bios_version;
    assert_eq!(version(store, "s0"), release().version);
    assert_eq!(tell(store, 0, Health::Sick).unwrap(), Changed::Now);
    assert_eq!([version(store, "s0"), version(store, "s1")], [String::new(), release().version]);
    let state = |store: &mut dyn Store| store.rollout(rollout).unwrap().unwrap().rollout.state;
    // Three confirmed in this round, and one failed that was confirmed in the round before.
    let all = Domain(Scope::All, String::new());
    let expected = Counters { planned: 4, confirmed: 3, failed: 1, ..Counters::default() };
    assert_eq!(store.counters(rollout).unwrap().of(&all), expected);
    assert_eq!(state(store), RolloutState::Running);
    assert_eq!(store.counts(rollout).unwrap()[0].healthy, 1);
    // The time is over: one was unclear, and nobody has told of the other.
    wave(store, WaveState::Finished);
    assert_eq!(state(store), RolloutState::Paused);
    let ended = store.attempts(rollout, None, 9).unwrap();
    let reasons: Vec<_> = ended.iter().map(|attempt| attempt.reason.as_deref()).collect();
    let (digest, silent) = (Some("wrong-digest"), Some("no-agent-after-reboot"));
    assert_eq!(reasons, [digest, None, digest, silent]);
    assert!(ended[3].detail.contains("nobody has looked"), "{}", ended[3].detail);
    assert!(tell(store, 3, Health::Healthy).is_err(), "it is over");
}

/// A worker has seen that all have ended, and finishes the rollout after a person's retry.
fn a_retry_comes_before_who_was_about_to_finish(store: &mut dyn Store) {
    let retry = |at| Retry { by: "ann", at, revision: None, around_s: None };
    let hosts = [placed("retried", "r1")];
    let rollout = run(store, "retried", Limits::default(), &hosts);
    let open = Open { rollout, seconds: u32::MAX };
    let begun = claimed(store, open, 9);
    report(store, begun[0].0, Some("write-failed"));
    let from = [WaveState::Running];
    let to = WaveState::Finished;
    let seen = store.rollout(rollout).unwrap().unwrap().rollout.revision;
    let wave = WaveChange { from: &from, to, by: "w1", at: 12, revision: Some(seen) };
    store.change_wave(rollout, 0, &wave).unwrap();
    assert!(store.under_way(rollout - 1, 9).unwrap().contains(&rollout));
    assert_eq!(store.retry_failed(rollout, &retry(13)).unwrap().len(), 1);
    let from = [RolloutState::Running];
    let to = RolloutState::Finished;
    let finish =
        StateChange { from: &from, to, reason: "", by: "w1", at: 14, revision: Some(seen) };
    let late = store.change_state(rollout, &finish).unwrap_err();
    assert!(matches!(late, StoreError::RolloutMoved { .. }), "{late}");
    let late = store.change_wave(rollout, 0, &wave).unwrap_err();
    assert!(matches!(late, StoreError::RolloutMoved { .. }), "{late}");
    let again = claimed(store, open, 9);
    assert_eq!(again.len(), 1, "its wave runs again");
    report(store, again[0].0, Some("write-failed"));
    let revision = None;
    store.change_state(rollout, &StateChange { revision, ..finish }).unwrap();
    assert!(!store.under_way(0, 99).unwrap().contains(&rollout));
    assert_eq!(store.retry_failed(rollout, &retry(15)).unwrap().len(), 1);
    let kept = store.rollout(rollout).unwrap().unwrap().rollout;
    assert_eq!(kept.state, RolloutState::Running);
    assert_eq!(claimed(store, open, 9).len(), 1);
}

fn hosts_that_no_limit_would_count_are_refused(store: &mut dyn Store) {
    let in_flight = vec![InFlightLimit { scope: rack(), amount: Amount::Hosts(1) }];
    let limits = Limits { in_flight, failures: Vec::new() };
    let mut new = limited("uncounted", limits, &[(placed("last", "far"), 0)]);
    new.attempts[0].domains.clear();
    let refused = store.create_rollout(&new).unwrap_err();
    assert!(matches!(&refused, StoreError::OtherDomains { host } if host == "last"), "{refused}");
}
