//! The fields of Boot Guard's components that stay the same in updates.
//!
//! | startup ACM, offset | bytes | field (little-endian) |
//! | --- | --- | --- |
//! | 0 | 2 | type, 2 |
//! | 12 | 2 | chipset |
//! | 14 | 2 | flags: bit 15 for debugging, bit 14 before production |
//! | 16 | 4 | vendor |
//! | 24 | 4 | size in units of 4 bytes |
//!
//! | key manifest, offset | bytes | field of version 1.0 | of 2.x |
//! | --- | --- | --- | --- |
//! | 0 | 8 | `__KEYM__` | the same |
//! | 8 | 1 | version, 1xh | 2xh |
//! | 10 | 1 | security version number | |
//! | 12 | 2, 2, n | digest of the policy's key | 12: offset of the signature |
//! | 18 | 1 | | security version number |
//! | 22 | 2 | | number of digests, from 24 on: each with its purpose (8 bytes) before it |
//!
//! A digest is its algorithm, its length (2 bytes each), and its bytes.
//!
//! A boot policy manifest has `__ACBP__`, its security version number at 10 (1.0) or 15 (2.x), and
//! its signature behind `__PMSG__`, in 2.x where offset 12 says. A signature begins with version,
//! algorithm, version, length in bits, and the public key: exponent (4 bytes) and modulus of RSA.
//!
//! Sources: Intel, "Trusted Execution Technology Software Development Guide" (315168), appendix A;
//! coreboot, `util/cbfstool`; linuxboot/fiano, `pkg/intel/metadata/cbnt`.

use sha2::{Digest as _, Sha256, Sha384};

use super::Component;
use crate::image::layout::{array, u16_at, u32_at, u64_at};
use crate::image::{Digest, sha256};

const ACM_TYPE: u16 = 2;
const ACM_FLAGS: u16 = 0xc000;
const ACM_BYTES_MAX: u32 = 4 << 20;

const ALGORITHM_RSA: u16 = 0x0001;
const ALGORITHM_SHA256: u16 = 0x000b;
const ALGORITHM_SHA384: u16 = 0x000c;
/// Version of a signature and of the key in it.
const SIGNATURE_VERSION: u8 = 0x10;
const EXPONENT_BYTES: usize = 4;
const MODULUS_BYTES_MAX: usize = 1024;
/// The purpose of a digest: the key that signs the boot policy.
const PURPOSE_BOOT_POLICY: u64 = 1;
const DIGESTS_MAX: u16 = 16;
/// Most bytes of a boot policy before its signature.
const POLICY_BYTES_MAX: usize = 64 << 10;

/// What a key manifest says.
pub(super) struct KeyManifest {
    pub(super) key: Digest,
    pub(super) svn: u8,
    /// `None` where it does not say which key the policy is by.
    pub(super) policy: Option<Policy>,
}

/// The digest of the key that may sign a boot policy.
pub(super) struct Policy {
    algorithm: u16,
    digest: Vec<u8>,
}

/// A public key: exponent and modulus.
#[derive(Clone, Copy)]
pub(super) struct PublicKey<'a>(&'a [u8]);

pub(super) fn acm(bytes: &[u8]) -> Option<Component> {
    let size = u32_at(bytes, 24)?.checked_mul(4).filter(|size| *size <= ACM_BYTES_MAX)?;
    let is_acm = u16_at(bytes, 0)? == ACM_TYPE && size > 0 && size as usize <= bytes.len();
    is_acm.then_some(Component::Acm {
        chipset_id: u16_at(bytes, 12)?,
        flags: u16_at(bytes, 14)? & ACM_FLAGS,
        vendor: u32_at(bytes, 16)?,
    })
}

pub(super) fn key_manifest(bytes: &[u8]) -> Option<KeyManifest> {
    let (svn, policy, signature) = match version(bytes, b"__KEYM__")? {
        1 => {
            let policy = Policy::read(bytes, 12)?;
            let end = 16 + policy.digest.len();
            (*bytes.get(10)?, Some(policy), end)
        }
        _ => (*bytes.get(18)?, policy_of(bytes)?, usize::from(u16_at(bytes, 12)?)),
    };
    let key = PublicKey::read(bytes, signature)?;
    Some(KeyManifest { key: sha256(key.0), svn, policy })
}

