use std::collections::{BTreeMap, BTreeSet};

use super::super::error::StoreError;
use super::super::requests::{Changed, check_chunk, check_whole, needs_release, unknown};
use super::MemoryStore;
use crate::model::{Release, RolloutId, RolloutState, WaveState};

/// The bundles of releases, in chunks.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    chunks: BTreeMap<(String, u32), Vec<u8>>,
    /// Those whose chunks are all there.
    whole: BTreeSet<String>,
}

impl Bundles {
    pub(super) fn is_whole(&self, digest: &str) -> bool {
        self.whole.contains(digest)
    }

    pub(super) fn chunk(&self, digest: &str, number: u32) -> Option<Vec<u8>> {
        let chunk = self.chunks.get(&(digest.to_owned(), number));
        chunk.filter(|_| self.is_whole(digest)).cloned()
    }
}

impl MemoryStore {
    fn known_release(&self, digest: &str) -> Result<&Release, StoreError> {
        self.releases.get(digest).ok_or_else(|| unknown("release", digest))
    }

    pub(super) fn keep_chunk(
        &mut self,
        digest: &str,
        number: u32,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        check_chunk(self.known_release(digest)?, number, bytes)?;
        self.bundles.chunks.insert((digest.to_owned(), number), bytes.to_vec());
        Ok(())
    }

    pub(super) fn finish_bundle(&mut self, digest: &str) -> Result<Changed, StoreError> {
        let chunks = self.bundles.chunks.keys().filter(|(of, _)| of == digest);
        check_whole(self.known_release(digest)?, chunks.count() as u64)?;
        let is_new = self.bundles.whole.insert(digest.to_owned());
        Ok(if is_new { Changed::Now } else { Changed::Before })
    }

    pub(super) fn forget_release(&mut self, digest: &str) -> Result<(), StoreError> {
        self.known_release(digest)?;
        let mut users = self.rollouts.iter().filter(|kept| kept.rollout.release == digest);
        let needs = |id| self.attempts.in_flight().any(|attempt| attempt.rollout == id);
        let mut of = users.clone().map(|kept| &kept.rollout);
        if let Some(user) = of.find(|user| needs_release(user.state) || needs(user.id)) {
            let (digest, rollout) = (digest.to_owned(), user.name.clone());
            return Err(StoreError::Needed { digest, rollout });
        }
        if users.next().is_none() {
            self.releases.remove(digest);
            self.foresights.retain(|(of, _), _| of != digest);
        }
        self.bundles.whole.remove(digest);
        self.bundles.chunks.retain(|(of, _), _| of != digest);
        Ok(())
    }

    /// The rollouts of some releases.
    pub(super) fn rollouts_lacking(&self, releases: &[String]) -> BTreeSet<RolloutId> {
        let rollouts = self.rollouts.iter().map(|kept| &kept.rollout);
        let lacking = rollouts.filter(|rollout| releases.contains(&rollout.release));
        lacking.map(|rollout| rollout.id).collect()
    }

    /// The releases that a site needs, in order.
    pub(super) fn due(&self, site: &str) -> Vec<String> {
        let in_flight = self.attempts.in_flight().filter(|attempt| attempt.site == site);
        let in_flight: BTreeSet<_> = in_flight.map(|attempt| attempt.rollout).collect();
        let needs = |kept: &&super::Kept| {
            let (id, state) = (kept.rollout.id, kept.rollout.state);
            let moves = state == RolloutState::Running || state == RolloutState::Paused;
            let waits = kept.waves.iter().any(|wave| self.attempts.wait(site, id, wave.number));
            let is_unseen = || {
                let waves = kept.waves.iter();
                waves.filter(|wave| wave.state == WaveState::Looking).any(|wave| {
                    let mut unseen = self.attempts.unseen(id, wave.number);
                    unseen.any(|attempt| attempt.site == site)
                })
            };
            ((moves || state == RolloutState::Scheduled) && waits)
                || in_flight.contains(&id)
                || (moves && is_unseen())
        };
        let needed = self.rollouts.iter().filter(needs);
        let releases: BTreeSet<_> = needed.map(|kept| kept.rollout.release.clone()).collect();
        releases.into_iter().collect()
    }
}
