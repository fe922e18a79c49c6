//! The rescue service: all hosts over one endpoint, and one course for each bundle that is wanted.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use firmcast::keys::HostPublicKey;
use firmcast::keys::PublicKey as _;
use firmcast::random;
use firmcast::reason::Reason;
use firmcast::session::{self, Endpoint, PeerKey};
use firmcast::time::Time;
use firmcast::wire::answer::Answer;
use firmcast::wire::broadcast::Broadcast;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::caller::Caller;
use super::known::{Known, KnownHosts, STRANGERS_MAX};
use super::note::Note;
use super::policy::Policy;
use super::shelf::{BundleId, Shelf, Shelved};
use crate::campaign::{
    CampaignEvent, Course, Deadlines, Delivery, HANDSHAKES_PER_SECOND, Outcome, Transmit,
    tell_not_understood,
};
use crate::news::{BundleFacts, Narrator};

/// How often strangers are looked through; one that has said nothing since the last time makes
/// room. The first word comes a round trip after the handshake.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// Most campaigns at a time; each holds its payload.
pub(crate) const COURSES_MAX: usize = 8;

/// How the service works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How images travel.
    pub delivery: Delivery,
    /// Most bits per second on the wire, of all images together.
    pub rate_bits_per_s: u64,
    /// Whether others on the link keep at least half of it.
    pub is_polite: bool,
    /// Data bytes in each fragment, for the path's MTU.
    pub fragment_size_bytes: u16,
    /// Deadlines of the phases.
    pub deadlines: Deadlines,
    /// The manager's X25519 secret.
    pub exchange_secret: [u8; 32],
    /// Seed of everything random, from the system's random source.
    pub seed: [u8; 32],
}

/// The driver shall read this bundle's payload and give it to [`Service::loaded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The bundle.
    pub id: BundleId,
    /// Its file.
    pub file: String,
}

/// A campaign under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) course: Course,
    pub(super) bundle: Shelved,
    pub(super) narrator: Narrator,
    pub(super) rescued: usize,
    pub(super) failed: usize,
}

/// The service.
#[derive(Debug)]
pub struct Service {
    pub(super) endpoint: Endpoint,
    pub(super) settings: Settings,
    pub(super) policy: Policy,
    pub(super) shelf: Shelf,
    pub(super) known: KnownHosts,
    pub(super) callers: BTreeMap<PeerKey, Caller>,
    pub(super) courses: Vec<Running>,
    /// Courses that share the rate.
    pub(super) sharing: usize,
    /// The course that sends next.
    turn: usize,
    pub(super) loads: VecDeque<Load>,
    pub(super) loading: Vec<BundleId>,
    pub(super) notes: VecDeque<Note>,
    pub(super) rng: ChaCha20Rng,
    housekeeping: Time,
    /// Strangers that had said nothing when they were looked through last.
    pub(super) mute: Vec<PeerKey>,
    pub(super) is_stopping: bool,
}

impl Service {
    /// A service that waits for hosts.
    pub fn new(settings: Settings, policy: Policy, shelf: Shelf, known: Vec<Known>) -> Self {
        let mut rng = ChaCha20Rng::from_seed(settings.seed);
        let mut endpoint = Endpoint::new(settings.exchange_secret, random::seed(&mut rng));
        endpoint.serve_hosts(HANDSHAKES_PER_SECOND);
        let mut service = Self {
            endpoint,
            settings,
            policy: Policy::default(),
            shelf,
            known: KnownHosts::default(),
            callers: BTreeMap::new(),
            courses: Vec::new(),
            sharing: 0,
            turn: 0,
            loads: VecDeque::new(),
            loading: Vec::new(),
            notes: VecDeque::new(),
            rng,
            housekeeping: Time::ZERO,
            mute: Vec::new(),
            is_stopping: false,
        };
        service.set_known(known);
        service.set_policy(policy);
        service
    }

    /// Parked hosts may try again: what was counted against hosts is forgotten.
    pub fn pardon(&mut self) {
        self.callers.values_mut().for_each(Caller::pardon);
    }

    /// Another policy from now on. Hosts that are in a campaign stay in it.
    pub fn set_policy(&mut self, policy: Policy) {
        self.endpoint.serve_strangers(if policy.unknown_hosts { STRANGERS_MAX } else { 0 });
        self.policy = policy;
        if !self.policy.unknown_hosts {
            let strangers: Vec<PeerKey> = self.endpoint.strangers().copied().collect();
            for key in strangers {
                self.forget(&key);
            }
        }
    }

