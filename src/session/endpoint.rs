//! All sessions of one socket.
//!
//! The drive rule: after every `handle_datagram`, `handle_timeout`, `connect` or `send`, take all of `poll_transmit`,
//! then wait for a datagram until `poll_timeout`. Early or repeated timeouts are harmless.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use snow::{HandshakeState, StatelessTransportState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::limit::RateLimit;
use super::mac::MacKey;
use super::noise;
use super::window::ReplayWindow;
use crate::time::Time;
use crate::wire::MESSAGE_SIZE_MAX;
use crate::wire::datagram::{Initiation, MAC_SIZE, Response, Transport};

/// An X25519 public key: the name of a peer.
pub type PeerKey = [u8; 32];

/// The most peers that an endpoint knows.
pub const PEERS_MAX: usize = 65_536;

/// The most datagrams that wait to be taken; more are dropped, as the network might have done.
pub const TRANSMITS_MAX: usize = 65_536;

/// Handshakes that a host answers in a second; the public-key work behind each is bounded by this.
pub const HANDSHAKES_PER_SECOND: u32 = 20;

/// Answered handshakes of one peer that may wait for its first message.
const UNCONFIRMED_MAX: usize = 4;

/// How long a session may be used.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(3 * 3600);

/// First and longest pause between two initiations.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

const MAC_LABEL: &str = "firmcast session mac";

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
pub enum Event {
    /// A new session can be used. The side that was called may see a [`Event::Message`] instead, which implies it.
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
    },
}

/// The sessions of one socket with all its peers.
#[derive(Debug)]
pub struct Endpoint {
    secret: Zeroizing<[u8; 32]>,
    own_mac: MacKey,
    rng: ChaCha20Rng,
    limit: RateLimit,
    stamp: u64,
    stamps_must_grow: bool,
    /// Unknown callers that may have a session at the same time.
    strangers_max: usize,
    strangers: usize,
    peers: BTreeMap<PeerKey, Peer>,
    /// Our session indices: whose they are.
    indices: BTreeMap<u32, PeerKey>,
    transmits: VecDeque<Transmit>,
}

#[derive(Debug)]
struct Peer {
    mac: MacKey,
    address: Option<SocketAddr>,
    may_call: bool,
    /// Made by its own call to an endpoint that serves strangers.
    stranger: bool,
    newest_stamp: Option<u64>,
    attempt: Option<Attempt>,
    /// Made by answering; one is used once the caller's first message shows that it is no replay. Several, because a
    /// doubled or late initiation is answered too, and only the caller knows which answer it took.
    unconfirmed: VecDeque<Session>,
    current: Option<Session>,
    /// Still received, for datagrams that were under way when `current` was made.
    previous: Option<Session>,
}

#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    /// The address is a broadcast's: whoever holds the key answers from another one.
    anywhere: bool,
    pause: Duration,
    next: Time,
    index: Option<u32>,
    handshake: Option<HandshakeState>,
}

#[derive(Debug)]
struct Session {
    index: u32,
    peer_index: u32,
    keys: StatelessTransportState,
    counter: u64,
    window: ReplayWindow,
    end: Time,
    /// Who was called follows its caller to another address. Who called stays with the address that it called, so that
    /// somebody on the way who is faster than a datagram cannot draw its answers away.
    follows: bool,
}

impl Endpoint {
    /// An endpoint that knows nobody yet.
    ///
    /// `exchange_secret` is an X25519 secret; `seed` must come from the system's random source and be used once.
    pub fn new(exchange_secret: [u8; 32], seed: [u8; 32]) -> Self {
        let public = PublicKey::from(&StaticSecret::from(exchange_secret));
        Self {
            secret: Zeroizing::new(exchange_secret),
            own_mac: MacKey::new(MAC_LABEL, public.as_bytes()),
            rng: ChaCha20Rng::from_seed(seed),
            limit: RateLimit::new(HANDSHAKES_PER_SECOND),
            stamp: 0,
            stamps_must_grow: true,
            strangers_max: 0,
            strangers: 0,
            peers: BTreeMap::new(),
            indices: BTreeMap::new(),
            transmits: VecDeque::new(),
        }
    }

