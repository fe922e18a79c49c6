//! What this computer is: its board, its chip, and what it says of itself.

use std::path::Path;
use std::time::Duration;

use log::{error, info};

use crate::dmi::Dmi;
use crate::host::boot_id;
use crate::image::Board;
use crate::keys::{Fingerprint, HostSecretKey, PublicKey as _, SecretKey as _};
use crate::mtd::{ChipInfo, SYSFS_MTD};
use crate::platform::{Platform, PlatformError};
use crate::reason::{Condition, Reason, with_causes};
use crate::wire::answer::{Environment, Identity};

/// How long the flash chip's driver is waited for.
const FLASH_PATIENCE: Duration = Duration::from_secs(30);

/// This computer, as the recovery environment finds it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) key: HostSecretKey,
    pub(super) security_version_floor: u64,
    pub(super) dmi: Dmi,
    /// None when the chip was not found.
    pub(super) flash: Option<ChipInfo>,
}

impl Host {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.key.public().fingerprint()
    }

    /// Returns what a manifest must fit.
    pub(super) fn board(&self) -> Board {
        let host = Some(self.fingerprint());
        self.dmi.clone().board(self.flash_size_bytes(), self.security_version_floor, host)
    }

    /// Returns what the host says of itself; `doubt` is why its firmware is not whole.
    pub(super) fn identity(&self, firmware: Condition, doubt: &str) -> Identity {
        Identity {
            environment: Environment::Recovery,
            boot_id: boot_id(Path::new("/")),
            flash_size_bytes: self.flash_size_bytes(),
            obstacle: if self.flash.is_some() { Reason::None } else { Reason::FlashNotFound },
            security_version_floor: self.security_version_floor,
            host_name: self.name.clone(),
            vendor: self.dmi.vendor.clone(),
            product: self.dmi.product.clone(),
            bios_version: self.dmi.bios_version.clone(),
            flash_name: self.flash.as_ref().map_or(String::new(), ChipInfo::name),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            obstacle_detail: String::new(),
            firmware,
            doubt: doubt.to_owned(),
            findings: Vec::new(),
            learned: Vec::new(),
            last_end: None,
        }
    }

    fn flash_size_bytes(&self) -> u64 {
        self.flash.as_ref().map_or(0, ChipInfo::size_bytes)
    }
}

/// Returns the chip of this name, waited for as long as its driver may need.
///
/// # Errors
/// [`PlatformError::Wait`].
pub(super) fn find_flash(
    platform: &mut Platform,
    selector: &str,
) -> Result<Option<ChipInfo>, PlatformError> {
    let find = || ChipInfo::find(Path::new(SYSFS_MTD), selector);
    platform.wait_for(FLASH_PATIENCE, || find().is_ok())?;
    match find() {
        Ok(info) => {
            info!("flash: {info}, {:#x} bytes", info.size_bytes());
            Ok(Some(info))
        }
        Err(error) => {
            error!("{}", with_causes(&error));
            Ok(None)
        }
    }
}
