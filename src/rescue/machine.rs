//! A stay in the recovery environment, from the first look for a manager to its end. Sans-IO.
//!
//! ```text
//!  Searching --a trusted manager answers--> Asking --Enlist--> Enlisted --updated--> Over: repaired
//!   ^ ^  '--next address, next place, rest--'  |                  |
//!   | '-- silent, or put off again and again --'                  |
//!   '----------- failed: the next address after a pause ----------'
//!  Only told something: Over after Hold; or its patience is over
//! ```
//!
//! A host that an agent sent here begins at *Enlisted* and knows its campaign; for it any end is the end of the stay.
//! The drive rule is the endpoint's ([`crate::session::endpoint`]); after every call the driver does what
//! [`Rescue::poll_action`] says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use log::{info, warn};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};

use super::seek::{Candidate, Next, Seek, Source, jitter, keys_for};
use crate::image::{Board, KnownGood};
use crate::keys::{HostSecretKey, ManagerPublicKey, ReleasePublicKey};
use crate::reason::{FlashState, Reason};
use crate::recovery::machine::{self as recovery, Mission, Recovery};
use crate::session::{Endpoint, Event, PeerKey, Transmit};
use crate::time::Time;
use crate::wire::answer::{Answer, End};
use crate::wire::command::Command;
use crate::wire::help::{Finding, HelpRequest};

/// First and longest pause between two requests for help.
pub const ASK_MIN: Duration = Duration::from_secs(1);
/// See [`ASK_MIN`].
pub const ASK_MAX: Duration = Duration::from_secs(60);
/// A manager that does not answer requests for so long is left for another.
pub const ASK_PATIENCE: Duration = Duration::from_secs(120);
/// The longest that a manager may have a host wait before it asks again.
pub const HOLD_MAX: Duration = Duration::from_secs(120);
/// A manager that puts a host off so many times is left for another, and asked again when its turn comes.
pub const HOLDS_MAX: u32 = 3;
/// First and longest pause after a failed attempt.
pub const FAILURE_PAUSE_MIN: Duration = Duration::from_secs(5);
/// See [`FAILURE_PAUSE_MIN`].
pub const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a manager that has enlisted the host may take to answer it there.
const REACH_TIMEOUT: Duration = Duration::from_secs(60);

/// What the host knows before it has found anybody.
#[derive(Debug)]
pub struct Search {
    /// This host's key.
    pub host_key: HostSecretKey,
    /// Managers that are believed.
    pub managers: Vec<ManagerPublicKey>,
    /// Keys of releases that may be flashed.
    pub releases: Vec<ReleasePublicKey>,
    /// What a manifest must fit.
    pub board: Board,
    /// What is asked or told.
    pub request: HelpRequest,
    /// Whether the flash is known to be damaged, by its own structure or by what was done in this stay.
    pub damaged: bool,
    /// How long help is looked for before the boot goes on; none: for ever.
    pub patience: Option<Duration>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Action {
    /// Look up a place that may know managers; then [`Rescue::found`].
    LookUp(Source),
    /// Something of the campaign.
    Campaign(recovery::Action),
    /// The stay is over.
    Conclude(Conclusion),
}

/// How a stay ended.
#[derive(Debug)]
pub enum Conclusion {
    /// A campaign that an agent was instructed for is over; a reboot is safe.
    Returned(End),
    /// The firmware was repaired and verified.
    Repaired {
        /// How the campaign ended.
        end: End,
        /// Whether anything had to be changed.
        changed: bool,
        /// What stands in flash now.
        known_good: Option<KnownGood>,
    },
    /// Nothing more is to be waited for: the manager was told, or nobody has helped in time. Boot on.
    Told,
}

/// What a person at the host's display sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation<'a> {
    /// Looking for a manager; the address that is being called.
    Searching(Option<SocketAddr>),
    /// The manager answers, and is asked for help.
    Asking {
        /// Where it is.
        manager: SocketAddr,
        /// Why it does not help now.
        held: Option<&'a str>,
    },
    /// In a campaign.
    Campaign(&'a crate::wire::answer::Report),
    /// The stay is over.
    Over,
}

#[derive(Debug)]
enum State {
    LookingUp,
    Calling { until: Time, address: SocketAddr },
    Resting { until: Time },
    Asking(Box<Asking>),
    Enlisted(Box<Recovery>),
    Over,
}

#[derive(Debug)]
struct Asking {
    manager: ManagerPublicKey,
    address: SocketAddr,
    next: Time,
    pause: Duration,
    answered: Time,
    /// Why it does not help now, and how often it said so.
    held: Option<String>,
    holds: u32,
}

/// One stay in the recovery environment.
#[derive(Debug)]
pub struct Rescue {
    /// `None` when an agent sent the host here.
    search: Option<Search>,
    endpoint: Endpoint,
    rng: ChaCha20Rng,
    started: Time,
    seek: Seek,
    failures: u32,
    state: State,
    actions: VecDeque<Action>,
}

impl Rescue {
    /// Looks for a manager. `seed` must come from the system's random source and be used once.
    pub fn search(now: Time, search: Search, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let endpoint = Endpoint::new(*search.host_key.exchange(), draw(&mut rng));
        let mut rescue = Self {
            search: Some(search),
            endpoint,
            rng,
            started: now,
            seek: Seek::new(),
            failures: 0,
            state: State::LookingUp,
            actions: VecDeque::new(),
        };
        rescue.seek_on(now);
        rescue
    }

