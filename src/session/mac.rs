//! The cheap keyed check that stands before any public-key operation.

use blake2::digest::{KeyInit, Mac, consts::U16};
use blake2::{Blake2sMac, Digest};

use crate::wire::datagram::MAC_SIZE;

/// Key of the check: who knows the receiver's public key can make it, nobody else.
#[derive(Clone, Debug)]
pub(super) struct MacKey([u8; 32]);

impl MacKey {
    /// BLAKE2s-256 over `label` and the receiver's public key.
    pub(super) fn new(label: &str, receiver_public: &[u8]) -> Self {
        let digest = blake2::Blake2s256::new().chain_update(label).chain_update(receiver_public);
        Self(digest.finalize().into())
    }

    /// Keyed BLAKE2s with 16 bytes of output.
    pub(super) fn compute(&self, bytes: &[u8]) -> [u8; MAC_SIZE] {
        self.mac(bytes).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, bytes: &[u8], mac: &[u8; MAC_SIZE]) -> bool {
        self.mac(bytes).verify(mac.into()).is_ok()
    }

    fn mac(&self, bytes: &[u8]) -> Blake2sMac<U16> {
        <Blake2sMac<U16> as KeyInit>::new(&self.0.into()).chain_update(bytes)
    }
}
