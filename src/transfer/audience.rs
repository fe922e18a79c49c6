//! What the sender knows of each host.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::TransferError;
use super::geometry::Geometry;
use super::receiver::RESTARTS_MAX;
use super::sent::Sent;
use crate::time::Time;
use crate::wire::broadcast::{FragmentRange, FragmentStatus, Missing};

/// Maximum number of hosts that one transfer serves.
pub const HOSTS_MAX: usize = 16_384;

/// Rounds without an answer, after which a host counts as stalled, once [`SILENCE_MAX`] has passed
/// too.
const SILENT_ROUNDS_MAX: u32 = 10;

/// Silent rounds after which the others no longer wait for a host's answer; if it comes in time, it
/// counts.
const PATIENCE_ROUNDS: u32 = 3;

/// How long a host may be silent: spanning tree may take a port away for half a minute.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// Rounds in which a host answered but had received nothing useful, after which it counts as
/// stalled.
const STUCK_ROUNDS_MAX: u32 = 16;

/// Maximum number of whole payloads that one host may say that it lacks, added up over all rounds.
/// One that loses nine of ten fragments needs ten. So a host that says whatever keeps the stream
/// going does not keep it going for ever.
const PAYLOADS_MAX: u64 = 16;

/// The estimate of a host's loss looks back over about this many fragments.
const LOSS_MEMORY: f64 = 4096.0;

/// A host, as the driver numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a host is no longer waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// It has not answered for a long time. If it answers after all, it is served again.
    Silent,
    /// It answers, but what is sent does not help it.
    NoProgress,
}

/// How far a host is, for display.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostProgress {
    /// Fragments it still needed when it answered last; none when it has not answered.
    pub missing: Option<u32>,
    /// Fragments that make the payload complete.
    pub need: u32,
    /// Estimate of the part of all fragments that it loses, 0 to 1.
    pub loss: f64,
    /// Why it is not waited for, if so.
    pub stalled: Option<Stall>,
}

#[derive(Debug)]
pub(super) struct Host {
    /// Fragments needed in each block, as of the last answer, and what had been sent when that was
    /// asked for; none where that is not known any more.
    needs: Vec<u32>,
    as_of: Option<Sent>,
    named: Option<Vec<FragmentRange>>,
    missing: Option<u32>,
    answered_round: Option<u32>,
    awaited: bool,
    heard_at: Time,
    silent_rounds: u32,
    stuck_rounds: u32,
    /// The fewest that were missing since it began.
    best_missing: Option<u32>,
    restarts: u32,
    /// Fragments that were sent for it in repair passes, and those of a whole payload.
    demanded: u64,
    payload_fragments: u32,
    stalled: Option<Stall>,
    loss: LossMeter,
}

/// Compares what was sent with what arrived.
#[derive(Debug)]
struct LossMeter {
    sent_before: u32,
    arrived_before: u32,
    sent: f64,
    arrived: f64,
    /// The same since the rate was last adapted.
    recent_sent: u32,
    recent_arrived: u32,
}

impl Host {
    fn new(now: Time, sent_fragments: u32) -> Self {
        let loss = LossMeter {
            sent_before: sent_fragments,
            arrived_before: 0,
            sent: 0.0,
            arrived: 0.0,
            recent_sent: 0,
            recent_arrived: 0,
        };
        Self {
            needs: Vec::new(),
            as_of: None,
            named: None,
            missing: None,
            answered_round: None,
            awaited: false,
            heard_at: now,
            silent_rounds: 0,
            stuck_rounds: 0,
            best_missing: None,
            restarts: 0,
            demanded: 0,
            payload_fragments: 0,
            stalled: None,
            loss,
        }
    }

    pub(super) fn needs(&self) -> &[u32] {
        &self.needs
    }

    /// Returns how many fragments of a block the host is expected to need when all that was sent
    /// has come to it or is lost. Nothing is expected of one that has not answered.
    pub(super) fn expected_need(&self, block: usize, sent: &Sent) -> Option<f64> {
        let (as_of, need) = (self.as_of.as_ref()?, self.needs.get(block)?);
        let under_way = f64::from(sent.since(as_of, block)) * (1.0 - self.loss());
        Some(f64::from(*need) - under_way)
    }

    /// Returns the missing source fragments, if the host named them.
    pub(super) fn named(&self) -> Option<&[FragmentRange]> {
        self.named.as_deref()
    }

    /// Part of the fragments that the host loses, 0 to 1.
    pub(super) fn loss(&self) -> f64 {
        self.loss.estimate()
    }

    fn is_active(&self) -> bool {
        self.missing != Some(0) && self.stalled.is_none()
    }

