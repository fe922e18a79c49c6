//! What the recovery environment does, from the first call to the manager to the reboot. Sans-IO.
//!
//! ```text
//! Waiting --manifest verified, Join--> Receiving --image verified--> Verified --Commit--> Flashing
//!    |                                     |                            |                    |
//!    | manager not reached, silence, Release, manifest refused, image wrong                  |
//!    '-------------------------------------+----------------------------'                    |
//!                                          v                                                 |
//!                       Ended (flash untouched) <------ chip holds all old or all new -------'
//!                          | Release, or nobody says so in time                      neither |
//!                          v                                                                 v
//!                       Rebooting                 Mixed: never reboots, tries again, asks for help
//! ```
//!
//! In a drill the commit is a rehearsal: the job is prepared and never permitted to change
//! anything, and the host ends with its flash untouched.
//!
//! With a commit that asks for escrow, a flashing host uploads its backup before the first change;
//! until then it can still be released.
//!
//! The host repeats its report until the manager acts on it. The drive rule is the endpoint's
//! ([`crate::session::endpoint`]), and after every call the driver does what
//! [`Recovery::poll_action`] says.

mod commands;
mod escrow;
mod merge;
mod receive;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use log::{info, warn};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::backoff::Backoff;
use crate::image::assembly::ManifestAssembly;
use crate::image::{Board, KnownGood, VerifiedImage, VerifiedManifest};
use crate::keys::{HostSecretKey, ManagerPublicKey, ReleasePublicKey};
use crate::random::{self, jitter};
use crate::reason::{Ending, FlashState, Reason, Refusal};
use crate::session::{Endpoint, PeerKey, SessionEvent, Transmit};
use crate::time::Time;
use crate::transfer::{Received, Receiver};
use crate::wire::answer::{Answer, End, Identity, Phase, Report};
use crate::wire::broadcast::{Broadcast, TransferParameters};

pub use escrow::{ESCROW_SILENCE_MAX, FRAGMENTS_WAITING_MAX, OFFER_INTERVAL, Permit};

use escrow::Escrow;
use merge::Merge;

/// Time between two reports until the manager names another.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The first wait before a report is repeated to which the host awaits the manager's word; the
/// waits grow up to the interval.
pub const REPORT_WAIT_MIN: Duration = Duration::from_millis(50);
/// Bounds of the interval that a manager may name, in milliseconds.
pub const REPORT_INTERVAL_MS: std::ops::RangeInclusive<u16> = 100..=30_000;
/// After this long without a word from the manager, a new session is opened beside the old one: it
/// may have restarted.
pub const RECONNECT_AFTER: Duration = Duration::from_secs(10);
/// The longest stay with untouched flash, whatever the manager says.
pub const UNTOUCHED_STAY_MAX: Duration = Duration::from_secs(3600);
/// How long an ended host waits to be released before it reboots by itself.
pub const RELEASE_WAIT: Duration = Duration::from_secs(60);
/// How often a chip that this stay left mixed is written again without being asked.
pub const RESCUE_ATTEMPTS_MAX: u32 = 3;
/// Pause before each of them.
pub const RESCUE_PAUSE: Duration = Duration::from_secs(10);

