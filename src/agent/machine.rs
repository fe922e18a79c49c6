//! What the agent does with each datagram. Sans-IO: time, bytes and the computer are handed in.
//!
//! ```text
//!       ManifestPart        Begin, preflight passed, recovery loaded
//!   Idle ------> Idle (held) ----------------------------------> Entering
//!    ^                | Begin, anything off: Refused                |  |
//!    |----------------'   Release, or recovery could not be started |  '--> Action::EnterRecovery
//!    '--------------------------------------------------------------'
//! ```
//!
//! The action comes after the answer to the instruction was sent.
//!
//! The drive rule: after every call send all of [`Agent::poll_transmit`], then do what
//! [`Agent::poll_action`] says. There is no timeout: an agent that nobody talks to has nothing to
//! do.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use log::{error, info, warn};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use self::manifests::Manifests;
use self::refused::Refused;
use self::reports::{accepted, idle, log_measurement, only_in_recovery, refused};
use super::log_budget::LogBudget;
use super::outlook::Outlook;
use crate::image::VerifiedManifest;
use crate::keys::{HostSecretKey, ManagerPublicKey, PublicKey as _, ReleasePublicKey};
use crate::random;
use crate::reason::{Reason, Refusal};
use crate::session::discovery::{Asked, DiscoveryResponder, Heard};
use crate::session::{Endpoint, PeerKey, SessionEvent, Transmit};
use crate::time::Time;
use crate::wire::answer::{Answer, Identity, Measurement};
use crate::wire::codec::DecodeError;
use crate::wire::command::Command;
use crate::wire::excerpt::PieceSet;
use crate::wire::finding::{Acceptance, Finding};
use crate::wire::fragment_status::FragmentStatus;

mod manifests;
mod refused;
mod reports;
#[cfg(test)]
mod tests;

/// How long a measurement answers repeated questions, so that a lost answer does not cost a second
/// read of the chip.
pub const MEASUREMENT_LIFETIME: Duration = Duration::from_secs(120);

/// How long an accepted campaign keeps others out. The normal OS has gone by then, or it hangs in
/// its shutdown.
pub const ENTERING_LIFETIME: Duration = Duration::from_secs(900);

/// An instruction to begin the recovery procedure; its manifest's signature is checked.
#[derive(Clone, Copy, Debug)]
pub struct UpdateOrder<'a> {
    /// The campaign.
    pub campaign: u64,
    /// Who gave the instruction.
    pub manager: &'a ManagerPublicKey,
    /// Where that manager is.
    pub manager_address: SocketAddr,
    /// How long the recovery environment looks for the manager, in seconds.
    pub reach_timeout_s: u16,
    /// How long it waits without any progress of the transfer, in seconds.
    pub transfer_timeout_s: u16,
    /// What the operator accepts although it is in the way.
    pub accepted: Acceptance,
    /// Whether it is a drill, which changes nothing.
    pub drill: bool,
    /// What to flash.
    pub manifest: &'a VerifiedManifest,
}

/// The computer that the agent runs on: the real one, or one of the simulator's.
pub trait HostSystem {
    /// Who this host is and whether it could be updated.
    fn identity(&mut self, asker: SocketAddr) -> Identity;

