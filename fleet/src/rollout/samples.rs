//! Hosts for tests.

use std::net::{Ipv4Addr, SocketAddr};

use crate::model::{Host, POWER, RACK, SITE};

/// A host that everything is known of.
pub(crate) fn host(name: &str, site: &str, rack: &str, power: &str) -> Host {
    let labels = [(SITE, site), (RACK, rack), (POWER, power)];
    Host {
        name: name.to_owned(),
        key: format!("firmcast-host {name}"),
        addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 4200))],
        vendor: "ACME".to_owned(),
        product: "S1".to_owned(),
        bios_version: "1.9".to_owned(),
        agent_version: "0.1.0".to_owned(),
        security_version_floor: 1,
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

/// The example file.
pub(crate) const WINTER: &str = include_str!("../../examples/winter.toml");