/// What the recovery environment was started for.
#[derive(Debug)]
pub struct Mission {
    /// The campaign.
    pub campaign: u64,
    /// The manager that gave the instruction.
    pub manager: ManagerPublicKey,
    /// Where it is.
    pub manager_address: SocketAddr,
    /// This host's key.
    pub host_key: HostSecretKey,
    /// Keys of releases that may be flashed.
    pub releases: Vec<ReleasePublicKey>,
    /// What the manifest must fit.
    pub board: Board,
    /// What the host says of itself.
    pub identity: Identity,
    /// How long to look for the manager.
    pub reach_timeout: Duration,
    /// How long to wait without a word from the manager or a new fragment.
    pub transfer_timeout: Duration,
    /// The host asked for help by itself: after its last try it leaves the campaign to look for
    /// help again.
    pub rescue: bool,
    /// The host goes as far as the first change, and no further: it follows no commit.
    pub drill: bool,
    /// What this stay has done to the flash so far, and what its contents were like when the stay
    /// began. Only a host that asked for help by itself knows of broken contents, or has changed
    /// the chip already.
    pub flash: FlashState,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Action {
    /// Receive what is sent to this multicast group.
    JoinGroup(IpAddr),
    /// Read this range of the chip's contents twice, and hand it to [`Recovery::piece_read`]: it
    /// should be a piece of the image that is not sent.
    ReadPiece {
        /// Number of the piece.
        piece: usize,
        /// Where the chip should have it, in bytes.
        range: Range<u64>,
    },
    /// Write this image, or in a drill only prepare that, saying how it goes with
    /// [`Recovery::flash_progress`] and [`Recovery::flash_ended`].
    Flash {
        /// The image.
        image: VerifiedImage,
        /// What this stay has done to the chip so far, and what its contents were like.
        flash: FlashState,
        /// Nothing may be changed.
        drill: bool,
    },
    /// The campaign is over for this host. Only a mission that was a rescue can end where no reboot
    /// is safe.
    Leave(End),
}

/// How a flash job ended.
#[derive(Clone, Debug)]
pub struct FlashEnd {
    /// Why, and what the chip holds.
    pub ending: Ending,
    /// SHA-256 of the chip before and after.
    pub digests: Option<([u8; 32], [u8; 32])>,
}

#[derive(Debug)]
enum State {
    Waiting,
    Receiving,
    Verified,
    Flashing(Phase),
    Ended {
        until: Time,
    },
    /// This stay has changed the chip and not finished, or its contents are broken and it cannot
    /// look for help.
    Unfinished {
        next_try: Option<Time>,
    },
    Rebooting,
}

/// The recovery environment of one host.
#[derive(Debug)]
pub struct Recovery {
    mission: Mission,
    endpoint: Endpoint,
    rng: ChaCha20Rng,
    started: Time,
    /// When the manager was last heard.
    heard: Option<Time>,
    /// When the manager was last heard, or a new fragment arrived.
    progress: Time,
    called: Time,
    assembly: Option<ManifestAssembly>,
    manifest: Option<VerifiedManifest>,
    /// The record of an updated chip, where the manifest alone does not tell.
    recorded: Option<KnownGood>,
    parameters: Option<TransferParameters>,
    /// Goes on to answer status requests when it is complete.
    receiver: Option<Box<Receiver>>,
    /// What comes from the host's own chip, when not all of the image travels.
    merge: Option<Merge>,
    /// Set when it is verified, and kept for another try on a mixed chip.
    image: Option<VerifiedImage>,
    rescues: u32,
    /// What this stay has done to the flash so far.
    flash: FlashState,
    escrow: Escrow,
    state: State,
    report: Report,
    report_interval: Duration,
    /// Phase of the last report, and the waits before it is repeated.
    reported: Option<Phase>,
    report_waits: Backoff,
    next_report: Time,
    actions: VecDeque<Action>,
}

impl Recovery {
    /// Starts calling the manager. `seed` must come from the system's random source and be used
    /// once.
    pub fn new(now: Time, mission: Mission, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut endpoint = Endpoint::new(*mission.host_key.exchange(), random::seed(&mut rng));
        endpoint.connect(now, *mission.manager.exchange(), mission.manager_address);
        let report = Report {
            campaign: mission.campaign,
            phase: Phase::Ready,
            ending: Ending::new(Reason::None, mission.flash, ""),
            done: 0,
            total: 0,
            digests: None,
            lacking: None,
        };
        Self {
            flash: mission.flash,
            mission,
            endpoint,
            rng,
            started: now,
            heard: None,
            progress: now,
            called: now,
            assembly: None,
            manifest: None,
            recorded: None,
            parameters: None,
            receiver: None,
            merge: None,
            image: None,
            rescues: 0,
            escrow: Escrow::new(),
            state: State::Waiting,
            report,
            report_interval: REPORT_INTERVAL,
            reported: None,
            report_waits: Backoff::new(REPORT_WAIT_MIN, REPORT_INTERVAL),
            next_report: now,
            actions: VecDeque::new(),
        }
    }

