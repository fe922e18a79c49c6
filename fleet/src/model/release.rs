use serde::{Deserialize, Serialize};

use super::{Host, Stamp};

/// A signed bundle, known by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// SHA-256 of the bundle file, 64 hexadecimal digits.
    pub digest: String,
    /// The firmware's version, as the manifest has it.
    pub version: String,
    /// Its security version.
    pub security_version: u64,
    /// DMI vendor of the boards that it is for.
    pub vendor: String,
    /// DMI products that it is for.
    pub products: Vec<String>,
    /// Size of the bundle file in bytes.
    pub size_bytes: u64,
    /// When it was added.
    pub added_at: Stamp,
}

impl Release {
    /// Whether it is for the board of a host.
    pub fn is_for(&self, host: &Host) -> bool {
        let (vendor, product) = (host.vendor.trim(), host.product.trim());
        vendor == self.vendor && self.products.iter().any(|each| each == product)
    }

    /// Whether a host has its version, as far as anybody knows.
    pub fn is_on(&self, host: &Host) -> bool {
        host.bios_version.trim() == self.version
    }
}
