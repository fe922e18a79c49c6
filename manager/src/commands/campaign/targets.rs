//! Which hosts an operator means.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{bail, ensure};
use firmcast::keys::HostPublicKey;
use firmcast_manager::campaign::{Target, config};
use firmcast_manager::store::inventory::{self, Inventory};
use mio::net::UdpSocket;

use crate::driver::interview::{self, Asker};
use crate::driver::network;
use crate::driver::wait::Waiter;

/// How long hosts whose key is not known have to answer before the campaign starts without them.
const KEY_TIMEOUT: Duration = Duration::from_secs(5);

/// A host that an operator means: name, address, and key if it is in the inventory.
#[derive(Clone, Debug)]
pub(crate) struct NamedHost {
    name: String,
    pub(crate) address: SocketAddr,
    pub(crate) key: Option<HostPublicKey>,
}

/// Returns the hosts of the inventory, or those that were named.
pub(crate) fn named(
    inventory: &Inventory,
    named: &[String],
    port: u16,
) -> anyhow::Result<Vec<NamedHost>> {
    let known = |entry: &inventory::Entry, name: &str| NamedHost {
        name: name.to_owned(),
        address: entry.address,
        key: Some(entry.key),
    };
    let mut hosts = Vec::new();
    if named.is_empty() {
        hosts.extend(inventory.hosts().iter().map(|entry| known(entry, &entry.name)));
        ensure!(
            !hosts.is_empty(),
            "the inventory is empty; fill it with firmcast discover --enroll"
        );
    }
    for name in named {
        if let Some(entry) = inventory.named(name) {
            hosts.push(known(entry, name));
            continue;
        }
        let address = network::resolve(name, port)?;
        let key = inventory.at(address).map(|entry| entry.key);
        hosts.push(NamedHost { name: name.clone(), address, key });
    }
    ensure!(hosts.len() <= config::HOSTS_MAX, "at most {} hosts at a time", config::HOSTS_MAX);
    Ok(hosts)
}

/// Asks the hosts whose key is not known for it. One that does not answer stays without.
pub(crate) fn with_keys(
    waiter: &mut Waiter,
    socket: &UdpSocket,
    asker: &mut Asker<'_>,
    mut hosts: Vec<NamedHost>,
) -> anyhow::Result<Vec<NamedHost>> {
    ensure_distinct(&hosts)?;
    let unknown: Vec<SocketAddr> =
        hosts.iter().filter(|host| host.key.is_none()).map(|host| host.address).collect();
    if !unknown.is_empty() {
        let found = interview::ask(waiter, socket, asker, &unknown, KEY_TIMEOUT, true)?;
        for host in hosts.iter_mut().filter(|host| host.key.is_none()) {
            let answer = found.iter().find(|found| found.is_at(&host.address));
            host.key = answer.map(|found| found.key);
        }
    }
    ensure_distinct(&hosts)?;
    Ok(hosts)
}

fn ensure_distinct(hosts: &[NamedHost]) -> anyhow::Result<()> {
    let mut names = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for host in hosts {
        if names.insert(&host.name, ()).is_some() {
            bail!("{} is named twice", host.name);
        }
        let Some(key) = host.key else { continue };
        if let Some(other) = keys.insert(*key.exchange(), &host.name) {
            bail!(
                "{other} and {} have the same key: they are one host, or copies of one disk, of \
                 which all but one need a new key",
                host.name
            );
        }
    }
    Ok(())
}

impl NamedHost {
    pub(crate) fn target(&self) -> Target {
        Target {
            name: self.name.clone(),
            key: self.key.map(|key| *key.exchange()),
            address: self.address,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_cannot_be_named_twice() {
        let state = tempfile::tempdir().unwrap();
        let inventory = Inventory::load(state.path()).unwrap();
        let twice = ["10.0.0.1".to_owned(), "10.0.0.1".to_owned()];
        let hosts = named(&inventory, &twice, 9847).unwrap();
        assert!(ensure_distinct(&hosts).unwrap_err().to_string().contains("twice"));
        assert!(named(&inventory, &[], 9847).unwrap_err().to_string().contains("--enroll"));
    }
}
