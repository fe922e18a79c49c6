//! Host keys: which host answers.

use std::fmt;
use std::str::FromStr;

use rand_core::{CryptoRng, RngCore};
use x25519_dalek::{PublicKey as ExchangeKey, StaticSecret};
use zeroize::Zeroizing;

use super::text;
use super::{Fingerprint, KeyError, PublicKey, Role, SecretKey};

/// The static key of one host (X25519, RFC 7748), made when the agent is installed.
#[derive(Clone)]
pub struct HostSecretKey(Zeroizing<[u8; 32]>);

/// Identifies one host to managers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostPublicKey([u8; 32]);

impl HostSecretKey {
    /// Returns a new key from `rng`.
    pub fn generate(rng: &mut (impl CryptoRng + RngCore)) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *secret);
        HostSecretKey(secret)
    }

    /// Returns the X25519 secret for Noise; clamped where it is used, as RFC 7748 says.
    pub fn exchange(&self) -> &[u8; 32] {
        &self.0
    }
}

impl SecretKey for HostSecretKey {
    type Public = HostPublicKey;

    fn public(&self) -> HostPublicKey {
        HostPublicKey(exchange_public(&self.0))
    }

    fn to_text(&self) -> Zeroizing<String> {
        text::secret_text(Role::Host, &self.0, self.public().fingerprint())
    }
}

impl FromStr for HostSecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (secret, stated) = text::parse_secret(text, Role::Host)?;
        let key = HostSecretKey(secret);
        text::expect_fingerprint(key.public().fingerprint(), stated)?;
        Ok(key)
    }
}

impl fmt::Debug for HostSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostSecretKey({})", self.public().fingerprint())
    }
}

impl HostPublicKey {
    /// Returns the key that a handshake proved.
    ///
    /// # Errors
    /// [`KeyError::WeakKey`] when it is a point of small order.
    pub fn from_exchange(bytes: [u8; 32]) -> Result<Self, KeyError> {
        check_exchange(&bytes)?;
        Ok(HostPublicKey(bytes))
    }

    /// Returns the X25519 public key for Noise.
    pub fn exchange(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PublicKey for HostPublicKey {
    const ROLE: Role = Role::Host;

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(Role::Host, &self.0)
    }
}

impl FromStr for HostPublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_exchange(text::parse_public(text, Role::Host)?)
    }
}

impl fmt::Display for HostPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::public_line(Role::Host, &self.0))
    }
}

impl fmt::Debug for HostPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostPublicKey({})", self.fingerprint())
    }
}

/// Returns the X25519 public key of `secret`.
pub(super) fn exchange_public(secret: &[u8; 32]) -> [u8; 32] {
    ExchangeKey::from(&StaticSecret::from(*secret)).to_bytes()
}

/// Refuses points of small order: with them every exchange ends in the same, public, secret.
pub(super) fn check_exchange(public: &[u8; 32]) -> Result<(), KeyError> {
    // Any clamped scalar does: it is a multiple of the cofactor, so it takes exactly these points
    // to zero.
    let shared = StaticSecret::from([0x40; 32]).diffie_hellman(&ExchangeKey::from(*public));
    if shared.was_contributory() { Ok(()) } else { Err(KeyError::WeakKey) }
}
