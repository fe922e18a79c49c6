use serde::{Deserialize, Serialize};

use super::Stamp;

/// How long writing a release takes on a host, as the host itself foresees it. The way into
/// recovery and home again is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foresight {
    /// Name of the host.
    pub host: String,
    /// Digest of the release.
    pub release: String,
    /// The firmware's version that the host ran when it was asked.
    pub from_version: String,
    /// Time on a typical chip, in seconds.
    pub typical_s: u32,
    /// Time on a slow chip, in seconds.
    pub longest_s: u32,
    /// When the host was asked.
    pub at: Stamp,
}

/// How long updates of the hosts of one board took, from the claim to the confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardTimes {
    /// DMI vendor.
    pub vendor: String,
    /// DMI product.
    pub product: String,
    /// How many updates were confirmed, by the worker that began them.
    pub updates: u64,
    /// The mean time, in seconds.
    pub typical_s: u32,
    /// The longest time, in seconds.
    pub longest_s: u32,
}
