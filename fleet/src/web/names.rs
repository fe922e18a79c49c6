//! Names of rollouts, by their numbers.

use std::collections::BTreeMap;

use crate::model::RolloutId;
use crate::store::{Store, StoreError};

/// Names of some rollouts.
#[derive(Debug, Default)]
pub(super) struct RolloutNames(BTreeMap<RolloutId, String>);

impl RolloutNames {
    /// Returns a rollout's name; empty for none.
    pub(super) fn of(&self, id: Option<RolloutId>) -> String {
        id.and_then(|id| self.0.get(&id)).cloned().unwrap_or_default()
    }
}

/// Reads the names of these rollouts.
pub(super) fn rollout_names(
    store: &mut dyn Store,
    ids: impl Iterator<Item = RolloutId>,
) -> Result<RolloutNames, StoreError> {
    let mut names = RolloutNames::default();
    for id in ids {
        if !names.0.contains_key(&id)
            && let Some(found) = store.rollout(id)?
        {
            names.0.insert(id, found.rollout.name);
        }
    }
    Ok(names)
}
