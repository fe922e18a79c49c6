//! Who is there: a manager's signed broadcast, and each host's sealed answer.
//!
//! The request proves that a trusted manager made it; the stamp makes a replay useless. Only the
//! manager can read an answer, and the answer proves which host key made it, so the manager can
//! enrol a host it has never met. A busy host answers with a cookie first, as in a session.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;

use super::cookie;
use super::guard::{Guard, Knock, Limits, Pass};
use super::mac::MacKey;
use super::noise;
use crate::keys::{
    HostPublicKey, HostSecretKey, ManagerPublicKey, ManagerSecretKey, PublicKey, SecretKey,
};
use crate::time::Time;
use crate::wire::answer::Identity;
use crate::wire::codec::{Reader, Writer};
use crate::wire::datagram::{
    CookieReply, DISCOVERY_REQUEST_SIZE, DiscoveryAnswer, DiscoveryRequest, MAC_SIZE,
};
use crate::wire::finding::Finding;
use crate::wire::versions::Versions;

/// Signatures that a host checks in a second for those who have not proved their address.
pub const REQUESTS_PER_SECOND: u32 = 5;

/// Minimum interval between two answers to stale requests of one manager key.
const STALE_ANSWER_INTERVAL: Duration = Duration::from_secs(1);

const LIMITS: Limits = Limits { per_second: REQUESTS_PER_SECOND, seen_max: 256, sources_max: 64 };

const MAC_LABEL: &str = "firmcast discovery mac";
const COOKIE_LABEL: &str = "firmcast discovery cookie";

/// In place of an identity, whose first byte is an environment: the newest stamp that the host has
/// seen of this manager's key follows (u64).
const STALE: u8 = 0x80;

/// A question that the manager asked.
#[derive(Clone, Debug)]
pub struct Discovery {
    request: DiscoveryRequest,
    cookie_key: MacKey,
}

/// What a host said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Who it is, and what it speaks.
    Identity(Box<Identity>, Versions),
    /// It has seen a later stamp of this manager's key, so it looks at nothing with an earlier one:
    /// this machine's clock was set back, or another machine has the same key.
    LaterStamp(u64),
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
            cookie_mac: None,
            versions: None,
        };
        request.signature = secret.sign_discovery(&request.signed());
        request.mac = MacKey::new(MAC_LABEL, &public.to_bytes()).compute(&request.checked());
        Self { request, cookie_key: MacKey::new(COOKIE_LABEL, &public.to_bytes()) }
    }

    /// Returns the cookie of a busy host, if `datagram` is its reply to this question, and the
    /// request that it wants to see, which is sent where the reply came from. Others may have made
    /// the reply.
    pub fn prove(&self, datagram: &[u8]) -> Option<([u8; MAC_SIZE], Vec<u8>)> {
        let reply = CookieReply::parse(datagram).ok()?;
        let is_ours = reply.receiver == receiver(&self.request.nonce)
            && cookie::is_reply(&self.cookie_key, &reply, &self.request.mac);
        let proven = || DiscoveryRequest {
            cookie_mac: Some(cookie::mac(&reply.cookie, &self.request.checked())),
            versions: Some(Versions::OURS),
            ..self.request.clone()
        };
        is_ours.then(|| (reply.cookie, proven().emit()))
    }

    /// Returns the datagram to broadcast.
    pub fn request(&self) -> Vec<u8> {
        DiscoveryRequest { versions: Some(Versions::OURS), ..self.request.clone() }.emit()
    }

    /// Returns the same for older hosts, to be sent after it: they heed no request that says what
    /// the manager speaks. To others it is a copy.
    pub fn request_to_older(&self) -> Vec<u8> {
        self.request.emit()
    }

    /// Opens an answer to this question: which host made it, and what it says.
    pub fn open(
        &self,
        secret: &ManagerSecretKey,
        datagram: &[u8],
    ) -> Option<(HostPublicKey, Said)> {
        let answer = DiscoveryAnswer::parse(datagram).ok()?;
        if answer.nonce != self.request.nonce {
            return None;
        }
        let (key, message) = noise::open(secret.exchange(), &answer.noise)?;
        let mut reader = Reader::new(&message);
        if reader.array::<16>().ok()? != self.request.nonce {
            return None;
        }
        let said = match message.get(16)? {
            &STALE => {
                reader.u8().ok()?;
                Said::LaterStamp(reader.u64().ok()?)
            }
            _ => {
                let identity = Identity::read(&mut reader).ok()?;
                let versions = Versions::read(&mut reader).unwrap_or(Versions::UNSAID);
                let findings = Finding::read_all(&mut reader).ok()?;
                Said::Identity(Box::new(Identity { findings, ..identity }), versions)
            }
        };
        // A newer host may have more to say.
        Some((HostPublicKey::from_exchange(key).ok()?, said))
    }
}

/// Maximum length of a message in an answer, which is no longer than the question: without the
/// datagram's header and nonce, and the ephemeral key, sealed static key and tag of Noise.
const MESSAGE_SIZE_MAX: usize = DISCOVERY_REQUEST_SIZE - 4 - 16 - 96;

