//! A campaign without its sessions, sans-IO: hosts that are brought one image, over an endpoint
//! that others may share.

mod settling;
mod uploads;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use firmcast::random;
use firmcast::reason::{Ending, Reason, Refusal};
use firmcast::session::{Endpoint, PeerKey};
use firmcast::time::Time;
use firmcast::transfer::TransferError;
use firmcast::wire::answer::{Answer, Phase};
use firmcast::wire::broadcast::{Broadcast, FecScheme, GroupKey, TransferParameters};
use firmcast::wire::help::HelpRequest;
use firmcast::wire::versions::Mismatch;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::cargo::Cargo;
use super::config::{self, Contents, Delivery, HOSTS_MAX, Target, Terms};
use super::contact::{CampaignPlan, EscrowPlan};
use super::event::{Backup, CampaignEvent, Transmit};
use super::host::Host;
use super::legs::escrow::UPLOADS_MAX;
use super::legs::escrow::WholeBackup;
use super::outbox::Outbox;
use super::stage::Stage;
use super::stream::Stream;

pub(crate) use uploads::Uploads;

/// Hosts report once in this many milliseconds per host of the campaign, so that reports stay below
/// 200 in a second.
const REPORT_SPACING_MS: usize = 5;
const REPORT_INTERVAL_MS_MIN: usize = 1_000;
const REPORT_INTERVAL_MS_MAX: usize = 20_000;

/// One campaign over an endpoint that is not its own: the drive rule is that of
/// [`Campaign`](super::Campaign), and after every call its owner has it
/// [`use_sessions`](Self::use_sessions).
#[derive(Debug)]
pub(crate) struct Course {
    plan: CampaignPlan,
    stream: Stream,
    cargo: Cargo,
    /// What it wants done with the sessions.
    outbox: Outbox,
    hosts: Vec<Host>,
    /// Whether no other host is expected.
    nobody_else_comes: bool,
    by_key: BTreeMap<PeerKey, usize>,
    rng: ChaCha20Rng,
    events: VecDeque<CampaignEvent>,
    /// Hosts that have a turn to upload their backup, and how many may.
    uploading: Vec<usize>,
    uploads_max: usize,
    /// Hosts that wait for such a turn; who waits longest comes first.
    upload_queue: VecDeque<usize>,
    backups: VecDeque<Backup>,
}

impl Course {
    /// A course that brings `contents` to `targets`, and to hosts that are enlisted later. Each
    /// target has another key.
    ///
    /// # Errors
    /// [`TransferError`] when the payload or fragment size is out of bounds.
    pub(crate) fn new(
        now: Time,
        terms: &Terms,
        contents: Contents,
        targets: Vec<Target>,
    ) -> Result<Self, TransferError> {
        let mut rng = ChaCha20Rng::from_seed(terms.seed);
        let parameters = TransferParameters {
            campaign: terms.campaign,
            group_key: GroupKey::new(random::seed(&mut rng)),
            payload_size_bytes: u32::try_from(contents.payload.len()).unwrap_or(u32::MAX),
            fragment_size_bytes: terms.fragment_size_bytes,
            fec: FecScheme::Doubled,
        };
        let stream = Stream::new(terms, &parameters, contents.payload.clone())?;
        let cargo = Cargo::new(contents.payload, contents.pieces);
        let uploads = match terms.rescue {
            Some(_) => UPLOADS_MAX,
            None => targets.iter().filter(|target| target.key.is_some()).count(),
        };
        let plan = CampaignPlan {
            manifest: contents.manifest,
            expect_version: contents.expect_version,
            stable_digest: contents.stable_digest,
            parameters,
            excerpt: None,
            is_settled: terms.rescue.is_some(),
            given_up_fragments: None,
            group: multicast_group(terms.delivery),
            report_interval_ms: report_interval_ms(targets.len()),
            deadlines: terms.deadlines,
            purpose: terms.purpose,
            accepted: terms.accepted,
            rescue: terms.rescue.is_some(),
            escrow: terms.escrow.then(|| EscrowPlan {
                rate_kbit_s: upload_rate_kbit_s(terms.rate_bits_per_s, uploads),
                image_size_bytes: contents.image_size_bytes,
                is_part: contents.is_part,
            }),
        };
        let by_key = targets.iter().enumerate().filter_map(|(i, t)| Some((t.key?, i))).collect();
        let hosts = targets.into_iter().map(|target| Host::new(target, &plan)).collect();
        let mut course = Self {
            plan,
            stream,
            cargo,
            outbox: Outbox::default(),
            hosts,
            nobody_else_comes: terms.rescue.is_none(),
            by_key,
            rng,
            events: VecDeque::new(),
            uploading: Vec::new(),
            uploads_max: UPLOADS_MAX,
            upload_queue: VecDeque::new(),
            backups: VecDeque::new(),
        };
        course.start(now);
        Ok(course)
    }

