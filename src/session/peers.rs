//! Who is known: who may open a session, which sessions there are, and whose an index is.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

use super::call::Call;
use super::mac::MacKey;
use super::sealing::Session;
use crate::time::Time;
use crate::wire::datagram::Transport;

/// An X25519 public key: the name of a peer.
pub type PeerKey = [u8; 32];

/// Maximum number of peers that an endpoint knows.
pub const PEERS_MAX: usize = 65_536;

/// Maximum number of answered handshakes of one peer that wait for its first message.
pub(super) const UNCONFIRMED_MAX: usize = 16;

/// Maximum number of strangers from one address, or one /64 of IPv6, once half of their room is
/// taken.
pub(super) const STRANGERS_PER_SOURCE_MAX: usize = 8;

pub(super) const MAC_LABEL: &str = "firmcast session mac";

/// All peers of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<PeerKey, Peer>,
    /// Our session indices: whose they are.
    indices: BTreeMap<u32, PeerKey>,
    /// Unknown callers that may have a session at the same time.
    pub(super) strangers_max: usize,
    strangers: usize,
    /// Strangers that proved their address, by its owner.
    sources: BTreeMap<IpAddr, usize>,
}

/// A peer. Many are known of whom few ever speak: what only those have, lies elsewhere.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) mac: MacKey,
    may_call: bool,
    /// Made by its own call to an endpoint that serves strangers.
    pub(super) stranger: bool,
    /// Where it is, if it is a stranger that proved that.
    source: Option<IpAddr>,
    newest_stamp: Option<u64>,
    pub(super) call: Option<Box<Call>>,
    /// The version that both sides speak, once the peer has said what it understands.
    pub(super) spoken: Option<u8>,
    /// How often this side, which called, still says what it understands while that is unknown.
    pub(super) versions_repeats: u32,
    /// When it said so last.
    pub(super) versions_told: Time,
    /// Made by answering; one is used once the caller's first message shows that it is no replay.
    /// Several, because a late initiation is answered too, and only the caller knows which answer
    /// it took.
    unconfirmed: VecDeque<Session>,
    pub(super) current: Option<Box<Session>>,
    /// Still received, for datagrams that were under way when `current` was made.
    previous: Option<Box<Session>>,
}

/// A message, and what is known of the session that it came in.
pub(super) struct Opened {
    pub(super) message: Vec<u8>,
    /// It was the first of an unconfirmed session.
    pub(super) first: bool,
    /// Where the peer is.
    pub(super) address: SocketAddr,
    /// What the peer said later came before it.
    pub(super) is_overtaken: bool,
}

/// Whether the sender of an initiation may have a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    Unknown,
    /// It is a stranger, and must prove its address first.
    Unproven,
    /// A later stamp of this key is known.
    Stale {
        newest: u64,
    },
}

impl Peers {
    pub(super) fn get(&self, key: &PeerKey) -> Option<&Peer> {
        self.known.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &PeerKey) -> Option<&mut Peer> {
        self.known.get_mut(key)
    }

    /// Returns the peer with this key, who is known from here on. None above [`PEERS_MAX`] peers.
    pub(super) fn entry(&mut self, key: PeerKey) -> Option<&mut Peer> {
        if self.known.len() >= PEERS_MAX && !self.known.contains_key(&key) {
            return None;
        }
        Some(self.known.entry(key).or_insert_with(|| Peer::new(&key)))
    }

    /// Whose one of our session indices is.
    pub(super) fn owner(&self, index: u32) -> Option<PeerKey> {
        self.indices.get(&index).copied()
    }

    pub(super) fn strangers(&self) -> impl Iterator<Item = &PeerKey> {
        self.known.iter().filter(|(_, peer)| peer.stranger).map(|(key, _)| key)
    }

    /// Lets the owner of this key open sessions.
    pub(super) fn allow(&mut self, key: PeerKey) {
        if let Some(peer) = self.entry(key) {
            peer.may_call = true;
            let (stranger, source) = (std::mem::take(&mut peer.stranger), peer.source.take());
            self.drop_stranger(stranger, source);
        }
    }

    /// Forgets the sessions and the call, not who may call.
    pub(super) fn disconnect(&mut self, key: &PeerKey) {
        self.indices.retain(|_, owner| owner != key);
        if let Some(peer) = self.known.get_mut(key) {
            peer.unconfirmed.clear();
            (peer.call, peer.current, peer.previous) = (None, None, None);
        }
    }

    pub(super) fn forget(&mut self, key: &PeerKey) {
        self.disconnect(key);
        if let Some(peer) = self.known.remove(key) {
            self.drop_stranger(peer.stranger, peer.source);
        }
    }

