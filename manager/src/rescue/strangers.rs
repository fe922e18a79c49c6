//! Room for hosts outside the inventory.

use std::time::Duration;

use firmcast::session::PeerKey;
use firmcast::time::Time;

use super::known::STRANGERS_MAX;
use super::service::Service;

/// Above this many strangers those that were silent longest are forgotten.
const STRANGERS_CROWDED: usize = STRANGERS_MAX * 3 / 4;

/// Strangers that spoke, or came, within this time are not forgotten.
const STRANGER_IDLE: Duration = Duration::from_secs(60);

/// Strangers that were enlisted within this time are not forgotten: longer than most rescues take.
const STRANGER_ENLISTED: Duration = Duration::from_secs(1800);

/// Why a stranger may be forgotten, the best reason first; of equals those that came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Dispensable {
    Silent,
    /// It was told what there is to tell, and keeps its place by asking again.
    Old,
    /// It takes part for long; a host that writes goes on by itself.
    EnlistedLongAgo,
}

impl Service {
    /// Makes room for other strangers: nobody keeps a place by speaking alone.
    pub(super) fn look_through_strangers(&mut self, now: Time) {
        let (spoke, mute): (Vec<PeerKey>, Vec<PeerKey>) =
            self.endpoint.strangers().copied().partition(|key| self.callers.contains_key(key));
        for key in mute.iter().filter(|key| self.mute.contains(key)) {
            self.endpoint.forget(key);
        }
        self.mute = mute;
        let mut leaving: Vec<(Dispensable, bool, Time, PeerKey)> = (spoke.iter())
            .filter_map(|key| {
                let caller = &self.callers[key];
                let why = self.dispensable(now, key)?;
                let at = if why == Dispensable::Silent { caller.seen } else { caller.since };
                Some((why, caller.is_parked, at, *key))
            })
            .collect();
        leaving.sort_unstable();
        for (.., key) in leaving.iter().take(spoke.len().saturating_sub(STRANGERS_CROWDED)) {
            self.forget(key);
        }
    }

    fn dispensable(&self, now: Time, key: &PeerKey) -> Option<Dispensable> {
        let caller = &self.callers[key];
        let since = |at: Time, span| now.since(at) >= span;
        if self.course_of(key).is_some() {
            let enlisted = caller.last_enlisted().unwrap_or(caller.since);
            return since(enlisted, STRANGER_ENLISTED).then_some(Dispensable::EnlistedLongAgo);
        }
        if since(caller.seen, STRANGER_IDLE) {
            return Some(Dispensable::Silent);
        }
        since(caller.since, STRANGER_IDLE).then_some(Dispensable::Old)
    }
}