    fn start(&mut self, now: Time) {
        for index in 0..self.hosts.len() {
            match self.hosts[index].target.key {
                Some(key) => self.outbox.allow(key),
                None => self.touch(now, index, |host, _, _| {
                    let detail = "no answer to the discovery request";
                    host.end(now, Refusal::new(Reason::HostUnreachable, detail));
                }),
            }
        }
        self.grant_dialogues(now);
    }

    /// Says what is to be said to the hosts, and calls those that must be called.
    pub(crate) fn use_sessions(&mut self, now: Time, endpoint: &mut Endpoint) {
        self.outbox.run(now, endpoint);
    }

    /// Takes in a dead host that asked for help, or one that asks again, and answers it. One that
    /// has ended, or that forgot what it was told, begins anew. False when the course is full.
    pub(crate) fn enlist(
        &mut self,
        now: Time,
        target: Target,
        request: &HelpRequest,
        is_known: bool,
    ) -> bool {
        let Some(key) = target.key else { return false };
        let index = match self.by_key.get(&key).copied() {
            Some(index) => index,
            None if self.hosts.len() >= HOSTS_MAX => return false,
            None => {
                self.hosts.push(Host::new(target, &self.plan));
                self.by_key.insert(key, self.hosts.len() - 1);
                self.plan.report_interval_ms = report_interval_ms(self.hosts.len());
                self.hosts.len() - 1
            }
        };
        self.touch(now, index, |host, plan, _| host.enlist(now, request, is_known, plan));
        true
    }

    /// Whether no other host is expected: then the stream waits only for those that are enlisted.
    pub(crate) fn set_nobody_else_comes(&mut self, now: Time, nobody_else_comes: bool) {
        if std::mem::replace(&mut self.nobody_else_comes, nobody_else_comes) != nobody_else_comes {
            self.settle(now);
        }
    }

    /// A host asks for help again: its attempt is over. `said` is how it says that it ended.
    pub(crate) fn ask_again(&mut self, now: Time, peer: &PeerKey, said: Option<Ending>) {
        if let Some(index) = self.by_key.get(peer).copied() {
            self.touch(now, index, |host, _, _| host.ask_again(now, said));
            self.settle(now);
        }
    }

    /// Number of the campaign.
    pub(crate) fn campaign(&self) -> u64 {
        self.plan.campaign()
    }

    /// The hosts, in the order of the targets, then in that in which they were enlisted.
    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host with this key.
    pub(crate) fn host(&self, peer: &PeerKey) -> Option<&Host> {
        self.by_key.get(peer).map(|index| &self.hosts[*index])
    }

    /// Whether it has ended for every host.
    pub(crate) fn is_finished(&self) -> bool {
        self.hosts.iter().all(|host| host.stage() == Stage::Ended)
    }

    /// The image on its way.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Another cap on the rate from now on, for all copies of the stream together.
    pub(crate) fn set_rate_cap(&mut self, now: Time, rate_cap_bits_per_s: u64) {
        self.stream.set_rate_cap(now, rate_cap_bits_per_s);
    }

    /// A session with this host is there.
    pub(crate) fn connected(&mut self, now: Time, peer: &PeerKey) {
        if let Some(index) = self.by_key.get(peer).copied() {
            self.touch(now, index, |host, _, _| host.connected(now));
        }
    }

    /// This host speaks no version of the protocol that this side speaks.
    pub(crate) fn incompatible(&mut self, now: Time, peer: &PeerKey, mismatch: Mismatch) {
        let Some(index) = self.by_key.get(peer).copied() else { return };
        self.touch(now, index, |host, _, _| {
            if host.stage() != Stage::Ended {
                host.end(now, Refusal::new(Reason::ProtocolMismatch, mismatch));
            }
        });
        self.settle(now);
    }

    /// Takes what this host said in its session.
    pub(crate) fn handle_answer(
        &mut self,
        now: Time,
        peer: &PeerKey,
        (from, version): (SocketAddr, Option<u8>),
        answer: &Answer,
    ) {
        let Some(index) = self.by_key.get(peer).copied() else { return };
        if let Answer::FragmentStatus(status) = answer {
            self.stream.handle_status(now, index, status);
        }
        self.touch(now, index, |host, plan, rng| {
            host.contact.version = version;
            if host.stage().is_in_recovery() {
                host.contact.recovery_address = Some(from);
            }
            host.handle_answer(now, answer, plan, rng);
        });
        self.settle(now);
    }