    /// Makes this the manager's side: `handshakes_per_second` are answered, and callers need no growing stamps, because
    /// a host in recovery may have lost its clock.
    pub fn serve_hosts(&mut self, handshakes_per_second: u32) {
        self.limit = RateLimit::new(handshakes_per_second);
        self.stamps_must_grow = false;
    }

    /// Lets up to `strangers_max` callers open sessions whose keys are not known; [`Endpoint::forget`] makes room again.
    pub fn serve_strangers(&mut self, strangers_max: usize) {
        self.strangers_max = strangers_max;
    }

    /// Whether `peer` is known only by its own call.
    pub fn is_stranger(&self, peer: &PeerKey) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.stranger)
    }

    /// The keys that are known only by their own call, also of callers that have not said anything yet.
    pub fn strangers(&self) -> impl Iterator<Item = &PeerKey> {
        self.peers.iter().filter(|(_, peer)| peer.stranger).map(|(key, _)| key)
    }

    /// Forgets all about `peer`, whether it was allowed or a stranger.
    pub fn forget(&mut self, peer: &PeerKey) {
        self.disconnect(peer);
        if let Some(peer) = self.peers.remove(peer) {
            self.strangers -= usize::from(peer.stranger);
        }
    }

    /// Sets the stamp of the next initiation; each later one is higher. Managers give microseconds since 1970.
    pub fn set_stamp(&mut self, stamp: u64) {
        self.stamp = self.stamp.max(stamp);
    }

    /// Lets `peer` open sessions. Above [`PEERS_MAX`] peers nothing happens.
    pub fn allow(&mut self, peer: PeerKey) {
        if let Some(peer) = self.peer_entry(peer) {
            peer.may_call = true;
            if std::mem::take(&mut peer.stranger) {
                self.strangers -= 1;
            }
        }
    }

    /// Opens a fresh session with `peer`, trying until it answers or [`Endpoint::disconnect`] is called. While an
    /// attempt at this address goes on, a second call changes nothing; an older session stays usable meanwhile.
    pub fn connect(&mut self, now: Time, peer: PeerKey, address: SocketAddr) {
        self.attempt(now, peer, address, false);
    }

    /// As [`Endpoint::connect`], for a broadcast address: the session is with the address that the answer comes from.
    pub fn connect_anywhere(&mut self, now: Time, peer: PeerKey, broadcast: SocketAddr) {
        self.attempt(now, peer, broadcast, true);
    }

    fn attempt(&mut self, now: Time, peer: PeerKey, address: SocketAddr, anywhere: bool) {
        let Some(entry) = self.peer_entry(peer) else { return };
        if entry.attempt.as_ref().is_some_and(|attempt| attempt.address == address) {
            return;
        }
        let old = entry.attempt.replace(Attempt {
            address,
            anywhere,
            pause: RETRY_MIN,
            next: now,
            index: None,
            handshake: None,
        });
        if let Some(index) = old.and_then(|attempt| attempt.index) {
            self.indices.remove(&index);
        }
        self.handle_timeout(now);
    }

    /// Forgets sessions with `peer` and stops calling it.
    pub fn disconnect(&mut self, peer: &PeerKey) {
        self.indices.retain(|_, owner| owner != peer);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.unconfirmed.clear();
            (peer.attempt, peer.current, peer.previous) = (None, None, None);
        }
    }

    /// Whether [`Endpoint::send`] would find a session.
    pub fn is_connected(&self, peer: &PeerKey) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.current.is_some())
    }

    /// Seals `message` for `peer`. Returns false, and keeps nothing, when there is no session, the session is at its
    /// end, or the message is longer than [`MESSAGE_SIZE_MAX`].
    pub fn send(&mut self, now: Time, peer: &PeerKey, message: &[u8]) -> bool {
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        let (Some(session), Some(to)) = (entry.current.as_mut(), entry.address) else {
            return false;
        };
        if now >= session.end || message.len() > MESSAGE_SIZE_MAX {
            return false;
        }
        match session.seal(message) {
            Some(bytes) => {
                self.transmit(to, bytes);
                true
            }
            None => false,
        }
    }

    /// Takes a datagram from the socket. Everything that is not for a session of ours, or not authentic, is ignored.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<Event> {
        match datagram.first()? {
            1 => {
                self.handle_initiation(now, from, &Initiation::parse(datagram).ok()?);
                None
            }
            2 => self.handle_response(now, from, &Response::parse(datagram).ok()?),
            3 => self.handle_transport(now, from, &Transport::parse(datagram).ok()?),
            _ => None,
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When [`Endpoint::handle_timeout`] wants to be called; never on a host that only listens.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.peers
            .values()
            .filter_map(|peer| peer.attempt.as_ref())
            .map(|attempt| attempt.next)
            .min()
    }

    /// Sends the initiations that are due.
    pub fn handle_timeout(&mut self, now: Time) {
        let due = |peer: &Peer| peer.attempt.as_ref().is_some_and(|attempt| attempt.next <= now);
        let calls: Vec<PeerKey> =
            self.peers.iter().filter(|(_, peer)| due(peer)).map(|(key, _)| *key).collect();
        for key in calls {
            self.call(now, key);
        }
    }

    fn peer_entry(&mut self, key: PeerKey) -> Option<&mut Peer> {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&key) {
            return None;
        }
        Some(self.peers.entry(key).or_insert_with(|| Peer {
            mac: MacKey::new(MAC_LABEL, &key),
            address: None,
            may_call: false,
            stranger: false,
            newest_stamp: None,
            attempt: None,
            unconfirmed: VecDeque::new(),
            current: None,
            previous: None,
        }))
    }

    /// Whether there is room for an unknown caller, who is known from here on.
    fn take_stranger(&mut self, key: PeerKey) -> bool {
        if self.strangers >= self.strangers_max {
            return false;
        }
        let Some(peer) = self.peer_entry(key) else { return false };
        peer.stranger = true;
        self.strangers += 1;
        true
    }

    /// Sends one initiation with a fresh handshake and plans the next.
    fn call(&mut self, now: Time, key: PeerKey) {
        let (sender, seed) = (self.fresh_index(key), self.seed());
        self.stamp += 1;
        let made = noise::initiate(&self.secret, &key, self.stamp, seed);
        let jitter_permille = 750 + self.rng.next_u32() % 500;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(attempt) = peer.attempt.as_mut() else { return };
        let Ok((handshake, noise)) = made else {
            // Only a key that is no point of the curve gets here; calling again would not help.
            peer.attempt = None;
            self.indices.remove(&sender);
            return;
        };
        let stale = attempt.index.replace(sender);
        attempt.handshake = Some(handshake);
        attempt.next = now + attempt.pause * jitter_permille / 1000;
        attempt.pause = (attempt.pause * 2).min(RETRY_MAX);
        let to = attempt.address;
        let mut initiation = Initiation { sender, noise, mac: [0; MAC_SIZE] };
        initiation.mac = peer.mac.compute(&initiation.checked());
        if let Some(stale) = stale {
            self.indices.remove(&stale);
        }
        self.transmit(to, initiation.emit());
    }

    fn handle_initiation(&mut self, now: Time, from: SocketAddr, initiation: &Initiation) {
        if !self.own_mac.verify(&initiation.checked(), &initiation.mac) || !self.limit.take(now) {
            return;
        }
        let seed = self.seed();
        let Some(initiated) = noise::open_initiation(&self.secret, &initiation.noise, seed) else {
            return;
        };
        let (key, stamp) = (initiated.peer, initiated.stamp);
        let may_call = match self.peers.get(&key) {
            Some(peer) => {
                let grown = peer.newest_stamp.is_none_or(|newest| stamp > newest);
                (peer.may_call || peer.stranger) && (grown || !self.stamps_must_grow)
            }
            None => self.take_stranger(key),
        };
        if !may_call {
            return;
        }
        let Some((keys, noise)) = noise::respond(initiated) else { return };
        let index = self.fresh_index(key);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.newest_stamp = Some(stamp);
        let session = Session::new(now, index, initiation.sender, keys, true);
        let full = peer.unconfirmed.len() == UNCONFIRMED_MAX;
        let replaced = if full { peer.unconfirmed.pop_front() } else { None };
        peer.unconfirmed.push_back(session);
        let mut response =
            Response { sender: index, receiver: initiation.sender, noise, mac: [0; MAC_SIZE] };
        response.mac = peer.mac.compute(&response.checked());
        if let Some(replaced) = replaced {
            self.indices.remove(&replaced.index);
        }
        self.transmit(from, response.emit());
    }

    fn handle_response(
        &mut self,
        now: Time,
        from: SocketAddr,
        response: &Response,
    ) -> Option<Event> {
        if !self.own_mac.verify(&response.checked(), &response.mac) {
            return None;
        }
        let key = *self.indices.get(&response.receiver)?;
        let peer = self.peers.get_mut(&key)?;
        let attempt = peer.attempt.as_mut()?;
        if attempt.index != Some(response.receiver) {
            return None;
        }
        let keys = noise::open_response(&mut attempt.handshake, &response.noise)?;
        let address = if attempt.anywhere { from } else { attempt.address };
        peer.address = Some(address);
        peer.attempt = None;
        let session = Session::new(now, response.receiver, response.sender, keys, false);
        let old = peer.install(session);
        self.drop_index(old);
        // An empty message shows the other side at once that this session is no replay.
        self.send(now, &key, &[]);
        Some(Event::Connected { peer: key, address })
    }

    fn handle_transport(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &Transport,
    ) -> Option<Event> {
        let key = *self.indices.get(&datagram.receiver)?;
        let peer = self.peers.get_mut(&key)?;
        let Opened { message, first, follows } = peer.open(now, datagram)?;
        if follows {
            peer.address = Some(from);
        }
        if first {
            for session in std::mem::take(&mut peer.unconfirmed) {
                let out = match session.index == datagram.receiver {
                    true => peer.install(session),
                    false => Some(session),
                };
                out.and_then(|out| self.indices.remove(&out.index));
            }
        }
        if message.is_empty() {
            return first.then_some(Event::Connected { peer: key, address: from });
        }
        Some(Event::Message { peer: key, address: from, bytes: message })
    }

    fn drop_index(&mut self, session: Option<Session>) {
        if let Some(session) = session {
            self.indices.remove(&session.index);
        }
    }

    fn fresh_index(&mut self, owner: PeerKey) -> u32 {
        loop {
            let index = self.rng.next_u32();
            if let std::collections::btree_map::Entry::Vacant(entry) = self.indices.entry(index) {
                entry.insert(owner);
                return index;
            }
        }
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    fn transmit(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if self.transmits.len() < TRANSMITS_MAX {
            self.transmits.push_back(Transmit { to, bytes });
        }
    }
}

