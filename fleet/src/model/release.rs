use serde::{Deserialize, Serialize};

use super::Stamp;

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
