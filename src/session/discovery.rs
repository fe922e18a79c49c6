//! Who is there: a manager's signed broadcast, and each host's sealed answer.
//!
//! The request proves that a trusted manager made it; the stamp makes a replay useless. Only the
//! manager can read an answer, and the answer proves which host key made it, so the manager can
//! enrol a host it has never met.

use std::collections::BTreeMap;

use super::limit::RateLimit;
use super::mac::MacKey;
use super::noise;
use crate::keys::{
    HostPublicKey, HostSecretKey, ManagerPublicKey, ManagerSecretKey, PublicKey, SecretKey,
};
use crate::time::Time;
use crate::wire::answer::Identity;
use crate::wire::codec::{Reader, Writer};
use crate::wire::datagram::{DISCOVERY_REQUEST_SIZE, DiscoveryAnswer, DiscoveryRequest, MAC_SIZE};

/// Signatures that a host checks in a second.
pub const REQUESTS_PER_SECOND: u32 = 5;

const MAC_LABEL: &str = "firmcast discovery mac";

/// A question that the manager asked.
#[derive(Clone, Debug)]
pub struct Discovery {
    request: DiscoveryRequest,
}

impl Discovery {
    /// Signs a question. `stamp` is in microseconds since 1970 and must grow with every question;
    /// `nonce` is random.
    pub fn new(secret: &ManagerSecretKey, stamp: u64, nonce: [u8; 16]) -> Self {
        let public = secret.public();
        let mut request = DiscoveryRequest {
            stamp,
            nonce,
            signer: signer(&public),
            signature: [0; 64],
            mac: [0; MAC_SIZE],
        };
        request.signature = secret.sign_discovery(&request.signed());
        request.mac = MacKey::new(MAC_LABEL, &public.to_bytes()).compute(&request.checked());
        Self { request }
    }

    /// Returns the datagram to broadcast.
    pub fn request(&self) -> Vec<u8> {
        self.request.emit()
    }

    /// Opens an answer to this question: which host made it, and what it says.
    pub fn open(
        &self,
        secret: &ManagerSecretKey,
        datagram: &[u8],
    ) -> Option<(HostPublicKey, Identity)> {
        let answer = DiscoveryAnswer::parse(datagram).ok()?;
        if answer.nonce != self.request.nonce {
            return None;
        }
        let (key, message) = noise::open(secret.exchange(), &answer.noise)?;
        let mut reader = Reader::new(&message);
        if reader.array::<16>().ok()? != self.request.nonce {
            return None;
        }
        let identity = Identity::read(&mut reader).ok()?;
        reader.finish().ok()?;
        Some((HostPublicKey::from_exchange(key).ok()?, identity))
    }
}

/// A question that a host should answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    manager: ManagerPublicKey,
    nonce: [u8; 16],
}

/// The host's side.
#[derive(Debug)]
pub struct DiscoveryResponder {
    managers: BTreeMap<[u8; 8], Known>,
    limit: RateLimit,
}

#[derive(Debug)]
struct Known {
    key: ManagerPublicKey,
    mac: MacKey,
    newest_stamp: u64,
}

impl DiscoveryResponder {
    /// Answers these managers only.
    pub fn new(managers: Vec<ManagerPublicKey>) -> Self {
        let known = |key: ManagerPublicKey| {
            let mac = MacKey::new(MAC_LABEL, &key.to_bytes());
            (signer(&key), Known { key, mac, newest_stamp: 0 })
        };
        let managers = managers.into_iter().map(known).collect();
        Self { managers, limit: RateLimit::new(REQUESTS_PER_SECOND) }
    }

    /// Takes a datagram; returns the question if a trusted manager asked it and it is not a replay.
    pub fn handle(&mut self, now: Time, datagram: &[u8]) -> Option<Asked> {
        let request = DiscoveryRequest::parse(datagram).ok()?;
        let known = self.managers.get_mut(&request.signer)?;
        let cheap = request.stamp > known.newest_stamp
            && known.mac.verify(&request.checked(), &request.mac)
            && self.limit.take(now);
        if !cheap || !known.key.verify_discovery(&request.signed(), &request.signature) {
            return None;
        }
        known.newest_stamp = request.stamp;
        Some(Asked { manager: known.key.clone(), nonce: request.nonce })
    }

    /// The answer, sealed for the manager that asked. `seed` must be fresh from the system's random
    /// source.
    pub fn answer(
        &self,
        asked: &Asked,
        host: &HostSecretKey,
        identity: &Identity,
        seed: [u8; 32],
    ) -> Option<Vec<u8>> {
        let mut writer = Writer::new();
        identity.write(writer.bytes(&asked.nonce));
        let message = writer.finish();
        let noise = noise::seal(host.exchange(), asked.manager.exchange(), &message, seed)?;
        let datagram = DiscoveryAnswer { nonce: asked.nonce, noise }.emit();
        (datagram.len() <= DISCOVERY_REQUEST_SIZE).then_some(datagram)
    }
}

fn signer(key: &ManagerPublicKey) -> [u8; 8] {
    let mut signer = [0; 8];
    signer.copy_from_slice(&key.fingerprint().as_bytes()[..8]);
    signer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::samples;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn only_a_trusted_manager_is_answered_once_and_only_it_can_read() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let manager = ManagerSecretKey::generate(&mut rng);
        let stranger = ManagerSecretKey::generate(&mut rng);
        let host = HostSecretKey::generate(&mut rng);
        let mut responder = DiscoveryResponder::new(vec![manager.public()]);
        let now = Time::ZERO;

        let foreign = Discovery::new(&stranger, 9, [1; 16]);
        assert_eq!(responder.handle(now, &foreign.request()), None);

        let discovery = Discovery::new(&manager, 10, [2; 16]);
        let request = discovery.request();
        for position in 0..request.len() {
            let mut forged = request.clone();
            forged[position] ^= 1;
            assert_eq!(responder.handle(now, &forged), None, "byte {position}");
        }
        let asked = responder.handle(now, &request).unwrap();
        assert_eq!(responder.handle(now, &request), None, "a replay");

        let identity = samples::longest_identity();
        let answer = responder.answer(&asked, &host, &identity, [6; 32]).unwrap();
        assert!(answer.len() <= request.len());
        let (key, heard) = discovery.open(&manager, &answer).unwrap();
        assert_eq!((key, heard), (host.public(), identity));
        assert!(discovery.open(&stranger, &answer).is_none());
        assert!(Discovery::new(&manager, 11, [3; 16]).open(&manager, &answer).is_none());
    }
}