impl Peer {
    /// Makes `session` the one to send on and gives back the one that falls out.
    fn install(&mut self, session: Session) -> Option<Session> {
        let out = self.previous.take();
        self.previous = self.current.replace(session);
        out
    }

    /// Opens a message of any of the sessions, and says whether it was the first of an unconfirmed one.
    fn open(&mut self, now: Time, datagram: &Transport) -> Option<Opened> {
        let first = self.unconfirmed.iter().any(|session| session.index == datagram.receiver);
        let established = [self.current.as_mut(), self.previous.as_mut()].into_iter().flatten();
        let mut sessions = self.unconfirmed.iter_mut().chain(established);
        let session = sessions.find(|session| session.index == datagram.receiver)?;
        let message = session.open(now, datagram)?;
        Some(Opened { message, first, follows: session.follows })
    }
}

/// A message, and what is known of the session that it came in.
struct Opened {
    message: Vec<u8>,
    /// It was the first of an unconfirmed session.
    first: bool,
    follows: bool,
}

impl Session {
    fn new(
        now: Time,
        index: u32,
        peer_index: u32,
        keys: StatelessTransportState,
        follows: bool,
    ) -> Self {
        let (window, end) = (ReplayWindow::default(), now + SESSION_LIFETIME);
        Self { index, peer_index, keys, counter: 0, window, end, follows }
    }

    fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = vec![0; message.len() + MAC_SIZE];
        self.keys.write_message(self.counter, message, &mut sealed).ok()?;
        let datagram = Transport { receiver: self.peer_index, counter: self.counter, sealed };
        self.counter += 1;
        Some(datagram.emit())
    }

    fn open(&mut self, now: Time, datagram: &Transport) -> Option<Vec<u8>> {
        if now >= self.end || !self.window.is_fresh(datagram.counter) {
            return None;
        }
        let mut message = vec![0; datagram.sealed.len()];
        let length =
            self.keys.read_message(datagram.counter, &datagram.sealed, &mut message).ok()?;
        self.window.accept(datagram.counter);
        message.truncate(length);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MANAGER: [u8; 32] = [1; 32];
    const HOST: [u8; 32] = [2; 32];

    fn public(secret: [u8; 32]) -> PeerKey {
        *PublicKey::from(&StaticSecret::from(secret)).as_bytes()
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn pair() -> (Endpoint, Endpoint) {
        let mut manager = Endpoint::new(MANAGER, [3; 32]);
        manager.set_stamp(1000);
        let mut host = Endpoint::new(HOST, [4; 32]);
        host.allow(public(MANAGER));
        (manager, host)
    }

    /// Delivers everything both ways; gives back the host's events and all datagrams to the host.
    fn run(manager: &mut Endpoint, host: &mut Endpoint, now: Time) -> (Vec<Event>, Vec<Vec<u8>>) {
        let (mut events, mut seen) = (Vec::new(), Vec::new());
        loop {
            let down: Vec<_> = std::iter::from_fn(|| manager.poll_transmit()).collect();
            for transmit in &down {
                events.extend(host.handle_datagram(now, address(1), &transmit.bytes));
                seen.push(transmit.bytes.clone());
            }
            let up: Vec<_> = std::iter::from_fn(|| host.poll_transmit()).collect();
            for transmit in &up {
                assert_eq!(transmit.to, address(1));
                manager.handle_datagram(now, address(2), &transmit.bytes);
            }
            if down.is_empty() && up.is_empty() {
                return (events, seen);
            }
        }
    }

    #[test]
    fn an_instruction_arrives_once_and_only_from_an_allowed_peer() {
        let (mut manager, mut host) = pair();
        manager.connect(Time::ZERO, public(HOST), address(2));
        let (events, _) = run(&mut manager, &mut host, Time::ZERO);
        assert_eq!(events, [Event::Connected { peer: public(MANAGER), address: address(1) }]);
        assert!(manager.send(Time::ZERO, &public(HOST), b"begin"));
        let (events, datagrams) = run(&mut manager, &mut host, Time::ZERO);
        let message =
            Event::Message { peer: public(MANAGER), address: address(1), bytes: b"begin".to_vec() };
        assert_eq!(events, [message]);
        assert_eq!(host.handle_datagram(Time::ZERO, address(9), &datagrams[0]), None);

        let mut stranger = Endpoint::new([7; 32], [8; 32]);
        stranger.connect(Time::ZERO, public(HOST), address(2));
        run(&mut stranger, &mut host, Time::ZERO);
        assert!(!stranger.is_connected(&public(HOST)));
    }

    #[test]
    fn replayed_forged_and_cut_datagrams_get_no_answer_and_change_nothing() {
        let (mut manager, mut host) = pair();
        manager.connect(Time::ZERO, public(HOST), address(2));
        let (_, recorded) = run(&mut manager, &mut host, Time::ZERO);
        let later = Time::from_micros(10_000_000);
        for datagram in &recorded {
            assert_eq!(host.handle_datagram(later, address(9), datagram), None);
            for length in 0..datagram.len() {
                assert_eq!(host.handle_datagram(later, address(9), &datagram[..length]), None);
            }
            for position in 0..datagram.len() {
                let mut forged = datagram.clone();
                forged[position] ^= 1;
                assert_eq!(host.handle_datagram(later, address(9), &forged), None);
            }
        }
        assert_eq!(host.poll_transmit(), None);
        assert_eq!(host.poll_timeout(), None);
        assert!(manager.send(later, &public(HOST), b"still here"));
        assert_eq!(run(&mut manager, &mut host, later).0.len(), 1);
    }

    #[test]
    fn a_flood_of_initiations_costs_a_bounded_number_of_handshakes() {
        let (_, mut host) = pair();
        for round in 0..500 {
            let mut manager = Endpoint::new(MANAGER, [9; 32]);
            manager.set_stamp(2000 + round);
            manager.connect(Time::ZERO, public(HOST), address(2));
            let datagram = manager.poll_transmit().unwrap();
            host.handle_datagram(Time::ZERO, address(1), &datagram.bytes);
        }
        let answers = std::iter::from_fn(|| host.poll_transmit()).count();
        assert_eq!(answers, HANDSHAKES_PER_SECOND as usize);
        assert_eq!(host.indices.len(), UNCONFIRMED_MAX);
    }

    #[test]
    fn a_call_is_repeated_until_the_peer_answers_and_survives_its_restart() {
        let (mut manager, mut host) = pair();
        manager.connect(Time::ZERO, public(HOST), address(2));
        let mut now = Time::ZERO;
        for _ in 0..5 {
            while manager.poll_transmit().is_some() {}
            now = manager.poll_timeout().unwrap();
            manager.handle_timeout(now);
        }
        run(&mut manager, &mut host, now);
        assert!(manager.is_connected(&public(HOST)) && manager.poll_timeout().is_none());

        let (_, mut restarted) = pair();
        assert!(manager.send(now, &public(HOST), b"lost"));
        assert!(run(&mut manager, &mut restarted, now).0.is_empty());
        manager.connect(now, public(HOST), address(2));
        run(&mut manager, &mut restarted, now);
        assert!(manager.send(now, &public(HOST), b"found"));
        assert_eq!(run(&mut manager, &mut restarted, now).0.len(), 1);
        assert!(manager.indices.len() <= 3);
    }

    #[test]
    fn a_doubled_call_leaves_a_session_that_both_sides_use() {
        let (mut manager, mut host) = pair();
        manager.connect(Time::ZERO, public(HOST), address(2));
        host.serve_hosts(HANDSHAKES_PER_SECOND);
        let initiation = manager.poll_transmit().unwrap().bytes;
        for _ in 0..UNCONFIRMED_MAX {
            host.handle_datagram(Time::ZERO, address(1), &initiation);
        }
        let answers: Vec<_> = std::iter::from_fn(|| host.poll_transmit()).collect();
        assert_eq!(answers.len(), UNCONFIRMED_MAX);
        // A copy that comes from elsewhere, and earlier, does not draw the caller's messages there.
        for answer in &answers {
            manager.handle_datagram(Time::ZERO, address(9), &answer.bytes);
        }
        assert!(manager.send(Time::ZERO, &public(HOST), b"begin"));
        let (events, _) = run(&mut manager, &mut host, Time::ZERO);
        assert!(events.iter().any(|event| matches!(event, Event::Message { .. })), "{events:?}");
        assert_eq!(host.indices.len(), 1);
    }

    #[test]
    fn a_call_to_everybody_is_answered_from_somewhere_and_strangers_have_limited_room() {
        let mut host = Endpoint::new(HOST, [4; 32]);
        let mut manager = Endpoint::new(MANAGER, [3; 32]);
        manager.serve_hosts(HANDSHAKES_PER_SECOND);
        host.connect_anywhere(Time::ZERO, public(MANAGER), address(255));
        let call = host.poll_transmit().unwrap();
        assert_eq!(call.to, address(255));
        manager.handle_datagram(Time::ZERO, address(2), &call.bytes);
        assert_eq!(manager.poll_transmit(), None);

        manager.serve_strangers(1);
        manager.handle_datagram(Time::ZERO, address(2), &call.bytes);
        let answer = manager.poll_transmit().unwrap();
        host.handle_datagram(Time::ZERO, address(1), &answer.bytes);
        assert!(host.is_connected(&public(MANAGER)));
        assert!(std::iter::from_fn(|| host.poll_transmit()).all(|said| said.to == address(1)));

        let mut second = Endpoint::new([5; 32], [6; 32]);
        for room in [false, true] {
            second.disconnect(&public(MANAGER));
            second.connect(Time::ZERO, public(MANAGER), address(1));
            let call = second.poll_transmit().unwrap();
            manager.handle_datagram(Time::ZERO, address(3), &call.bytes);
            assert_eq!(manager.poll_transmit().is_some(), room);
            manager.forget(&public(HOST));
        }
    }

    #[test]
    fn no_answer_is_larger_than_what_asked_for_it() {
        const { assert!(crate::wire::datagram::RESPONSE_SIZE <= crate::wire::datagram::INITIATION_SIZE) }
    }
}
