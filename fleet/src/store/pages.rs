//! All of a list, page by page. What changes meanwhile may be there or not.

use super::contract::Store;
use super::error::StoreError;
use super::requests::{PAGE_MAX, Place};
use crate::model::{Attempt, Host, Release, Rollout, RolloutId};

/// Returns all hosts, by name.
///
/// # Errors
/// Those of the store.
pub fn all_hosts(store: &mut dyn Store) -> Result<Vec<Host>, StoreError> {
    all(|last: Option<&Host>| store.hosts(last.map_or("", |host| &host.name), PAGE_MAX))
}

/// Returns all releases, by digest.
///
/// # Errors
/// Those of the store.
pub fn all_releases(store: &mut dyn Store) -> Result<Vec<Release>, StoreError> {
    all(|last: Option<&Release>| store.releases(last.map_or("", |each| &each.digest), PAGE_MAX))
}

/// Returns all rollouts, in the order in which they were created.
///
/// # Errors
/// Those of the store.
pub fn all_rollouts(store: &mut dyn Store) -> Result<Vec<Rollout>, StoreError> {
    all(|last: Option<&Rollout>| store.rollouts(last.map_or(0, |rollout| rollout.id), PAGE_MAX))
}

/// Returns all attempts of a rollout, by wave and position.
///
/// # Errors
/// Those of the store.
pub fn all_attempts(store: &mut dyn Store, rollout: RolloutId) -> Result<Vec<Attempt>, StoreError> {
    all(|last: Option<&Attempt>| store.attempts(rollout, last.map(Place::from), PAGE_MAX))
}

fn all<T>(
    mut page_after: impl FnMut(Option<&T>) -> Result<Vec<T>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    loop {
        let page = page_after(all.last())?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}
