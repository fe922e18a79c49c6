//! Manager keys: who may give instructions.

use std::fmt;
use std::str::FromStr;

use blake2::Blake2sMac256;
use blake2::digest::Mac;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use super::host::{check_exchange, exchange_public};
use super::release::verifying_key;
use super::text;
use super::{Fingerprint, KeyError, PublicKey, Role, SecretKey};

/// A manager's secret: one 32-byte seed, from which two keys are derived.
///
/// Each is keyed BLAKE2s-256 (RFC 7693) of a text under the seed:
///
/// | key | for | text |
/// | --- | --- | --- |
/// | X25519 secret | Noise sessions | `firmcast 1 manager exchange` |
/// | Ed25519 seed | discovery broadcasts, approvals of rollouts | `firmcast 1 manager discovery` |
pub struct ManagerSecretKey {
    seed: Zeroizing<[u8; 32]>,
    exchange: Zeroizing<[u8; 32]>,
    discovery: SigningKey,
}

/// Stands before an approval where it is signed. No discovery broadcast begins so.
const APPROVAL: &[u8] = b"firmcast 1 fleet approval\n";

fn approval(message: &[u8]) -> Vec<u8> {
    [APPROVAL, message].concat()
}

/// A manager's public key, 64 bytes: X25519 in the first half, Ed25519 in the second.
#[derive(Clone, PartialEq, Eq)]
pub struct ManagerPublicKey {
    exchange: [u8; 32],
    discovery: VerifyingKey,
}

impl ManagerSecretKey {
    /// Returns a new key from `rng`.
    pub fn generate(rng: &mut (impl CryptoRng + RngCore)) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self::from_seed(seed)
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let exchange = derive(&seed, b"firmcast 1 manager exchange");
        let discovery = SigningKey::from_bytes(&derive(&seed, b"firmcast 1 manager discovery"));
        ManagerSecretKey { seed, exchange, discovery }
    }

    /// Returns the X25519 secret for Noise.
    pub fn exchange(&self) -> &[u8; 32] {
        &self.exchange
    }

    /// Signs a discovery broadcast.
    pub fn sign_discovery(&self, message: &[u8]) -> [u8; 64] {
        self.discovery.sign(message).to_bytes()
    }

    /// Signs that a part of a rollout may begin.
    pub fn sign_approval(&self, message: &[u8]) -> [u8; 64] {
        self.discovery.sign(&approval(message)).to_bytes()
    }
}

impl SecretKey for ManagerSecretKey {
    type Public = ManagerPublicKey;

    fn public(&self) -> ManagerPublicKey {
        ManagerPublicKey {
            exchange: exchange_public(&self.exchange),
            discovery: self.discovery.verifying_key(),
        }
    }

    fn to_text(&self) -> Zeroizing<String> {
        text::secret_text(Role::Manager, &self.seed, self.public().fingerprint())
    }
}

impl FromStr for ManagerSecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (seed, stated) = text::parse_secret(text, Role::Manager)?;
        let key = Self::from_seed(seed);
        text::expect_fingerprint(key.public().fingerprint(), stated)?;
        Ok(key)
    }
}

impl fmt::Debug for ManagerSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManagerSecretKey({})", self.public().fingerprint())
    }
}

impl ManagerPublicKey {
    /// Returns the X25519 public key for Noise.
    pub fn exchange(&self) -> &[u8; 32] {
        &self.exchange
    }

    /// Returns whether this manager made `signature` over the discovery broadcast `message`.
    pub fn verify_discovery(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.discovery.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    /// Returns whether this manager made `signature` over the approval `message`.
    pub fn verify_approval(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.verify_discovery(&approval(message), signature)
    }

    /// Both keys, as the text form carries them.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.exchange);
        bytes[32..].copy_from_slice(self.discovery.as_bytes());
        bytes
    }

    /// Returns the key with these bytes.
    ///
    /// # Errors
    /// [`KeyError::WeakKey`] when either half is not a safe public key.
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, KeyError> {
        let (mut exchange, mut discovery) = ([0; 32], [0; 32]);
        exchange.copy_from_slice(&bytes[..32]);
        discovery.copy_from_slice(&bytes[32..]);
        check_exchange(&exchange)?;
        Ok(ManagerPublicKey { exchange, discovery: verifying_key(&discovery)? })
    }
}

impl PublicKey for ManagerPublicKey {
    const ROLE: Role = Role::Manager;

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(Role::Manager, &self.to_bytes())
    }
}

impl FromStr for ManagerPublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&text::parse_public(text, Role::Manager)?)
    }
}

impl fmt::Display for ManagerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::public_line(Role::Manager, &self.to_bytes()))
    }
}

impl fmt::Debug for ManagerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManagerPublicKey({})", self.fingerprint())
    }
}

fn derive(seed: &[u8; 32], label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mac = <Blake2sMac256 as Mac>::new(seed.into()).chain_update(label);
    Zeroizing::new(mac.finalize().into_bytes().into())
}
