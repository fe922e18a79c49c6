//! Reads from the store what pictures are made of.

use std::collections::BTreeMap;

use super::overview::{Headline, progress};
use super::seen::{Seen, last_of_each};
use crate::model::{Attempt, RACK, Rollout, RolloutId, Stamp};
use crate::rollout::file::RolloutFile;
use crate::store::requests::{PAGE_MAX, Place, RolloutWaves};
use crate::store::{Store, StoreError};

/// Racks of hosts, by the host's name; hosts without a rack are left out.
pub type Racks = BTreeMap<String, String>;

/// Reads the lines of all rollouts, the one that was created last first.
///
/// # Errors
/// Those of the store.
pub fn overview(store: &mut dyn Store) -> Result<Vec<Headline>, StoreError> {
    let mut versions = BTreeMap::new();
    let mut lines = Vec::new();
    for rollout in rollouts(store)? {
        let progress = progress(&store.counts(rollout.id)?);
        if !versions.contains_key(&rollout.release) {
            let version = version(store, &rollout)?;
            versions.insert(rollout.release.clone(), version);
        }
        let version = versions.get(&rollout.release).map_or("", String::as_str);
        lines.push(Headline::new(&rollout, version, progress));
    }
    lines.reverse();
    Ok(lines)
}

/// Reads a rollout by its name, if it is there. Hosts stand in racks as [`racks`] found them: who
/// reads often need not read all hosts each time.
///
/// # Errors
/// Those of the store.
pub fn rollout(
    store: &mut dyn Store,
    name: &str,
    racks: &Racks,
    now: Stamp,
) -> Result<Option<Seen>, StoreError> {
    let Some(found) = store.rollout_named(name)? else { return Ok(None) };
    let id = found.rollout.id;
    let attempts = last_of_each(attempts(store, id)?);
    let of = |attempt: &Attempt| racks.get_key_value(&attempt.host);
    let racks = attempts.iter().filter_map(of).map(|(host, rack)| (host.clone(), rack.clone()));
    let racks = racks.collect();
    let RolloutWaves { rollout, .. } = &found;
    Ok(Some(Seen {
        at: now,
        file: RolloutFile::parse(&rollout.file).ok(),
        version: version(store, rollout)?,
        counters: store.counters(id)?,
        approvals: store.approvals(id)?,
        attempts,
        racks,
        found,
    }))
}

/// Reads in which racks the hosts stand.
///
/// # Errors
/// Those of the store.
pub fn racks(store: &mut dyn Store) -> Result<Racks, StoreError> {
    let (mut racks, mut after) = (Racks::new(), String::new());
    loop {
        let page = store.hosts(&after, PAGE_MAX)?;
        let Some(last) = page.last() else { return Ok(racks) };
        after.clone_from(&last.name);
        for mut host in page {
            if let Some(rack) = host.labels.remove(RACK) {
                racks.insert(host.name, rack);
            }
        }
    }
}

fn rollouts(store: &mut dyn Store) -> Result<Vec<Rollout>, StoreError> {
    let mut all = Vec::<Rollout>::new();
    loop {
        let page = store.rollouts(all.last().map_or(0, |last| last.id), PAGE_MAX)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn attempts(store: &mut dyn Store, rollout: RolloutId) -> Result<Vec<Attempt>, StoreError> {
    let mut all = Vec::<Attempt>::new();
    loop {
        let page = store.attempts(rollout, all.last().map(Place::from), PAGE_MAX)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

fn version(store: &mut dyn Store, rollout: &Rollout) -> Result<String, StoreError> {
    let release = store.release(&rollout.release)?;
    Ok(release.map_or(String::new(), |release| release.version))
}
