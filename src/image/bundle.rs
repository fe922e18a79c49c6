//! The bundle file: a header, the signed manifest, the payload.
//!
//! Numbers are big-endian.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic: 89 46 43 42 0D 0A 1A 0A (`FCB`, line ends that a text transfer would change) |
//! | 8 | 2 | file version: 1 |
//! | 10 | 2 | reserved: 0 |
//! | 12 | 4 | length of the signed manifest, 1 to [`MANIFEST_MAX`] |
//! | 16 | 8 | length of the payload, 1 to [`PAYLOAD_MAX`] |
//! | 24 | 4 | CRC-32 (IEEE 802.3) of all other bytes of the file |
//! | 28 | | signed manifest, then payload, then the end of the file |
//!
//! The CRC is no protection against anybody; it tells a damaged file from a forged one.

use super::manifest::PAYLOAD_MAX;
use super::signed::MANIFEST_MAX;

const MAGIC: [u8; 8] = *b"\x89FCB\r\n\x1a\n";
const VERSION: u16 = 1;
const CRC_OFFSET: usize = 24;
const HEADER_BYTES: usize = 28;

/// Largest bundle file, in bytes.
pub const BUNDLE_MAX: usize = HEADER_BYTES + MANIFEST_MAX + PAYLOAD_MAX;

/// Why a file is not a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Some other file.
    #[error("this is not a firmcast bundle: make one with `firmcast bundle create`")]
    NotABundle,
    /// Another version of the file format.
    #[error(
        "the bundle was made by a newer firmcast (file version {got}, expected {VERSION}): update \
        firmcast here first"
    )]
    Newer {
        /// As read.
        got: u16,
    },
    /// The end is missing, or there is more behind it.
    #[error(
        "the bundle file has {got_bytes} bytes, expected {expected_bytes}: it was cut or appended \
        to, copy it again"
    )]
    Length {
        /// From the header.
        expected_bytes: u64,
        /// What was given.
        got_bytes: u64,
    },
    /// A length that no bundle has.
    #[error(
        "the bundle's {name} has {got_bytes} bytes, expected 1 to {max_bytes}: the file is \
        damaged, copy it again"
    )]
    PartSize {
        /// `manifest` or `payload`.
        name: &'static str,
        /// The limit.
        max_bytes: usize,
        /// As read.
        got_bytes: u64,
    },
    /// A reserved field is not zero.
    #[error("the bundle's header is damaged at 0xa: expected 0, got {got:#x}; copy the file again")]
    Reserved {
        /// As read.
        got: u16,
    },
    /// Changed since it was made.
    #[error(
        "the bundle file is damaged: its CRC-32 is {got:08x}, the header says {expected:08x}; \
        copy it again"
    )]
    Damaged {
        /// From the header.
        expected: u32,
        /// Over the file.
        got: u32,
    },
}

/// The parts of a bundle file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// The signed manifest, for [`super::SignedManifest::parse`].
    pub manifest: &'a [u8],
    /// The payload, for [`super::VerifiedManifest::open_payload`].
    pub payload: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// Finds the parts in `file`; neither is looked into.
    ///
    /// # Errors
    /// When `file` is not a whole and undamaged bundle file.
    pub fn parse(file: &'a [u8]) -> Result<Self, BundleError> {
        let Some((header, parts)) = file.split_first_chunk::<HEADER_BYTES>() else {
            return Err(match file.get(..MAGIC.len()) {
                Some(start) if start == MAGIC => length_error(HEADER_BYTES as u64, file),
                _ => BundleError::NotABundle,
            });
        };
        let (manifest_bytes, payload_bytes, expected) = parse_header(header)?;
        let expected_bytes = HEADER_BYTES as u64 + manifest_bytes as u64 + payload_bytes as u64;
        if file.len() as u64 != expected_bytes {
            return Err(length_error(expected_bytes, file));
        }
        let got = crc(file);
        if got != expected {
            return Err(BundleError::Damaged { expected, got });
        }
        let (manifest, payload) = parts.split_at(manifest_bytes);
        Ok(Bundle { manifest, payload })
    }

    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// [`BundleError::PartSize`] when a part is empty or too large.
    pub fn emit(&self) -> Result<Vec<u8>, BundleError> {
        check_part("manifest", MANIFEST_MAX, self.manifest.len() as u64)?;
        check_part("payload", PAYLOAD_MAX, self.payload.len() as u64)?;
        let mut file = Vec::with_capacity(HEADER_BYTES + self.manifest.len() + self.payload.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_be_bytes());
        file.extend_from_slice(&[0; 2]);
        file.extend_from_slice(&(self.manifest.len() as u32).to_be_bytes());
        file.extend_from_slice(&(self.payload.len() as u64).to_be_bytes());
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(self.manifest);
        file.extend_from_slice(self.payload);
        let crc = crc(&file).to_be_bytes();
        file[CRC_OFFSET..HEADER_BYTES].copy_from_slice(&crc);
        Ok(file)
    }
}

/// Length of the manifest, length of the payload, and the CRC.
fn parse_header(header: &[u8; HEADER_BYTES]) -> Result<(usize, usize, u32), BundleError> {
    let (magic, fields) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(BundleError::NotABundle);
    }
    let &[v0, v1, r0, r1, m0, m1, m2, m3, p0, p1, p2, p3, p4, p5, p6, p7, c0, c1, c2, c3] = fields
    else {
        return Err(BundleError::NotABundle);
    };
    match u16::from_be_bytes([v0, v1]) {
        VERSION => (),
        got => return Err(BundleError::Newer { got }),
    }
    match u16::from_be_bytes([r0, r1]) {
        0 => (),
        got => return Err(BundleError::Reserved { got }),
    }
    let manifest_bytes = u32::from_be_bytes([m0, m1, m2, m3]).into();
    let payload_bytes = u64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
    let manifest_bytes = check_part("manifest", MANIFEST_MAX, manifest_bytes)?;
    let payload_bytes = check_part("payload", PAYLOAD_MAX, payload_bytes)?;
    Ok((manifest_bytes, payload_bytes, u32::from_be_bytes([c0, c1, c2, c3])))
}

fn check_part(name: &'static str, max_bytes: usize, got_bytes: u64) -> Result<usize, BundleError> {
    match usize::try_from(got_bytes) {
        Ok(bytes) if (1..=max_bytes).contains(&bytes) => Ok(bytes),
        _ => Err(BundleError::PartSize { name, max_bytes, got_bytes }),
    }
}

fn length_error(expected_bytes: u64, file: &[u8]) -> BundleError {
    BundleError::Length { expected_bytes, got_bytes: file.len() as u64 }
}

/// Over all bytes but the CRC's own.
fn crc(file: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&file[..CRC_OFFSET]);
    hash.update(&file[HEADER_BYTES..]);
    hash.finalize()
}
