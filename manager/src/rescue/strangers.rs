//! Room for hosts outside the inventory.

use std::time::Duration;

use firmcast::session::PeerKey;
use firmcast::time::Time;

use super::service::{STRANGERS_MAX, Service};

/// Above this many strangers those that were silent longest are forgotten.
const STRANGERS_CROWDED: usize = STRANGERS_MAX * 3 / 4;

/// Strangers that spoke within this time are not forgotten.
const STRANGER_IDLE: Duration = Duration::from_secs(60);

impl Service {
    /// Makes room for other strangers.
    pub(super) fn look_through_strangers(&mut self, now: Time) {
        let (spoke, mute): (Vec<PeerKey>, Vec<PeerKey>) =
            self.endpoint.strangers().copied().partition(|key| self.callers.contains_key(key));
        for key in mute.iter().filter(|key| self.mute.contains(key)) {
            self.endpoint.forget(key);
        }
        self.mute = mute;
        let mut idle: Vec<(bool, Time, PeerKey)> = (spoke.iter())
            .filter(|key| self.course_of(key).is_none())
            .filter_map(|key| {
                let caller = &self.callers[key];
                let is_idle = now.since(caller.seen) >= STRANGER_IDLE;
                is_idle.then_some((caller.is_parked, caller.seen, *key))
            })
            .collect();
        idle.sort_unstable();
        for (_, _, key) in idle.iter().take(spoke.len().saturating_sub(STRANGERS_CROWDED)) {
            self.forget(key);
        }
    }
}