    /// The stay of a host that its agent sent here for a campaign. Any end of it is the end of the stay.
    pub fn campaign(now: Time, mission: Mission, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let endpoint = Endpoint::new(*mission.host_key.exchange(), draw(&mut rng));
        let recovery = Recovery::new(now, mission, draw(&mut rng));
        Self {
            search: None,
            endpoint,
            rng,
            started: now,
            seek: Seek::new(),
            failures: 0,
            state: State::Enlisted(Box::new(recovery)),
            actions: VecDeque::new(),
        }
    }

    /// The campaign that the host takes part in.
    pub fn recovery(&mut self) -> Option<&mut Recovery> {
        match &mut self.state {
            State::Enlisted(recovery) => Some(recovery),
            _ => None,
        }
    }

    /// Where the host stands, for its display.
    pub fn situation(&self) -> Situation<'_> {
        match &self.state {
            State::LookingUp | State::Resting { .. } => Situation::Searching(None),
            State::Calling { address, .. } => Situation::Searching(Some(*address)),
            State::Asking(asking) => {
                Situation::Asking { manager: asking.address, held: asking.held.as_deref() }
            }
            State::Enlisted(recovery) => Situation::Campaign(recovery.report()),
            State::Over => Situation::Over,
        }
    }

    /// Takes the addresses that a place knows, or why it says nothing.
    pub fn found(&mut self, now: Time, source: Source, found: Result<Vec<Candidate>, String>) {
        if matches!(self.state, State::LookingUp) {
            self.seek.found(source, found);
            self.seek_on(now);
        }
    }

