//! What a region is for.

use std::fmt;
use std::str::FromStr;

use crate::image::RegionAction;

/// What a region of the flash is for. The codes are stable: they stand in manifests and messages.
/// In a manifest the kinds from 9 on stand as [`RegionKind::Other`], and the name tells them:
/// programs that do not know them read such a layout, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RegionKind {
    /// Intel flash descriptor: who may access what.
    Descriptor = 1,
    /// Code that the host's processor runs.
    Bios = 2,
    /// Intel Management Engine.
    Me = 3,
    /// Network controller's data with the MAC address.
    Gbe = 4,
    /// Data of the board's maker.
    PlatformData = 5,
    /// Firmware of the embedded controller.
    EmbeddedController = 6,
    /// UEFI variables: boot order, settings, Secure Boot keys.
    VariableStore = 7,
    /// Vital product data: serial numbers, calibration.
    Vpd = 8,
    /// What the firmware writes itself besides variables: results of memory training, event logs,
    /// data that its parts hand to one another.
    FirmwareData = 9,
    /// What makes a machine this one and its owner's, besides vital product data: serial numbers
    /// in a hole of the boot block, keys and hardware name, the picture at the start.
    Identity = 10,
    /// Anything else.
    Other = 255,
}

impl RegionKind {
    /// Every kind, in the order of the codes.
    pub const ALL: [RegionKind; 11] = [
        Self::Descriptor,
        Self::Bios,
        Self::Me,
        Self::Gbe,
        Self::PlatformData,
        Self::EmbeddedController,
        Self::VariableStore,
        Self::Vpd,
        Self::FirmwareData,
        Self::Identity,
        Self::Other,
    ];

    /// Returns the kind with this code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Returns the name in bundle descriptions, JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Descriptor => "descriptor",
            Self::Bios => "bios",
            Self::Me => "me",
            Self::Gbe => "gbe",
            Self::PlatformData => "platform-data",
            Self::EmbeddedController => "embedded-controller",
            Self::VariableStore => "variable-store",
            Self::Vpd => "vpd",
            Self::FirmwareData => "firmware-data",
            Self::Identity => "identity",
            Self::Other => "other",
        }
    }

    /// Whether it belongs to others than the host's processor, which may be kept from reading it.
    pub(in crate::image) fn is_foreign(self) -> bool {
        matches!(self, Self::Me | Self::Gbe | Self::PlatformData | Self::EmbeddedController)
    }

    /// Returns the code in a manifest.
    pub(in crate::image) fn code_in_manifest(self) -> u8 {
        match self {
            Self::FirmwareData | Self::Identity => Self::Other as u8,
            known => known as u8,
        }
    }

    /// Returns the kind with this code in a manifest and this name.
    pub(in crate::image) fn in_manifest(code: u8, name: &str) -> Option<Self> {
        let named = Self::of_name(name);
        let kind = Self::from_code(code).filter(|kind| kind.code_in_manifest() == code)?;
        Some(if named.code_in_manifest() == code { named } else { kind })
    }

    /// Returns what an update does with such a region where nothing else is said: it belongs to
    /// the machine. None: the image's contents are written.
    pub fn usual_action(self) -> Option<RegionAction> {
        match self {
            Self::VariableStore | Self::FirmwareData | Self::Me | Self::EmbeddedController => {
                Some(RegionAction::Volatile)
            }
            Self::Descriptor | Self::Gbe | Self::PlatformData | Self::Vpd | Self::Identity => {
                Some(RegionAction::Preserve)
            }
            Self::Bios | Self::Other => None,
        }
    }

    /// Returns the kind that a region's name tells, in any case: the names of flashrom and ifdtool
    /// (`fd`, `gbe`), of coreboot's and ChromeOS's flash maps (`SI_GBE`, `RO_VPD`, `SMMSTORE`,
    /// `RW_MRC_CACHE`), and of this project. [`RegionKind::Other`] for all others.
    pub fn of_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "fd" | "ifd" | "descriptor" | "si_desc" => Self::Descriptor,
            "bios" | "bios2" | "si_bios" | "si_bios2" => Self::Bios,
            "me" | "si_me" => Self::Me,
            "gbe" | "si_gbe" | "10gbe_0" | "10gbe_1" | "si_10gbe0" | "si_10gbe1" => Self::Gbe,
            "pd" | "platform-data" | "si_pdr" | "platform_data" => Self::PlatformData,
            "ec" | "embedded-controller" | "si_ec" => Self::EmbeddedController,
            "variable-store" | "nvram" | "vars" | "rw_nvram" | "smmstore" => Self::VariableStore,
            "vpd" | "ro_vpd" | "rw_vpd" => Self::Vpd,
            "firmware-data" | "rw_elog" | "elog" | "console" | "rw_shared" | "shared_data"
            | "psp_nvram" | "rw_preserve" => Self::FirmwareData,
            "identity" | "romhole" | "gbb" | "ro_gbb" | "bootsplash" => Self::Identity,
            _ if is_cache(&name) => Self::FirmwareData,
            _ => Self::Other,
        }
    }
}

/// Results of training the memory and the like, which coreboot writes whenever they change:
/// `RW_MRC_CACHE`, `UNIFIED_MRC_CACHE`, `RECOVERY_MRC_CACHE`, `RW_VAR_MRC_CACHE`, `RW_SPD_CACHE`,
/// `RW_DDR_TRAINING`.
fn is_cache(name: &str) -> bool {
    ["mrc_cache", "spd_cache", "vbios_cache", "fsp_cache", "ddr_training"]
        .iter()
        .any(|kind| name.contains(kind))
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Not the name of a kind of region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown kind of region {0:?}, expected descriptor, bios, me, gbe, platform-data, \
     embedded-controller, variable-store, vpd, firmware-data, identity or other"
)]
pub struct UnknownRegionKind(pub String);

impl FromStr for RegionKind {
    type Err = UnknownRegionKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownRegionKind(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes are stored and sent: a changed one is a new format.
    #[test]
    fn codes_and_names_are_stable_and_lead_back() {
        let codes = RegionKind::ALL.map(|kind| kind as u8);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255]);
        for kind in RegionKind::ALL {
            assert_eq!(RegionKind::from_code(kind as u8), Some(kind));
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(RegionKind::of_name(kind.name()), kind);
            assert!(UnknownRegionKind(String::new()).to_string().contains(kind.name()));
        }
        assert_eq!(RegionKind::from_code(0), None);
        assert!("GBE".parse::<RegionKind>().is_err());
        assert_eq!(RegionKind::of_name("RO_VPD"), RegionKind::Vpd);
        assert_eq!(RegionKind::of_name("RW_SECTION_A"), RegionKind::Other);
    }
}