    /// Takes a fragment or status request of an upload: from where its host speaks, and sealed with
    /// the key of its offer.
    pub(crate) fn handle_fragment(&mut self, now: Time, from: SocketAddr, sealed: &Broadcast<'_>) {
        let speaks_there = |index: &&usize| self.hosts[**index].recovery_address() == Some(from);
        let Some(index) = self.uploading.iter().find(speaks_there).copied() else { return };
        let mut arrived = None;
        self.touch(now, index, |host, plan, _| {
            arrived = host.handle_fragment(now, sealed, plan);
        });
        if let Some(WholeBackup { digest, bytes, closed }) = arrived {
            self.backups.push_back(Backup { host: index, digest, bytes, closed });
        }
    }

    /// The next backup to be made durable.
    pub(crate) fn poll_backup(&mut self) -> Option<Backup> {
        self.backups.pop_front()
    }

    /// Takes note that this host's backup with this digest is durable. From here on the host may
    /// change its flash.
    pub(crate) fn backup_stored(&mut self, now: Time, host: usize, digest: [u8; 32]) {
        self.touch(now, host, |host, plan, _| host.backup_stored(now, digest, plan));
        self.settle(now);
    }

    /// Takes note that this host's backup could not be made durable, and why: its flash stays as it
    /// is.
    pub(crate) fn backup_not_stored(&mut self, now: Time, host: usize, why: String) {
        self.touch(now, host, |host, plan, _| host.backup_not_stored(now, why, plan));
        self.settle(now);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        for index in 0..self.hosts.len() {
            if self.hosts[index].poll_timeout().is_none_or(|due| due > now) {
                continue;
            }
            self.touch(now, index, |host, plan, _| host.handle_timeout(now, plan));
            let host = &mut self.hosts[index];
            if host.contact.take_probe(now)
                && let Some(key) = host.target.key
            {
                self.outbox.call(key, host.target.address);
            }
        }
        self.settle(now);
    }

    /// Hosts that may be writing their flash are let finish; the others are sent home.
    pub(crate) fn interrupt(&mut self, now: Time) {
        self.touch_all(now, |host, plan| host.interrupt(now, plan));
    }

    /// Ends it for every host at once.
    pub(crate) fn abandon(&mut self, now: Time) {
        self.touch_all(now, |host, _| host.abandon(now));
    }

    fn touch_all(&mut self, now: Time, happen: impl Fn(&mut Host, &CampaignPlan)) {
        for index in 0..self.hosts.len() {
            if self.hosts[index].stage() != Stage::Ended {
                self.touch(now, index, |host, plan, _| happen(host, plan));
            }
        }
        self.settle(now);
    }

