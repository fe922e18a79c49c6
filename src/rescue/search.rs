//! Finding a manager and asking it for help. Sans-IO.
//!
//! ```text
//!  LookingUp --> Calling --a trusted manager answers--> Asking --Enlist--> paused: in a campaign
//!   ^     ^        | next address, next place             |                   |
//!   |     '--------+-- silent, or put off again and again-'                   |
//!   '------------- Resting <--- all places tried, or the attempt failed ------'
//!  Over: the manager was told, or the patience of a host that does not need an image is over
//! ```
//!
//! The drive rule is the endpoint's ([`crate::session::endpoint`]); after every call the owner does
//! what [`Search::poll_action`] says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use log::{info, warn};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::seek::{Candidate, Next, Seek, Source, jitter, keys_for};
use crate::backoff::Backoff;
use crate::keys::{HostSecretKey, ManagerPublicKey};
use crate::random;
use crate::reason::{Condition, Refusal};
use crate::session::{Endpoint, PeerKey, SessionEvent, Transmit};
use crate::time::Time;
use crate::wire::answer::{Answer, End};
use crate::wire::codec::DecodeError;
use crate::wire::command::Command;
use crate::wire::help::{Finding, HelpRequest};

/// First and longest pause between two requests for help.
pub const ASK_MIN: Duration = Duration::from_millis(50);
/// See [`ASK_MIN`].
pub const ASK_MAX: Duration = Duration::from_secs(60);
/// How long a host with more to say waits until the manager has said which versions it speaks.
const VERSIONS_WAIT: Duration = Duration::from_millis(100);
/// A manager that does not answer requests for so long is left for another.
pub const ASK_PATIENCE: Duration = Duration::from_secs(120);
/// Longest that a manager may have a host wait before it asks again.
pub const HOLD_MAX: Duration = Duration::from_secs(120);
/// A manager that puts a host off so many times is left for another, and asked again when its turn
/// comes.
pub const HOLDS_MAX: u32 = 3;
/// First and longest pause after a failed attempt.
pub const FAILURE_PAUSE_MIN: Duration = Duration::from_secs(5);
/// See [`FAILURE_PAUSE_MIN`].
pub const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Whom a host asks, and for what.
#[derive(Debug)]
pub struct Case {
    /// This host's key.
    pub host_key: HostSecretKey,
    /// Managers that are believed.
    pub managers: Vec<ManagerPublicKey>,
    /// What is asked or told.
    pub request: HelpRequest,
    /// How long help is looked for before the boot goes on; none: for ever.
    pub patience: Option<Duration>,
}

/// The campaign that a manager has enlisted this host for.
#[derive(Debug)]
pub struct Enlistment {
    /// The campaign; not 0.
    pub campaign: u64,
    /// The manager.
    pub manager: ManagerPublicKey,
    /// Where it answered.
    pub manager_address: SocketAddr,
    /// How long the host waits there without a word from the manager or a new fragment.
    pub transfer_timeout: Duration,
}

/// What the owner of a search has to do.
#[derive(Debug)]
pub enum SearchAction {
    /// Look up a place that may know managers; then [`Search::found`].
    LookUp(Source),
    /// Boot on: the search is over.
    End(SearchEnd),
}

/// Why a search is over without a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchEnd {
    /// The host wanted no image, and a manager knows now.
    Told {
        /// Where it is.
        manager: SocketAddr,
    },
    /// Nobody has helped within the host's patience.
    NotHelped,
}

/// Where the search stands, for the host's display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchSituation<'a> {
    /// Looks places up, or rests before the next round.
    Seeking,
    /// Calls this address.
    Calling(SocketAddr),
    /// A manager answers, and is asked for help.
    Asking {
        /// Where it is.
        manager: SocketAddr,
        /// Why it does not help now.
        held: Option<&'a str>,
    },
    /// Nothing more is to be done.
    Over,
}

#[derive(Debug)]
enum State {
    LookingUp,
    Calling { until: Time, address: SocketAddr, broadcast: bool },
    Resting { until: Time },
    Asking(Box<Asking>),
    Over,
}

#[derive(Debug)]
struct Asking {
    manager: ManagerPublicKey,
    address: SocketAddr,
    next: Time,
    pauses: Backoff,
    answered: Time,
    /// Why it does not help now, and how often it said so.
    held: Option<String>,
    holds: u32,
}

/// A host that looks for a manager and asks it for help.
#[derive(Debug)]
pub struct Search {
    kept: PausedSearch,
    endpoint: Endpoint,
    state: State,
    actions: VecDeque<SearchAction>,
}

/// What is kept of a search while the host is in a campaign.
#[derive(Debug)]
pub struct PausedSearch {
    case: Case,
    /// When a host gives up that does not have to be helped.
    gives_up_at: Option<Time>,
    rng: ChaCha20Rng,
    seek: Seek,
    /// Managers that were asked and did not help. Broadcasts are for the others, until none of
    /// those answers: whoever answers soonest keeps no host from them.
    asked: Vec<PeerKey>,
    failures: u32,
}

