//! Release keys: who may say which firmware is good.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use super::text;
use super::{Fingerprint, KeyError, PublicKey, Role, SecretKey};

/// Signs bundles (Ed25519, RFC 8032). Kept offline.
pub struct ReleaseSecretKey(SigningKey);

/// Checks bundles. Hosts hold one or several of these.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleasePublicKey(VerifyingKey);

impl ReleaseSecretKey {
    /// Returns a new key from `rng`.
    pub fn generate(rng: &mut (impl CryptoRng + RngCore)) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        ReleaseSecretKey(SigningKey::from_bytes(&seed))
    }

    /// Returns the 64-byte signature of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl SecretKey for ReleaseSecretKey {
    type Public = ReleasePublicKey;

    fn public(&self) -> ReleasePublicKey {
        ReleasePublicKey(self.0.verifying_key())
    }

    fn to_text(&self) -> Zeroizing<String> {
        text::secret_text(Role::Release, self.0.as_bytes(), self.public().fingerprint())
    }
}

impl FromStr for ReleaseSecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (seed, stated) = text::parse_secret(text, Role::Release)?;
        let key = ReleaseSecretKey(SigningKey::from_bytes(&seed));
        text::expect_fingerprint(key.public().fingerprint(), stated)?;
        Ok(key)
    }
}

impl fmt::Debug for ReleaseSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseSecretKey({})", self.public().fingerprint())
    }
}

impl ReleasePublicKey {
    /// Returns whether this key made `signature` over `message`, by the strict rules that leave no
    /// signature malleable.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl PublicKey for ReleasePublicKey {
    const ROLE: Role = Role::Release;

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(Role::Release, self.0.as_bytes())
    }
}

impl FromStr for ReleasePublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        verifying_key(&text::parse_public(text, Role::Release)?).map(ReleasePublicKey)
    }
}

impl fmt::Display for ReleasePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::public_line(Role::Release, self.0.as_bytes()))
    }
}

impl fmt::Debug for ReleasePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleasePublicKey({})", self.fingerprint())
    }
}

/// Returns the Ed25519 key with these bytes, unless it is no point or one of small order.
pub(super) fn verifying_key(bytes: &[u8; 32]) -> Result<VerifyingKey, KeyError> {
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).ok_or(KeyError::WeakKey)
}
