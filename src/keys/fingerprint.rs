//! The short name of a public key.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

use super::Role;

/// Length of a fingerprint.
pub const FINGERPRINT_BYTES: usize = 32;

const PREFIX: &str = "SHA256:";

/// Not the text of a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fingerprint is damaged: expected SHA256: and 43 characters of base64")]
pub struct BadFingerprint;

/// SHA-256 over the role word, one zero byte and the public key's bytes.
///
/// Shown as OpenSSH shows it: `SHA256:` and base64 without padding (RFC 4648, section 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    pub(super) fn of(role: Role, key: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(role.word());
        hash.update([0]);
        hash.update(key);
        Fingerprint(hash.finalize().into())
    }

    /// Returns the fingerprint whose bytes these are, for instance a key id from a signature.
    pub const fn from_bytes(bytes: [u8; FINGERPRINT_BYTES]) -> Self {
        Fingerprint(bytes)
    }

    /// Returns the digest itself.
    pub const fn as_bytes(&self) -> &[u8; FINGERPRINT_BYTES] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{PREFIX}{}", STANDARD_NO_PAD.encode(self.0)))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let digits = text.strip_prefix(PREFIX).ok_or(BadFingerprint)?;
        let bytes = STANDARD_NO_PAD.decode(digits).map_err(|_| BadFingerprint)?;
        Ok(Fingerprint(bytes.try_into().map_err(|_| BadFingerprint)?))
    }
}
