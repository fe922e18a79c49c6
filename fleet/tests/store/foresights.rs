//! How long updates take: what hosts foresee, and what updates of their boards took.

use firmcast_fleet::model::{AttemptState, BoardTimes, Foresight, Host};
use firmcast_fleet::rollout::prediction::AROUND_LONGEST_S;
use firmcast_fleet::store::requests::{ClaimRequest, LookBack, Open, Outcome, Replanned, Retry};
use firmcast_fleet::store::{Store, StoreError};

use super::samples::{LEASE_US, host, release, rollout, start};

const S: i64 = 1_000_000;

/// Three hosts at a site of their own.
const HOSTS: [&str; 3] = ["east-1", "east-2", "east-3"];

pub(crate) fn kept_until_the_host_holds_something_else(store: &mut dyn Store) {
    let hosts = HOSTS.map(|name| Host { product: "E1".to_owned(), ..host(name, "east") });
    store.put_hosts(&hosts).unwrap();
    let other = firmcast_fleet::model::Release { digest: "ef".repeat(32), ..release() };
    store.add_release(&other).unwrap();
    let of = |host: &str, longest_s| Foresight {
        host: host.to_owned(),
        release: release().digest,
        from_version: "1.5".to_owned(),
        typical_s: 60,
        longest_s,
        at: 100,
    };
    let kept = |store: &mut dyn Store| -> Vec<(String, u32)> {
        let foresights = store.foresights(&release().digest, "", 9).unwrap();
        foresights.into_iter().map(|each| (each.host, each.longest_s)).collect()
    };
    let absent = store.keep_foresights(&[of("east-1", 200), of("nobody", 200)]).unwrap_err();
    assert!(matches!(&absent, StoreError::Unknown { what: "host", .. }), "{absent}");
    let no_release = Foresight { release: "no".to_owned(), ..of("east-1", 200) };
    assert!(store.keep_foresights(&[no_release]).is_err());
    assert_eq!(kept(store), [], "all or none");

    let of_other = Foresight { release: other.digest.clone(), ..of("east-1", 7) };
    store.keep_foresights(&[of("east-2", 150), of_other, of("east-1", 200)]).unwrap();
    store.keep_foresights(&[of("east-2", 250), of("east-3", 300)]).unwrap();
    let named = |named: &[(&str, u32)]| -> Vec<(String, u32)> {
        named.iter().map(|(name, longest_s)| ((*name).to_owned(), *longest_s)).collect()
    };
    assert_eq!(kept(store), named(&[("east-1", 200), ("east-2", 250), ("east-3", 300)]));
    assert_eq!(store.foresights(&release().digest, "east-1", 1).unwrap(), [of("east-2", 250)]);
    // It was heard: that is the version that it runs.
    assert_eq!(store.host("east-1").unwrap().unwrap().bios_version, "1.5");

    let updated = Host { bios_version: "1.6".to_owned(), ..store.host("east-3").unwrap().unwrap() };
    store.put_hosts(&[updated]).unwrap();
    assert_eq!(kept(store), named(&[("east-1", 200), ("east-2", 250)]));
    assert_eq!(store.foresights(&other.digest, "", 9).unwrap().len(), 1);
    store.remove_release(&other.digest).unwrap();
    assert_eq!(store.foresights(&other.digest, "", 9).unwrap(), []);
}

pub(crate) fn measured_by_updates_that_nobody_took_over(store: &mut dyn Store) {
    let ours = |store: &mut dyn Store| -> Vec<BoardTimes> {
        let times = store.board_times().unwrap().into_iter();
        times.filter(|times| times.product == "E1").collect()
    };
    assert_eq!(ours(store), []);
    let places = HOSTS.map(|name| (name, 0, "east"));
    let id = store.create_rollout(&rollout("east", &places)).unwrap();
    start(store, id);
    let open = [Open { rollout: id, seconds: u32::MAX }];
    let request = ClaimRequest {
        site: "east",
        worker: "e1",
        at: 1000 * S,
        lease_us: LEASE_US,
        limit: 9,
        open: &open,
        lacking: &[],
    };
    let begun = store.claim(&request).unwrap();
    assert_eq!(store.in_flight("east-1", 9).unwrap()[..2], ["east-2", "east-3"]);
    let flash = |store: &mut dyn Store, host: usize, worker: &str, flash, at_s: i64| {
        let confirmed = flash == "updated";
        let outcome = Outcome { confirmed, reason: None, flash: Some(flash), detail: "" };
        store.report(begun[host].attempt.id, worker, &outcome, at_s * S).unwrap();
    };
    // Its chip is as it was: what it foresaw holds.
    flash(store, 0, "e1", "untouched-doubtful", 1001);
    flash(store, 1, "e1", "updated", 1401);
    let late = ClaimRequest { worker: "e2", at: 5000 * S, open: &[], ..request };
    assert_eq!(store.claim(&late).unwrap().len(), 1);
    flash(store, 2, "e2", "updated", 9000);
    let foreseen = store.foresights(&release().digest, "", 9).unwrap();
    assert_eq!(foreseen.iter().map(|each| each.host.as_str()).collect::<Vec<_>>(), ["east-1"]);
    let times = BoardTimes {
        vendor: "QEMU".to_owned(),
        product: "E1".to_owned(),
        updates: 1,
        typical_s: 401,
        longest_s: 401,
    };
    assert_eq!(ours(store), [times]);
}

/// Of the hosts above the first one failed, and has foreseen its own time.
pub(crate) fn taken_by_the_next_try(store: &mut dyn Store) {
    let id = store.rollout_named("east").unwrap().unwrap().rollout.id;
    let retry = Retry { by: "ann", at: 9001 * S, revision: None, around_s: Some(86) };
    let planned = store.retry_failed(id, &retry).unwrap();
    let (host, site) = ("east-1".to_owned(), "east".to_owned());
    let predicted_s = 200 + AROUND_LONGEST_S + 86;
    assert_eq!(planned, [Replanned { host, site, before_s: 1, predicted_s }]);
    let last = store.attempts_of("east-1", 1).unwrap().remove(0);
    assert_eq!((last.retry, last.state), (1, AttemptState::Planned));
    assert_eq!(last.predicted_s, predicted_s);
    let told = store.past_events(&LookBack { rollout: Some(id), ..LookBack::ALL }, 9).unwrap();
    let detail = "1 planned again, 1 of them with newer predicted times";
    assert!(told.iter().any(|event| event.detail == detail), "{told:?}");
}