    fn take(&mut self, now: Time, status: &FragmentStatus, needs: Vec<u32>, newest: bool) {
        self.heard_at = now;
        self.silent_rounds = 0;
        self.answered_round = Some(status.round);
        self.awaited &= !newest;
        if self.missing == Some(0) && status.missing_total > 0 {
            self.restarts += 1;
            self.best_missing = None;
        }
        self.missing = Some(status.missing_total);
        self.needs = needs;
        self.named = match &status.missing {
            Missing::Numbers(ranges) => Some(ranges.clone()),
            Missing::Counts(_) => None,
        };
        if self.stalled == Some(Stall::Silent) {
            self.stalled = None;
        }
        if self.restarts > RESTARTS_MAX {
            self.stalled = Some(Stall::NoProgress);
        }
    }

    /// The round is over: counts silence and standing still. Gives the stall that this is now.
    fn close_round(&mut self, now: Time, round: u32, by_expectation: u32) -> Option<Stall> {
        // Also of a host that became complete by answering an older round.
        self.awaited = false;
        if !self.is_active() {
            return None;
        }
        if self.answered_round != Some(round) {
            self.silent_rounds += 1;
            let silent =
                self.silent_rounds >= SILENT_ROUNDS_MAX && now.since(self.heard_at) >= SILENCE_MAX;
            self.stalled = silent.then_some(Stall::Silent);
        } else {
            if self.best_missing.is_none_or(|best| self.missing.is_some_and(|now| now < best)) {
                self.best_missing = self.missing;
                self.stuck_rounds = 0;
            } else {
                self.stuck_rounds += 1;
            }
            self.demanded += u64::from(self.missing.unwrap_or_default());
            self.demanded += u64::from(by_expectation);
            let is_hopeless = self.stuck_rounds >= STUCK_ROUNDS_MAX
                || self.demanded > PAYLOADS_MAX * u64::from(self.payload_fragments);
            self.stalled = is_hopeless.then_some(Stall::NoProgress);
        }
        self.stalled
    }
}

impl LossMeter {
    fn measure(&mut self, sent_fragments: u32, arrived_fragments: u32) {
        let sent = sent_fragments.wrapping_sub(self.sent_before);
        let arrived = arrived_fragments.wrapping_sub(self.arrived_before).min(sent);
        self.sent_before = sent_fragments;
        self.arrived_before = arrived_fragments;
        self.recent_sent = self.recent_sent.saturating_add(sent);
        self.recent_arrived = self.recent_arrived.saturating_add(arrived);
        self.sent += f64::from(sent);
        self.arrived += f64::from(arrived);
        if self.sent > LOSS_MEMORY {
            let keep = LOSS_MEMORY / self.sent;
            self.sent *= keep;
            self.arrived *= keep;
        }
    }

    /// Loss since this was asked last, and over how many fragments; none while that are too few.
    fn take_recent(&mut self, fragments_min: u32) -> Option<(f64, u32)> {
        let (sent, arrived) = (self.recent_sent, self.recent_arrived);
        if sent < fragments_min.max(1) {
            return None;
        }
        (self.recent_sent, self.recent_arrived) = (0, 0);
        Some((1.0 - f64::from(arrived) / f64::from(sent), sent))
    }

    fn estimate(&self) -> f64 {
        if self.sent > 0.0 { 1.0 - self.arrived / self.sent } else { 0.0 }
    }
}

/// All hosts of a transfer.
#[derive(Debug, Default)]
pub(super) struct Audience {
    hosts: BTreeMap<HostId, Host>,
    active: usize,
    awaited: usize,
    is_lossy: bool,
}

impl Audience {
    /// Adds a host, or forgets what is known of one that was added before.
    pub(super) fn add(
        &mut self,
        now: Time,
        id: HostId,
        sent_fragments: u32,
    ) -> Result<(), TransferError> {
        self.remove(id);
        if self.hosts.len() == HOSTS_MAX {
            return Err(TransferError::TooManyHosts);
        }
        self.hosts.insert(id, Host::new(now, sent_fragments));
        self.active += 1;
        Ok(())
    }

    /// The stream begins: nobody was asked before, so nobody was silent.
    pub(super) fn start(&mut self, now: Time) {
        self.hosts.values_mut().for_each(|host| host.heard_at = now);
    }

    pub(super) fn remove(&mut self, id: HostId) {
        if let Some(host) = self.hosts.remove(&id) {
            self.active -= usize::from(host.is_active());
            self.awaited -= usize::from(host.awaited);
        }
    }

    /// Hosts that are neither complete nor stalled.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Hosts whose answer to the newest round is waited for.
    pub(super) fn awaited(&self) -> usize {
        self.awaited
    }

    pub(super) fn progress(&self, id: HostId, need: u32) -> Option<HostProgress> {
        self.hosts.get(&id).map(|host| HostProgress {
            missing: host.missing,
            need,
            loss: host.loss(),
            stalled: host.stalled,
        })
    }

