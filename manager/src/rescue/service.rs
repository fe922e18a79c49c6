//! The rescue service: all hosts over one endpoint, and one course for each bundle that is wanted.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use firmcast::keys::HostPublicKey;
use firmcast::keys::PublicKey as _;
use firmcast::random;
use firmcast::reason::Reason;
use firmcast::session::PEERS_MAX;
use firmcast::session::{self, Endpoint, PeerKey};
use firmcast::time::Time;
use firmcast::wire::answer::Answer;
use firmcast::wire::broadcast::Broadcast;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng};

use super::caller::Caller;
use super::note::{Note, ServiceEvent};
use super::policy::Policy;
use super::shelf::{BundleId, Shelf, Shelved};
use crate::campaign::{
    Backup, CampaignEvent, Contents, Course, Deadlines, Delivery, HANDSHAKES_PER_SECOND, Host,
    Rescue, Terms, Transmit, tell_not_understood,
};
use crate::news::{BundleFacts, Kind, Narrator};
use firmcast::wire::finding::Acceptance;

/// Most hosts of the inventory that are answered.
pub const KNOWN_MAX: usize = PEERS_MAX - STRANGERS_MAX;

/// Most hosts outside the inventory that are remembered, where the policy lets them be answered at
/// all.
pub(crate) const STRANGERS_MAX: usize = 1024;

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
    /// Data bytes in each fragment, for the path's MTU.
    pub fragment_size_bytes: u16,
    /// Deadlines of the phases.
    pub deadlines: Deadlines,
    /// The manager's X25519 secret.
    pub exchange_secret: [u8; 32],
    /// Seed of everything random, from the system's random source.
    pub seed: [u8; 32],
}

/// A host of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its X25519 key.
    pub key: PeerKey,
    /// The highest security version that was confirmed there, as far as the manager knows.
    pub security_version_floor: u64,
}

/// The driver shall read this bundle's payload and give it to [`Service::loaded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The bundle.
    pub id: BundleId,
    /// Its file.
    pub file: String,
}

/// A backup that arrived whole. The driver makes it durable and says so with
/// [`Service::backup_stored`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// The campaign in which it was given.
    pub campaign: u64,
    /// The backup.
    pub backup: Backup,
}

