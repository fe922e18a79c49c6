use super::rollouts::Kept;
use super::{MemoryStore, events};
use crate::model::{Attempt, AttemptState, Drain, EventKind, RolloutId};
use crate::store::error::StoreError;
use crate::store::requests::{Frozen, NewRollout, Placed, unknown};

pub(super) fn create(
    store: &mut MemoryStore,
    new: &NewRollout,
    frozen: Frozen<'_>,
) -> Result<RolloutId, StoreError> {
    if !store.releases.contains_key(&new.release) {
        return Err(unknown("release", &new.release));
    }
    if store.rollouts.iter().any(|kept| kept.rollout.name == new.name) {
        return Err(StoreError::NameTaken { name: new.name.clone() });
    }
    let is_missing = |host: &&String| !store.hosts.contains_key(*host);
    if let Some(host) = new.attempts.iter().map(|attempt| &attempt.host).find(is_missing) {
        return Err(unknown("host", host));
    }
    let id = super::next_id(store.rollouts.len());
    for placed in &frozen.attempts {
        store.attempts.insert(attempt(id, placed), placed.cohort);
    }
    store.rollouts.push(Kept::new(id, new, frozen));
    events::append(store, new.at, Some(id), &new.created_by, EventKind::Created, &new.name);
    Ok(id)
}

/// Its number is given when it is inserted.
fn attempt(rollout: RolloutId, placed: &Placed<'_>) -> Attempt {
    let new = placed.attempt;
    Attempt {
        id: 0,
        rollout,
        wave: new.wave,
        position: placed.position,
        host: new.host.clone(),
        site: new.site.clone(),
        predicted_s: new.predicted_s,
        retry: 0,
        state: AttemptState::Planned,
        stage: None,
        worker: None,
        lease_until: None,
        reason: None,
        flash: None,
        detail: String::new(),
        started_at: None,
        ended_at: None,
        drain: Drain::NotStarted,
        look: None,
    }
}