    /// Takes an answer. True when it makes the host complete.
    pub(super) fn take_status(
        &mut self,
        now: Time,
        id: HostId,
        status: &FragmentStatus,
        geometry: &Geometry,
        newest: bool,
        sent: Option<&Sent>,
    ) -> Result<bool, TransferError> {
        let host = self.hosts.get_mut(&id).ok_or(TransferError::UnknownHost(id.0))?;
        let needs = needs_of(status, geometry)?;
        if host.answered_round.is_some_and(|answered| status.round <= answered) {
            return Ok(false);
        }
        let (was_active, was_awaited) = (host.is_active(), host.awaited);
        let was_complete = host.missing == Some(0);
        host.payload_fragments = geometry.source_total();
        host.take(now, status, needs, newest);
        host.as_of = sent.cloned();
        if let Some(sent) = sent {
            host.loss.measure(sent.total, status.received.wrapping_add(status.duplicate));
            self.is_lossy |= host.loss() > 0.0;
        }
        let is_complete = host.missing == Some(0);
        self.active = self.active + usize::from(host.is_active()) - usize::from(was_active);
        self.awaited = self.awaited + usize::from(host.awaited) - usize::from(was_awaited);
        Ok(is_complete && !was_complete)
    }

    /// A question goes out: from now on the active hosts are awaited, without those that were
    /// silent for long unless there are no others.
    pub(super) fn await_answers(&mut self) {
        let is_patient = |host: &Host| host.is_active() && host.silent_rounds < PATIENCE_ROUNDS;
        let others = self.hosts.values().any(is_patient);
        for host in self.hosts.values_mut() {
            host.awaited = if others { is_patient(host) } else { host.is_active() };
        }
        self.awaited = self.hosts.values().filter(|host| host.awaited).count();
    }

    /// Ends the waiting; gives the hosts that count as stalled from now on. So many fragments went
    /// out since the last round because of what hosts said.
    pub(super) fn close_round(
        &mut self,
        now: Time,
        round: u32,
        by_expectation: u32,
    ) -> Vec<(HostId, Stall)> {
        let stalled: Vec<_> = self
            .hosts
            .iter_mut()
            .filter_map(|(id, host)| Some((*id, host.close_round(now, round, by_expectation)?)))
            .collect();
        self.active -= stalled.len();
        self.awaited = 0;
        stalled
    }

    /// Active hosts whose needs are known as of this round.
    pub(super) fn demands(&self, round: u32) -> impl Iterator<Item = &Host> + Clone {
        self.hosts
            .values()
            .filter(move |host| host.is_active() && host.answered_round == Some(round))
    }

    /// Active hosts.
    pub(super) fn heard(&self) -> impl Iterator<Item = &Host> + Clone {
        self.hosts.values().filter(|host| host.is_active())
    }

    /// Whether repair fragments will be needed: a host has lost something.
    pub(super) fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    /// The loss of the active host that loses least, since this was asked last: what is lost on the
    /// way that all share, and over how many fragments. Who loses more is not helped at the cost of
    /// all others.
    pub(super) fn take_shared_loss(&mut self, fragments_min: u32) -> Option<(f64, u32)> {
        self.hosts
            .values_mut()
            .filter(|host| host.is_active())
            .filter_map(|host| host.loss.take_recent(fragments_min))
            .reduce(|least, other| if other.0 < least.0 { other } else { least })
    }
}

/// Needs of each block; an error when the status cannot be one of this transfer.
fn needs_of(status: &FragmentStatus, geometry: &Geometry) -> Result<Vec<u32>, TransferError> {
    let blocks = usize::from(geometry.block_count());
    let mut needs = vec![0; blocks];
    match &status.missing {
        Missing::Counts(counts) if counts.len() != blocks => {
            return Err(TransferError::ImpossibleStatus("a count of blocks"));
        }
        Missing::Counts(counts) => {
            for (need, count) in needs.iter_mut().zip(counts) {
                *need = u32::from(*count);
            }
        }
        Missing::Numbers(ranges) => {
            for range in ranges {
                let inside = range.block < geometry.block_count()
                    && range.end() <= u64::from(geometry.source_count(range.block));
                if !inside {
                    return Err(TransferError::ImpossibleStatus("fragment numbers"));
                }
                needs[usize::from(range.block)] += u32::from(range.count);
            }
        }
    }
    let possible = (0u16..).zip(&needs).all(|(block, need)| *need <= geometry.source_count(block));
    let total: u32 = needs.iter().sum();
    if possible && total == status.missing_total {
        Ok(needs)
    } else {
        Err(TransferError::ImpossibleStatus("a count of missing fragments"))
    }
}
