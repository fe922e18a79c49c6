//! From an image and what it is for to the bytes of a signed bundle.
//!
//! Memory: three times the image at most, besides the program and 8 MiB of its decompressor.

use std::io;

use anyhow::Context as _;
use firmcast::image::{
    Bundle, Description, Manifest, PayloadFormat, SignedManifest, VerifiedManifest,
};
use firmcast::keys::{ReleaseSecretKey, SecretKey as _};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// Bundles are made once and sent often: the best level that needs no extra memory to decompress.
const COMPRESSION_LEVEL: i32 = 19;
/// Returns the bundle file that brings `image` to the hosts of `description`, opened again as a
/// host would.
pub(crate) fn sign(
    description: Description,
    image: Vec<u8>,
    key: &ReleaseSecretKey,
) -> anyhow::Result<Vec<u8>> {
    let (format, compressed) = compress(&image)?;
    let payload = compressed.as_deref().unwrap_or(&image);
    let manifest = Manifest::describe(description, &image, format, payload)?;
    let signed = SignedManifest::sign(&manifest, key)?;
    let bytes = Bundle { manifest: &signed, payload }.emit()?;
    // Bundle, the image opened again and the decompressor's window are enough memory at once.
    drop((compressed, image));
    check(&bytes, key).context("the bundle does not open again, nothing was written")?;
    Ok(bytes)
}

/// Returns the compressed image where it is smaller, else nothing.
fn compress(image: &[u8]) -> anyhow::Result<(PayloadFormat, Option<Vec<u8>>)> {
    let compressed = compressor(image.len())
        .and_then(|mut compressor| compressor.compress(image))
        .context("cannot compress the image")?;
    Ok(if compressed.len() < image.len() {
        (PayloadFormat::Zstd, Some(compressed))
    } else {
        (PayloadFormat::Raw, None)
    })
}

/// Returns a compressor whose tables, and a decompressor whose window, fit the image's size: the
/// level's own tables are 80 MiB, and make firmware smaller by less than a hundredth.
fn compressor(image_bytes: usize) -> io::Result<Compressor<'static>> {
    let image_log = image_bytes.checked_ilog2().unwrap_or_default();
    // 4 or 8 MiB, which is the largest that hosts take; the decompressor needs up to four times it.
    let window_log = image_log.saturating_sub(2).clamp(22, 23);
    // Entries of 4 bytes: three eighths of the image, or 6 MiB.
    let chain_log = image_log.saturating_sub(4).clamp(20, 22);
    let mut compressor = Compressor::new(COMPRESSION_LEVEL)?;
    for parameter in [
        CParameter::WindowLog(window_log),
        CParameter::ChainLog(chain_log),
        CParameter::HashLog(chain_log - 1),
    ] {
        compressor.set_parameter(parameter)?;
    }
    Ok(compressor)
}

/// Opens the bundle as a host would, with the host's decompressor. The manifest has the digest of
/// the image, so no other one opens.
fn check(bytes: &[u8], key: &ReleaseSecretKey) -> anyhow::Result<()> {
    let bundle = Bundle::parse(bytes)?;
    VerifiedManifest::verify(bundle.manifest, &[key.public()])?.open_payload(bundle.payload)?;
    Ok(())
}