    /// Where the host stands.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes a datagram from the socket.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        if let Ok(sealed) = Broadcast::parse(datagram) {
            self.handle_broadcast(now, &sealed);
            return;
        }
        match self.endpoint.handle_datagram(now, from, datagram) {
            // Only the first: a manager that was started anew answers calls, and knows nothing of
            // this campaign.
            Some(SessionEvent::Connected { peer, .. }) if self.heard.is_none() => {
                self.hear(now, peer)
            }
            Some(SessionEvent::Connected { .. } | SessionEvent::StaleCall { .. }) => {}
            Some(SessionEvent::Incompatible { address, mismatch, .. }) => {
                warn!("the manager at {address} is no match: {mismatch}");
            }
            Some(SessionEvent::Message { peer, bytes, .. }) => {
                self.hear(now, peer);
                self.handle_command(now, &bytes);
            }
            None => {}
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.endpoint.handle_timeout(now);
        self.escrow.handle_timeout(now);
        self.offer_backup(now);
        self.answer_status_request(now);
        self.keep_in_touch(now);
        match self.state {
            State::Waiting | State::Receiving | State::Verified => self.check_deadlines(now),
            State::Ended { until } if now >= until => self.reboot(),
            State::Unfinished { next_try: Some(at) } if now >= at => self.flash(),
            _ => {}
        }
        if now >= self.next_report {
            self.send_report(now);
        }
    }

