//! What is known of a campaign before it begins: its kind, its bundle, its hosts.

use firmcast::image::Manifest;
use firmcast::keys::Fingerprint;
use serde::{Deserialize, Serialize};

use super::hex;
use crate::campaign::Purpose;

/// What a campaign is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Hosts are updated.
    #[default]
    Update,
    /// Hosts are only asked what an update would change; nothing is.
    DryRun,
    /// Hosts do everything up to the first change, and come home; nothing is changed.
    Drill,
    /// Hosts are only measured: whether they run the bundle's firmware.
    Look,
    /// Dead hosts are given firmware.
    Rescue,
}

impl Kind {
    /// The kind of a campaign for this purpose.
    pub fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Update => Self::Update,
            Purpose::DryRun => Self::DryRun,
            Purpose::Drill => Self::Drill,
            Purpose::Look => Self::Look,
        }
    }

    /// Returns what is said of a host that ended well, as in "3 of 4 confirmed".
    pub fn good_end(self) -> &'static str {
        match self {
            Self::Update | Self::Look => "confirmed",
            Self::DryRun => "could be updated",
            Self::Drill => "drilled",
            Self::Rescue => "rescued",
        }
    }

    /// Returns what is said of the other hosts.
    pub fn bad_end(self) -> &'static str {
        match self {
            Self::Update | Self::Drill | Self::Rescue => "failed",
            Self::DryRun => "could not",
            Self::Look => "not confirmed",
        }
    }
}

/// What is known of the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleFacts {
    /// File that it came from.
    pub file: String,
    /// Version of the firmware.
    pub version: String,
    /// Its security version.
    pub security_version: u64,
    /// Vendor of the boards.
    pub vendor: String,
    /// Products that it is for.
    pub products: Vec<String>,
    /// SHA-256 of the image.
    pub image_sha256: String,
    /// Size of the image.
    pub image_size_bytes: u64,
    /// Size of the payload as it travels.
    pub payload_size_bytes: u64,
    /// Fingerprint of the release key that signed it.
    pub signer: String,
    /// Whether the signature was checked against a key that the operator gave.
    pub signature_checked: bool,
}

impl BundleFacts {
    /// Returns what is known of the bundle in `file`.
    pub fn new(
        file: String,
        manifest: &Manifest,
        signer: &Fingerprint,
        signature_checked: bool,
    ) -> Self {
        Self {
            file,
            version: manifest.version().to_owned(),
            security_version: manifest.security_version(),
            vendor: manifest.vendor().to_owned(),
            products: manifest.products().to_vec(),
            image_sha256: hex(manifest.image_digest()),
            image_size_bytes: manifest.image_size_bytes() as u64,
            payload_size_bytes: manifest.payload_size_bytes() as u64,
            signer: signer.to_string(),
            signature_checked,
        }
    }
}

/// One of the hosts of a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Name or address, as the operator gave it.
    pub host: String,
    /// Where its agent listens.
    pub address: String,
    /// Fingerprint of its key; none when it did not answer.
    pub key: Option<String>,
}
