use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use super::MemoryStore;
use crate::model::{AttemptState, BoardTimes, EventKind, Foresight};
use crate::store::error::StoreError;
use crate::store::requests::{board_times, unknown};

/// Keeps what hosts foresee, and which version each of them runs.
pub(super) fn keep(store: &mut MemoryStore, foresights: &[&Foresight]) -> Result<(), StoreError> {
    for Foresight { host, release, .. } in foresights {
        if !store.hosts.contains_key(host) {
            return Err(unknown("host", host));
        }
        if !store.releases.contains_key(release) {
            return Err(unknown("release", release));
        }
    }
    for foresight in foresights {
        if let Some(host) = store.hosts.get_mut(&foresight.host) {
            host.bios_version.clone_from(&foresight.from_version);
        }
        let key = (foresight.release.clone(), foresight.host.clone());
        store.foresights.insert(key, (*foresight).clone());
    }
    Ok(())
}

/// A host's chip may hold something else now: what it foresaw is void.
pub(super) fn forget(store: &mut MemoryStore, host: &str) {
    store.foresights.retain(|(_, whose), _| whose != host);
}

/// Those that still hold, of a release, by host.
pub(super) fn page(
    store: &MemoryStore,
    release: &str,
    after: &str,
    limit: usize,
) -> Vec<Foresight> {
    let first = (release.to_owned(), after.to_owned());
    let of_release = store.foresights.range((Excluded(first), Unbounded));
    let of_release = of_release.take_while(|((of, _), _)| of == release);
    let holds = |foresight: &&Foresight| {
        let host = store.hosts.get(&foresight.host);
        host.is_some_and(|host| host.bios_version == foresight.from_version)
    };
    let held = of_release.map(|(_, foresight)| foresight).filter(holds);
    held.take(limit).cloned().collect()
}

/// What a takeover made longer is no measure of a board.
pub(super) fn boards(store: &MemoryStore) -> Vec<BoardTimes> {
    let was_lost = store.events.iter().filter(|event| event.kind == EventKind::LeaseLost);
    let lost: BTreeSet<_> = was_lost.map(|event| (event.rollout, event.host.as_deref())).collect();
    let mut boards = BTreeMap::<(&str, &str), (u64, i64, i64)>::new();
    for attempt in store.attempts.all() {
        let times = attempt.ended_at.zip(attempt.started_at);
        let (Some((ended, started)), Some(host)) = (times, store.hosts.get(&attempt.host)) else {
            continue;
        };
        let is_measure = attempt.state == AttemptState::Confirmed
            && !lost.contains(&(Some(attempt.rollout), Some(&attempt.host)));
        if is_measure {
            let took = ended - started;
            let (updates, sum, longest) = boards.entry((&host.vendor, &host.product)).or_default();
            *updates += 1;
            *sum += took;
            *longest = took.max(*longest);
        }
    }
    let times = |((vendor, product), (updates, sum, longest)): ((&str, &str), _)| {
        board_times((vendor.to_owned(), product.to_owned()), updates, (sum, longest))
    };
    boards.into_iter().map(times).collect()
}