    /// When [`Recovery::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let receiver = self.receiver.as_ref().and_then(|receiver| receiver.poll_timeout());
        let state = match self.state {
            State::Waiting | State::Receiving | State::Verified => Some(self.deadline().0),
            State::Ended { until } => Some(until),
            State::Unfinished { next_try } => next_try,
            State::Flashing(_) | State::Rebooting => None,
        };
        let escrow = self.escrow.poll_timeout();
        [self.endpoint.poll_timeout(), receiver, escrow, state, Some(self.next_report)]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit().or_else(|| self.poll_backup_fragment())
    }

    /// What the driver has to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Records how far the flash job is; `done` and `total` are eraseblocks, or fragments in
    /// escrow.
    pub fn flash_progress(&mut self, now: Time, phase: Phase, done: u32, total: u32) {
        if let State::Flashing(current) = &mut self.state {
            let changed = std::mem::replace(current, phase) != phase;
            (self.report.phase, self.report.done, self.report.total) = (phase, done, total);
            if changed {
                info!("{}", phase.name());
                self.send_report(now);
            }
        }
    }

    /// Records how the flash job ended.
    pub fn flash_ended(&mut self, now: Time, end: FlashEnd) {
        if !matches!(self.state, State::Flashing(_)) {
            return;
        }
        let FlashEnd { mut ending, digests } = end;
        if let Some(note) = self.escrow.note() {
            let separator = if ending.detail.is_empty() { "" } else { "; " };
            ending.detail = format!("{note}{separator}{}", ending.detail);
        }
        self.report.digests = digests;
        self.flash = ending.flash;
        // Only what this stay began is finished without another word from the manager.
        let tries_again = ending.flash.is_unfinished() && self.rescues < RESCUE_ATTEMPTS_MAX;
        let may_leave = self.mission.rescue && !tries_again;
        match ending.flash {
            FlashState::Updated => self.end(now, Phase::Updated, ending),
            _ if ending.reason == Reason::Drilled => self.end(now, Phase::Drilled, ending),
            flash if flash.reboot_is_safe() || may_leave => self.end(now, Phase::Failed, ending),
            _ => self.stay_unfinished(now, tries_again, ending),
        }
    }

    fn stay_unfinished(&mut self, now: Time, tries_again: bool, ending: Ending) {
        warn!("{ending}: this machine will not reboot by itself");
        self.rescues += u32::from(tries_again);
        self.state = State::Unfinished { next_try: tries_again.then(|| now + RESCUE_PAUSE) };
        (self.report.phase, self.report.ending) = (Phase::Failed, ending);
        self.send_report(now);
    }

    /// Ends the stay because something outside this machine failed, e.g. there is no network.
    /// Nothing was flashed.
    pub fn give_up(&mut self, now: Time, refusal: &Refusal) {
        if matches!(self.state, State::Waiting | State::Receiving | State::Verified) {
            self.end(now, Phase::Failed, refusal.clone().ending(self.flash));
        }
    }

    /// Takes what the flash job says of the chip as it is after an update, where the manifest alone
    /// does not tell.
    pub fn record(&mut self, good: KnownGood) {
        self.recorded = Some(good);
    }

    /// What stands in flash after an update.
    pub fn known_good(&self) -> Option<KnownGood> {
        let is_updated = self.report.ending.flash == FlashState::Updated;
        let manifest = self.manifest.as_ref().filter(|_| is_updated)?;
        match manifest.parts() {
            [] => Some(KnownGood::of_manifest(manifest)),
            _ => self.recorded.clone(),
        }
    }

    fn manager(&self) -> PeerKey {
        *self.mission.manager.exchange()
    }

    fn hear(&mut self, now: Time, peer: PeerKey) {
        if peer != self.manager() {
            return;
        }
        if self.heard.is_none() {
            info!("the manager {} answers", self.mission.manager_address);
            self.next_report = now;
        }
        self.heard = Some(now);
        self.progress = now;
    }

    fn handle_broadcast(&mut self, now: Time, sealed: &Broadcast<'_>) {
        let Some(receiver) = &mut self.receiver else { return };
        let received = receiver.handle_broadcast(now, sealed);
        if !matches!(received, Received::Useful | Received::StatusRequest) {
            return;
        }
        (self.heard, self.progress) = (Some(now), now);
        if received == Received::Useful && matches!(self.state, State::Receiving) {
            (self.report.done, self.report.total) = receiver.progress();
            if receiver.is_complete() {
                self.open_payload(now);
            }
        }
    }

    fn end(&mut self, now: Time, phase: Phase, ending: Ending) {
        info!("{}: {ending}", phase.name());
        (self.report.phase, self.report.ending) = (phase, ending);
        (self.image, self.receiver, self.merge) = (None, None, None);
        self.state = State::Ended { until: now + RELEASE_WAIT };
        // Who never heard the manager has nobody to wait for.
        if self.heard.is_none() {
            self.reboot();
        }
        self.send_report(now);
    }

    fn reboot(&mut self) {
        if matches!(self.state, State::Rebooting) {
            return;
        }
        self.state = State::Rebooting;
        self.report.phase = Phase::Rebooting;
        let (campaign, ending) = (self.mission.campaign, self.report.ending.clone());
        self.actions.push_back(Action::Leave(End { campaign, ending }));
    }

    /// The next deadline of a host whose flash is untouched, and what it means to miss it.
    fn deadline(&self) -> (Time, Reason) {
        let stay = (self.started + UNTOUCHED_STAY_MAX, Reason::TransferTimedOut);
        let wait = match self.heard {
            None => (self.started + self.mission.reach_timeout, Reason::ManagerNotReached),
            Some(_) => (self.progress + self.mission.transfer_timeout, Reason::TransferTimedOut),
        };
        if wait.0 <= stay.0 { wait } else { stay }
    }

    fn check_deadlines(&mut self, now: Time) {
        let (deadline, reason) = self.deadline();
        if now < deadline {
            return;
        }
        let detail = match reason {
            Reason::ManagerNotReached => {
                let seconds = self.mission.reach_timeout.as_secs();
                format!("{} did not answer within {seconds} s", self.mission.manager_address)
            }
            _ => format!(
                "{} of {} fragments, then nothing for {} s",
                self.report.done,
                self.report.total,
                now.since(self.progress).as_secs()
            ),
        };
        self.give_up(now, &Refusal::new(reason, detail));
    }

    /// Opens a new session when the manager fell silent.
    fn keep_in_touch(&mut self, now: Time) {
        let silent_since = self.heard.unwrap_or(self.started).max(self.called);
        let over = matches!(self.state, State::Rebooting);
        if !over && now.since(silent_since) >= RECONNECT_AFTER {
            self.called = now;
            let (manager, address) = (self.manager(), self.mission.manager_address);
            self.endpoint.connect(now, manager, address);
        }
    }

    fn send_report(&mut self, now: Time) {
        let report = Answer::Report(self.report.clone());
        self.send(now, &report);
        let phase = Some(self.report.phase);
        if self.heard.is_some() && std::mem::replace(&mut self.reported, phase) != phase {
            self.report_waits = match self.state {
                State::Waiting | State::Verified | State::Ended { .. } => {
                    Backoff::new(REPORT_WAIT_MIN, self.report_interval)
                }
                _ => Backoff::steady(self.report_interval),
            };
        }
        self.next_report = now + jitter(self.report_waits.next_pause(), 100, &mut self.rng);
    }

    fn send(&mut self, now: Time, answer: &Answer) {
        // Without a session nothing can be said yet; the report is repeated.
        let manager = self.manager();
        self.endpoint.send(now, &manager, &answer.emit());
    }
}