    /// Other bundles from now on; campaigns that are under way go on.
    pub fn set_shelf(&mut self, shelf: Shelf) {
        self.shelf = shelf;
        self.loads.clear();
        self.loading.clear();
        for caller in self.callers.values_mut() {
            caller.waits_for = None;
        }
    }

    /// Another inventory from now on, of at most [`KNOWN_MAX`] hosts; hosts that are gone from it
    /// are known no more.
    ///
    /// [`KNOWN_MAX`]: super::KNOWN_MAX
    pub fn set_known(&mut self, known: Vec<Known>) {
        for key in self.known.replace(known) {
            self.forget(&key);
        }
        for host in self.known.iter() {
            self.endpoint.allow(host.key);
            if let Some(caller) = self.callers.get_mut(&host.key) {
                (caller.name, caller.is_known) = (host.name.clone(), true);
            }
        }
    }

    /// The next host of the inventory whose floor of security versions a rescue has raised.
    pub fn poll_floor(&mut self) -> Option<(PeerKey, u64)> {
        self.known.poll_floor()
    }

    /// Hosts of the inventory.
    pub fn known_hosts(&self) -> usize {
        self.known.len()
    }

    /// The bundles.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Takes a datagram from the socket.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        if let Ok(sealed) = Broadcast::parse(datagram) {
            for running in &mut self.courses {
                running.course.handle_fragment(now, from, &sealed);
            }
        } else {
            match self.endpoint.handle_datagram(now, from, datagram) {
                Some(session::SessionEvent::Connected { peer, .. }) => self.connected(now, &peer),
                Some(session::SessionEvent::Message { peer, address, bytes, is_overtaken }) => {
                    match Answer::parse(&bytes) {
                        // It has been heard since then, and says so again if it still asks.
                        Ok(Answer::HelpRequest(_)) if is_overtaken => {}
                        Ok(answer) => self.handle_answer(now, &peer, address, answer),
                        Err(error) => tell_not_understood(&mut self.endpoint, now, &peer, error),
                    }
                }
                Some(session::SessionEvent::Incompatible { peer, address, mismatch }) => {
                    if let Some(index) = self.course_of(&peer) {
                        self.courses[index].course.incompatible(now, &peer, mismatch);
                    } else if self.remember(now, &peer, address) {
                        let detail = mismatch.to_string();
                        self.hold(now, &peer, Reason::ProtocolMismatch, detail);
                    }
                }
                // Callers of a manager need no growing stamps.
                Some(session::SessionEvent::StaleCall { .. }) | None => return,
            }
        }
        self.settle(now);
    }

    fn connected(&mut self, now: Time, peer: &PeerKey) {
        if let Some(index) = self.course_of(peer) {
            self.courses[index].course.connected(now, peer);
        }
    }

    fn handle_answer(&mut self, now: Time, peer: &PeerKey, from: SocketAddr, answer: Answer) {
        if !self.remember(now, peer, from) {
            return;
        }
        let course = self.course_of(peer);
        match (answer, course) {
            (Answer::HelpRequest(request), _) => self.handle_request(now, peer, request),
            (Answer::Report(report), course)
                if course.is_none_or(|index| {
                    self.courses[index].course.campaign() != report.campaign
                }) =>
            {
                self.handle_stray(now, peer, &report);
            }
            (answer, Some(index)) => {
                let course = &mut self.courses[index].course;
                course.handle_answer(now, peer, (from, None), &answer);
            }
            (_, None) => {}
        }
    }

    /// Keeps who spoke last and from where. False for a key that is none, which no session can
    /// have.
    fn remember(&mut self, now: Time, peer: &PeerKey, from: SocketAddr) -> bool {
        if let Some(caller) = self.callers.get_mut(peer) {
            (caller.seen, caller.address) = (now, from);
            return true;
        }
        let Ok(key) = HostPublicKey::from_exchange(*peer) else { return false };
        let name = self.known.get(peer).map(|host| host.name.clone());
        self.callers.insert(*peer, Caller::new(name, key.fingerprint(), now, from));
        true
    }

    /// The running course that this host was enlisted in last.
    pub(super) fn course_of(&self, peer: &PeerKey) -> Option<usize> {
        let campaign = self.callers.get(peer)?.campaign?;
        self.courses.iter().position(|running| running.course.campaign() == campaign)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.endpoint.handle_timeout(now);
        for index in 0..self.courses.len() {
            let course = &mut self.courses[index].course;
            if course.poll_timeout().is_some_and(|due| due <= now) {
                course.handle_timeout(now);
            }
        }
        if self.policy.unknown_hosts && self.housekeeping <= now {
            self.housekeeping = now + HOUSEKEEPING_INTERVAL;
            self.look_through_strangers(now);
        }
        self.settle(now);
    }

    /// Prepares a part of what will be sent, first for the campaign that sent last: to be called
    /// before waiting.
    pub fn work(&mut self) {
        let count = self.courses.len();
        (0..count).any(|nth| self.courses[(self.turn + nth) % count].course.work());
    }

    /// When [`Service::handle_timeout`] or [`Service::poll_transmit`] want to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        let courses = self.courses.iter().filter_map(|running| running.course.poll_timeout()).min();
        let housekeeping = self.policy.unknown_hosts.then_some(self.housekeeping);
        [courses, self.endpoint.poll_timeout(), housekeeping].into_iter().flatten().min()
    }

    /// The next datagram to send now. Campaigns take turns.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        if let Some(said) = self.endpoint.poll_transmit() {
            return Some(said.into());
        }
        for _ in 0..self.courses.len() {
            self.turn = (self.turn + 1) % self.courses.len();
            let transmit = self.courses[self.turn].course.poll_transmit(now);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// The next thing to tell.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// Lets go all hosts that do not write their flash; nobody is enlisted any more.
    pub fn stop(&mut self, now: Time) {
        self.is_stopping = true;
        for running in &mut self.courses {
            running.course.interrupt(now);
        }
        self.settle(now);
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push_back(note);
    }

    /// What concerns all, after something happened to some.
    pub(super) fn settle(&mut self, now: Time) {
        self.share_uploads(now);
        self.look_who_may_come(now);
        for index in 0..self.courses.len() {
            while let Some(event) = self.courses[index].course.poll_event() {
                self.handle_event(now, index, event);
            }
            self.courses[index].course.use_sessions(now, &mut self.endpoint);
        }
        let is_over = |running: &Running| running.course.is_finished();
        let over: Vec<Running> = self.courses.extract_if(.., |running| is_over(running)).collect();
        for Running { course, narrator, rescued, failed, .. } in over {
            let news = narrator.finished(rescued, failed);
            self.note(Note::in_campaign(course.campaign(), news));
        }
        self.share_rate(now);
    }

    /// Once the whole inventory has come, streams wait for nobody else.
    fn look_who_may_come(&mut self, now: Time) {
        let is_waiting = self.courses.iter().any(|running| running.course.stream().is_waiting());
        let enlisted: usize = self.courses.iter().map(|running| running.course.hosts().len()).sum();
        let is_here = |known: &Known| {
            let mut hosts = self.courses.iter().filter_map(|one| one.course.host(&known.key));
            hosts.any(|host| host.outcome().is_none_or(Outcome::is_confirmed))
        };
        // The count is quick, but counts hosts twice that are in two campaigns.
        let is_nobody = is_waiting
            && !self.policy.unknown_hosts
            && enlisted >= self.known.len()
            && self.known.iter().all(is_here);
        for running in &mut self.courses {
            running.course.set_nobody_else_comes(now, is_nobody);
        }
    }

    pub(super) fn handle_event(&mut self, now: Time, index: usize, event: CampaignEvent) {
        let running = &mut self.courses[index];
        let course = &running.course;
        let campaign = course.campaign();
        if let Some(news) = running.narrator.tell(now, course.hosts(), course.stream(), &event) {
            self.note(Note::in_campaign(campaign, news));
        }
        if let CampaignEvent::Ended { host, outcome } = event {
            let running = &mut self.courses[index];
            running.rescued += usize::from(outcome.is_confirmed());
            running.failed += usize::from(!outcome.is_confirmed());
            let version = running.bundle.manifest.security_version();
            if let Some(key) = running.course.hosts()[host].target().key {
                if outcome.is_confirmed() {
                    self.known.raise_floor(&key, version);
                }
                self.attempt_ended(now, &key, &outcome);
            }
        }
    }

    pub(super) fn forget(&mut self, key: &PeerKey) {
        self.endpoint.forget(key);
        self.callers.remove(key);
    }
}

impl Shelved {
    /// What is told of it.
    pub fn facts(&self) -> BundleFacts {
        let file = self.file.clone();
        BundleFacts::new(file, &self.manifest, &self.signer, self.signature_checked)
    }
}
