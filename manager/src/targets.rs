//! Which hosts an operator means, and the manager's own key.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use firmcast::keys::{self, HostPublicKey, ManagerSecretKey};
use firmcast_manager::campaign::{Target, config};
use firmcast_manager::inventory::Inventory;
use firmcast_manager::state::MANAGER_KEY;
use mio::net::UdpSocket;

use crate::discover;
use crate::wait::Waiter;

/// How long hosts whose key is not known have to answer before the campaign starts without them.
const KEY_TIMEOUT: Duration = Duration::from_secs(5);

/// The manager's key: in the file `named`, else where `firmcast key new` puts it.
pub(crate) fn load_manager_key(
    named: Option<&Path>,
    state: &Path,
) -> anyhow::Result<ManagerSecretKey> {
    let default = state.join(MANAGER_KEY);
    keys::load_secret(named.unwrap_or(&default)).context(
        "no manager key: make one with `firmcast key new --role manager`, or give --key FILE",
    )
}

/// The address that an operator wrote: with or without port, a number or a name of the network's name service.
pub(crate) fn resolve(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let mut addresses = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("{host} is neither in the inventory nor a known address"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

/// A host that an operator means: name, address, and key if it is in the inventory.
#[derive(Clone, Debug)]
pub(crate) struct Meant {
    name: String,
    pub(crate) address: SocketAddr,
    pub(crate) key: Option<HostPublicKey>,
}

/// The hosts of the inventory, or those that were named.
pub(crate) fn meant(
    inventory: &Inventory,
    named: &[String],
    port: u16,
) -> anyhow::Result<Vec<Meant>> {
    let known = |entry: &firmcast_manager::inventory::Entry, name: &str| Meant {
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
        let address = resolve(name, port)?;
        let key = inventory.at(address).map(|entry| entry.key);
        hosts.push(Meant { name: name.clone(), address, key });
    }
    ensure!(hosts.len() <= config::HOSTS_MAX, "at most {} hosts at a time", config::HOSTS_MAX);
    Ok(hosts)
}

/// Asks the hosts whose key is not known for it. One that does not answer stays without.
pub(crate) fn with_keys(
    waiter: &mut Waiter,
    socket: &UdpSocket,
    secret: &ManagerSecretKey,
    mut hosts: Vec<Meant>,
) -> anyhow::Result<Vec<Meant>> {
    let unknown: Vec<SocketAddr> =
        hosts.iter().filter(|host| host.key.is_none()).map(|host| host.address).collect();
    if !unknown.is_empty() {
        let found = discover::ask(waiter, socket, secret, &unknown, KEY_TIMEOUT, true)?;
        for host in hosts.iter_mut().filter(|host| host.key.is_none()) {
            let answer = found.iter().find(|found| found.address == host.address);
            host.key = answer.map(|found| found.key);
        }
    }
    ensure_distinct(&hosts)?;
    Ok(hosts)
}

fn ensure_distinct(hosts: &[Meant]) -> anyhow::Result<()> {
    let mut names = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for host in hosts {
        if names.insert(&host.name, ()).is_some() {
            bail!("{} is named twice", host.name);
        }
        let Some(key) = host.key else { continue };
        if let Some(other) = keys.insert(*key.exchange(), &host.name) {
            bail!("{other} and {} are the same host: they have the same key", host.name);
        }
    }
    Ok(())
}

impl Meant {
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
    fn addresses_are_understood_with_and_without_port() {
        let at = |host| resolve(host, 9847).unwrap().to_string();
        assert_eq!(at("10.0.0.1"), "10.0.0.1:9847");
        assert_eq!(at("10.0.0.1:77"), "10.0.0.1:77");
        assert_eq!(at("fe80::1"), "[fe80::1]:9847");
        assert_eq!(at("[fe80::1]:77"), "[fe80::1]:77");
    }

    #[test]
    fn a_host_cannot_be_named_twice() {
        let state = tempfile::tempdir().unwrap();
        let inventory = Inventory::load(state.path()).unwrap();
        let twice = ["10.0.0.1".to_owned(), "10.0.0.1".to_owned()];
        let hosts = meant(&inventory, &twice, 9847).unwrap();
        assert!(ensure_distinct(&hosts).unwrap_err().to_string().contains("twice"));
        assert!(meant(&inventory, &[], 9847).unwrap_err().to_string().contains("--enroll"));
    }
}
