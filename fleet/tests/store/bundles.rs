//! Bundles cross in chunks, and what is not whole is not there.

use firmcast_fleet::model::{EventKind, Release, RolloutState};
use firmcast_fleet::store::requests::{
    CHUNK_BYTES, Changed, ClaimRequest, LookBack, NewRollout, Outcome, StateChange, chunks,
};
use firmcast_fleet::store::{Store, StoreError};

use super::samples::{LEASE_US, Stores, claim, host, release, rollout, start};

/// A bundle of two whole chunks and a part of one.
fn bundle(digest: &str) -> (Release, Vec<u8>) {
    let bytes: Vec<u8> = (0..2 * CHUNK_BYTES + 5).map(|index| (index % 251) as u8).collect();
    let size_bytes = bytes.len() as u64;
    (Release { digest: digest.repeat(32), size_bytes, ..release() }, bytes)
}

#[test]
fn bundles_in_every_store() {
    let mut stores = Stores::new();
    for (name, store) in &mut stores.each {
        eprintln!("store: {name}");
        let store = store.as_mut();
        a_bundle_is_there_once_it_is_whole(store);
        a_bundle_goes_when_no_rollout_needs_it(store);
        who_lacks_a_bundle_leaves_its_hosts_to_others(store);
        how_bundles_fare_is_told(store);
    }
}

fn a_bundle_is_there_once_it_is_whole(store: &mut dyn Store) {
    let (release, bytes) = bundle("01");
    let digest = release.digest.as_str();
    let parts: Vec<&[u8]> = bytes.chunks(CHUNK_BYTES).collect();
    assert_eq!(chunks(release.size_bytes).unwrap() as usize, parts.len());
    assert!(matches!(store.put_chunk(digest, 0, parts[0]), Err(StoreError::Unknown { .. })));
    store.add_release(&release).unwrap();
    for (number, wrong) in [(0, parts[2]), (2, parts[0]), (2, &[]), (3, parts[2])] {
        assert!(store.put_chunk(digest, number, wrong).is_err(), "{number}");
    }
    // What stands in the place of the first chunk is written over later.
    store.put_chunk(digest, 0, parts[1]).unwrap();
    store.put_chunk(digest, 2, parts[2]).unwrap();
    let unfinished = store.close_bundle(digest).unwrap_err();
    assert!(matches!(unfinished, StoreError::Unfinished { got: 2, expected: 3, .. }));
    assert!(!store.has_bundle(digest).unwrap());
    assert_eq!(store.chunk(digest, 0).unwrap(), None, "nobody reads a part");
    for (number, part) in (0..).zip(&parts) {
        store.put_chunk(digest, number, part).unwrap();
    }
    assert_eq!(store.close_bundle(digest).unwrap(), Changed::Now);
    assert_eq!(store.close_bundle(digest).unwrap(), Changed::Before);
    assert!(store.has_bundle(digest).unwrap());
    let read: Vec<u8> =
        (0..3).flat_map(|number| store.chunk(digest, number).unwrap().unwrap()).collect();
    assert_eq!(read, bytes);
    assert_eq!(store.chunk(digest, 3).unwrap(), None);
    assert_eq!(store.add_release(&release).unwrap(), Changed::Before);
    assert!(store.has_bundle(digest).unwrap(), "adding it again takes nothing away");
    let large = Release { digest: "02".repeat(32), ..super::samples::release() };
    store.add_release(&large).unwrap();
    let refused = store.put_chunk(&large.digest, 0, parts[0]).unwrap_err();
    assert!(matches!(refused, StoreError::TooMuch { .. }), "{refused}");
    store.remove_release(&large.digest).unwrap();
    assert_eq!(store.release(&large.digest).unwrap(), None);
}

fn of(name: &str, digest: &str, hosts: &[(&str, u32, &str)]) -> NewRollout {
    NewRollout { release: digest.to_owned(), ..rollout(name, hosts) }
}

fn abort(store: &mut dyn Store, id: i64) {
    let from = [RolloutState::Ready, RolloutState::Running];
    let to = RolloutState::Error;
    let change = StateChange { from: &from, to, reason: "", by: "ann", at: 9, revision: None };
    store.change_state(id, &change).unwrap();
}

fn a_bundle_goes_when_no_rollout_needs_it(store: &mut dyn Store) {
    let (release, _) = bundle("01");
    let digest = release.digest.as_str();
    store.put_hosts(&[host("a", "north"), host("b", "south")]).unwrap();
    let id = store.create_rollout(&of("first", digest, &[("a", 0, "north")])).unwrap();
    let needed = store.remove_release(digest).unwrap_err();
    assert!(matches!(&needed, StoreError::Needed { rollout, .. } if rollout == "first"));
    assert!(store.has_bundle(digest).unwrap());
    start(store, id);
    let begun = store.claim(&claim("north", "w1", 10, 9)).unwrap().remove(0).attempt;
    abort(store, id);
    assert!(store.remove_release(digest).is_err(), "a host is in flight");
    let outcome = Outcome { confirmed: true, reason: None, flash: None, detail: "" };
    store.report(begun.id, "w1", &outcome, 11).unwrap();
    store.remove_release(digest).unwrap();
    assert!(!store.has_bundle(digest).unwrap());
    assert_eq!(store.chunk(digest, 0).unwrap(), None);
    assert_eq!(store.release(digest).unwrap(), Some(release), "the rollout is still known");
    assert!(matches!(store.remove_release("absent"), Err(StoreError::Unknown { .. })));
}

fn who_lacks_a_bundle_leaves_its_hosts_to_others(store: &mut dyn Store) {
    let (release, _) = bundle("01");
    let digest = release.digest;
    let hosts = [("a", 0, "north"), ("b", 1, "south")];
    let id = store.create_rollout(&of("second", &digest, &hosts)).unwrap();
    assert_eq!(store.releases_due("north").unwrap(), [""; 0], "nobody has started it");
    start(store, id);
    for (site, due) in [("north", true), ("south", true), ("west", false)] {
        assert_eq!(store.releases_due(site).unwrap().contains(&digest), due, "{site}");
    }
    let lacking = [digest.clone()];
    let lacks = |at, worker| ClaimRequest { lacking: &lacking, ..claim("north", worker, at, 9) };
    assert_eq!(store.claim(&lacks(20, "w1")).unwrap(), []);
    let begun = store.claim(&claim("north", "w1", 20, 9)).unwrap();
    assert_eq!(begun.len(), 1);
    let late = 20 + LEASE_US;
    assert_eq!(store.claim(&lacks(late, "w2")).unwrap(), [], "nor is a host taken over");
    abort(store, id);
    assert_eq!(store.releases_due("north").unwrap(), [digest], "it is still in flight");
    assert_eq!(store.releases_due("south").unwrap(), [""; 0]);
    let taken = store.claim(&claim("north", "w2", late, 9)).unwrap();
    assert_eq!(taken[0].taken_from.as_deref(), Some("w1"));
    let outcome = Outcome { confirmed: false, reason: None, flash: None, detail: "" };
    store.report(taken[0].attempt.id, "w2", &outcome, late).unwrap();
    assert_eq!(store.releases_due("north").unwrap(), [""; 0]);
}

fn how_bundles_fare_is_told(store: &mut dyn Store) {
    store.tell_bundle("w1", "has bundle 01", 30).unwrap();
    let last = store.past_events(&LookBack::ALL, 1).unwrap().remove(0);
    assert_eq!((last.kind, last.rollout, last.host), (EventKind::Bundle, None, None));
    assert_eq!((last.by.as_str(), last.detail.as_str()), ("w1", "has bundle 01"));
}