    /// Takes a datagram from the socket.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        if let State::Enlisted(recovery) = &mut self.state {
            recovery.handle_datagram(now, from, datagram);
            return;
        }
        match self.endpoint.handle_datagram(now, from, datagram) {
            Some(Event::Connected { peer, address }) => self.connected(now, peer, address),
            Some(Event::Message { peer, bytes, .. }) => self.handle_command(now, peer, &bytes),
            None => {}
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        let gives_up = self.gives_up_at().is_some_and(|at| now >= at);
        match &mut self.state {
            State::Enlisted(recovery) => recovery.handle_timeout(now),
            State::Over => {}
            _ if gives_up => {
                warn!("no manager has helped");
                self.conclude(Conclusion::Told);
            }
            State::Calling { until, .. } if now >= *until => self.seek_on(now),
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

    /// When [`Rescue::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let state = match &self.state {
            State::Enlisted(recovery) => return recovery.poll_timeout(),
            State::Over => return None,
            State::LookingUp => None,
            State::Calling { until, .. } | State::Resting { until } => Some(*until),
            State::Asking(asking) => Some(asking.next.min(asking.answered + ASK_PATIENCE)),
        };
        [state, self.gives_up_at(), self.endpoint.poll_timeout()].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        match &mut self.state {
            State::Enlisted(recovery) => recovery.poll_transmit(),
            _ => self.endpoint.poll_transmit(),
        }
    }

    /// What the driver has to do next.
    pub fn poll_action(&mut self, now: Time) -> Option<Action> {
        if let State::Enlisted(recovery) = &mut self.state {
            match recovery.poll_action() {
                Some(recovery::Action::Leave(end)) => self.left(now, end),
                Some(action) => return Some(Action::Campaign(action)),
                None => {}
            }
        }
        self.actions.pop_front()
    }

    fn only_tells(&self) -> bool {
        self.search.as_ref().is_some_and(|search| !search.request.wants_image)
    }

    /// Until then a host looks for a manager that does not have to.
    fn gives_up_at(&self) -> Option<Time> {
        let patience = self.search.as_ref()?.patience?;
        Some(self.started + patience)
    }

    /// Stops calling and goes to the next address or place.
    fn seek_on(&mut self, now: Time) {
        let Some(search) = &self.search else { return };
        for manager in &search.managers {
            self.endpoint.disconnect(manager.exchange());
        }
        self.state = loop {
            match self.seek.next(now, &mut self.rng) {
                Next::LookUp(source) => {
                    self.actions.push_back(Action::LookUp(source));
                    break State::LookingUp;
                }
                Next::Rest(until) => break State::Resting { until },
                Next::Call(candidate, until) => {
                    let keys = keys_for(&candidate, &search.managers);
                    for key in &keys {
                        call(&mut self.endpoint, now, *key.exchange(), &candidate);
                    }
                    if !keys.is_empty() {
                        break State::Calling { until, address: candidate.address };
                    }
                }
            }
        };
    }

    fn connected(&mut self, now: Time, peer: PeerKey, address: SocketAddr) {
        let Some(search) = &self.search else { return };
        let manager = search.managers.iter().find(|manager| *manager.exchange() == peer);
        let (State::Calling { .. }, Some(manager)) = (&self.state, manager) else { return };
        info!("the manager at {address} answers");
        let manager = manager.clone();
        for other in search.managers.iter().filter(|other| *other.exchange() != peer) {
            self.endpoint.disconnect(other.exchange());
        }
        self.state = State::Asking(Box::new(Asking {
            manager,
            address,
            next: now,
            pause: ASK_MIN,
            answered: now,
            held: None,
            holds: 0,
        }));
        self.ask(now);
    }

    fn ask(&mut self, now: Time) {
        let (State::Asking(asking), Some(search)) = (&mut self.state, &self.search) else { return };
        let request = Answer::HelpRequest(Box::new(search.request.clone()));
        self.endpoint.send(now, asking.manager.exchange(), &request.emit());
        asking.next = now + jitter(asking.pause, &mut self.rng);
        asking.pause = (asking.pause * 2).min(ASK_MAX);
    }

    fn handle_command(&mut self, now: Time, peer: PeerKey, bytes: &[u8]) {
        let State::Asking(asking) = &mut self.state else { return };
        if *asking.manager.exchange() != peer {
            return;
        }
        let command = Command::parse(bytes);
        if command.is_ok() {
            self.seek.answered();
        }
        match command {
            Ok(Command::Enlist { campaign, transfer_timeout_s }) if campaign != 0 => {
                self.enlist(now, campaign, Duration::from_secs(transfer_timeout_s.into()));
            }
            Ok(Command::Hold { again_s, reason, detail }) => {
                let again = Duration::from_secs(again_s.max(1).into()).min(HOLD_MAX);
                asking.next = now + jitter(again, &mut self.rng);
                asking.answered = asking.next;
                asking.pause = ASK_MIN;
                asking.holds += 1;
                if self.only_tells() {
                    info!("the manager has taken note");
                    self.conclude(Conclusion::Told);
                } else if let State::Asking(asking) = &mut self.state {
                    let why = crate::reason::Refusal::new(reason, detail).to_string();
                    warn!("the manager does not help now: {why}");
                    asking.held = Some(why);
                }
            }
            Ok(_) => {}
            Err(error) => warn!("command from the manager not understood: {error}"),
        }
    }

    fn enlist(&mut self, now: Time, campaign: u64, transfer_timeout: Duration) {
        let (State::Asking(asking), Some(search)) = (&self.state, &self.search) else { return };
        if !search.request.wants_image {
            return;
        }
        info!("the manager helps, campaign {campaign:016x}");
        let mut identity = search.request.identity.clone();
        identity.last_end = None;
        let mission = Mission {
            campaign,
            manager: asking.manager.clone(),
            manager_address: asking.address,
            host_key: search.host_key.clone(),
            releases: search.releases.clone(),
            identity,
            board: search.board.clone(),
            reach_timeout: REACH_TIMEOUT,
            transfer_timeout,
            rescue: true,
            damaged: search.damaged,
        };
        let recovery = Recovery::new(now, mission, draw(&mut self.rng));
        self.state = State::Enlisted(Box::new(recovery));
    }

    /// The campaign is over for this host.
    fn left(&mut self, now: Time, end: End) {
        let State::Enlisted(recovery) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        let Some(search) = &mut self.search else {
            self.conclude(Conclusion::Returned(end));
            return;
        };
        if end.ending.flash == FlashState::Updated {
            let changed = end.ending.reason != Reason::AlreadyCurrent;
            let known_good = recovery.known_good();
            self.conclude(Conclusion::Repaired { end, changed, known_good });
            return;
        }
        warn!(
            "this attempt ended: {} ({}) {}",
            end.ending.reason, end.ending.flash, end.ending.detail
        );
        if !end.ending.flash.reboot_is_safe() {
            // Whatever was found before: now the chip was written to, and not to its end.
            search.request.finding = Finding::Invalid;
            (search.damaged, search.patience) = (true, None);
        }
        search.request.identity.last_end = Some(end);
        let pause = FAILURE_PAUSE_MIN * 2u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        let until = now + jitter(pause.min(FAILURE_PAUSE_MAX), &mut self.rng);
        // The next address has its turn: the manager may have moved, and may be why the attempt failed.
        self.state = State::Resting { until };
    }

    fn conclude(&mut self, conclusion: Conclusion) {
        self.state = State::Over;
        self.actions.push_back(Action::Conclude(conclusion));
    }
}

fn call(endpoint: &mut Endpoint, now: Time, key: PeerKey, candidate: &Candidate) {
    match candidate.broadcast {
        true => endpoint.connect_anywhere(now, key, candidate.address),
        false => endpoint.connect(now, key, candidate.address),
    }
}

fn draw(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}
