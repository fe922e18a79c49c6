//! Bundles: the signed manifest and the firmware image, from untrusted bytes to a
//! [`VerifiedImage`].
//!
//! ```text
//! bytes --Bundle::parse--> manifest bytes --SignedManifest::parse, verify--> VerifiedManifest
//!                          payload bytes ---VerifiedManifest::open_payload-> VerifiedImage
//! ```
//! Nothing is decompressed before its digest was found in a manifest that a trusted key signed.
//!
//! # Making and verifying a bundle
//!
//! The maker describes and signs; the host trusts a list of release keys and nothing else.
//!
//! ```
//! use firmcast::image::{
//!     Bundle, Description, Manifest, PayloadFormat, SignedManifest, VerifiedManifest,
//! };
//! use firmcast::keys::{ReleaseSecretKey, SecretKey};
//! use rand_chacha::ChaCha20Rng;
//! use rand_chacha::rand_core::SeedableRng;
//!
//! let release = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([1; 32]));
//! let image = vec![0xAB; 256 * 1024];
//! let description = Description {
//!     version: "2.1".into(),
//!     security_version: 7,
//!     vendor: "ACME".into(),
//!     products: vec!["S1".into()],
//!     ..Description::default()
//! };
//! // The image travels as it is; `PayloadFormat::Zstd` would be the compressed one.
//! let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image)?;
//! let signed = SignedManifest::sign(&manifest, &release)?;
//! let file = Bundle { manifest: &signed, payload: &image }.emit()?;
//!
//! // On the host. `Bundle::parse` looks into neither part.
//! let bundle = Bundle::parse(&file)?;
//! let manifest = VerifiedManifest::verify(bundle.manifest, &[release.public()])?;
//! assert!(manifest.fits_board("ACME", "S1"));
//! let verified = manifest.open_payload(bundle.payload)?;
//! assert_eq!(verified.bytes(), image);
//!
//! // Another key's signature, or one changed byte, and there is no `VerifiedImage`.
//! let stranger = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([2; 32]));
//! assert!(VerifiedManifest::verify(bundle.manifest, &[stranger.public()]).is_err());
//! let mut payload = bundle.payload.to_vec();
//! payload[1000] ^= 1;
//! assert!(manifest.open_payload(&payload).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admission;
pub mod assembly;
pub mod boot_guard;
mod bundle;
mod byte_ranges;
mod contents;
mod excerpt;
mod fitting;
mod format;
mod known_good;
pub mod layout;
pub mod learning;
mod manifest;
mod manifest_cbor;
mod order;
mod part;
mod payload;
mod region;
mod signed;
mod stable;
pub mod tree;
pub mod validity;
mod verified;

pub use admission::Board;
pub use bundle::{BUNDLE_MAX, Bundle, BundleError};
pub use byte_ranges::ByteRanges;
pub use contents::{Contents, Unreadable, closed_in, closed_note, preserved};
pub use excerpt::OwnPieces;
pub use fitting::{Fitting, Misfit, Moved};
pub use format::FirmwareFormat;
pub use known_good::{KnownGood, PIECES_MAX, assess, left_out};
pub use manifest::{
    BLOCK_BYTES_MIN, BLOCKS_MAX, Description, IMAGE_MAX, Manifest, ManifestError, PAYLOAD_MAX,
    PRODUCTS_MAX, PayloadFormat, REGIONS_MAX, TEXT_MAX, UPDATE_FROM_MAX,
};
pub use order::wrong_order;
pub use part::{PARTS_MAX, Part, layout_of};
pub use payload::ImageError;
pub(crate) use payload::check_digest;
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
