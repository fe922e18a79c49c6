//! What a list says of a host, and how that changes what is known of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use firmcast::keys::HostPublicKey;
use firmcast::wire::DEFAULT_PORT;

use super::Problem;
use crate::model::Host;

/// What a list says of a host. What it does not say stays as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The host's name.
    pub name: String,
    /// Its public key.
    pub key: Option<String>,
    /// Where its agent answers.
    pub addresses: Option<Vec<SocketAddr>>,
    /// DMI vendor.
    pub vendor: Option<String>,
    /// DMI product.
    pub product: Option<String>,
    /// The firmware's version.
    pub bios_version: Option<String>,
    /// The agent's version.
    pub agent_version: Option<String>,
    /// The highest security version that was confirmed there. It never lowers what is known.
    pub security_version_floor: u64,
    /// Labels. One without a value is taken away.
    pub labels: BTreeMap<String, String>,
}

impl Entry {
    /// All that is known of `host`.
    pub fn of(host: &Host) -> Self {
        Self {
            name: host.name.clone(),
            key: Some(host.key.clone()),
            addresses: Some(host.addresses.clone()),
            vendor: Some(host.vendor.clone()),
            product: Some(host.product.clone()),
            bios_version: Some(host.bios_version.clone()),
            agent_version: Some(host.agent_version.clone()),
            security_version_floor: host.security_version_floor,
            labels: host.labels.clone(),
        }
    }

    /// Returns the host as it is known from now on.
    ///
    /// # Errors
    /// A host that is not known yet needs a key and an address.
    pub fn onto(self, known: Option<Host>) -> Result<Host, Problem> {
        let missing = |what: &str| Problem::new(&self.name, format!("is new, and has no {what}"));
        let mut host = match known {
            Some(host) => host,
            None => Host {
                name: self.name.clone(),
                key: self.key.clone().ok_or_else(|| missing("key"))?,
                addresses: self.addresses.clone().ok_or_else(|| missing("address"))?,
                vendor: String::new(),
                product: String::new(),
                bios_version: String::new(),
                agent_version: String::new(),
                security_version_floor: 0,
                labels: BTreeMap::new(),
            },
        };
        for (field, said) in [
            (&mut host.key, self.key),
            (&mut host.vendor, self.vendor),
            (&mut host.product, self.product),
            (&mut host.bios_version, self.bios_version),
            (&mut host.agent_version, self.agent_version),
        ] {
            *field = said.unwrap_or_else(|| std::mem::take(field));
        }
        host.addresses = self.addresses.unwrap_or(host.addresses);
        host.security_version_floor = host.security_version_floor.max(self.security_version_floor);
        for (label, value) in self.labels {
            match value.is_empty() {
                true => host.labels.remove(&label),
                false => host.labels.insert(label, value),
            };
        }
        Ok(host)
    }
}

/// Returns the key in `text`, as it is kept.
///
/// # Errors
/// It is none.
pub(super) fn key(text: &str) -> Result<String, String> {
    match text.trim().parse::<HostPublicKey>() {
        Ok(key) => Ok(key.to_string()),
        Err(error) => Err(format!("the key is no public key of a host: {error}")),
    }
}

/// Returns the addresses in `text`, with blanks or commas between them.
///
/// # Errors
/// One is none.
pub(super) fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    words.map(|word| address(word, DEFAULT_PORT)).collect()
}

/// Returns the address in `word`, with `port` if it has none.
///
/// # Errors
/// It is none. Names are not looked up: what they mean may be another host tomorrow.
pub(super) fn address(word: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(ip) = word.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    word.parse().map_err(|_| {
        format!("{word:?} is no address: write for example 192.0.2.7 or 192.0.2.7:{DEFAULT_PORT}")
    })
}
