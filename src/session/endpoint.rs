//! All sessions of one socket.
//!
//! The drive rule: after every `handle_datagram`, `handle_timeout`, `connect` or `send`, take all
//! of `poll_transmit`, then wait for a datagram until `poll_timeout`. Early or repeated timeouts
//! are harmless.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::call::{self, Call};
use super::cookie;
use super::guard::{Guard, Knock, Limits, Pass};
use super::mac::MacKey;
use super::noise;
use super::peers::{Admission, MAC_LABEL, Opened, PeerKey, Peers};
use super::sealing::Session;
use crate::random::seed;
use crate::time::Time;
use crate::wire::MESSAGE_SIZE_MAX;
use crate::wire::codec::{Reader, Writer};
use crate::wire::datagram::{CookieReply, Initiation, MAC_SIZE, Response, Transport};
use crate::wire::versions::{Mismatch, Versions};

/// Maximum number of datagrams that wait to be taken; more are dropped, as the network might have
/// done.
pub const TRANSMITS_MAX: usize = 65_536;

/// Maximum number of handshakes that a host answers in a second for callers that have not proved
/// their address, which bounds the public-key work behind them.
pub const HANDSHAKES_PER_SECOND: u32 = 20;

/// Maximum number of handled initiations whose copies a host knows; a manager, who answers a
/// hundred times as many.
const SEEN_MAX: usize = 512;
const SEEN_BY_MANAGER_MAX: usize = 16_384;

/// Maximum number of callers' addresses with a limit of their own at a host, and at a manager.
const SOURCES_MAX: usize = 64;
const SOURCES_OF_MANAGER_MAX: usize = 1024;

/// First bytes of the messages in which the sides say what they speak; then come the lowest and the
/// highest version (u8 each).
const CALLER_SPEAKS: u8 = 0x00;
const CALLED_SPEAKS: u8 = 0x80;

/// How often a caller repeats what it speaks, before other messages, while it has not heard what
/// the other side speaks.
const VERSIONS_REPEATS_MAX: u32 = 5;

const COOKIE_LABEL: &str = "firmcast session cookie";

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// UDP payload.
    pub bytes: Vec<u8>,
}

/// What an authentic datagram brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A new session can be used. The side that was called may see a
    /// [`SessionEvent::Message`] instead, which implies it.
    Connected {
        /// The peer's key.
        peer: PeerKey,
        /// Where it is.
        address: SocketAddr,
    },
    /// A message from an established session; given once each, in the order of arrival.
    Message {
        /// The peer's key.
        peer: PeerKey,
        /// Where it is.
        address: SocketAddr,
        /// The message, never empty.
        bytes: Vec<u8>,
        /// Whether something that the peer said later came before it.
        is_overtaken: bool,
    },
    /// A peer that may call did so with a stamp that is not above the newest of its key: its clock
    /// was set back, or another one has the same key and a later clock.
    StaleCall {
        /// The peer's key.
        peer: PeerKey,
        /// Its stamp.
        stamp: u64,
        /// The newest stamp of the key.
        newest: u64,
    },
    /// The peer and this side have no version of the protocol in common. Both know it; there is no
    /// session any more.
    Incompatible {
        /// The peer's key.
        peer: PeerKey,
        /// Where it is.
        address: SocketAddr,
        /// Who speaks what.
        mismatch: Mismatch,
    },
}

/// The sessions of one socket with all its peers.
#[derive(Debug)]
pub struct Endpoint {
    secret: Zeroizing<[u8; 32]>,
    own_mac: MacKey,
    own_cookie: MacKey,
    rng: ChaCha20Rng,
    guard: Guard,
    stamp: u64,
    /// This is a manager, whom hosts call, and who calls them.
    serves_hosts: bool,
    versions: Versions,
    peers: Peers,
    transmits: VecDeque<Transmit>,
}

impl Endpoint {
    /// Returns an endpoint that knows nobody yet.
    ///
    /// `exchange_secret` is an X25519 secret; `seed` must come from the system's random source and
    /// be used once.
    pub fn new(exchange_secret: [u8; 32], seed: [u8; 32]) -> Self {
        let public = PublicKey::from(&StaticSecret::from(exchange_secret));
        Self {
            secret: Zeroizing::new(exchange_secret),
            own_mac: MacKey::new(MAC_LABEL, public.as_bytes()),
            own_cookie: MacKey::new(COOKIE_LABEL, public.as_bytes()),
            rng: ChaCha20Rng::from_seed(seed),
            guard: Guard::new(Limits {
                per_second: HANDSHAKES_PER_SECOND,
                seen_max: SEEN_MAX,
                sources_max: SOURCES_MAX,
            }),
            stamp: 0,
            serves_hosts: false,
            versions: Versions::OURS,
            peers: Peers::default(),
            transmits: VecDeque::new(),
        }
    }

