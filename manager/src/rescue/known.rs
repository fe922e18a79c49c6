//! The hosts of the inventory, and the floor of security versions of each.

use std::collections::{BTreeMap, VecDeque};

use firmcast::session::{PEERS_MAX, PeerKey};

/// Most hosts of the inventory that are answered.
pub const KNOWN_MAX: usize = PEERS_MAX - STRANGERS_MAX;

/// Most hosts outside the inventory that are remembered, where the policy lets them be answered at
/// all.
pub(crate) const STRANGERS_MAX: usize = 1024;

/// A host of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its X25519 key.
    pub key: PeerKey,
    /// The highest security version that was confirmed there, as far as the manager knows.
    pub security_version_floor: u64,
}

/// The inventory.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    hosts: BTreeMap<PeerKey, Known>,
    /// Floors that rescues have raised, not yet polled.
    raised: VecDeque<(PeerKey, u64)>,
}

impl KnownHosts {
    /// Another inventory from now on. Returns the hosts that are gone from it.
    pub(super) fn replace(&mut self, known: Vec<Known>) -> Vec<PeerKey> {
        let hosts = known.into_iter().take(KNOWN_MAX).map(|host| (host.key, host)).collect();
        let old = std::mem::replace(&mut self.hosts, hosts);
        old.into_keys().filter(|key| !self.hosts.contains_key(key)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn get(&self, key: &PeerKey) -> Option<&Known> {
        self.hosts.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.hosts.values()
    }

    /// The floor that the manager knows for a host, 0 for one outside the inventory.
    pub(super) fn floor(&self, key: &PeerKey) -> u64 {
        self.get(key).map_or(0, |host| host.security_version_floor)
    }

    /// This security version is confirmed on a host.
    pub(super) fn raise_floor(&mut self, key: &PeerKey, security_version: u64) {
        if let Some(host) = self.hosts.get_mut(key)
            && host.security_version_floor < security_version
        {
            host.security_version_floor = security_version;
            self.raised.push_back((*key, security_version));
        }
    }

    /// The next host whose floor was raised.
    pub(super) fn poll_floor(&mut self) -> Option<(PeerKey, u64)> {
        self.raised.pop_front()
    }
}