    /// Checks every precondition and makes the recovery environment ready to be entered. Returns
    /// the pieces of the image that the chip lacks, where that is known.
    ///
    /// # Errors
    /// The first thing that is off. Then nothing has happened, and nothing is left behind.
    fn prepare(&mut self, order: &UpdateOrder<'_>) -> Result<Option<PieceSet>, Refusal>;

    /// Undoes what [`HostSystem::prepare`] did.
    fn abandon(&mut self);

    /// Whether a measurement has to wait: the manager asks again.
    fn holds_measurement(&self) -> bool {
        false
    }

    /// Compares what stands in flash with the manifest's image.
    fn measure(&mut self, campaign: u64, manifest: &VerifiedManifest) -> Measurement;

    /// Says how much an update would change, or why it would be refused; and which preconditions
    /// are not simply met. Does nothing.
    fn foresee(&mut self, order: &UpdateOrder<'_>) -> (Result<Outlook, Refusal>, Vec<Finding>);
}

/// What the driver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave the normal operating system for the prepared recovery environment. If that fails, say
    /// so with [`Agent::recovery_failed`].
    EnterRecovery,
}

/// The agent of one host.
pub struct Agent {
    endpoint: Endpoint,
    discovery: DiscoveryResponder,
    host_key: HostSecretKey,
    managers: BTreeMap<PeerKey, ManagerPublicKey>,
    rng: ChaCha20Rng,
    manifests: Manifests,
    entering: Option<Entering>,
    /// The last answer for which the whole chip was read.
    refused: Option<Refused>,
    measured: Option<Measured>,
    /// What waits to be sent outside of sessions; answers inside wait in the endpoint.
    answers: VecDeque<Transmit>,
    action: Option<Action>,
    log: LogBudget,
}

/// An instruction to begin a campaign, and whose it is.
#[derive(Clone, Copy, Debug)]
struct Begin {
    campaign: u64,
    peer: PeerKey,
    address: SocketAddr,
    reach_timeout_s: u16,
    transfer_timeout_s: u16,
    accepted: Acceptance,
    drill: bool,
}

/// The campaign whose recovery environment is being entered, whose it is, and until when it keeps
/// others out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entering {
    campaign: u64,
    manager: PeerKey,
    until: Time,
    /// Pieces of the image that the chip lacks, where that is known.
    lacking: Option<PieceSet>,
}

impl Entering {
    fn is(&self, campaign: u64, manager: PeerKey) -> bool {
        self.campaign == campaign && self.manager == manager
    }

    /// What another campaign is told.
    fn keeps_out(&self) -> Refusal {
        let detail = format!("campaign {:016x} is being started", self.campaign);
        Refusal::new(Reason::Busy, detail)
    }
}

#[derive(Clone, Debug)]
struct Measured {
    by: PeerKey,
    until: Time,
    command: Command,
    answer: Answer,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("entering", &self.entering).finish_non_exhaustive()
    }
}

