//! An update campaign over many hosts, sans-IO.
//!
//! The drive rule: after every call that takes `now`, take all of [`Campaign::poll_transmit`],
//! [`Campaign::poll_event`] and [`Campaign::poll_backup`], then wait for a datagram until [`Campaign::poll_timeout`]. Early or repeated timeouts are
//! harmless. The campaign is over when [`Campaign::is_finished`].
//!
//! - [`config`]: what it is told; its limits and deadlines.
//! - [`stage`]: where a host stands; `host` and `answers`: one host's way; `upload`, `retry`: how it is told things.
//! - `stream`: the image on its way to all hosts at once.
//! - [`escrow`]: backups on their way here, before anything is changed.
//! - [`event`]: what the campaign tells its driver.
//!
//! No host waits for another, but for one thing: the stream starts when all hosts are ready or the join window is over.

mod answers;
pub mod config;
pub mod escrow;
pub mod event;
mod host;
mod retry;
pub mod stage;
mod stream;
mod upload;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use firmcast::reason::{FlashState, Reason};
use firmcast::session::{self, Endpoint, PeerKey};
use firmcast::time::Time;
use firmcast::transfer::TransferError;
use firmcast::wire::answer::Answer;
use firmcast::wire::broadcast::{Broadcast, GroupKey, TransferParameters};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

pub use config::{Config, Contents, Deadlines, Delivery, Target};
pub use escrow::{Backup, UPLOADS_MAX};
pub use event::{Destination, Event, Outcome, Transmit};
pub use host::Host;
pub use stage::Stage;

use host::{EscrowPlan, Plan};
use stream::Stream;

/// Handshakes that the manager answers in a second: all hosts of a campaign may call in the same moment.
const HANDSHAKES_PER_SECOND: u32 = 2_000;

/// Hosts report once in this many microseconds per host of the campaign, so that reports stay below 200 in a second.
const REPORT_SPACING_MS: usize = 5;
const REPORT_INTERVAL_MS_MIN: usize = 1_000;
const REPORT_INTERVAL_MS_MAX: usize = 20_000;

/// One campaign.
#[derive(Debug)]
pub struct Campaign {
    plan: Plan,
    endpoint: Endpoint,
    stream: Stream,
    hosts: Vec<Host>,
    by_key: BTreeMap<PeerKey, usize>,
    rng: ChaCha20Rng,
    events: VecDeque<Event>,
    interrupts: u32,
    /// Hosts that have a turn to upload their backup.
    uploading: Vec<usize>,
    backups: VecDeque<Backup>,
}

impl Campaign {
    /// A campaign that brings `contents` to `targets`. Each target has another key.
    ///
    /// # Errors
    /// [`TransferError`] when the payload or fragment size is out of bounds.
    pub fn new(
        now: Time,
        config: &Config,
        contents: Contents,
        targets: Vec<Target>,
    ) -> Result<Self, TransferError> {
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let parameters = TransferParameters {
            campaign: config.campaign,
            group_key: GroupKey::new(draw(&mut rng)),
            payload_size_bytes: u32::try_from(contents.payload.len()).unwrap_or(u32::MAX),
            fragment_size_bytes: config.fragment_size_bytes,
        };
        let mut endpoint = Endpoint::new(config.exchange_secret, draw(&mut rng));
        endpoint.set_stamp(config.stamp);
        endpoint.serve_hosts(HANDSHAKES_PER_SECOND);
        let reachable = targets.iter().filter(|target| target.key.is_some()).count();
        let stream = Stream::new(config, &parameters, contents.payload, reachable)?;
        let plan = Plan {
            manifest: contents.manifest,
            expect_version: contents.expect_version,
            stable_digest: contents.stable_digest,
            parameters,
            group: multicast_group(config.delivery),
            report_interval_ms: report_interval_ms(targets.len()),
            deadlines: config.deadlines,
            dry_run: config.dry_run,
            escrow: config.escrow.then(|| EscrowPlan {
                rate_kbit_s: upload_rate_kbit_s(config.rate_mbit, reachable),
                image_size_bytes: contents.image_size_bytes,
            }),
        };
        let by_key = targets.iter().enumerate().filter_map(|(i, t)| Some((t.key?, i))).collect();
        let hosts = targets.into_iter().map(Host::new).collect();
        let mut campaign = Self {
            plan,
            endpoint,
            stream,
            hosts,
            by_key,
            rng,
            events: VecDeque::new(),
            interrupts: 0,
            uploading: Vec::new(),
            backups: VecDeque::new(),
        };
        campaign.start(now);
        Ok(campaign)
    }

    fn start(&mut self, now: Time) {
        for index in 0..self.hosts.len() {
            match self.hosts[index].target.key {
                Some(key) => self.endpoint.allow(key),
                None => self.touch(now, index, |host, _, _| {
                    let untouched = Some(FlashState::Untouched);
                    let detail = "no answer to the discovery request";
                    host.end(Outcome::new(Reason::HostUnreachable, untouched, detail));
                }),
            }
        }
        self.grant_dialogues(now);
    }

