//! UEFI capsules: a header in front of what the running firmware should install.
//!
//! | offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 16 | GUID: whose capsule this is |
//! | 16 | 4 | length of the header |
//! | 20 | 4 | flags; of Toshiba the length of the capsule |
//! | 24 | 4 | length of the capsule, the header included; of Toshiba flags |
//! | 28 | 2 | AMI alone: where the image begins |
//!
//! Sources: UEFI specification 2.10, section 8.5.3; for AMI's, Intel's, Lenovo's and Toshiba's
//! headers UEFITool, `ffs.h`.

use std::fmt;
use std::ops::Range;

use firmcast::image::layout::Guid;

use super::fields::{array, u16_at, u32_at};

/// Length of the smallest header.
const HEADER_BYTES_MIN: usize = 28;
/// Length of AMI's smallest header.
const AMI_HEADER_BYTES_MIN: usize = 32;
/// Length of the largest header, in bytes: signed ones of AMI have 1000h.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Flags with a meaning: those of the specification, and 16 that each capsule has for itself.
const FLAGS: u32 = 0x0007_ffff;

/// Whose capsule it is, as far as its GUID tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// The one of the first UEFI specifications: firmware volumes.
    Uefi,
    /// Firmware management protocol: programs and payloads, see [`super::fmp`].
    Fmp,
    /// AMI Aptio with a signature in the header.
    AmiSigned,
    /// AMI Aptio without.
    AmiUnsigned,
    /// Intel.
    Intel,
    /// Lenovo.
    Lenovo,
    /// Toshiba.
    Toshiba,
    /// Not known; often the board's own, as its firmware lists it.
    Other,
}

const KNOWN: [(Guid, Maker); 8] = [
    (
        Guid::new(0x3b66_86bd, 0x0d76, 0x4030, [0xb7, 0x0e, 0xb5, 0x51, 0x9e, 0x2f, 0xc5, 0xa0]),
        Maker::Uefi,
    ),
    (
        Guid::new(0x6dcb_d5ed, 0xe82d, 0x4c44, [0xbd, 0xa1, 0x71, 0x94, 0x19, 0x9a, 0xd9, 0x2a]),
        Maker::Fmp,
    ),
    (
        Guid::new(0x4a3c_a68b, 0x7723, 0x48fb, [0x80, 0x3d, 0x57, 0x8c, 0xc1, 0xfe, 0xc4, 0x4d]),
        Maker::AmiSigned,
    ),
    (
        Guid::new(0x14ee_bb90, 0x890a, 0x43db, [0xae, 0xd1, 0x5d, 0x3c, 0x45, 0x88, 0xa4, 0x18]),
        Maker::AmiUnsigned,
    ),
    (
        Guid::new(0x5391_82b9, 0xabb5, 0x4391, [0xb6, 0x9a, 0xe3, 0xa9, 0x43, 0xf7, 0x2f, 0xcc]),
        Maker::Intel,
    ),
    (
        Guid::new(0xe20b_afd3, 0x9914, 0x4f4f, [0x95, 0x37, 0x31, 0x29, 0xe0, 0x90, 0xeb, 0x3c]),
        Maker::Lenovo,
    ),
    (
        Guid::new(0x25b5_fe76, 0x8243, 0x4a5c, [0xa9, 0xbd, 0x7e, 0xe3, 0x24, 0x61, 0x98, 0xb5]),
        Maker::Lenovo,
    ),
    (
        Guid::new(0x3be0_7062, 0x1d51, 0x45d2, [0x83, 0x2b, 0xf0, 0x93, 0x25, 0x7e, 0xd4, 0x61]),
        Maker::Toshiba,
    ),
];

/// A capsule whose lengths agree with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capsule {
    pub(super) maker: Maker,
    pub(super) guid: Guid,
    /// Where what it carries begins.
    pub(super) header_bytes: usize,
}