    /// The next datagram of the stream.
    pub(crate) fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        self.stream.poll_transmit(now, &self.hosts)
    }

    /// Prepares a part of what will be sent: to be called before waiting. Returns whether there
    /// was something to do.
    pub(crate) fn work(&mut self) -> bool {
        self.stream.work()
    }

    /// When [`Course::handle_timeout`] or [`Course::poll_transmit`] want to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let hosts = self.hosts.iter().filter_map(Host::poll_timeout).min();
        let settling = self.cargo.settle_by.filter(|_| !self.plan.is_settled);
        [hosts, settling, self.stream.poll_timeout()].into_iter().flatten().min()
    }

    /// The next piece of news.
    pub(crate) fn poll_event(&mut self) -> Option<CampaignEvent> {
        self.events.pop_front()
    }

    /// Lets something happen to a host, then says what it now shall be told, and tells the driver
    /// what is new.
    fn touch(
        &mut self,
        now: Time,
        index: usize,
        happen: impl FnOnce(&mut Host, &CampaignPlan, &mut ChaCha20Rng),
    ) {
        let (before, had_twin) = (Seen::of(&self.hosts[index]), self.hosts[index].has_twin());
        let waited = self.hosts[index].waits_for_upload();
        happen(&mut self.hosts[index], &self.plan, &mut self.rng);
        self.queue_for_upload(index, waited);
        self.speak(now, index);
        let after = Seen::of(&self.hosts[index]);
        // A service looks at its callers itself.
        if self.hosts[index].has_twin() && !had_twin && !self.plan.rescue {
            self.events.push_back(CampaignEvent::Twins { host: index });
        }
        if before.stage != after.stage {
            self.stage_changed(now, index, before.stage);
        } else if before != after {
            self.events.push_back(CampaignEvent::Progress { host: index });
        }
    }

    fn stage_changed(&mut self, now: Time, index: usize, before: Stage) {
        let host = &self.hosts[index];
        let stage = host.stage();
        self.events.push_back(match host.outcome() {
            Some(outcome) => CampaignEvent::Ended { host: index, outcome: outcome.clone() },
            None => CampaignEvent::Stage { host: index, stage },
        });
        self.stream.host_moved(now, index, before, stage);
        if stage == Stage::Ended && host.contact.is_silent(now) {
            // Nobody is there to call.
            if let Some(key) = host.target.key {
                self.outbox.forget(key);
            }
        }
    }

    /// Sends what a host shall be told now; calls its agent when there is no session for it.
    fn speak(&mut self, now: Time, index: usize) {
        let host = &mut self.hosts[index];
        let Some(key) = host.target.key else { return };
        for command in host.commands(now, &self.plan, &mut self.rng) {
            self.outbox.say(key, command);
        }
        let host = &self.hosts[index];
        let address = host.target.address;
        match host.wants_agent() {
            true if host.contact.is_silent(now) => self.outbox.call(key, address),
            true => self.outbox.call_once(key, address),
            false => {}
        }
    }

    /// What concerns all hosts, after something happened to some.
    fn settle(&mut self, now: Time) {
        self.grant_dialogues(now);
        // Several courses of a service share the turns, which it gives.
        if !self.plan.rescue {
            self.grant_uploads(now);
        }
        for (index, why) in self.stream.take_stalled() {
            self.touch(now, index, |host, plan, _| host.leave_behind(now, why.to_owned(), plan));
        }
        self.settle_cargo(now);
        let is_there = |host: &Host| host.stage() >= Stage::Transfer;
        let all_are_there = self.nobody_else_comes && self.hosts.iter().all(is_there);
        if let Some(hosts) = self.stream.run_if_ready(now, all_are_there) {
            let carried = self.plan.excerpt.map(|excerpt| excerpt.carried);
            let pieces = carried.map(|carried| (carried.count(), carried.pieces()));
            self.events.push_back(CampaignEvent::TransferStarted { hosts, pieces });
        }
    }

    /// Gives free dialogues to hosts that wait for one, to those that are furthest first: they have
    /// deadlines of their own.
    fn grant_dialogues(&mut self, now: Time) {
        let needs = |host: &&Host| host.stage().needs_dialogue();
        let held = self.hosts.iter().filter(needs).filter(|host| host.contact.may_speak).count();
        let free = config::DIALOGUES_MAX.saturating_sub(held);
        let waits = |index: &usize| {
            let host = &self.hosts[*index];
            host.is_waiting() && host.stage().needs_dialogue()
        };
        let mut waiting: Vec<usize> = (0..self.hosts.len()).filter(waits).collect();
        waiting.sort_by_key(|index| std::cmp::Reverse(self.hosts[*index].stage()));
        for index in waiting.into_iter().take(free) {
            self.touch(now, index, |host, plan, _| host.grant_turn(now, plan));
        }
    }
}

/// What a driver can see of a host.
#[derive(PartialEq, Eq)]
struct Seen {
    stage: Stage,
    phase: Phase,
    progress: (u32, u32),
}

impl Seen {
    fn of(host: &Host) -> Self {
        Self { stage: host.stage(), phase: host.phase(), progress: host.progress() }
    }
}

fn multicast_group(delivery: Delivery) -> Option<IpAddr> {
    match delivery {
        Delivery::Group(group) => Some(group),
        Delivery::Broadcast | Delivery::Unicast => None,
    }
}

/// All uploads together stay below the operator's cap.
fn upload_rate_kbit_s(rate_bits_per_s: u64, hosts: usize) -> u32 {
    let rate_kbit_s = rate_bits_per_s / 1000 / hosts.clamp(1, UPLOADS_MAX) as u64;
    u32::try_from(rate_kbit_s).unwrap_or(u32::MAX).max(1)
}

fn report_interval_ms(hosts: usize) -> u16 {
    let interval =
        (hosts * REPORT_SPACING_MS).clamp(REPORT_INTERVAL_MS_MIN, REPORT_INTERVAL_MS_MAX);
    u16::try_from(interval).unwrap_or(u16::MAX)
}
