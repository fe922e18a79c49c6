//! Dead hosts that call for help, and what a host holds after it was confirmed or rescued.

use firmcast_fleet::model::{Call, CallNews, CallTurn, EventKind, Foresight, Host};
use firmcast_fleet::store::requests::{
    CALL_KEPT_US, Calling, ClaimRequest, LookBack, Open, Outcome,
};
use firmcast_fleet::store::{Store, StoreError};

use super::samples::{claim, host, release, rollout, start};

fn call(host: &str, heard_at: i64, why: &str) -> Call {
    Call {
        host: host.to_owned(),
        site: "west".to_owned(),
        worker: "whoever".to_owned(),
        since: 1,
        heard_at,
        address: "192.0.2.9:9847".to_owned(),
        finding: "invalid".to_owned(),
        why: why.to_owned(),
        stage: "waiting".to_owned(),
        done: 0,
        total: 0,
        version: String::new(),
        attempts: 0,
        failures: 0,
        rescues: 0,
        parked: why == "parked",
        conflict: false,
        held: String::new(),
        last: String::new(),
    }
}

pub(crate) fn as_the_worker_knows_them_that_heard_them_last(store: &mut dyn Store) {
    const NOW: i64 = 100_000_000_000;
    store.put_hosts(&["west-1", "west-2", "west-3"].map(|name| host(name, "west"))).unwrap();
    let known = |store: &mut dyn Store, at| -> Vec<(String, String, String)> {
        let calls = store.calls(at).unwrap().into_iter();
        calls.map(|call| (call.host, call.worker, call.why)).collect()
    };
    let is = |host: &str, worker: &str, why: &str| -> (String, String, String) {
        (host.to_owned(), worker.to_owned(), why.to_owned())
    };
    let calls = [call("west-2", NOW - 9, "torn\0"), call("west-1", NOW - 5, "a"), call("x", 0, "")];
    store.tell_calls("w1", &calls, &[], NOW).unwrap();
    store.tell_calls("w2", &[call("west-1", NOW - 6, "b")], &[], NOW).unwrap();
    let wanted = [is("west-1", "w1", "a"), is("west-2", "w1", "torn\u{fffd}")];
    assert_eq!(known(store, NOW), wanted, "a host that nobody knows is left out");
    // What a worker says takes the place of what it said before.
    let twice = [call("west-3", NOW, "old"), call("west-3", NOW, "parked")];
    store.tell_calls("w1", &twice, &[], NOW).unwrap();
    assert_eq!(known(store, NOW), [is("west-1", "w2", "b"), is("west-3", "w1", "parked")]);
    let counted = store.survey(NOW).unwrap().calls;
    assert_eq!(counted, [("west".to_owned(), Calling { hosts: 2, parked: 1 })].into());
    let long_after = NOW - 6 + CALL_KEPT_US;
    assert_eq!(known(store, long_after).len(), 2);
    assert_eq!(known(store, long_after + 1), [is("west-3", "w1", "parked")]);
    assert!(matches!(store.tell_calls("", &[], &[], NOW), Err(StoreError::Text { .. })));

    let news = |host: &str, what: CallTurn| CallNews {
        host: host.to_owned(),
        what,
        detail: format!("news of {host}"),
    };
    let told = [
        news("west-1", CallTurn::Called),
        news("west-1", CallTurn::Failed),
        news("nobody", CallTurn::Called),
        news("west-1", CallTurn::Rescued(release().digest)),
        news("west-2", CallTurn::Rescued("gone".to_owned())),
        news("west-3", CallTurn::Parked),
    ];
    let foreseen = |store: &mut dyn Store| -> Vec<String> {
        let all = store.foresights(&release().digest, "west", 9).unwrap().into_iter();
        all.map(|each| each.host).collect()
    };
    let of = |host: &str| Foresight {
        host: host.to_owned(),
        release: release().digest,
        from_version: "1".to_owned(),
        typical_s: 1,
        longest_s: 2,
        at: NOW,
    };
    store.keep_foresights(&[of("west-1"), of("west-2"), of("west-3")]).unwrap();
    assert_eq!(foreseen(store), ["west-1", "west-2", "west-3"]);
    let before = store.events(0, 1000).unwrap().len();
    store.tell_calls("w1", &[], &told, NOW).unwrap();
    assert_eq!(foreseen(store), ["west-3"], "the chips of the others may hold something else");
    let events = store.events(0, 1000).unwrap().split_off(before);
    let kinds: Vec<(EventKind, &str)> =
        events.iter().map(|event| (event.kind, event.host.as_deref().unwrap())).collect();
    let wanted = [
        (EventKind::Called, "west-1"),
        (EventKind::RescueFailed, "west-1"),
        (EventKind::Rescued, "west-1"),
        (EventKind::Rescued, "west-2"),
        (EventKind::Parked, "west-3"),
    ];
    assert_eq!(kinds, wanted);
    assert!(events.iter().all(|event| event.by == "w1" && event.rollout.is_none()));
    let of_host = LookBack { host: Some("west-3"), ..LookBack::ALL };
    assert_eq!(store.past_events(&of_host, 1).unwrap()[0].detail, "news of west-3");
    let holds = |store: &mut dyn Store, name: &str| {
        let Host { bios_version, security_version_floor, .. } = store.host(name).unwrap().unwrap();
        (bios_version, security_version_floor)
    };
    assert_eq!(holds(store, "west-1"), ("2".to_owned(), 4), "what it was rescued with");
    assert_eq!(holds(store, "west-2"), ("1".to_owned(), 3), "nobody knows with what");
    store.tell_calls("w2", &[], &[], NOW).unwrap();
}

pub(crate) fn a_confirmed_host_holds_the_release_from_then_on(store: &mut dyn Store) {
    let hosts = ["west-4", "west-5"].map(|name| host(name, "west"));
    let higher = Host { security_version_floor: 9, ..hosts[0].clone() };
    store.put_hosts(&[higher, hosts[1].clone()]).unwrap();
    let id = store
        .create_rollout(&rollout("west", &[("west-4", 0, "west"), ("west-5", 0, "west")]))
        .unwrap();
    start(store, id);
    let open = [Open { rollout: id, seconds: u32::MAX }];
    let begun = store.claim(&ClaimRequest { open: &open, ..claim("west", "w1", 10, 9) }).unwrap();
    for (claim, confirmed) in begun.iter().zip([true, false]) {
        let reason = (!confirmed).then_some("write-failed");
        let outcome = Outcome { confirmed, reason, flash: Some("updated"), detail: "" };
        store.report(claim.attempt.id, "w1", &outcome, 20).unwrap();
    }
    let holds = |store: &mut dyn Store, name: &str| store.host(name).unwrap().unwrap();
    let updated = holds(store, "west-4");
    assert_eq!((updated.bios_version.as_str(), updated.security_version_floor), ("2", 9));
    assert_eq!(holds(store, "west-5"), hosts[1]);
}
