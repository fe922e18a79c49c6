//! Whether a bundle may be flashed on a board: decided from the signed manifest and what the host
//! knows of itself.
//!
//! The agent asks before anything happens, and the recovery environment asks again.

use super::{Manifest, ManifestError};
use crate::keys::Fingerprint;
use crate::reason::{Reason, Refusal};

/// What a host knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// DMI `sys_vendor`.
    pub vendor: String,
    /// DMI `product_name`.
    pub product: String,
    /// DMI `bios_version`.
    pub bios_version: String,
    /// Size of the flash chip.
    pub flash_size_bytes: u64,
    /// Highest security version that was confirmed here.
    pub security_version_floor: u64,
    /// This host's key; `None` while it has none.
    pub host: Option<Fingerprint>,
}

impl Board {
    /// Checks match list, host, version floor, installed version and size.
    ///
    /// # Errors
    /// The first that is off, with both sides.
    pub fn admit(&self, manifest: &Manifest) -> Result<(), Refusal> {
        if !manifest.fits_board(&self.vendor, &self.product) {
            let (vendor, products) = (manifest.vendor(), manifest.products().join(", "));
            let detail = format!(
                "bundle: {vendor} / {products}; this board: {} / {}",
                self.vendor, self.product
            );
            return Err(Refusal::new(Reason::WrongBoard, detail));
        }
        if let Some(host) = manifest.host()
            && self.host != Some(*host)
        {
            let own = self.host.map_or("none".to_owned(), |own| own.to_string());
            let detail = format!("bundle: {host}; this host: {own}");
            return Err(Refusal::new(Reason::WrongHost, detail));
        }
        let (offered, floor) = (manifest.security_version(), self.security_version_floor);
        if offered < floor {
            let detail = format!("bundle has {offered}, this host's floor is {floor}");
            return Err(Refusal::new(Reason::SecurityVersionTooOld, detail));
        }
        if !manifest.updates_from(&self.bios_version) {
            let (from, installed) = (manifest.update_from().join(", "), &self.bios_version);
            let detail = format!("bundle updates from {from}; installed is {installed}");
            return Err(Refusal::new(Reason::UpdateFromNotMet, detail));
        }
        let (image, chip) = (manifest.image_size_bytes() as u64, self.flash_size_bytes);
        let fits = if manifest.parts().is_empty() { image == chip } else { image <= chip };
        if !fits {
            let detail = format!("image {image:#x} bytes, chip {chip:#x} bytes");
            return Err(Refusal::new(Reason::ImageSizeMismatch, detail));
        }
        Ok(())
    }
}

impl From<&ManifestError> for Refusal {
    fn from(error: &ManifestError) -> Self {
        let reason = match error {
            ManifestError::UntrustedSigner { .. } | ManifestError::BadSignature { .. } => {
                Reason::ManifestUntrusted
            }
            _ => Reason::ManifestMalformed,
        };
        Refusal::new(reason, error)
    }
}
