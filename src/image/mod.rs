//! Bundles: the signed manifest and the firmware image, from untrusted bytes to a [`VerifiedImage`].
//!
//! ```text
//! bytes --Bundle::parse--> manifest bytes --SignedManifest::parse, verify--> VerifiedManifest
//!                          payload bytes ---VerifiedManifest::open_payload-> VerifiedImage
//! ```
//! Nothing is decompressed before its digest was found in a manifest that a trusted key signed.

mod admission;
pub mod assembly;
mod bundle;
mod contents;
mod format;
mod known_good;
pub mod layout;
mod manifest;
mod manifest_cbor;
mod payload;
mod region;
mod signed;
mod stable;
pub mod validity;
mod verified;

pub use admission::Board;
pub use bundle::{BUNDLE_MAX, Bundle, BundleError};
pub use contents::{ByteRanges, Contents, Unreadable, closed_in, closed_note, preserved};
pub use format::FirmwareFormat;
pub use known_good::{KnownGood, PIECES_MAX, assess, left_out};
pub use manifest::{
    BLOCK_BYTES_MIN, BLOCKS_MAX, Description, IMAGE_MAX, Manifest, ManifestError, PAYLOAD_MAX,
    PRODUCTS_MAX, PayloadFormat, REGIONS_MAX, TEXT_MAX, UPDATE_FROM_MAX,
};
pub use payload::ImageError;
pub use region::{Region, RegionAction};
pub use signed::{MANIFEST_MAX, SignedManifest, VerifiedManifest};
pub use stable::StableHasher;
pub use verified::VerifiedImage;

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
pub type Digest = [u8; 32];

fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests;