    /// The hosts, in the order of the targets.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Whether it has ended for every host.
    pub fn is_finished(&self) -> bool {
        self.hosts.iter().all(|host| host.stage == Stage::Ended)
    }

    /// The image on its way.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Takes a datagram from the socket.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        if Broadcast::parse(datagram).is_ok() {
            self.handle_fragment(now, from, datagram);
            return;
        }
        match self.endpoint.handle_datagram(now, from, datagram) {
            Some(session::Event::Connected { peer, .. }) => {
                if let Some(index) = self.by_key.get(&peer).copied() {
                    self.touch(now, index, |host, _, _| host.connected(now));
                }
            }
            Some(session::Event::Message { peer, address, bytes }) => {
                if let Some(index) = self.by_key.get(&peer).copied() {
                    self.handle_message(now, index, address, &bytes);
                }
            }
            None => {}
        }
    }

    fn handle_message(&mut self, now: Time, index: usize, from: SocketAddr, bytes: &[u8]) {
        // An authentic host that talks nonsense is as good as a silent one.
        let Ok(answer) = Answer::parse(bytes) else { return };
        if let Answer::FragmentStatus(status) = &answer {
            self.stream.handle_status(now, index, status);
        }
        self.touch(now, index, |host, plan, rng| {
            if host.stage.is_in_recovery() {
                host.recovery_address = Some(from);
            }
            host.handle_answer(now, &answer, plan, rng);
        });
        self.settle(now);
    }

    /// A fragment or status request of an upload: from where its host speaks, and sealed with the key of its offer.
    fn handle_fragment(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        let speaks_there = |index: &&usize| self.hosts[**index].recovery_address == Some(from);
        let Some(index) = self.uploading.iter().find(speaks_there).copied() else { return };
        let mut arrived = None;
        self.touch(now, index, |host, plan, _| {
            arrived = host.handle_fragment(now, datagram, plan);
        });
        if let Some((digest, bytes)) = arrived {
            self.backups.push_back(Backup { host: index, digest, bytes });
        }
    }

    /// The next backup to be made durable.
    pub fn poll_backup(&mut self) -> Option<Backup> {
        self.backups.pop_front()
    }

    /// Takes note that this host's backup with this digest is durable. From here on the host may change its flash.
    pub fn backup_stored(&mut self, now: Time, host: usize, digest: [u8; 32]) {
        self.touch(now, host, |host, plan, _| host.backup_stored(now, digest, plan));
        self.settle(now);
    }

    /// Takes note that this host's backup could not be made durable, and why: its flash stays as it is.
    pub fn backup_not_stored(&mut self, now: Time, host: usize, why: String) {
        self.touch(now, host, |host, plan, _| host.escrow_failed(now, why, plan));
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.endpoint.handle_timeout(now);
        for index in 0..self.hosts.len() {
            if self.hosts[index].poll_timeout().is_none_or(|due| due > now) {
                continue;
            }
            self.touch(now, index, |host, plan, _| host.handle_timeout(now, plan));
            if self.hosts[index].take_probe(now) {
                self.call_agent(now, index);
            }
        }
        self.settle(now);
    }

    /// The operator wants it to stop. Hosts that may be writing their flash are let finish; the others are sent home.
    /// The second time the campaign ends at once.
    pub fn interrupt(&mut self, now: Time) {
        self.interrupts += 1;
        for index in 0..self.hosts.len() {
            if self.hosts[index].stage == Stage::Ended {
                continue;
            }
            let at_once = self.interrupts > 1;
            self.touch(now, index, |host, plan, _| match at_once {
                true => host.abandon(),
                false => host.interrupt(now, plan),
            });
        }
        self.settle(now);
    }

    /// Whether the operator interrupted it.
    pub fn is_interrupted(&self) -> bool {
        self.interrupts > 0
    }

    /// The next datagram to send now.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        if let Some(session::Transmit { to, bytes }) = self.endpoint.poll_transmit() {
            return Some(Transmit { destination: Destination::Host(to), bytes });
        }
        self.stream.poll_transmit(now, &self.hosts)
    }

    /// When [`Campaign::handle_timeout`] or [`Campaign::poll_transmit`] want to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        let hosts = self.hosts.iter().filter_map(Host::poll_timeout).min();
        [hosts, self.endpoint.poll_timeout(), self.stream.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next piece of news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Lets something happen to a host, then says what it now shall be told, and tells the driver what is new.
    fn touch(
        &mut self,
        now: Time,
        index: usize,
        happen: impl FnOnce(&mut Host, &Plan, &mut ChaCha20Rng),
    ) {
        let before = Seen::of(&self.hosts[index]);
        happen(&mut self.hosts[index], &self.plan, &mut self.rng);
        self.speak(now, index);
        let after = Seen::of(&self.hosts[index]);
        if before.stage != after.stage {
            self.stage_changed(now, index, before.stage);
        } else if before != after {
            self.events.push_back(Event::Progress { host: index });
        }
    }

    fn stage_changed(&mut self, now: Time, index: usize, before: Stage) {
        let host = &self.hosts[index];
        match (&host.outcome, before) {
            (Some(outcome), _) => {
                self.events.push_back(Event::Ended { host: index, outcome: outcome.clone() });
            }
            (None, _) => self.events.push_back(Event::Stage { host: index, stage: host.stage }),
        }
        self.stream.host_moved(now, index, before, host.stage);
        if host.stage == Stage::Ended && host.is_silent(now) {
            // Nobody is there to call.
            if let Some(key) = host.target.key {
                self.endpoint.disconnect(&key);
            }
        }
    }

    /// Sends what a host shall be told now; calls its agent when there is no session for it.
    fn speak(&mut self, now: Time, index: usize) {
        let host = &mut self.hosts[index];
        let Some(key) = host.target.key else { return };
        for command in host.commands(now, &self.plan, &mut self.rng) {
            self.endpoint.send(now, &key, &command.emit());
        }
        if host.wants_call(now, self.endpoint.is_connected(&key)) {
            self.call_agent(now, index);
        }
    }

    fn call_agent(&mut self, now: Time, index: usize) {
        let target = &self.hosts[index].target;
        if let Some(key) = target.key {
            self.endpoint.connect(now, key, target.address);
        }
    }

    /// What concerns all hosts, after something happened to some.
    fn settle(&mut self, now: Time) {
        self.grant_dialogues(now);
        self.grant_uploads(now);
        for (index, why) in self.stream.take_stalled() {
            self.touch(now, index, |host, plan, _| {
                if host.stage == Stage::Transfer {
                    host.leave_behind(now, why.to_owned(), plan);
                }
            });
        }
        if let Some(hosts) = self.stream.start_if_ready(now, &self.hosts, &self.plan.deadlines) {
            self.events.push_back(Event::TransferStarted { hosts });
        }
    }

    /// Gives free dialogues to hosts that wait for one, to those that are furthest first: they have deadlines of their own.
    fn grant_dialogues(&mut self, now: Time) {
        let needs = |host: &&Host| host.stage.needs_dialogue();
        let held = self.hosts.iter().filter(needs).filter(|host| host.may_speak).count();
        let free = config::DIALOGUES_MAX.saturating_sub(held);
        let waits = |index: &usize| {
            let host = &self.hosts[*index];
            host.is_waiting() && host.stage.needs_dialogue()
        };
        let mut waiting: Vec<usize> = (0..self.hosts.len()).filter(waits).collect();
        waiting.sort_by_key(|index| std::cmp::Reverse(self.hosts[*index].stage));
        for index in waiting.into_iter().take(free) {
            self.touch(now, index, |host, plan, _| host.grant_turn(now, plan));
        }
    }

    /// Gives free turns to upload to hosts that wait for one.
    fn grant_uploads(&mut self, now: Time) {
        if self.plan.escrow.is_none() {
            return;
        }
        self.uploading.retain(|index| self.hosts[*index].stage == Stage::Escrow);
        let free = UPLOADS_MAX - self.uploading.len();
        let waits = |index: &usize| self.hosts[*index].waits_for_upload();
        let waiting: Vec<usize> = (0..self.hosts.len()).filter(waits).take(free).collect();
        for index in waiting {
            self.uploading.push(index);
            self.touch(now, index, |host, plan, _| host.grant_turn(now, plan));
        }
    }
}

/// What a driver can see of a host.
#[derive(PartialEq, Eq)]
struct Seen {
    stage: Stage,
    phase: firmcast::wire::answer::Phase,
    progress: (u32, u32),
}

impl Seen {
    fn of(host: &Host) -> Self {
        Self { stage: host.stage, phase: host.phase, progress: host.progress() }
    }
}

fn draw(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn multicast_group(delivery: Delivery) -> Option<IpAddr> {
    match delivery {
        Delivery::Group(group) => Some(group),
        Delivery::Broadcast | Delivery::Unicast => None,
    }
}

/// All uploads together stay below the operator's cap.
fn upload_rate_kbit_s(rate_mbit: u32, hosts: usize) -> u32 {
    let uploads = u32::try_from(hosts.clamp(1, UPLOADS_MAX)).unwrap_or(u32::MAX);
    (rate_mbit.saturating_mul(1000) / uploads).max(1)
}

fn report_interval_ms(hosts: usize) -> u16 {
    let interval =
        (hosts * REPORT_SPACING_MS).clamp(REPORT_INTERVAL_MS_MIN, REPORT_INTERVAL_MS_MAX);
    u16::try_from(interval).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