impl Search {
    /// Looks for a manager. `seed` must come from the system's random source and be used once.
    pub fn new(now: Time, case: Case, seed: [u8; 32]) -> Self {
        let gives_up_at = case.patience.map(|patience| now + patience);
        let (rng, seek) = (ChaCha20Rng::from_seed(seed), Seek::new());
        let kept = PausedSearch { case, gives_up_at, rng, seek, asked: Vec::new(), failures: 0 };
        let mut search = kept.search(State::LookingUp);
        search.seek_on(now);
        search
    }

    /// Stops the search while the host is in a campaign.
    pub fn pause(self) -> PausedSearch {
        self.kept
    }

    /// Returns where the search stands, for the host's display.
    pub fn situation(&self) -> SearchSituation<'_> {
        match &self.state {
            State::LookingUp | State::Resting { .. } => SearchSituation::Seeking,
            State::Calling { address, .. } => SearchSituation::Calling(*address),
            State::Asking(asking) => {
                SearchSituation::Asking { manager: asking.address, held: asking.held.as_deref() }
            }
            State::Over => SearchSituation::Over,
        }
    }

    /// Takes the addresses that a place knows, or why it says nothing.
    pub fn found(&mut self, now: Time, source: Source, found: Result<Vec<Candidate>, String>) {
        if matches!(self.state, State::LookingUp) {
            self.kept.seek.found(source, found);
            self.seek_on(now);
        }
    }

    /// Takes a datagram from the socket. Returns the campaign that it enlists this host for: the
    /// owner then pauses the search.
    #[must_use]
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<Enlistment> {
        match self.endpoint.handle_datagram(now, from, datagram)? {
            SessionEvent::Connected { peer, address } => {
                self.connected(now, peer, address);
                None
            }
            SessionEvent::Message { peer, bytes, .. } => self.handle_command(now, peer, &bytes),
            SessionEvent::StaleCall { .. } => None,
            SessionEvent::Incompatible { address, mismatch, .. } => {
                warn!("the manager at {address} is no match: {mismatch}; looking for another");
                self.seek_on(now);
                None
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        let gives_up = self.kept.gives_up_at.is_some_and(|at| now >= at);
        match &self.state {
            State::Over => {}
            _ if gives_up => {
                warn!("no manager has helped");
                self.end(SearchEnd::NotHelped);
            }
            State::Calling { until, broadcast, .. } if now >= *until => {
                if *broadcast {
                    self.kept.asked.clear();
                }
                self.seek_on(now);
            }
            State::Resting { until } if now >= *until => self.seek_on(now),
            State::Asking(asking) if now >= asking.answered + ASK_PATIENCE => {
                warn!("the manager at {} does not answer, looking for another", asking.address);
                self.seek_on(now);
            }
            State::Asking(asking) if now >= asking.next && asking.holds >= HOLDS_MAX => {
                info!("the manager at {} does not help, looking for another", asking.address);
                self.seek_on(now);
            }
            State::Asking(asking) if now >= asking.next => self.ask(now),
            _ => self.endpoint.handle_timeout(now),
        }
    }

    /// When [`Search::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let state = match &self.state {
            State::Over => return None,
            State::LookingUp => None,
            State::Calling { until, .. } | State::Resting { until } => Some(*until),
            State::Asking(asking) => Some(asking.next.min(asking.answered + ASK_PATIENCE)),
        };
        [state, self.kept.gives_up_at, self.endpoint.poll_timeout()].into_iter().flatten().min()
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit()
    }

    /// Returns what the owner has to do next.
    pub fn poll_action(&mut self) -> Option<SearchAction> {
        self.actions.pop_front()
    }

    /// Stops calling and goes to the next address or place.
    fn seek_on(&mut self, now: Time) {
        let managers = &self.kept.case.managers;
        for manager in managers {
            self.endpoint.disconnect(manager.exchange());
        }
        self.state = loop {
            match self.kept.seek.next(now, &mut self.kept.rng) {
                Next::LookUp(source) => {
                    self.actions.push_back(SearchAction::LookUp(source));
                    break State::LookingUp;
                }
                Next::Rest(until) => break State::Resting { until },
                Next::Call(candidate, until) => {
                    let mut keys = keys_for(&candidate, managers);
                    if candidate.broadcast {
                        let is_new =
                            |key: &&ManagerPublicKey| !self.kept.asked.contains(key.exchange());
                        match keys.iter().any(is_new) {
                            true => keys.retain(is_new),
                            false => self.kept.asked.clear(),
                        }
                    }
                    for key in &keys {
                        call(&mut self.endpoint, now, *key.exchange(), &candidate);
                    }
                    if !keys.is_empty() {
                        let Candidate { address, broadcast, .. } = candidate;
                        break State::Calling { until, address, broadcast };
                    }
                }
            }
        };
    }

    fn connected(&mut self, now: Time, peer: PeerKey, address: SocketAddr) {
        let managers = &self.kept.case.managers;
        let manager = managers.iter().find(|manager| *manager.exchange() == peer);
        let (State::Calling { .. }, Some(manager)) = (&self.state, manager) else { return };
        info!("the manager at {address} answers");
        let manager = manager.clone();
        if !self.kept.asked.contains(&peer) {
            self.kept.asked.push(peer);
        }
        for other in managers.iter().filter(|other| *other.exchange() != peer) {
            self.endpoint.disconnect(other.exchange());
        }
        self.state = State::Asking(Box::new(Asking {
            manager,
            address,
            next: now,
            pauses: Backoff::new(ASK_MIN, ASK_MAX),
            answered: now,
            held: None,
            holds: 0,
        }));
        // The first request is heard best, and no older manager is told of rescues.
        let waits = self.kept.case.request.rescues.is_some();
        match &mut self.state {
            State::Asking(asking) if waits => asking.next = now + VERSIONS_WAIT,
            _ => self.ask(now),
        }
    }

    fn ask(&mut self, now: Time) {
        let State::Asking(asking) = &mut self.state else { return };
        let request = Answer::HelpRequest(Box::new(self.kept.case.request.clone()));
        let request = request.for_version(self.endpoint.spoken(asking.manager.exchange()));
        self.endpoint.send(now, asking.manager.exchange(), &request.emit());
        asking.next = now + jitter(asking.pauses.next_pause(), &mut self.kept.rng);
    }

    fn handle_command(&mut self, now: Time, peer: PeerKey, bytes: &[u8]) -> Option<Enlistment> {
        let State::Asking(asking) = &self.state else { return None };
        if *asking.manager.exchange() != peer {
            return None;
        }
        match Command::parse(bytes) {
            Ok(command) => {
                self.kept.seek.answered();
                match command {
                    Command::Enlist { campaign, transfer_timeout_s } => {
                        let transfer_timeout = Duration::from_secs(transfer_timeout_s.into());
                        return self.enlist(campaign, transfer_timeout);
                    }
                    Command::Hold { again_s, reason, detail } => {
                        let again = Duration::from_secs(again_s.max(1).into()).min(HOLD_MAX);
                        self.hold(now, again, &Refusal::new(reason, detail));
                    }
                    _ => {}
                }
            }
            Err(error) => {
                warn!("command from the manager not understood: {error}");
                if let DecodeError::UnknownType(kind) = error {
                    let answer = Answer::NotUnderstood { kind };
                    self.endpoint.send(now, &peer, &answer.emit());
                }
            }
        }
        None
    }

    fn enlist(&self, campaign: u64, transfer_timeout: Duration) -> Option<Enlistment> {
        let State::Asking(asking) = &self.state else { return None };
        if campaign == 0 || !self.kept.case.request.wants_image {
            return None;
        }
        info!("the manager helps, campaign {campaign:016x}");
        let (manager, manager_address) = (asking.manager.clone(), asking.address);
        Some(Enlistment { campaign, manager, manager_address, transfer_timeout })
    }

    /// The manager puts the host off, or knows now what it had to be told.
    fn hold(&mut self, now: Time, again: Duration, why: &Refusal) {
        if !self.kept.case.request.wants_image {
            info!("the manager has been told");
            if let State::Asking(asking) = &self.state {
                let manager = asking.address;
                self.end(SearchEnd::Told { manager });
            }
            return;
        }
        let State::Asking(asking) = &mut self.state else { return };
        asking.next = now + jitter(again, &mut self.kept.rng);
        asking.answered = asking.next;
        asking.pauses = Backoff::new(ASK_MIN, ASK_MAX);
        asking.holds += 1;
        warn!("the manager does not help now: {why}");
        asking.held = Some(why.to_string());
    }

    fn end(&mut self, end: SearchEnd) {
        self.state = State::Over;
        self.actions.push_back(SearchAction::End(end));
    }
}

