use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The label that says where a host stands: workers claim the hosts of their site.
pub const SITE: &str = "site";
/// The label of the rack.
pub const RACK: &str = "rack";
/// The label of the power feed.
pub const POWER: &str = "power";
/// The label that says what a host is for.
pub const ROLE: &str = "role";

/// Maximum number of labels of one host.
pub const LABELS_MAX: usize = 64;

/// Maximum number of bytes of a label's name, and of its value.
pub const LABEL_BYTES_MAX: usize = 256;

/// A computer of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Unique in the fleet.
    pub name: String,
    /// Its public key, one line of text ([`firmcast::keys::HostPublicKey`]).
    pub key: String,
    /// Where its agent answers; the first is tried first.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<SocketAddr>,
    /// DMI vendor.
    #[serde(default)]
    pub vendor: String,
    /// DMI product.
    #[serde(default)]
    pub product: String,
    /// The firmware's version when the host was heard last, or that of the release that was
    /// confirmed there since; empty when nobody knows.
    #[serde(default)]
    pub bios_version: String,
    /// The agent's version when the host was heard last; empty when nobody knows.
    #[serde(default)]
    pub agent_version: String,
    /// The highest security version that is known to have been confirmed there.
    #[serde(default)]
    pub security_version_floor: u64,
    /// Site, rack, power, role, and whatever operators add; any text.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Host {
    /// The value of a label; empty when the host has no such label.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Where the host stands; empty when nobody said so.
    pub fn site(&self) -> &str {
        self.label(SITE)
    }
}