    /// Makes this the manager's side: `handshakes_per_second` are answered, and callers need no
    /// growing stamps, because a host in recovery may have lost its clock.
    pub fn serve_hosts(&mut self, handshakes_per_second: u32) {
        self.guard = Guard::new(Limits {
            per_second: handshakes_per_second,
            seen_max: SEEN_BY_MANAGER_MAX,
            sources_max: SOURCES_OF_MANAGER_MAX,
        });
        self.serves_hosts = true;
    }

    /// Speaks other versions than [`Versions::OURS`].
    pub fn speak(&mut self, versions: Versions) {
        self.versions = versions;
    }

    /// Lets up to `strangers_max` callers open sessions whose keys are not known;
    /// [`Endpoint::forget`] makes room again. When half of it is taken, callers have to prove their
    /// address, and few are let in from each.
    pub fn serve_strangers(&mut self, strangers_max: usize) {
        self.peers.strangers_max = strangers_max;
    }

    /// Returns whether `peer` is known only by its own call.
    pub fn is_stranger(&self, peer: &PeerKey) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.stranger)
    }

    /// Returns the keys that are known only by their own call, also of callers that have not said
    /// anything yet.
    pub fn strangers(&self) -> impl Iterator<Item = &PeerKey> {
        self.peers.strangers()
    }

    /// Forgets all about `peer`, whether it was allowed or a stranger.
    pub fn forget(&mut self, peer: &PeerKey) {
        self.peers.forget(peer);
    }

    /// Sets the stamp of the next initiation; each later one is higher. Managers give microseconds
    /// since 1970.
    pub fn set_stamp(&mut self, stamp: u64) {
        self.stamp = self.stamp.max(stamp);
    }

    /// Lets `peer` open sessions. Above `PEERS_MAX` peers nothing happens.
    pub fn allow(&mut self, peer: PeerKey) {
        self.peers.allow(peer);
    }

    /// Opens a fresh session with `peer`, trying until it answers or [`Endpoint::disconnect`] is
    /// called. While an attempt at this address goes on, a second call changes nothing; an older
    /// session stays usable meanwhile.
    pub fn connect(&mut self, now: Time, peer: PeerKey, address: SocketAddr) {
        self.begin_call(now, peer, address, false);
    }

    /// As [`Endpoint::connect`], for a broadcast address: the session is with the address that the
    /// answer comes from.
    pub fn connect_anywhere(&mut self, now: Time, peer: PeerKey, broadcast: SocketAddr) {
        self.begin_call(now, peer, broadcast, true);
    }

    fn begin_call(&mut self, now: Time, peer: PeerKey, to: SocketAddr, anywhere: bool) {
        let Some(entry) = self.peers.entry(peer) else { return };
        if entry.call.as_ref().is_some_and(|call| call.to == to) {
            return;
        }
        let old = entry.call.replace(Box::new(Call::new(now, to, anywhere)));
        self.peers.drop_index(old.and_then(|call| call.index));
        self.handle_timeout(now);
    }

    /// Forgets sessions with `peer` and stops calling it.
    pub fn disconnect(&mut self, peer: &PeerKey) {
        self.peers.disconnect(peer);
    }

    /// Returns whether [`Endpoint::send`] would find a session.
    pub fn is_connected(&self, peer: &PeerKey) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.current.is_some())
    }

    /// Seals `message` for `peer`. Returns false, and keeps nothing, when there is no session, the
    /// session is at its end, or the message is longer than [`MESSAGE_SIZE_MAX`].
    pub fn send(&mut self, now: Time, peer: &PeerKey, message: &[u8]) -> bool {
        // What was said first may have been lost.
        if self.peers.get_mut(peer).is_some_and(|peer| peer.repeats_versions(now)) {
            self.tell_versions(now, peer, CALLER_SPEAKS);
        }
        self.seal(now, peer, message)
    }

    fn seal(&mut self, now: Time, peer: &PeerKey, message: &[u8]) -> bool {
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        let Some(session) = entry.current.as_mut() else { return false };
        if session.is_over(now) || message.len() > MESSAGE_SIZE_MAX {
            return false;
        }
        let to = session.address;
        match session.seal(message) {
            Some(bytes) => {
                self.transmit(to, bytes);
                true
            }
            None => false,
        }
    }

    /// Takes a datagram from the socket. Everything that is not for a session of ours, or not
    /// authentic, is ignored.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<SessionEvent> {
        match datagram.first()? {
            1 => self.handle_initiation(now, from, &Initiation::parse(datagram).ok()?),
            2 => self.handle_response(now, from, &Response::parse(datagram).ok()?),
            3 => self.handle_transport(now, &Transport::parse(datagram).ok()?),
            8 => {
                self.handle_cookie(now, &CookieReply::parse(datagram).ok()?);
                None
            }
            _ => None,
        }
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When [`Endpoint::handle_timeout`] wants to be called; never on a host that only listens.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.peers.next_call()
    }

    /// Sends the initiations that are due.
    pub fn handle_timeout(&mut self, now: Time) {
        let due = self.peers.due(now);
        if due.is_empty() {
            return;
        }
        let pause_max = self.pause_max();
        for key in due {
            self.call(now, key, pause_max);
        }
    }

    fn pause_max(&self) -> Duration {
        call::pause_max(self.peers.calls(), self.serves_hosts)
    }

    /// Sends one initiation with a fresh handshake and plans the next.
    fn call(&mut self, now: Time, key: PeerKey, pause_max: Duration) {
        let (sender, seed) = (self.peers.fresh_index(key, &mut self.rng), seed(&mut self.rng));
        self.stamp += 1;
        let made = noise::initiate(&self.secret, &key, self.stamp, seed);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(call) = peer.call.as_mut() else { return };
        let Ok((handshake, noise)) = made else {
            // Only a key that is no point of the curve gets here; calling again would not help.
            peer.call = None;
            self.peers.drop_index(Some(sender));
            return;
        };
        let stale = call.initiate(now, sender, handshake, pause_max, &mut self.rng);
        let to = call.to;
        let mut initiation = Initiation { sender, noise, mac: [0; MAC_SIZE], cookie_mac: None };
        let checked = initiation.checked();
        initiation.mac = peer.mac.compute(&checked);
        call.mac = initiation.mac;
        let cookie = call.cookies.next(now);
        initiation.cookie_mac = cookie.map(|cookie| cookie::mac(&cookie, &checked));
        self.peers.drop_index(stale);
        self.transmit(to, initiation.emit());
    }

    fn handle_initiation(
        &mut self,
        now: Time,
        from: SocketAddr,
        initiation: &Initiation,
    ) -> Option<SessionEvent> {
        let checked = initiation.checked();
        if !self.own_mac.verify(&checked, &initiation.mac) {
            return None;
        }
        let Initiation { mac, cookie_mac, .. } = initiation;
        let knock = Knock { from, checked: &checked, mac, cookie_mac: cookie_mac.as_ref() };
        match self.guard.check(now, knock, &mut self.rng) {
            Pass::Handle => {
                let source = self.guard.proven_source(now, knock);
                self.answer_call(now, from, initiation, source)
            }
            Pass::Drop => None,
            Pass::Prove(cookie) => self.want_proof(from, initiation, cookie),
        }
    }

    fn want_proof(
        &mut self,
        from: SocketAddr,
        Initiation { sender, mac, .. }: &Initiation,
        cookie: cookie::Cookie,
    ) -> Option<SessionEvent> {
        let reply = cookie::reply(&self.own_cookie, *sender, cookie, mac);
        self.transmit(from, reply.emit());
        None
    }

    fn answer_call(
        &mut self,
        now: Time,
        from: SocketAddr,
        initiation: &Initiation,
        source: Option<IpAddr>,
    ) -> Option<SessionEvent> {
        let seed = seed(&mut self.rng);
        let initiated = noise::open_initiation(&self.secret, &initiation.noise, seed)?;
        self.guard.remember(&initiation.mac);
        let (key, stamp) = (initiated.peer, initiated.stamp);
        match self.peers.admit(key, stamp, !self.serves_hosts, source) {
            Admission::Admitted => {}
            Admission::Unknown => return None,
            Admission::Unproven => {
                let cookie = self.guard.cookie(now, from, &mut self.rng);
                return self.want_proof(from, initiation, cookie);
            }
            Admission::Stale { newest } => {
                return Some(SessionEvent::StaleCall { peer: key, stamp, newest });
            }
        }
        let (keys, noise) = noise::respond(initiated)?;
        let index = self.peers.fresh_index(key, &mut self.rng);
        let session = Session::new(now, index, initiation.sender, keys, from);
        self.peers.add_unconfirmed(&key, stamp, session);
        let peer = self.peers.get(&key)?;
        let mut response =
            Response { sender: index, receiver: initiation.sender, noise, mac: [0; MAC_SIZE] };
        response.mac = peer.mac.compute(&response.checked());
        self.transmit(from, response.emit());
        None
    }

    /// A busy peer wants to know whether this side is where its call came from.
    fn handle_cookie(&mut self, now: Time, reply: &CookieReply) {
        let Some(key) = self.peers.owner(reply.receiver) else { return };
        let call = self.peers.get_mut(&key).and_then(|peer| peer.call.as_mut());
        let Some(call) = call.filter(|call| call.index == Some(reply.receiver)) else { return };
        if cookie::is_reply(&MacKey::new(COOKIE_LABEL, &key), reply, &call.mac) {
            // Only the first one makes this side call at once: otherwise whoever goes on to send
            // them could make it call without a pause, and stop listening for the true answer.
            if call.cookies.hear(now, reply.cookie, &mut self.rng) {
                self.call(now, key, self.pause_max());
            }
        }
    }

    fn handle_response(
        &mut self,
        now: Time,
        from: SocketAddr,
        response: &Response,
    ) -> Option<SessionEvent> {
        if !self.own_mac.verify(&response.checked(), &response.mac) {
            return None;
        }
        let key = self.peers.owner(response.receiver)?;
        let peer = self.peers.get_mut(&key)?;
        let call = peer.call.as_mut().filter(|call| call.index == Some(response.receiver))?;
        let (keys, address) = call.answered(from, &response.noise)?;
        (peer.call, peer.spoken) = (None, None);
        (peer.versions_repeats, peer.versions_told) = (VERSIONS_REPEATS_MAX, now);
        let session = Session::new(now, response.receiver, response.sender, keys, address);
        self.peers.install(&key, session);
        // The first message shows the other side at once that this session is no replay.
        self.tell_versions(now, &key, CALLER_SPEAKS);
        Some(SessionEvent::Connected { peer: key, address })
    }

    fn handle_transport(&mut self, now: Time, datagram: &Transport) -> Option<SessionEvent> {
        let key = self.peers.owner(datagram.receiver)?;
        let peer = self.peers.get_mut(&key)?;
        let Opened { message, first, address, is_overtaken } = peer.open(now, datagram)?;
        if first {
            self.peers.confirm(&key, datagram.receiver);
        }
        match message.first() {
            Some(&kind @ (CALLER_SPEAKS | CALLED_SPEAKS)) => {
                let mismatch = self.handle_versions(now, &key, kind, &message[1..]);
                if let Some(mismatch) = mismatch {
                    return Some(SessionEvent::Incompatible { peer: key, address, mismatch });
                }
                return first.then_some(SessionEvent::Connected { peer: key, address });
            }
            None => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.spoken = self.versions.common(Versions::UNSAID);
                }
                return first.then_some(SessionEvent::Connected { peer: key, address });
            }
            Some(_) => {}
        }
        Some(SessionEvent::Message { peer: key, address, bytes: message, is_overtaken })
    }

    fn tell_versions(&mut self, now: Time, key: &PeerKey, kind: u8) {
        let message = self.versions.write(Writer::new().u8(kind)).finish();
        self.seal(now, key, &message);
    }

    /// The peer says what it speaks; a caller says so first, and hears it of the other side then.
    /// An older one does neither, and what it says is what it understands.
    fn handle_versions(
        &mut self,
        now: Time,
        key: &PeerKey,
        kind: u8,
        fields: &[u8],
    ) -> Option<Mismatch> {
        let theirs = Versions::read(&mut Reader::new(fields)).ok()?;
        if kind == CALLER_SPEAKS {
            self.tell_versions(now, key, CALLED_SPEAKS);
        }
        let common = self.versions.common(theirs);
        self.peers.get_mut(key)?.spoken = common;
        if common.is_some() {
            return None;
        }
        self.peers.disconnect(key);
        Some(Mismatch { ours: self.versions, theirs })
    }

    /// The version of the messages that this side and a peer speak, where the peer has said what it
    /// understands.
    pub fn spoken(&self, key: &PeerKey) -> Option<u8> {
        self.peers.get(key)?.spoken
    }

    fn transmit(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if self.transmits.len() < TRANSMITS_MAX {
            self.transmits.push_back(Transmit { to, bytes });
        }
    }
}

#[cfg(test)]
mod tests;
