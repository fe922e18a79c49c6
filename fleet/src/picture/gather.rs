//! Reads from the store what pictures are made of.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::host::HostPicture;
use super::overview::{Headline, progress};
use super::seen::{Seen, last_of_each, not_undrained};
use crate::model::{Attempt, AttemptState, Event, RACK, Rollout, RolloutId, Stamp};
use crate::rollout::file::RolloutFile;
use crate::store::requests::{LookBack, PAGE_MAX, RolloutWaves};
use crate::store::{Store, StoreError, all_attempts, all_rollouts};

/// Maximum number of attempts, and of events, of one host.
pub const HISTORY_MAX: usize = 50;

/// Racks of hosts, by the host's name; hosts without a rack are left out.
pub type Racks = BTreeMap<String, String>;

/// Reads the lines of all rollouts, the one that was created last first.
///
/// # Errors
/// Those of the store.
pub fn overview(store: &mut dyn Store) -> Result<Vec<Headline>, StoreError> {
    let mut versions = BTreeMap::new();
    let mut lines = Vec::new();
    for rollout in all_rollouts(store)? {
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

/// Reads how many dead hosts call for help.
///
/// # Errors
/// Those of the store.
pub fn calling(store: &mut dyn Store, now: Stamp) -> Result<usize, StoreError> {
    Ok(store.calls(now)?.len())
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
    let attempts = all_attempts(store, id)?;
    let not_undrained = not_undrained(&attempts);
    let attempts = last_of_each(attempts);
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
        not_undrained,
        racks,
        workers: store.workers()?,
        found,
    }))
}

/// Reads a host by its name, if it is known, with its last attempts in all rollouts, and the last
/// events about it, those that came last first.
///
/// # Errors
/// Those of the store.
pub fn host(
    store: &mut dyn Store,
    name: &str,
    now: Stamp,
) -> Result<Option<(HostPicture, Vec<Event>)>, StoreError> {
    let Some(host) = store.host(name)? else { return Ok(None) };
    let mut names = BTreeMap::<RolloutId, String>::new();
    let mut tried = Vec::new();
    for attempt in store.attempts_of(name, HISTORY_MAX)? {
        let id = attempt.rollout;
        if let Entry::Vacant(unknown) = names.entry(id) {
            let found = store.rollout(id)?;
            unknown.insert(found.map_or(String::new(), |found| found.rollout.name));
        }
        tried.push((names[&id].clone(), attempt));
    }
    let of_host = LookBack { host: Some(name), ..LookBack::ALL };
    let events = store.past_events(&of_host, HISTORY_MAX)?;
    let never_begins = match tried.first() {
        Some((_, last)) => never_begins(store, last, now)?,
        None => false,
    };
    let picture = HostPicture::new(host, tried, now);
    Ok(Some((if never_begins { picture.that_never_begins() } else { picture }, events)))
}

/// Says whether an attempt is planned for which no window of its site is long enough.
///
/// # Errors
/// Those of the store.
pub fn never_begins(
    store: &mut dyn Store,
    attempt: &Attempt,
    now: Stamp,
) -> Result<bool, StoreError> {
    if attempt.state != AttemptState::Planned {
        return Ok(false);
    }
    let found = store.rollout(attempt.rollout)?;
    let file = found.and_then(|found| RolloutFile::parse(&found.rollout.file).ok());
    let Attempt { site, predicted_s, .. } = attempt;
    Ok(file.is_some_and(|file| file.next_start(site, *predicted_s, now).is_none()))
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

fn version(store: &mut dyn Store, rollout: &Rollout) -> Result<String, StoreError> {
    let release = store.release(&rollout.release)?;
    Ok(release.map_or(String::new(), |release| release.version))
}
