//! What was read of rollouts lately: of many who look at one rollout, the first one reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::limits::{RACKS_KEPT_US, ROLLOUTS_KEPT_MAX, SEEN_KEPT_US};
use super::pool::now;
use crate::model::{EventId, RolloutId, Stamp};
use crate::picture::gather::{self, Racks};
use crate::picture::seen::Seen;
use crate::store::requests::LookBack;
use crate::store::{Store, StoreError};

/// What was read of rollouts.
#[derive(Clone, Debug, Default)]
pub struct SeenCache {
    rollouts: Arc<Mutex<BTreeMap<String, Slot>>>,
    racks: Arc<Mutex<Option<KeptRacks>>>,
}

/// Who reads a rollout holds its slot, and others wait for what they read.
type Slot = Arc<Mutex<Option<Kept>>>;

/// Where the hosts stand, and when that was read.
type KeptRacks = (Stamp, Arc<Racks>);

#[derive(Debug)]
struct Kept {
    seen: Arc<Seen>,
    /// The last event about it before it was read.
    last: EventId,
}

impl SeenCache {
    /// Returns a rollout as it is. It is read anew when something has happened in it, and after a
    /// moment, as hosts fall silent without an event.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn rollout(
        &self,
        store: &mut dyn Store,
        name: &str,
    ) -> Result<Option<Arc<Seen>>, StoreError> {
        let slot = self.slot(name);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let at = now();
        if let Some(kept) = slot.as_ref()
            && (0..SEEN_KEPT_US).contains(&(at - kept.seen.at))
            && kept.last == last_event(store, kept.seen.found.rollout.id)?
        {
            return Ok(Some(Arc::clone(&kept.seen)));
        }
        *slot = None;
        let racks = self.racks(store)?;
        // What happens while it is read has it read again.
        let Some(found) = store.rollout_named(name)? else { return Ok(None) };
        let last = last_event(store, found.rollout.id)?;
        let seen = gather::rollout(store, name, &racks, at)?.map(Arc::new);
        *slot = seen.clone().map(|seen| Kept { seen, last });
        Ok(seen)
    }

    fn slot(&self, name: &str) -> Slot {
        let mut rollouts = self.rollouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = rollouts.get(name) {
            return Arc::clone(slot);
        }
        // Rarely; what is still looked at comes back at once.
        if rollouts.len() >= ROLLOUTS_KEPT_MAX {
            rollouts.clear();
        }
        Arc::clone(rollouts.entry(name.to_owned()).or_default())
    }

    /// Where the hosts stand. That changes with imports only.
    fn racks(&self, store: &mut dyn Store) -> Result<Arc<Racks>, StoreError> {
        let mut kept = self.racks.lock().unwrap_or_else(PoisonError::into_inner);
        let at = now();
        if let Some((since, racks)) = kept.as_ref()
            && (0..RACKS_KEPT_US).contains(&(at - since))
        {
            return Ok(Arc::clone(racks));
        }
        let racks = Arc::new(gather::racks(store)?);
        *kept = Some((at, Arc::clone(&racks)));
        Ok(racks)
    }
}

fn last_event(store: &mut dyn Store, rollout: RolloutId) -> Result<EventId, StoreError> {
    let which = LookBack { rollout: Some(rollout), ..LookBack::ALL };
    let last = store.past_events(&which, 1)?;
    Ok(last.first().map_or(0, |event| event.id))
}
