//! People who start, pause, resume, retry and abort, as `firmcast-fleet rollout` does it.

use firmcast_fleet::model::{RolloutId, RolloutState, Stamp};
use firmcast_fleet::rollout::file::RolloutFile;
use firmcast_fleet::store::requests::{Retry, StateChange};
use firmcast_fleet::store::{Store, StoreError};

use super::chance::Chance;

/// Does something to one of the rollouts.
pub(crate) fn act(store: &mut dyn Store, chance: &mut Chance, rollouts: usize, at: Stamp) {
    let id = chance.index(rollouts) as RolloutId + 1;
    match chance.within(0..40) {
        0..10 => change(store, id, &[RolloutState::Scheduled, RolloutState::Running], PAUSED, at),
        10 if chance.once_in(3) => abort(store, id, at),
        11..20 => retry(store, id, at),
        _ => go_on(store, id, at),
    }
}

const PAUSED: RolloutState = RolloutState::Paused;

/// Starts or resumes.
pub(crate) fn go_on(store: &mut dyn Store, id: RolloutId, at: Stamp) {
    change(store, id, &[RolloutState::Ready], RolloutState::Scheduled, at);
    change(store, id, &[RolloutState::Paused], RolloutState::Running, at);
}

fn abort(store: &mut dyn Store, id: RolloutId, at: Stamp) {
    use RolloutState::{Paused, Ready, Running, Scheduled};
    change(store, id, &[Ready, Scheduled, Running, Paused], RolloutState::Error, at);
}

fn change(
    store: &mut dyn Store,
    id: RolloutId,
    from: &[RolloutState],
    to: RolloutState,
    at: Stamp,
) {
    let change = StateChange { from, to, reason: "", by: "ann", at, revision: None };
    match store.change_state(id, &change) {
        Ok(_) | Err(StoreError::RolloutMoved { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn retry(store: &mut dyn Store, id: RolloutId, at: Stamp) {
    let found = store.rollout(id).unwrap().unwrap();
    if matches!(found.rollout.state, RolloutState::Error | RolloutState::Ready) {
        return;
    }
    let file = RolloutFile::parse(&found.rollout.file).unwrap();
    let around_s = Some(file.around_s());
    store.retry_failed(id, &Retry { by: "bob", at, revision: None, around_s }).unwrap();
}