    fn drop_stranger(&mut self, stranger: bool, source: Option<IpAddr>) {
        self.strangers -= usize::from(stranger);
        let Some(source) = source else { return };
        if let Entry::Occupied(mut count) = self.sources.entry(source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Returns whether the sender of this initiation may have a session. A stranger for whom there
    /// is room is known from here on. `source` is the owner of its address, if it proved that.
    pub(super) fn admit(
        &mut self,
        key: PeerKey,
        stamp: u64,
        stamps_must_grow: bool,
        source: Option<IpAddr>,
    ) -> Admission {
        match self.known.get(&key) {
            Some(peer) if !peer.may_call && !peer.stranger => Admission::Unknown,
            Some(peer) => match peer.newest_stamp {
                Some(newest) if stamps_must_grow && stamp <= newest => Admission::Stale { newest },
                _ => Admission::Admitted,
            },
            None => self.take_stranger(key, source),
        }
    }

    /// Half of the room is for those that prove their address, few from each: who makes keys alone
    /// does not get it.
    fn take_stranger(&mut self, key: PeerKey, source: Option<IpAddr>) -> Admission {
        let of_source = source.and_then(|source| self.sources.get(&source)).copied().unwrap_or(0);
        if self.strangers >= self.strangers_max {
            return Admission::Unknown;
        }
        if self.strangers >= self.strangers_max.div_ceil(2) {
            match source {
                None => return Admission::Unproven,
                Some(_) if of_source >= STRANGERS_PER_SOURCE_MAX => return Admission::Unknown,
                Some(_) => {}
            }
        }
        let Some(peer) = self.entry(key) else { return Admission::Unknown };
        (peer.stranger, peer.source) = (true, source);
        self.strangers += 1;
        if let Some(source) = source {
            *self.sources.entry(source).or_default() += 1;
        }
        Admission::Admitted
    }

    /// Returns an index that nobody has, for a session with its owner.
    pub(super) fn fresh_index(&mut self, owner: PeerKey, rng: &mut ChaCha20Rng) -> u32 {
        loop {
            let index = rng.next_u32();
            if let Entry::Vacant(entry) = self.indices.entry(index) {
                entry.insert(owner);
                return index;
            }
        }
    }

    pub(super) fn drop_index(&mut self, index: Option<u32>) {
        if let Some(index) = index {
            self.indices.remove(&index);
        }
    }

    /// Who calls, and has to send an initiation by now.
    pub(super) fn due(&self, now: Time) -> Vec<PeerKey> {
        let is_due = |peer: &Peer| peer.call.as_ref().is_some_and(|call| call.next <= now);
        self.known.iter().filter(|(_, peer)| is_due(peer)).map(|(key, _)| *key).collect()
    }

    /// Returns how many peers are called at present.
    pub(super) fn calls(&self) -> usize {
        self.known.values().filter(|peer| peer.call.is_some()).count()
    }

    pub(super) fn next_call(&self) -> Option<Time> {
        self.known.values().filter_map(|peer| peer.call.as_ref()).map(|call| call.next).min()
    }

    /// Keeps a session that was made by answering, in place of the one that has waited longest
    /// where there are too many. Its first message comes a round trip later, before many replays
    /// could.
    pub(super) fn add_unconfirmed(&mut self, key: &PeerKey, stamp: u64, session: Session) {
        let Some(peer) = self.known.get_mut(key) else { return };
        peer.newest_stamp = peer.newest_stamp.max(Some(stamp));
        let is_full = peer.unconfirmed.len() == UNCONFIRMED_MAX;
        let replaced = if is_full { peer.unconfirmed.pop_front() } else { None };
        peer.unconfirmed.push_back(session);
        self.drop_index(replaced.map(|session| session.index));
    }

    /// Makes `session` the one to send on.
    pub(super) fn install(&mut self, key: &PeerKey, session: Session) {
        let Some(peer) = self.known.get_mut(key) else { return };
        let out = peer.install(session);
        self.drop_index(out.map(|out| out.index));
    }

    /// The caller took the session with this index: it is installed, and the others of its calls
    /// fall away.
    pub(super) fn confirm(&mut self, key: &PeerKey, index: u32) {
        let Some(peer) = self.known.get_mut(key) else { return };
        for session in std::mem::take(&mut peer.unconfirmed) {
            let out = match session.index == index {
                true => peer.install(session),
                false => Some(Box::new(session)),
            };
            out.and_then(|out| self.indices.remove(&out.index));
        }
    }

    #[cfg(test)]
    pub(super) fn has_no_strangers(&self) -> bool {
        self.strangers == 0 && self.sources.is_empty()
    }

    #[cfg(test)]
    pub(super) fn index_count(&self) -> usize {
        self.indices.len()
    }
}

impl Peer {
    /// Returns whether this side says once more what it understands; what goes out at the same time
    /// as it was said last needs no repeat.
    pub(super) fn repeats_versions(&mut self, now: Time) -> bool {
        let is_unheard = self.spoken.is_none() && self.versions_told < now;
        let repeats = is_unheard && self.versions_repeats > 0;
        if repeats {
            (self.versions_repeats, self.versions_told) = (self.versions_repeats - 1, now);
        }
        repeats
    }

    fn new(key: &PeerKey) -> Self {
        Self {
            mac: MacKey::new(MAC_LABEL, key),
            may_call: false,
            stranger: false,
            source: None,
            newest_stamp: None,
            call: None,
            spoken: None,
            versions_repeats: 0,
            versions_told: Time::ZERO,
            unconfirmed: VecDeque::new(),
            current: None,
            previous: None,
        }
    }

    /// Makes `session` the one to send on and returns the one that falls out.
    fn install(&mut self, session: Session) -> Option<Box<Session>> {
        let out = self.previous.take();
        self.previous = self.current.replace(Box::new(session));
        out
    }

    /// Opens a message of any of the sessions, and says whether it was the first of an unconfirmed
    /// one.
    pub(super) fn open(&mut self, now: Time, datagram: &Transport) -> Option<Opened> {
        let is_named = |session: &&mut Session| session.index == datagram.receiver;
        let mut waiting = self.unconfirmed.iter_mut();
        let is_current = |session: &Session| session.index == datagram.receiver;
        let is_superseded = self
            .current
            .as_deref()
            .is_some_and(|current| !is_current(current) && current.has_overtaken(0));
        let established =
            [self.current.as_deref_mut(), self.previous.as_deref_mut()].into_iter().flatten();
        let (first, session) = match waiting.find(is_named) {
            Some(session) => (true, session),
            None => (false, established.into_iter().find(is_named)?),
        };
        let is_overtaken = !first && (is_superseded || session.has_overtaken(datagram.counter));
        let message = session.open(now, datagram)?;
        Some(Opened { message, first, address: session.address, is_overtaken })
    }
}