/// Why what begins as a capsule is none that could be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// The header's length cannot be.
    #[error(
        "it is a capsule ({maker}) whose header says that it has 0x{header_bytes:x} bytes, \
         expected 0x{min_bytes:x} to 0x{max_bytes:x} and less than the capsule: get the file again"
    )]
    Header {
        /// Whose.
        maker: String,
        /// As read.
        header_bytes: usize,
        /// The least.
        min_bytes: usize,
        /// The most.
        max_bytes: usize,
    },
    /// The capsule has another length than the file.
    #[error(
        "it is a capsule ({maker}) whose header says that it has 0x{said_bytes:x} bytes, but there \
         are 0x{got_bytes:x}: it was cut or appended to, get the file again"
    )]
    Length {
        /// Whose.
        maker: String,
        /// As read.
        said_bytes: usize,
        /// Those in the file.
        got_bytes: usize,
    },
}

impl Capsule {
    /// Returns the capsule that all of `bytes` is; `None` where no capsule begins.
    ///
    /// # Errors
    /// [`CapsuleError`] for a known capsule whose lengths contradict themselves or the file.
    pub(super) fn find(bytes: &[u8]) -> Result<Option<Self>, CapsuleError> {
        let Some(guid) = array(bytes, 0).map(Guid) else { return Ok(None) };
        let known = KNOWN.into_iter().find(|(other, _)| *other == guid);
        let Some((_, maker)) = known else { return Ok(Self::unknown(bytes, guid)) };
        let maker_text = maker.to_string();
        let said_bytes = stated_bytes(bytes).unwrap_or(0);
        if said_bytes != bytes.len() {
            let got_bytes = bytes.len();
            return Err(CapsuleError::Length { maker: maker_text, said_bytes, got_bytes });
        }
        let (header_bytes, min_bytes) = match maker {
            Maker::AmiSigned | Maker::AmiUnsigned => {
                (u16_at(bytes, 28).map(usize::from), AMI_HEADER_BYTES_MIN)
            }
            _ => (u32_at(bytes, 16).map(|length| length as usize), HEADER_BYTES_MIN),
        };
        let header_bytes = header_bytes.unwrap_or(0);
        let max_bytes = HEADER_BYTES_MAX;
        if !(min_bytes..=max_bytes).contains(&header_bytes) || header_bytes >= said_bytes {
            let maker = maker_text;
            return Err(CapsuleError::Header { maker, header_bytes, min_bytes, max_bytes });
        }
        Ok(Some(Self { maker, guid, header_bytes }))
    }

    /// Returns the capsule of a GUID that is not known, where all of the header fits the file.
    /// Boards have GUIDs of their own, as they stand in the metainfo of a cabinet.
    fn unknown(bytes: &[u8], guid: Guid) -> Option<Self> {
        let header_bytes = u32_at(bytes, 16)? as usize;
        let fits = u32_at(bytes, 24)? as usize == bytes.len()
            && (HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&header_bytes)
            && header_bytes < bytes.len()
            && u32_at(bytes, 20)? & !FLAGS == 0;
        fits.then_some(Self { maker: Maker::Other, guid, header_bytes })
    }

    /// Returns where what it carries lies, in a file of so many bytes.
    pub(super) fn contents(&self, file_bytes: usize) -> Range<usize> {
        self.header_bytes..file_bytes
    }
}

/// Returns where capsules may begin in `bytes`: the first bytes of the known GUIDs.
pub(super) fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    KNOWN.iter().flat_map(|(guid, _)| memchr::memmem::find_iter(bytes, &guid.0))
}

/// Returns the length that the header at the start of `bytes` states.
pub(super) fn stated_bytes(bytes: &[u8]) -> Option<usize> {
    let guid = array(bytes, 0).map(Guid)?;
    let (_, maker) = KNOWN.into_iter().find(|(other, _)| *other == guid)?;
    let length_offset = if maker == Maker::Toshiba { 20 } else { 24 };
    u32_at(bytes, length_offset).map(|length| length as usize)
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uefi => "UEFI",
            Self::Fmp => "UEFI, firmware management protocol",
            Self::AmiSigned => "AMI Aptio, signed",
            Self::AmiUnsigned => "AMI Aptio, not signed",
            Self::Intel => "Intel",
            Self::Lenovo => "Lenovo",
            Self::Toshiba => "Toshiba",
            Self::Other => "UEFI, of a board's own GUID",
        })
    }
}