/// Returns the key that has signed it, and its security version number.
pub(super) fn boot_policy(bytes: &[u8]) -> Option<(PublicKey<'_>, u8)> {
    match version(bytes, b"__ACBP__")? {
        1 => {
            let head = &bytes[..bytes.len().min(POLICY_BYTES_MAX)];
            let signature = memchr::memmem::find(head, b"__PMSG__")? + 9;
            Some((PublicKey::read(bytes, signature)?, *bytes.get(10)?))
        }
        _ => {
            let signature = usize::from(u16_at(bytes, 12)?);
            Some((PublicKey::read(bytes, signature)?, *bytes.get(15)?))
        }
    }
}

/// Returns whether one of `policies` is the digest of `key`; `None` where none of them is of a
/// known kind. Makers differ in whether the exponent counts, and where it stands.
pub(super) fn is_named(key: PublicKey<'_>, policies: &[Policy]) -> Option<bool> {
    let (exponent, modulus) = key.0.split_at(EXPONENT_BYTES);
    let forms = [modulus.to_vec(), [modulus, exponent].concat(), key.0.to_vec()];
    let mut known = policies.iter().filter_map(|policy| {
        Some(forms.iter().any(|form| policy.digest_of(form).as_ref() == Some(&policy.digest)))
            .filter(|_| policy.digest_of(&[]).is_some())
    });
    let first = known.next()?;
    Some(first || known.any(|is_named| is_named))
}

/// Returns the major version of a structure.
fn version(bytes: &[u8], name: &[u8; 8]) -> Option<u8> {
    let version = bytes.get(8)? >> 4;
    (array::<8>(bytes, 0)? == *name && matches!(version, 1 | 2)).then_some(version)
}

/// Returns the digest for the boot policy in a key manifest of version 2.x.
fn policy_of(bytes: &[u8]) -> Option<Option<Policy>> {
    let count = Some(u16_at(bytes, 22)?).filter(|count| *count <= DIGESTS_MAX)?;
    let mut offset = 24;
    let mut found = None;
    for _ in 0..count {
        let policy = Policy::read(bytes, offset + 8)?;
        let end = offset + 12 + policy.digest.len();
        if u64_at(bytes, offset)? & PURPOSE_BOOT_POLICY != 0 {
            found = Some(policy);
        }
        offset = end;
    }
    Some(found)
}

impl Policy {
    fn read(bytes: &[u8], offset: usize) -> Option<Self> {
        const LENGTH_MAX: usize = 64;
        let length = usize::from(u16_at(bytes, offset + 2)?);
        let digest = bytes.get(offset + 4..)?.get(..length).filter(|_| length <= LENGTH_MAX)?;
        Some(Self { algorithm: u16_at(bytes, offset)?, digest: digest.to_vec() })
    }

    /// Returns the digest of `bytes` by its algorithm, if that is known.
    fn digest_of(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self.algorithm {
            ALGORITHM_SHA256 => Some(Sha256::digest(bytes).to_vec()),
            ALGORITHM_SHA384 => Some(Sha384::digest(bytes).to_vec()),
            _ => None,
        }
    }
}

impl<'a> PublicKey<'a> {
    /// Reads the key of a signature.
    fn read(bytes: &'a [u8], offset: usize) -> Option<Self> {
        let head: [u8; 6] = array(bytes, offset)?;
        let bits = usize::from(u16_at(&head, 4)?);
        let versions = [head[0], head[3]] == [SIGNATURE_VERSION; 2];
        let is_rsa = versions && u16_at(&head, 1)? == ALGORITHM_RSA;
        let fits = bits > 0 && bits % 8 == 0 && bits / 8 <= MODULUS_BYTES_MAX;
        let key = bytes.get(offset + 6..)?.get(..EXPONENT_BYTES + bits / 8)?;
        (is_rsa && fits).then_some(Self(key))
    }
}
