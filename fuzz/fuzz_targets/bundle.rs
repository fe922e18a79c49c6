//! Any file: refused, or a bundle that is written back byte for byte.

#![no_main]

use firmcast::image::{Bundle, FirmwareFormat, SignedManifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let _ = FirmwareFormat::recognise(file);
    let Ok(bundle) = Bundle::parse(file) else { return };
    assert_eq!(bundle.emit().as_deref(), Ok(file));
    let Ok(signed) = SignedManifest::parse(bundle.manifest) else { return };
    let Ok(manifest) = signed.unverified() else { return };
    let _ = manifest.check_payload(bundle.payload);
    let _ = manifest.stable_digest_of(bundle.payload);
});
