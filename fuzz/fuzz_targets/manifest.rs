//! Any bytes as a signed manifest, and as the manifest inside a well-formed signature.

#![no_main]

use coset::{CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};
use firmcast::image::{SignedManifest, VerifiedManifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let protected =
        HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(vec![7; 32]).build();
    let envelope = CoseSign1Builder::new().protected(protected).payload(bytes.to_vec());
    if let Ok(signed) = envelope.signature(vec![9; 64]).build().to_tagged_vec() {
        check(&signed);
    }
});

fn check(bytes: &[u8]) {
    assert!(VerifiedManifest::verify(bytes, &[]).is_err());
    let Ok(signed) = SignedManifest::parse(bytes) else { return };
    let Ok(manifest) = signed.unverified() else { return };
    // Every rule holds from here on: this must neither overflow nor loop.
    let mut hasher = manifest.stable_hasher();
    hasher.update(bytes);
    let _ = hasher.finish();
    assert!(
        manifest.block_digests().len() * manifest.block_size_bytes() >= manifest.image_size_bytes()
    );
}
