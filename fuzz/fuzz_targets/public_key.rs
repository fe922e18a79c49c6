//! Any text as a key of each kind: refused, or shown again as it was read, but for comment and line
//! end.

#![no_main]

use std::str;

use firmcast::keys::{
    Fingerprint, HostPublicKey, HostSecretKey, ManagerPublicKey, ManagerSecretKey, PublicKey,
    ReleasePublicKey, ReleaseSecretKey,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    public::<ReleasePublicKey>(text);
    public::<ManagerPublicKey>(text);
    public::<HostPublicKey>(text);
    let _ = text.parse::<ReleaseSecretKey>();
    let _ = text.parse::<ManagerSecretKey>();
    let _ = text.parse::<HostSecretKey>();
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string(), text);
    }
});

fn public<K: PublicKey>(text: &str) {
    if let Ok(key) = text.parse::<K>() {
        assert!(text.starts_with(&key.to_string()));
    }
}
