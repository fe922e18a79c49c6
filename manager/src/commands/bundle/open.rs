//! Checking as much of a bundle as can be checked here; hosts check all of it again.

use anyhow::ensure;
use firmcast::image::{Bundle, Manifest, PayloadFormat, SignedManifest};
use firmcast::keys::{self, Fingerprint, ReleasePublicKey};
use firmcast_manager::campaign::Pieces;

/// A bundle whose payload is the one that its manifest names.
pub(crate) struct Opened<'a> {
    pub(crate) manifest: Manifest,
    /// The signed manifest, as it travels.
    pub(crate) signed: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) signer: Fingerprint,
    /// Against a key that the operator gave.
    pub(crate) signature_checked: bool,
}

/// Returns the image of a payload whose digest was checked, where hosts may take pieces of it from
/// their own chips; nothing where it does not come out whole, which the hosts tell.
pub(crate) fn pieces(manifest: &Manifest, payload: &[u8]) -> Option<Pieces> {
    let image_bytes = manifest.image_size_bytes();
    let image = match manifest.payload_format() {
        _ if !manifest.lies_as_on_chip() => None,
        PayloadFormat::Raw => Some(payload.to_vec()),
        PayloadFormat::Zstd => zstd::bulk::decompress(payload, image_bytes).ok(),
    };
    let image = image.filter(|image| image.len() == image_bytes)?;
    Some(Pieces { image, piece_bytes: manifest.block_size_bytes() })
}

/// Returns the public release keys that an operator named: each a file, or the key itself.
///
/// # Errors
/// When one is neither.
pub(crate) fn trusted(keys: &[String]) -> anyhow::Result<Vec<ReleasePublicKey>> {
    Ok(keys.iter().map(|key| keys::load_public(key)).collect::<Result<_, _>>()?)
}

/// Opens the bundle in `bytes`. Without `trusted` keys the signature is left to the hosts to check.
///
/// # Errors
/// When it is no bundle, is damaged, or none of the trusted keys signed it.
pub(crate) fn open<'a>(
    bytes: &'a [u8],
    trusted: &[ReleasePublicKey],
) -> anyhow::Result<Opened<'a>> {
    let bundle = Bundle::parse(bytes)?;
    let signed = SignedManifest::parse(bundle.manifest)?;
    let manifest = signed.unverified()?;
    if trusted.is_empty() {
        manifest.check_payload(bundle.payload)?;
    } else {
        signed.verify(trusted)?.open_payload(bundle.payload)?;
    }
    ensure!(!bundle.payload.is_empty(), "its payload is empty");
    Ok(Opened {
        manifest,
        signed: bundle.manifest,
        payload: bundle.payload,
        signer: signed.signer(),
        signature_checked: !trusted.is_empty(),
    })
}
