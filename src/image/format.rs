//! Firmware formats that can be told by their bytes; only used to warn before an image of none of
//! them is signed.

use std::fmt;

use super::layout::{FoundVolume, Volumes};

/// A kind of firmware image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareFormat {
    /// Starts with an Intel flash descriptor (signature 0FF0A55Ah at 10h or 0h).
    IntelDescriptor,
    /// Has a flash map `__FMAP__` or a coreboot file system `LARCHIVE`.
    Coreboot,
    /// Has a UEFI firmware volume (PI specification, volume 3, section 3.2.1).
    UefiVolume,
    /// Has the far jump of a legacy BIOS at its reset vector, 16 bytes before the end.
    LegacyBios,
}

impl FirmwareFormat {
    /// Returns the format of `image`, `None` when it is none of those known here.
    pub fn recognise(image: &[u8]) -> Option<Self> {
        if has_intel_descriptor(image) {
            Some(FirmwareFormat::IntelDescriptor)
        } else if has_coreboot(image) {
            Some(FirmwareFormat::Coreboot)
        } else if has_uefi_volume(image) {
            Some(FirmwareFormat::UefiVolume)
        } else if has_legacy_reset_vector(image) {
            Some(FirmwareFormat::LegacyBios)
        } else {
            None
        }
    }
}

impl fmt::Display for FirmwareFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FirmwareFormat::IntelDescriptor => "Intel flash descriptor",
            FirmwareFormat::Coreboot => "coreboot",
            FirmwareFormat::UefiVolume => "UEFI firmware volume",
            FirmwareFormat::LegacyBios => "legacy BIOS",
        })
    }
}

fn has_intel_descriptor(image: &[u8]) -> bool {
    const SIGNATURE: [u8; 4] = 0x0FF0_A55Au32.to_le_bytes();
    image.get(0x10..0x14) == Some(&SIGNATURE) || image.get(..4) == Some(&SIGNATURE)
}

/// Both signatures stand at multiples of 4 at least, as fmaptool and cbfstool place them.
fn has_coreboot(image: &[u8]) -> bool {
    let (words, _) = image.as_chunks::<4>();
    words.windows(2).any(|pair| {
        let pair = (&pair[0], &pair[1]);
        pair == (b"__FM", b"AP__") || pair == (b"LARC", b"HIVE")
    })
}

fn has_uefi_volume(image: &[u8]) -> bool {
    Volumes::of(image).any(|found| matches!(found, FoundVolume::Whole(_)))
}

fn has_legacy_reset_vector(image: &[u8]) -> bool {
    // JMP FAR F000:xxxx
    matches!(image.last_chunk::<16>(), Some([0xEA, _, _, 0x00, 0xF0, ..]))
}