/// A question that a host should answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    manager: ManagerPublicKey,
    nonce: [u8; 16],
    /// The newest stamp, if the question has an older one.
    later_stamp: Option<u64>,
    /// Whether the manager understands more than the identity.
    says_versions: bool,
}

impl Asked {
    /// Returns who asked.
    pub fn manager(&self) -> &ManagerPublicKey {
        &self.manager
    }

    /// Returns whether the question came with a stamp that is not above the newest of its key.
    pub fn is_stale(&self) -> bool {
        self.later_stamp.is_some()
    }
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A trusted manager asked.
    Asked(Box<Asked>),
    /// Others use up the time of this host: send this reply, and forget the request.
    Busy(Vec<u8>),
}

/// The host's side.
#[derive(Debug)]
pub struct DiscoveryResponder {
    managers: BTreeMap<[u8; 8], Known>,
    guard: Guard,
}

#[derive(Debug)]
struct Known {
    key: ManagerPublicKey,
    mac: MacKey,
    cookie_key: MacKey,
    newest_stamp: u64,
    /// When a stale request may be answered again.
    stale_again: Time,
}

impl DiscoveryResponder {
    /// Answers these managers only.
    pub fn new(managers: Vec<ManagerPublicKey>) -> Self {
        let known = |key: ManagerPublicKey| {
            let bytes = key.to_bytes();
            let mac = MacKey::new(MAC_LABEL, &bytes);
            let cookie_key = MacKey::new(COOKIE_LABEL, &bytes);
            (signer(&key), Known { key, mac, cookie_key, newest_stamp: 0, stale_again: Time::ZERO })
        };
        // `collect` would sort first, and bring a sort for these alone.
        let mut by_signer = BTreeMap::new();
        by_signer.extend(managers.into_iter().map(known));
        Self { managers: by_signer, guard: Guard::new(LIMITS) }
    }

    /// Takes a datagram; returns what to do if a trusted manager asked and this is not a copy, or
    /// if the host is too busy to find out.
    pub fn handle(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
        rng: &mut ChaCha20Rng,
    ) -> Option<Heard> {
        let request = DiscoveryRequest::parse(datagram).ok()?;
        let known = self.managers.get_mut(&request.signer)?;
        let checked = request.checked();
        let is_stale = request.stamp <= known.newest_stamp;
        if is_stale && now < known.stale_again || !known.mac.verify(&checked, &request.mac) {
            return None;
        }
        let DiscoveryRequest { mac, cookie_mac, .. } = &request;
        let knock = Knock { from, checked: &checked, mac, cookie_mac: cookie_mac.as_ref() };
        match self.guard.check(now, knock, rng) {
            Pass::Handle => {
                let asked = known.hear(now, &request)?;
                self.guard.remember(&request.mac);
                Some(Heard::Asked(Box::new(asked)))
            }
            Pass::Drop => None,
            Pass::Prove(cookie) => {
                let receiver = receiver(&request.nonce);
                let reply = cookie::reply(&known.cookie_key, receiver, cookie, &request.mac);
                Some(Heard::Busy(reply.emit()))
            }
        }
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
        writer.bytes(&asked.nonce);
        match asked.later_stamp {
            Some(newest) => drop(writer.u8(STALE).u64(newest)),
            None => identity.write(&mut writer),
        }
        if asked.says_versions && asked.later_stamp.is_none() {
            Versions::OURS.write(&mut writer);
            let room = MESSAGE_SIZE_MAX.saturating_sub(writer.len());
            Finding::write_all(Finding::fitting(&identity.findings, room), &mut writer);
        }
        let message = writer.finish();
        let noise = noise::seal(host.exchange(), asked.manager.exchange(), &message, seed)?;
        let datagram = DiscoveryAnswer { nonce: asked.nonce, noise }.emit();
        (datagram.len() <= DISCOVERY_REQUEST_SIZE).then_some(datagram)
    }
}

impl Known {
    fn hear(&mut self, now: Time, request: &DiscoveryRequest) -> Option<Asked> {
        if !self.key.verify_discovery(&request.signed(), &request.signature) {
            return None;
        }
        let later_stamp = Some(self.newest_stamp).filter(|newest| request.stamp <= *newest);
        match later_stamp {
            Some(_) => self.stale_again = now + STALE_ANSWER_INTERVAL,
            None => self.newest_stamp = request.stamp,
        }
        let says_versions = request.versions.is_some();
        Some(Asked { manager: self.key.clone(), nonce: request.nonce, later_stamp, says_versions })
    }
}

/// Names a request in a cookie reply.
fn receiver(nonce: &[u8; 16]) -> u32 {
    let mut first = [0; 4];
    first.copy_from_slice(&nonce[..4]);
    u32::from_be_bytes(first)
}

fn signer(key: &ManagerPublicKey) -> [u8; 8] {
    let mut signer = [0; 8];
    signer.copy_from_slice(&key.fingerprint().as_bytes()[..8]);
    signer
}

#[cfg(test)]
mod tests;
