use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::MemoryStore;
use crate::model::{Host, Release};
use crate::store::error::StoreError;
use crate::store::requests::Changed;

/// Puts hosts: all of them, or none.
pub(super) fn put(store: &mut MemoryStore, hosts: &[Host]) -> Result<(), StoreError> {
    check_keys(store, hosts)?;
    for host in hosts {
        let before = store.hosts.insert(host.name.clone(), host.clone());
        if let Some(before) = before
            && store.keys.get(&before.key) == Some(&host.name)
        {
            store.keys.remove(&before.key);
        }
        store.keys.insert(host.key.clone(), host.name.clone());
    }
    Ok(())
}

/// Fails where a host would have the key of another: what the keys would be, on a copy of what
/// changes.
fn check_keys(store: &MemoryStore, hosts: &[Host]) -> Result<(), StoreError> {
    let mut given = BTreeMap::<&str, Option<&str>>::new();
    let mut held = BTreeMap::<&str, &str>::new();
    for host in hosts {
        let kept = store.keys.get(&host.key).map(String::as_str);
        let owner = given.get(host.key.as_str()).copied().unwrap_or(kept);
        if let Some(owner) = owner.filter(|owner| *owner != host.name) {
            let (name, owner) = (host.name.clone(), owner.to_owned());
            return Err(StoreError::KeyOfAnother { name, owner });
        }
        let before = held.insert(&host.name, &host.key);
        let kept = store.hosts.get(&host.name).map(|host| host.key.as_str());
        if let Some(before) = before.or(kept) {
            given.insert(before, None);
        }
        given.insert(&host.key, Some(&host.name));
    }
    Ok(())
}

/// A host holds this release from now on, as was seen.
pub(super) fn has(store: &mut MemoryStore, host: &str, release: &str) {
    let Some(release) = store.releases.get(release) else { return };
    if let Some(host) = store.hosts.get_mut(host) {
        host.bios_version.clone_from(&release.version);
        let floor = &mut host.security_version_floor;
        *floor = release.security_version.max(*floor);
    }
}

/// Nobody knows the version of a host any more.
pub(super) fn forget_version(store: &mut MemoryStore, host: &str) {
    if let Some(host) = store.hosts.get_mut(host) {
        host.bios_version.clear();
    }
}

pub(super) fn one(store: &MemoryStore, name: &str) -> Option<Host> {
    store.hosts.get(name).cloned()
}

pub(super) fn page(store: &MemoryStore, after: &str, limit: usize) -> Vec<Host> {
    later(&store.hosts, after, limit)
}

pub(super) fn add_release(store: &mut MemoryStore, release: &Release) -> Changed {
    if store.releases.contains_key(&release.digest) {
        return Changed::Before;
    }
    store.releases.insert(release.digest.clone(), release.clone());
    Changed::Now
}

pub(super) fn one_release(store: &MemoryStore, digest: &str) -> Option<Release> {
    store.releases.get(digest).cloned()
}

pub(super) fn releases(store: &MemoryStore, after: &str, limit: usize) -> Vec<Release> {
    later(&store.releases, after, limit)
}

fn later<T: Clone>(map: &BTreeMap<String, T>, after: &str, limit: usize) -> Vec<T> {
    let later = map.range::<str, _>((Excluded(after), Unbounded));
    later.take(limit).map(|(_, each)| each.clone()).collect()
}