impl Agent {
    /// The agent of the host with this key, which trusts these managers and releases. `seed` must
    /// come from the system's random source and be used once.
    pub fn new(
        host_key: HostSecretKey,
        managers: Vec<ManagerPublicKey>,
        releases: Vec<ReleasePublicKey>,
        seed: [u8; 32],
    ) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut endpoint = Endpoint::new(*host_key.exchange(), random::seed(&mut rng));
        managers.iter().for_each(|manager| endpoint.allow(*manager.exchange()));
        // `collect` would sort first, and bring a sort for these alone.
        let mut by_key = BTreeMap::new();
        by_key.extend(managers.iter().map(|key| (*key.exchange(), key.clone())));
        Self {
            endpoint,
            discovery: DiscoveryResponder::new(managers),
            host_key,
            managers: by_key,
            rng,
            manifests: Manifests::new(releases),
            entering: None,
            refused: None,
            measured: None,
            answers: VecDeque::new(),
            action: None,
            log: LogBudget::default(),
        }
    }

    /// Whether the agent may be ended now: no campaign is about to take this host away.
    pub fn may_end(&self, now: Time) -> bool {
        self.entering.is_none_or(|entering| entering.until <= now)
    }

    /// The campaign whose recovery environment is being entered.
    pub fn entering(&self) -> Option<u64> {
        self.entering.map(|entering| entering.campaign)
    }

    /// Takes a datagram from the socket.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        bytes: &[u8],
        system: &mut dyn HostSystem,
    ) {
        if let Some(heard) = self.discovery.handle(now, from, bytes, &mut self.rng) {
            let answer = match heard {
                Heard::Asked(asked) => self.answer_discovery(now, from, &asked, system),
                Heard::Busy(reply) => Some(reply),
            };
            self.answers.extend(answer.map(|bytes| Transmit { to: from, bytes }));
            return;
        }
        match self.endpoint.handle_datagram(now, from, bytes) {
            Some(SessionEvent::Message { peer, address, bytes, .. }) => {
                self.handle_message(now, peer, address, &bytes, system);
            }
            Some(SessionEvent::Connected { .. }) => {}
            Some(SessionEvent::Incompatible { address, mismatch, .. }) => {
                self.log.line(now, || warn!("the manager at {address} is no match: {mismatch}"));
            }
            Some(SessionEvent::StaleCall { peer, .. }) => self.tell_stale(now, from, &peer),
            None => match self.endpoint.poll_transmit() {
                Some(handshake) => self.answers.push_back(handshake),
                None => self.log.count_dropped(now),
            },
        }
    }

    fn answer_discovery(
        &mut self,
        now: Time,
        from: SocketAddr,
        asked: &Asked,
        system: &mut dyn HostSystem,
    ) -> Option<Vec<u8>> {
        if asked.is_stale() {
            self.tell_stale(now, from, asked.manager().exchange());
        }
        let seed = random::seed(&mut self.rng);
        self.discovery.answer(asked, &self.host_key, &system.identity(from), seed)
    }

    fn tell_stale(&mut self, now: Time, from: SocketAddr, manager: &PeerKey) {
        let key = self.managers.get(manager).map(|key| key.fingerprint().to_string());
        self.log.line(now, || {
            warn!(
                "{from} has an older stamp of manager key {} than was seen before: its clock was \
                set back, or another machine has this key",
                key.unwrap_or_default()
            );
        });
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.answers.pop_front().or_else(|| self.endpoint.poll_transmit())
    }

    /// What the driver has to do, once.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.action.take()
    }

    /// Refuses the campaign after all: the recovery environment could not be entered.
    pub fn recovery_failed(&mut self, now: Time, refusal: &Refusal, system: &mut dyn HostSystem) {
        let Some(Entering { campaign, manager, .. }) = self.entering.take() else { return };
        system.abandon();
        self.log.line(now, || error!("campaign {campaign:016x} cannot go on: {refusal}"));
        self.refused = Refused::finally(campaign, manager, refusal);
        self.send(now, &manager, refused(campaign, refusal));
    }

    fn handle_message(
        &mut self,
        now: Time,
        peer: PeerKey,
        address: SocketAddr,
        bytes: &[u8],
        system: &mut dyn HostSystem,
    ) {
        let answer = match Command::parse(bytes) {
            Ok(Command::Query) => Answer::Identity(system.identity(address)),
            Ok(Command::ManifestPart { campaign, total_bytes, offset_bytes, bytes }) => {
                let assembly = self.manifests.assembly(peer, campaign, total_bytes);
                assembly.add(offset_bytes, &bytes);
                Answer::ManifestHeld { campaign, held_bytes: assembly.held_bytes() }
            }
            Ok(Command::Begin {
                campaign,
                reach_timeout_s,
                transfer_timeout_s,
                accepted,
                drill,
            }) => {
                let begin = Begin {
                    campaign,
                    peer,
                    address,
                    reach_timeout_s,
                    transfer_timeout_s,
                    accepted,
                    drill,
                };
                self.begin(now, &begin, system)
            }
            Ok(command @ (Command::Measure { .. } | Command::Foresee { .. })) => {
                self.read_flash(now, peer, address, &command, system)
            }
            Ok(Command::Release { campaign }) => self.release(now, peer, campaign, system),
            Ok(Command::Join { parameters, .. }) => only_in_recovery(parameters.campaign),
            Ok(
                Command::Commit { campaign }
                | Command::CommitWithEscrow { campaign, .. }
                | Command::Rehearse { campaign, .. }
                | Command::BackupStored { campaign, .. }
                | Command::BackupStatus(FragmentStatus { campaign, .. })
                | Command::Enlist { campaign, .. },
            ) => only_in_recovery(campaign),
            Ok(Command::Hold { .. }) => only_in_recovery(0),
            Ok(Command::NotUnderstood { kind }) => {
                let advice = "update the manager";
                self.log.line(now, || warn!("{address} knows no answer {kind:#04x}: {advice}"));
                return;
            }
            Err(error) => {
                self.log.line(now, || warn!("command from {address} not understood: {error}"));
                let DecodeError::UnknownType(kind) = error else { return };
                Answer::NotUnderstood { kind }
            }
        };
        self.send(now, &peer, answer);
    }

    fn send(&mut self, now: Time, peer: &PeerKey, answer: Answer) {
        // Without a session, or in one at its end, nothing can be said; the manager opens a new one
        // and asks again.
        let answer = answer.for_version(self.endpoint.spoken(peer));
        self.endpoint.send(now, peer, &answer.emit());
    }

    fn begin(&mut self, now: Time, begin: &Begin, system: &mut dyn HostSystem) -> Answer {
        self.forget_expired(now, system);
        if let Some(entering) = self.entering.filter(|it| it.is(begin.campaign, begin.peer)) {
            return accepted(begin.campaign, entering.lacking);
        }
        let before = self.refused.as_ref().and_then(|was| was.of(begin.campaign, begin.peer));
        if let Some(refusal) = before {
            return refused(begin.campaign, refusal);
        }
        match self.enter(begin, system) {
            Ok(lacking) => self.accept(now, begin, lacking),
            Err(refusal) => self.refuse(now, begin, &refusal),
        }
    }

    /// An acceptance that nobody followed up keeps others out no longer.
    fn forget_expired(&mut self, now: Time, system: &mut dyn HostSystem) {
        if self.entering.is_some_and(|entering| now >= entering.until) {
            self.entering = None;
            system.abandon();
        }
    }

    /// Makes the recovery environment ready, unless another campaign is about to enter it.
    fn enter(
        &mut self,
        begin: &Begin,
        system: &mut dyn HostSystem,
    ) -> Result<Option<PieceSet>, Refusal> {
        if let Some(other) = &self.entering {
            return Err(other.keeps_out());
        }
        self.prepare(begin.peer, begin.campaign, |manager, manifest| {
            system.prepare(&UpdateOrder {
                campaign: begin.campaign,
                manager,
                manager_address: begin.address,
                reach_timeout_s: begin.reach_timeout_s,
                transfer_timeout_s: begin.transfer_timeout_s,
                accepted: begin.accepted,
                drill: begin.drill,
                manifest,
            })
        })
    }

    fn accept(&mut self, now: Time, begin: &Begin, lacking: Option<PieceSet>) -> Answer {
        let Begin { campaign, peer: manager, address, drill, .. } = *begin;
        let what = if drill { "drill" } else { "campaign" };
        self.log.line(now, || info!("{what} {campaign:016x} of {address}: accepted"));
        let until = now + ENTERING_LIFETIME;
        self.entering = Some(Entering { campaign, manager, until, lacking });
        self.action = Some(Action::EnterRecovery);
        accepted(campaign, lacking)
    }

    fn refuse(&mut self, now: Time, begin: &Begin, refusal: &Refusal) -> Answer {
        let Begin { campaign, peer, address, .. } = *begin;
        self.log.line(now, || warn!("campaign {campaign:016x} of {address} refused: {refusal}"));
        self.refused = Refused::finally(campaign, peer, refusal).or(self.refused.take());
        refused(campaign, refusal)
    }

    fn prepare<T>(
        &mut self,
        peer: PeerKey,
        campaign: u64,
        prepare: impl FnOnce(&ManagerPublicKey, &VerifiedManifest) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let manifest = self.manifests.verified(peer, campaign)?;
        let manager = self.managers.get(&peer).ok_or_else(|| {
            Refusal::new(Reason::NotPossibleNow, "the manager is no longer trusted")
        })?;
        prepare(manager, &manifest)
    }

    /// Answers what takes a read of the whole chip; the same question again is answered from memory
    /// for a while.
    fn read_flash(
        &mut self,
        now: Time,
        peer: PeerKey,
        address: SocketAddr,
        command: &Command,
        system: &mut dyn HostSystem,
    ) -> Answer {
        let again = self
            .measured
            .as_ref()
            .filter(|known| known.by == peer && known.command == *command && now < known.until);
        if let Some(known) = again {
            return known.answer.clone();
        }
        if let Some(refusal) = self.refusal_while_leaving(now, peer, address, command, system) {
            return refusal;
        }
        let answer = match *command {
            Command::Foresee { campaign, accepted } => {
                self.foresee(peer, address, (campaign, accepted), system)
            }
            Command::Measure { campaign } => self.measure(now, peer, campaign, system),
            _ => unreachable!("only these two are handed on"),
        };
        if !matches!(answer, Answer::Report(_)) {
            let until = now + MEASUREMENT_LIFETIME;
            let (command, answer) = (command.clone(), answer.clone());
            self.measured = Some(Measured { by: peer, until, command, answer });
        }
        answer
    }

    /// A host on its way into another campaign still answers and is not home any more: what its
    /// chip holds is about to change. Only the campaign that it came back from may know how that
    /// ended.
    fn refusal_while_leaving(
        &mut self,
        now: Time,
        peer: PeerKey,
        address: SocketAddr,
        command: &Command,
        system: &mut dyn HostSystem,
    ) -> Option<Answer> {
        self.forget_expired(now, system);
        let (Command::Foresee { campaign, .. } | Command::Measure { campaign }) = *command else {
            return None;
        };
        let entering = self.entering.filter(|entering| !entering.is(campaign, peer))?;
        let last_end = system.identity(address).last_end;
        let came_back = last_end.is_some_and(|end| end.campaign == campaign);
        (!came_back).then(|| refused(campaign, &entering.keeps_out()))
    }

    fn measure(
        &mut self,
        now: Time,
        peer: PeerKey,
        campaign: u64,
        system: &mut dyn HostSystem,
    ) -> Answer {
        match self.manifests.verified(peer, campaign) {
            Ok(_) if system.holds_measurement() => idle(campaign),
            Ok(manifest) => {
                let measurement = system.measure(campaign, &manifest);
                self.log.line(now, || log_measurement(&measurement));
                Answer::Measurement(measurement)
            }
            Err(refusal) => refused(campaign, &refusal),
        }
    }

    fn foresee(
        &mut self,
        peer: PeerKey,
        manager_address: SocketAddr,
        (campaign, accepted): (u64, Acceptance),
        system: &mut dyn HostSystem,
    ) -> Answer {
        let foresight = self.prepare(peer, campaign, |manager, manifest| {
            Ok(system.foresee(&UpdateOrder {
                campaign,
                manager,
                manager_address,
                reach_timeout_s: 0,
                transfer_timeout_s: 0,
                accepted,
                drill: false,
                manifest,
            }))
        });
        match foresight {
            Ok((outlook, findings)) => {
                Answer::Foresight(Outlook::tell(outlook, campaign, findings))
            }
            Err(refusal) => refused(campaign, &refusal),
        }
    }

    /// Forgets the campaign. What is being entered is taken back, as far as that is still possible.
    fn release(
        &mut self,
        now: Time,
        peer: PeerKey,
        campaign: u64,
        system: &mut dyn HostSystem,
    ) -> Answer {
        self.manifests.forget(peer, campaign);
        self.measured = None;
        if self.entering.is_some_and(|entering| entering.is(campaign, peer)) {
            self.log.line(now, || info!("campaign {campaign:016x}: released by its manager"));
            (self.entering, self.action) = (None, None);
            system.abandon();
        }
        idle(campaign)
    }
}