/// A campaign under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) course: Course,
    pub(super) bundle: Shelved,
    narrator: Narrator,
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
    known: BTreeMap<PeerKey, Known>,
    /// Floors that rescues have raised, for [`Service::poll_floor`].
    floors: VecDeque<(PeerKey, u64)>,
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
            known: BTreeMap::new(),
            floors: VecDeque::new(),
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

    /// Another policy from now on. Hosts that are in a campaign stay in it; parked ones may try
    /// again.
    pub fn set_policy(&mut self, policy: Policy) {
        self.endpoint.serve_strangers(if policy.unknown_hosts { STRANGERS_MAX } else { 0 });
        self.policy = policy;
        for caller in self.callers.values_mut() {
            caller.pardon();
        }
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
    pub fn set_known(&mut self, known: Vec<Known>) {
        let known = known.into_iter().take(KNOWN_MAX).map(|host| (host.key, host)).collect();
        let old = std::mem::replace(&mut self.known, known);
        for key in old.keys().filter(|key| !self.known.contains_key(*key)) {
            self.endpoint.forget(key);
            self.callers.remove(key);
        }
        for (key, host) in &self.known {
            self.endpoint.allow(*key);
            if let Some(caller) = self.callers.get_mut(key) {
                (caller.name, caller.is_known) = (host.name.clone(), true);
            }
        }
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
                Some(session::SessionEvent::Message { peer, address, bytes }) => {
                    match Answer::parse(&bytes) {
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
                course.handle_answer(now, peer, from, &answer);
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

    /// The next bundle whose payload is wanted.
    pub fn poll_load(&mut self) -> Option<Load> {
        self.loads.pop_front()
    }

    /// Takes the payload of a bundle that was wanted, checked against its manifest, or why it
    /// cannot be had.
    pub fn loaded(&mut self, now: Time, id: &BundleId, payload: Result<Vec<u8>, String>) {
        self.loading.retain(|loading| loading != id);
        let begun = payload.and_then(|payload| self.begin(now, id, payload));
        if let Err(why) = begun {
            if let Some(bundle) = self.shelf.get(id) {
                let file = bundle.file.clone();
                self.note(Note::of(ServiceEvent::BundleRefused { file, why: why.clone() }));
            }
            self.shelf.refuse(id, why);
        }
        let waits = |caller: &mut Caller| caller.waits_for.take_if(|wanted| wanted == id).is_some();
        let waiting: Vec<PeerKey> = (self.callers.iter_mut())
            .filter_map(|(key, caller)| waits(caller).then_some(*key))
            .collect();
        for key in waiting {
            self.answer_request(now, &key);
        }
        self.settle(now);
    }

    /// Begins the campaign for a bundle.
    fn begin(&mut self, now: Time, id: &BundleId, payload: Vec<u8>) -> Result<(), String> {
        let bundle = self.shelf.get(id).cloned().ok_or("it is gone from the bundle directory")?;
        let manifest = &bundle.manifest;
        let terms = Terms {
            // Zero means no campaign.
            campaign: self.rng.next_u64().max(1),
            delivery: self.settings.delivery,
            rate_bits_per_s: self.settings.rate_bits_per_s,
            fragment_size_bytes: self.settings.fragment_size_bytes,
            escrow: self.policy.escrow,
            dry_run: false,
            accepted: Acceptance::default(),
            rescue: Some(Rescue { gather: self.policy.gather() }),
            deadlines: self.settings.deadlines,
            seed: random::seed(&mut self.rng),
        };
        let contents = Contents {
            manifest: bundle.signed.to_vec(),
            payload,
            image_size_bytes: manifest.image_size_bytes(),
            expect_version: None,
            stable_digest: *manifest.stable_digest(),
        };
        let course =
            Course::new(now, &terms, contents, Vec::new()).map_err(|error| error.to_string())?;
        let line = super::Line::Service(ServiceEvent::CampaignStarted {
            bundle: bundle.facts(),
            escrow: terms.escrow,
        });
        self.note(Note { campaign: Some(terms.campaign), line });
        let narrator = Narrator::new(Kind::Rescue);
        self.courses.push(Running { course, bundle, narrator, rescued: 0, failed: 0 });
        self.sharing = 0;
        Ok(())
    }

    /// The next backup to be made durable.
    pub fn poll_backup(&mut self) -> Option<Deposit> {
        self.courses.iter_mut().find_map(|running| {
            let backup = running.course.poll_backup()?;
            Some(Deposit { campaign: running.course.campaign(), backup })
        })
    }

    /// The host of a backup, and the bundle that it is going to get.
    pub fn depositor(&self, deposit: &Deposit) -> Option<(&Host, &Shelved)> {
        let running = self.running(deposit.campaign)?;
        Some((running.course.hosts().get(deposit.backup.host)?, &running.bundle))
    }

    /// Takes note that this backup is durable, or why it is not.
    pub fn backup_stored(&mut self, now: Time, deposit: &Deposit, stored: Result<(), String>) {
        let Deposit { campaign, backup } = deposit;
        let by_number = |running: &&mut Running| running.course.campaign() == *campaign;
        let Some(running) = self.courses.iter_mut().find(by_number) else { return };
        let course = &mut running.course;
        match stored {
            Ok(()) => {
                course.backup_stored(now, backup.host, backup.digest);
                let news = Narrator::backup_stored(&course.hosts()[backup.host], backup);
                self.note(Note::in_campaign(*campaign, news));
            }
            Err(why) => course.backup_not_stored(now, backup.host, why),
        }
        self.settle(now);
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

    fn running(&self, campaign: u64) -> Option<&Running> {
        self.courses.iter().find(|running| running.course.campaign() == campaign)
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push_back(note);
    }

    /// What concerns all, after something happened to some.
    pub(super) fn settle(&mut self, now: Time) {
        self.share_uploads(now);
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
                    self.raise_floor(&key, version);
                }
                self.attempt_ended(now, &key, &outcome);
            }
        }
    }

    /// The next host of the inventory whose floor a rescue has raised.
    pub fn poll_floor(&mut self) -> Option<(PeerKey, u64)> {
        self.floors.pop_front()
    }

    fn raise_floor(&mut self, key: &PeerKey, security_version: u64) {
        if let Some(host) = self.known.get_mut(key)
            && host.security_version_floor < security_version
        {
            host.security_version_floor = security_version;
            self.floors.push_back((*key, security_version));
        }
    }

    /// The floor that the manager knows for a host, 0 for one outside the inventory.
    pub(super) fn known_floor(&self, key: &PeerKey) -> u64 {
        self.known.get(key).map_or(0, |host| host.security_version_floor)
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
