//! The bundles of releases, in chunks.

use std::collections::{BTreeMap, BTreeSet};

use super::rollouts::Kept;
use super::{MemoryStore, events, looks};
use crate::model::{EventKind, Release, RolloutId, RolloutState, Stamp, WaveState};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, check_chunk, check_whole, needs_release, unknown};

#[derive(Debug, Default)]
pub(super) struct Bundles {
    chunks: BTreeMap<(String, u32), Vec<u8>>,
    /// Those whose chunks are all there.
    whole: BTreeSet<String>,
}

fn known<'a>(store: &'a MemoryStore, digest: &str) -> Result<&'a Release, StoreError> {
    store.releases.get(digest).ok_or_else(|| unknown("release", digest))
}

pub(super) fn put_chunk(
    store: &mut MemoryStore,
    digest: &str,
    number: u32,
    bytes: &[u8],
) -> Result<(), StoreError> {
    check_chunk(known(store, digest)?, number, bytes)?;
    store.bundles.chunks.insert((digest.to_owned(), number), bytes.to_vec());
    Ok(())
}

pub(super) fn close(store: &mut MemoryStore, digest: &str) -> Result<Changed, StoreError> {
    let chunks = store.bundles.chunks.keys().filter(|(of, _)| of == digest);
    check_whole(known(store, digest)?, chunks.count() as u64)?;
    let is_new = store.bundles.whole.insert(digest.to_owned());
    Ok(if is_new { Changed::Now } else { Changed::Before })
}

pub(super) fn is_whole(store: &MemoryStore, digest: &str) -> bool {
    store.bundles.whole.contains(digest)
}

pub(super) fn chunk(store: &MemoryStore, digest: &str, number: u32) -> Option<Vec<u8>> {
    let chunk = store.bundles.chunks.get(&(digest.to_owned(), number));
    chunk.filter(|_| is_whole(store, digest)).cloned()
}

pub(super) fn remove(store: &mut MemoryStore, digest: &str) -> Result<(), StoreError> {
    known(store, digest)?;
    let mut users = store.rollouts.iter().filter(|kept| kept.rollout.release == digest);
    let needs = |id| store.attempts.in_flight().any(|attempt| attempt.rollout == id);
    let mut of = users.clone().map(|kept| &kept.rollout);
    if let Some(user) = of.find(|user| needs_release(user.state) || needs(user.id)) {
        let (digest, rollout) = (digest.to_owned(), user.name.clone());
        return Err(StoreError::Needed { digest, rollout });
    }
    if users.next().is_none() {
        store.releases.remove(digest);
        store.foresights.retain(|(of, _), _| of != digest);
    }
    store.bundles.whole.remove(digest);
    store.bundles.chunks.retain(|(of, _), _| of != digest);
    Ok(())
}

pub(super) fn tell(store: &mut MemoryStore, worker: &str, words: &str, at: Stamp) {
    events::append(store, at, None, worker, EventKind::Bundle, words);
}

/// The rollouts of some releases.
pub(super) fn lacking(store: &MemoryStore, releases: &[String]) -> BTreeSet<RolloutId> {
    let rollouts = store.rollouts.iter().map(|kept| &kept.rollout);
    let lacking = rollouts.filter(|rollout| releases.contains(&rollout.release));
    lacking.map(|rollout| rollout.id).collect()
}

/// The releases that a site needs, in order.
pub(super) fn due(store: &MemoryStore, site: &str) -> Vec<String> {
    let in_flight = store.attempts.in_flight().filter(|attempt| attempt.site == site);
    let in_flight: BTreeSet<_> = in_flight.map(|attempt| attempt.rollout).collect();
    let needs = |kept: &&Kept| {
        let (id, state) = (kept.rollout.id, kept.rollout.state);
        let moves = state == RolloutState::Running || state == RolloutState::Paused;
        let waits = |wave| store.attempts.planned(site, id, wave).next().is_some();
        let mut waves = kept.waves.iter();
        let is_unseen = || {
            let mut waves = kept.waves.iter().filter(|wave| wave.state == WaveState::Looking);
            waves.any(|wave| {
                looks::unseen(store, id, wave.number).any(|attempt| attempt.site == site)
            })
        };
        let may_begin = moves || state == RolloutState::Scheduled;
        (may_begin && waves.any(|wave| waits(wave.number)))
            || in_flight.contains(&id)
            || (moves && is_unseen())
    };
    let needed = store.rollouts.iter().filter(needs);
    let releases: BTreeSet<_> = needed.map(|kept| kept.rollout.release.clone()).collect();
    releases.into_iter().collect()
}