impl PausedSearch {
    /// Returns the case that the search is about.
    pub fn case(&self) -> &Case {
        &self.case
    }

    /// Goes on with the search after an attempt that failed, with its end in the next request. The
    /// next address has its turn: the manager may have moved, and may be why the attempt failed.
    pub fn resume(mut self, now: Time, failed: End) -> Search {
        if !failed.ending.flash.reboot_is_safe() {
            // Whatever was found before: now the chip was written to, and not to its end.
            self.case.request.finding = Finding::Invalid;
            self.case.request.identity.firmware = Condition::Broken;
            self.gives_up_at = None;
        }
        self.case.request.identity.last_end = Some(failed);
        let pause = FAILURE_PAUSE_MIN * 2u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        let until = now + jitter(pause.min(FAILURE_PAUSE_MAX), &mut self.rng);
        self.search(State::Resting { until })
    }

    fn search(mut self, state: State) -> Search {
        let seed = random::seed(&mut self.rng);
        let endpoint = Endpoint::new(*self.case.host_key.exchange(), seed);
        Search { kept: self, endpoint, state, actions: VecDeque::new() }
    }
}

fn call(endpoint: &mut Endpoint, now: Time, key: PeerKey, candidate: &Candidate) {
    match candidate.broadcast {
        true => endpoint.connect_anywhere(now, key, candidate.address),
        false => endpoint.connect(now, key, candidate.address),
    }
}

#[cfg(test)]
mod tests;
