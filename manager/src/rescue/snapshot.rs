//! What `firmcast status` shows.

use serde::{Deserialize, Serialize};

use crate::news::HostResult;

/// The largest status that is read.
pub const STATUS_SIZE_MAX: u64 = 128 * 1024 * 1024;

/// All that the service knows at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Bundles that are served, and files that are not.
    pub bundles: Vec<BundleStatus>,
    /// Campaigns that are under way.
    pub campaigns: Vec<CampaignStatus>,
    /// Hosts that called since the service was started.
    pub hosts: Vec<HostStatus>,
}

/// A file in the bundle directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleStatus {
    /// The file.
    pub file: String,
    /// Whether it is served.
    pub usable: bool,
    /// Why it is not served; else empty.
    pub why: String,
    /// Vendor of the boards.
    pub vendor: String,
    /// Products that it is for.
    pub products: Vec<String>,
    /// Version of the firmware.
    pub version: String,
    /// Its security version.
    pub security_version: u64,
}

/// A campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CampaignStatus {
    /// Its number, 16 hexadecimal digits.
    pub campaign: String,
    /// File of the bundle.
    pub file: String,
    /// Version of the firmware.
    pub version: String,
    /// Whether the stream has begun.
    pub started: bool,
    /// Hosts that are under way.
    pub active: usize,
    /// Hosts that were rescued.
    pub rescued: usize,
    /// Attempts that failed.
    pub failed: usize,
    /// Present rate of the stream.
    pub rate_bits_per_s: u64,
    /// Bytes sent so far, with all headers.
    pub wire_bytes: u64,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Name in the inventory, else the fingerprint of its key.
    pub host: String,
    /// Fingerprint of its key.
    pub key: String,
    /// Whether it is in the inventory.
    pub known: bool,
    /// Where it called from last.
    pub address: String,
    /// Seconds since it was heard last.
    pub silent_s: u64,
    /// DMI vendor.
    pub vendor: String,
    /// DMI product.
    pub product: String,
    /// `valid`, `invalid` or `unknown`; empty when it has not said so.
    pub finding: String,
    /// Why.
    pub why: String,
    /// Name of its stage; `waiting` when it is in no campaign.
    pub stage: String,
    /// What it says it does.
    pub phase: String,
    /// Steps done.
    pub done: u32,
    /// Steps in all.
    pub total: u32,
    /// File of the bundle that it was enlisted for last; empty before.
    #[serde(default)]
    pub file: String,
    /// Times that it was enlisted.
    pub attempts: u32,
    /// Times that it failed.
    pub failures: u32,
    /// Times that it was rescued within a day.
    pub rescues: u32,
    /// Whether it is left alone.
    pub parked: bool,
    /// Whether several machines call with its key.
    pub conflict: bool,
    /// Why it is put off, if so.
    pub held: Option<String>,
    /// How its last attempt ended.
    pub last: Option<HostResult>,
}
