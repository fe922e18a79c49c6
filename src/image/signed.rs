//! The signature around the manifest: COSE_Sign1 with EdDSA (RFC 9052, section 4.2; RFC 9053,
//! section 2.2).
//!
//! Tag 18; protected header `{1: -8, 4: kid}`, where kid is the release key's fingerprint (32
//! bytes); empty unprotected header; the manifest as payload; no external data. Any other form of
//! the same contents is refused.

use std::ops::Deref;

use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};

use super::manifest::{Manifest, ManifestError};
use super::manifest_cbor;
use crate::keys::{
    Fingerprint, PublicKey as _, ReleasePublicKey, ReleaseSecretKey, SecretKey as _,
};

/// Largest signed manifest, in bytes.
pub const MANIFEST_MAX: usize = 64 << 10;

/// A manifest in its signature, which is not checked yet.
#[derive(Clone, Debug)]
pub struct SignedManifest {
    bytes: Vec<u8>,
    signer: Fingerprint,
    signature: [u8; 64],
    envelope: CoseSign1,
}

/// A manifest that a trusted release key signed.
#[derive(Clone, Debug)]
pub struct VerifiedManifest {
    bytes: Vec<u8>,
    signer: Fingerprint,
    manifest: Manifest,
}

impl SignedManifest {
    /// Returns the bytes of `manifest`, signed with `key`.
    ///
    /// # Errors
    /// [`ManifestError::TooLarge`] when they are more than [`MANIFEST_MAX`].
    pub fn sign(manifest: &Manifest, key: &ReleaseSecretKey) -> Result<Vec<u8>, ManifestError> {
        sign_bytes(manifest_cbor::emit(manifest), key)
    }

    /// Takes the envelope apart; the manifest inside is not looked at.
    ///
    /// # Errors
    /// When `bytes` are not one COSE_Sign1 of the form given above.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        check_length(bytes)?;
        let mut envelope = CoseSign1::from_tagged_slice(bytes).map_err(|_| malformed())?;
        let key_id = envelope.protected.header.key_id.as_slice();
        let signer = Fingerprint::from_bytes(key_id.try_into().map_err(|_| malformed())?);
        let signature = envelope.signature.as_slice().try_into().map_err(|_| malformed())?;
        let payload = envelope.payload.take().ok_or_else(malformed)?;
        let rebuilt = self::envelope(&signer, payload).signature(envelope.signature).build();
        if rebuilt.clone().to_tagged_vec().ok().as_deref() != Some(bytes) {
            return Err(ManifestError::NotDeterministic);
        }
        Ok(SignedManifest { bytes: bytes.to_vec(), signer, signature, envelope: rebuilt })
    }

    /// Returns the key that the envelope names; only [`SignedManifest::verify`] tells whether it
    /// made the signature.
    pub fn signer(&self) -> Fingerprint {
        self.signer
    }

    /// Returns what the manifest claims, for display only.
    ///
    /// # Errors
    /// When the manifest breaks a rule.
    pub fn unverified(&self) -> Result<Manifest, ManifestError> {
        manifest_cbor::parse(self.envelope.payload.as_deref().unwrap_or_default())
    }

    /// Checks the signature, and only then the manifest.
    ///
    /// # Errors
    /// When none of the `trusted` keys is the signer, the signature is wrong, or the manifest
    /// breaks a rule.
    pub fn verify(&self, trusted: &[ReleasePublicKey]) -> Result<VerifiedManifest, ManifestError> {
        let signer = self.signer;
        let key = trusted.iter().find(|key| key.fingerprint() == signer);
        let key = key.ok_or(ManifestError::UntrustedSigner { signer, trusted: trusted.len() })?;
        if !key.verify(&self.envelope.tbs_data(&[]), &self.signature) {
            return Err(ManifestError::BadSignature { signer });
        }
        Ok(VerifiedManifest { bytes: self.bytes.clone(), signer, manifest: self.unverified()? })
    }
}

impl VerifiedManifest {
    /// Parses and verifies in one step.
    ///
    /// # Errors
    /// As [`SignedManifest::parse`] and [`SignedManifest::verify`].
    pub fn verify(bytes: &[u8], trusted: &[ReleasePublicKey]) -> Result<Self, ManifestError> {
        SignedManifest::parse(bytes)?.verify(trusted)
    }

    /// Returns the signed bytes, as they travel.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the trusted key that signed it.
    pub fn signer(&self) -> Fingerprint {
        self.signer
    }
}

impl Deref for VerifiedManifest {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

/// Signs any bytes as a manifest, so that tests can sign bad ones.
pub(super) fn sign_bytes(
    manifest: Vec<u8>,
    key: &ReleaseSecretKey,
) -> Result<Vec<u8>, ManifestError> {
    let bytes = envelope(&key.public().fingerprint(), manifest)
        .create_signature(&[], |message| key.sign(message).to_vec())
        .build()
        .to_tagged_vec()
        .map_err(|_| malformed())?;
    check_length(&bytes)?;
    Ok(bytes)
}

fn envelope(signer: &Fingerprint, manifest: Vec<u8>) -> CoseSign1Builder {
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(signer.as_bytes().to_vec())
        .build();
    CoseSign1Builder::new().protected(protected).payload(manifest)
}

fn check_length(bytes: &[u8]) -> Result<(), ManifestError> {
    let got_bytes = bytes.len();
    if got_bytes > MANIFEST_MAX {
        return Err(ManifestError::TooLarge { max_bytes: MANIFEST_MAX, got_bytes });
    }
    Ok(())
}

fn malformed() -> ManifestError {
    ManifestError::Malformed { what: "it is not signed as a COSE_Sign1 by a firmcast release key" }
}
