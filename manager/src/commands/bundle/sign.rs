//! From an image and what it is for to the bytes of a signed bundle.

use anyhow::{Context as _, ensure};
use firmcast::image::{
    Bundle, Description, Manifest, PayloadFormat, SignedManifest, VerifiedManifest,
};
use firmcast::keys::{ReleaseSecretKey, SecretKey as _};

/// Bundles are made once and sent often: the best level that needs no extra memory to decompress.
const COMPRESSION_LEVEL: i32 = 19;

/// The bundle file that brings `image` to the hosts of `description`; opened again as a host would,
/// before it is given.
pub(crate) fn sign(
    description: Description,
    image: &[u8],
    key: &ReleaseSecretKey,
) -> anyhow::Result<Vec<u8>> {
    let (format, compressed) = compress(image)?;
    let payload = compressed.as_deref().unwrap_or(image);
    let manifest = Manifest::describe(description, image, format, payload)?;
    let signed = SignedManifest::sign(&manifest, key)?;
    let bytes = Bundle { manifest: &signed, payload }.emit()?;
    // Image, bundle and the image opened again are enough memory at once.
    drop(compressed);
    check(&bytes, image, key).context("the bundle does not open again, nothing was written")?;
    Ok(bytes)
}

/// The compressed image where it is smaller, else nothing.
fn compress(image: &[u8]) -> anyhow::Result<(PayloadFormat, Option<Vec<u8>>)> {
    let compressed =
        zstd::bulk::compress(image, COMPRESSION_LEVEL).context("cannot compress the image")?;
    Ok(if compressed.len() < image.len() {
        (PayloadFormat::Zstd, Some(compressed))
    } else {
        (PayloadFormat::Raw, None)
    })
}

/// Opens the bundle as a host would, with the host's decompressor.
fn check(bytes: &[u8], image: &[u8], key: &ReleaseSecretKey) -> anyhow::Result<()> {
    let bundle = Bundle::parse(bytes)?;
    let opened =
        VerifiedManifest::verify(bundle.manifest, &[key.public()])?.open_payload(bundle.payload)?;
    ensure!(opened.bytes() == image, "it holds another image");
    Ok(())
}
