//! The sending end: fragments and questions in one stream, and rounds of awaited answers at its
//! end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::TransferError;
use super::answers::{self, AnswerTimes};
use super::audience::{Audience, HostId, HostProgress, Stall};
use super::code::RepairCache;
use super::congestion::{Congestion, Sample};
use super::geometry::Geometry;
use super::pacing::Pacing;
use super::pass::Pass;
use super::payload::Payload;
use super::repair::{Cursors, expected_pass, repair_pass};
use super::sent::Sent;
use crate::time::Time;
use crate::wire::broadcast::{
    BROADCAST_HEADER_SIZE, BROADCAST_TAG_SIZE, FragmentStatus, GroupCipher, StatusRequest,
    TransferParameters,
};

/// So many fragments go out before it is looked again what hosts lack by their newest answers; more
/// where the hosts are very many, which takes longer and whose answers are rarer.
const STRETCH_MIN: u32 = 64;
const STRETCH_DIVISOR: u32 = 32;

/// So many times as many source fragments go out before it is looked again what hosts lack of
/// earlier blocks: about as many as between two questions, or fewer.
const SOURCE_STRETCH_FACTOR: u32 = 8;

/// Rounds whose sent fragments are remembered, to measure loss by their answers.
const ROUNDS_REMEMBERED: usize = 16;

/// Ethernet, IPv4 and UDP headers in bytes: what a frame costs above its datagram.
const FRAME_OVERHEAD: usize = 14 + 20 + 8;

/// How the sender is to send.
#[derive(Clone, Copy, Debug)]
pub struct SenderConfig {
    /// The operator's cap in bits per second of whole frames; it always holds.
    /// [`Sender::set_rate_cap`] changes it.
    pub rate_cap_bits_per_s: u64,
    /// Begins slowly, and leaves at least half of a channel to others that want it.
    pub is_polite: bool,
}

/// What the driver should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEvent {
    /// The host has enough fragments. It may become incomplete again when the payload turns out to
    /// be forged.
    Complete(HostId),
    /// The transfer goes on without the host; the driver decides whether to remove it.
    Stalled(HostId, Stall),
}

/// Figures for display and benchmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderStats {
    /// Fragments sent.
    pub fragments: u64,
    /// Status requests sent.
    pub requests: u64,
    /// Whole frames sent, in bytes, with Ethernet, IPv4 and UDP headers.
    pub wire_bytes: u64,
    /// Passes begun, the first one over all source fragments included.
    pub passes: u32,
}

/// `Waiting -start-> Sending <-> Asking`, and `Idle` when no host lacks anything; a new host leads
/// back to `Asking`. It stays `Sending`, and asks on the way, while there are blocks to send or
/// hosts are expected to lack something; `Asking` waits for their answers.
#[derive(Debug)]
enum Phase {
    Waiting,
    Sending { pass: Pass, ask_at: Time },
    Asking { repeat_at: Option<Time>, deadline: Time, request: Vec<u8> },
    Idle,
}

#[derive(Debug)]
struct Asked {
    round: u32,
    at: Time,
    sent: Sent,
}

/// Sends one payload to many hosts.
#[derive(Debug)]
pub struct Sender {
    campaign: u64,
    cipher: GroupCipher,
    geometry: Geometry,
    payload: Payload,
    repairs: RepairCache,
    /// Source fragments of the payload that were sent, as of the end of the last stretch.
    sources_sent: u32,
    cursors: Cursors,
    pacing: Pacing,
    congestion: Congestion,
    answers: AnswerTimes,
    audience: Audience,
    phase: Phase,
    round: u32,
    asked: VecDeque<Asked>,
    /// A status request that goes out before the next fragment.
    request: Option<Vec<u8>>,
    /// When the rate follows the loss next.
    adapt_at: Time,
    /// Rounds in a row that nobody answered who lacks something.
    fruitless_rounds: u32,
    /// Whether an awaited answer was missing in the last round.
    someone_silent: bool,
    sent: Sent,
    /// Fragments that went out since the last round by what hosts were expected to lack.
    by_expectation: u32,
    /// Whether hosts may lack what the last look did not see: behind answers, and behind a block.
    look_is_due: bool,
    events: VecDeque<TransferEvent>,
    stats: SenderStats,
}

impl Sender {
    /// Returns a sender that waits for [`Sender::start`].
    ///
    /// The group key in `parameters` must be fresh: one key, one payload, one sender.
    ///
    /// # Errors
    /// [`TransferError::Parameters`] or [`TransferError::PayloadSize`] when the parameters do not
    /// fit the payload.
    pub fn new(
        payload: impl Into<Arc<Vec<u8>>>,
        parameters: &TransferParameters,
        config: SenderConfig,
    ) -> Result<Self, TransferError> {
        let geometry = Geometry::new(parameters)?;
        let payload = payload.into();
        let (expected, got) = (geometry.payload_size(), payload.len());
        if expected != got {
            return Err(TransferError::PayloadSize { expected, got });
        }
        let frame_size =
            FRAME_OVERHEAD + BROADCAST_HEADER_SIZE + geometry.fragment_size() + BROADCAST_TAG_SIZE;
        let mut pacing = Pacing::new(config.rate_cap_bits_per_s, frame_size);
        if config.is_polite {
            pacing.fall_to_floor();
        }
        Ok(Self {
            campaign: parameters.campaign,
            cipher: GroupCipher::new(parameters.campaign, &parameters.group_key),
            geometry,
            payload: Payload::new(payload, &geometry),
            repairs: RepairCache::new(&geometry),
            sources_sent: 0,
            cursors: Cursors::new(&geometry),
            sent: Sent::none(&geometry),
            by_expectation: 0,
            look_is_due: false,
            pacing,
            congestion: Congestion::new(config.is_polite),
            answers: AnswerTimes::default(),
            audience: Audience::default(),
            phase: Phase::Waiting,
            round: 0,
            asked: VecDeque::new(),
            request: None,
            adapt_at: Time::ZERO,
            fruitless_rounds: 0,
            someone_silent: false,
            events: VecDeque::new(),
            stats: SenderStats::default(),
        })
    }

    /// Serves a host from now on, which must have the transfer parameters already. A host that
    /// started again is added again. Later hosts than the first are served by the same stream.
    ///
    /// # Errors
    /// [`TransferError::TooManyHosts`].
    pub fn add_host(&mut self, now: Time, id: HostId) -> Result<(), TransferError> {
        self.audience.add(now, id, self.sent.total)?;
        if matches!(self.phase, Phase::Idle) {
            self.ask(now);
        }
        Ok(())
    }

    /// Forgets a host.
    pub fn remove_host(&mut self, id: HostId) {
        self.audience.remove(id);
    }

    /// Begins to send; before, hosts are only gathered. Repeated calls change nothing.
    pub fn start(&mut self, now: Time) {
        if matches!(self.phase, Phase::Waiting) {
            self.audience.start(now);
            self.adapt_at = now + self.congestion.interval();
            self.begin_pass(now, self.source_pass(0));
        }
    }

    /// Another cap from now on: streams come and go, and share what the operator allows.
    pub fn set_rate_cap(&mut self, now: Time, rate_cap_bits_per_s: u64) {
        self.pacing.set_cap(now, rate_cap_bits_per_s);
    }

    /// Takes a host's answer to a status request. Answers that came too late to matter are no
    /// error.
    ///
    /// # Errors
    /// [`TransferError::UnknownHost`], [`TransferError::ForeignStatus`],
    /// [`TransferError::ImpossibleStatus`]; nothing has changed then.
    pub fn handle_status(
        &mut self,
        now: Time,
        id: HostId,
        status: &FragmentStatus,
    ) -> Result<(), TransferError> {
        let (expected, got) = (self.campaign, status.campaign);
        if expected != got {
            return Err(TransferError::ForeignStatus { expected, got });
        }
        if status.round > self.round {
            return Err(TransferError::ImpossibleStatus("a round"));
        }
        let asked = self.asked.iter().find(|asked| asked.round == status.round);
        if let Some(asked) = asked {
            self.answers.took(now.since(asked.at), self.answer_window());
        }
        let newest = status.round == self.round;
        let sent = asked.map(|asked| &asked.sent);
        let is_complete =
            self.audience.take_status(now, id, status, &self.geometry, newest, sent)?;
        self.look_is_due = true;
        if is_complete {
            self.events.push_back(TransferEvent::Complete(id));
        }
        if status.missing_total > 0 && matches!(self.phase, Phase::Idle) {
            self.ask(now);
        }
        Ok(())
    }

    /// Returns the next datagram, when the rate allows one.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        self.advance(now);
        if !self.pacing.is_ready(now) {
            return None;
        }
        let datagram = match self.request.take() {
            Some(request) => {
                self.stats.requests += 1;
                request
            }
            None => {
                let (block, number) = self.next_fragment()?;
                self.stats.fragments += 1;
                self.sent.count(block);
                self.seal_fragment(block, number)
            }
        };
        let frame_size = datagram.len() + FRAME_OVERHEAD;
        self.pacing.spend(frame_size);
        self.stats.wire_bytes += frame_size as u64;
        Some(datagram)
    }

    /// When [`Sender::poll_transmit`] has something to do; nothing while only a host or the driver
    /// can bring news.
    pub fn poll_timeout(&self) -> Option<Time> {
        let ready_at = self.request.is_some().then(|| self.pacing.ready_at());
        let step_at = match &self.phase {
            Phase::Waiting | Phase::Idle => None,
            Phase::Sending { .. } => Some(self.pacing.ready_at()),
            Phase::Asking { repeat_at, deadline, .. } => {
                Some(repeat_at.map_or(*deadline, |repeat_at| repeat_at.min(*deadline)))
            }
        };
        ready_at.into_iter().chain(step_at).min()
    }

    /// Makes repair fragments, for about a millisecond, if some will be needed and they are not as
    /// far along as the source fragments that were sent. To be called before waiting, when what
    /// [`Sender::poll_transmit`] gave has gone out. Returns whether there was something to do.
    pub fn work(&mut self) -> bool {
        let Phase::Sending { pass: Pass::Source { next, .. }, .. } = self.phase else {
            return false;
        };
        if !self.audience.is_lossy() {
            return false;
        }
        let (geometry, payload, repairs) = (&self.geometry, &self.payload, &mut self.repairs);
        // What fails here fails again when a fragment is needed. The newest blocks are needed
        // first.
        (0..geometry.block_count()).rev().any(|block| {
            let sources = geometry.sources_within(block, next);
            sources > 0 && repairs.encode_along(geometry, payload, block, sources) == Ok(true)
        })
    }

    /// Returns what happened since the last call.
    pub fn poll_event(&mut self) -> Option<TransferEvent> {
        self.events.pop_front()
    }

    /// Returns whether no host that takes part lacks anything, except those that are stalled.
    pub fn is_done(&self) -> bool {
        self.audience.active() == 0
    }

    /// Returns how far a host is.
    pub fn host_progress(&self, id: HostId) -> Option<HostProgress> {
        self.audience.progress(id, self.geometry.source_total())
    }

    /// Number of source fragments, which is how many a host needs.
    pub fn source_fragments(&self) -> u32 {
        self.geometry.source_total()
    }

    /// Figures so far.
    pub fn stats(&self) -> SenderStats {
        self.stats
    }

    /// Returns the present rate in bits per second of whole frames, at most the cap.
    pub fn rate_bits_per_s(&self) -> u64 {
        self.pacing.rate_bits_per_s()
    }

    /// Takes the steps that are due.
    fn advance(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Waiting | Phase::Idle => {}
            Phase::Sending { .. } if self.audience.active() == 0 => {
                // Who comes later gets what it says that it lacks.
                self.sources_sent = self.geometry.source_total();
                self.phase = Phase::Idle;
            }
            Phase::Sending { ask_at, .. } if *ask_at <= now => self.ask_on_the_way(now),
            Phase::Sending { pass, .. } if pass.is_over() => self.go_on(now),
            Phase::Sending { .. } => {}
            Phase::Asking { deadline, .. } if self.audience.awaited() == 0 || *deadline <= now => {
                self.close_round(now);
            }
            Phase::Asking { repeat_at, request, .. } => {
                if repeat_at.take_if(|repeat_at| *repeat_at <= now).is_some() {
                    self.request = Some(request.clone());
                    // Else who answers the second one counts as slow, and is waited for longer.
                    if let Some(asked) = self.asked.front_mut() {
                        asked.at = now;
                    }
                }
            }
        }
    }

    fn begin_pass(&mut self, now: Time, pass: Pass) {
        self.stats.passes += 1;
        self.phase = Phase::Sending { pass, ask_at: now + self.ask_interval() };
    }

    /// All that was planned is sent: goes on with what hosts are expected to lack of the blocks so
    /// far, then with the next source fragments. When there is none it waits for the hosts'
    /// answers. A host that says whatever does not keep it going: after as much as the payload a
    /// round is awaited and counted.
    fn go_on(&mut self, now: Time) {
        if let Phase::Sending { pass: Pass::Source { end, .. }, .. } = self.phase {
            self.sources_sent = end;
            self.look_is_due |= self.geometry.ends_block(end);
        }
        let (next, stretch) = (self.sources_sent, self.stretch());
        let may_look = self.by_expectation < self.geometry.source_total();
        let expected = match self.look_is_due && may_look {
            true => {
                let hosts = self.audience.heard();
                let (geometry, cursors) = (&self.geometry, &mut self.cursors);
                expected_pass(geometry, cursors, hosts, &self.sent, next, stretch)
            }
            false => VecDeque::new(),
        };
        self.look_is_due = !expected.is_empty();
        self.by_expectation += expected.iter().map(|range| u32::from(range.count)).sum::<u32>();
        let planned = match (expected.is_empty(), next < self.geometry.source_total()) {
            (false, _) => Pass::Repair(expected),
            (true, true) => self.source_pass(next),
            (true, false) => return self.ask(now),
        };
        if let Phase::Sending { pass, .. } = &mut self.phase {
            *pass = planned;
        }
    }

    fn stretch(&self) -> u32 {
        STRETCH_MIN.max(self.audience.active() as u32 / STRETCH_DIVISOR)
    }

    fn source_pass(&self, next: u32) -> Pass {
        Pass::source(&self.geometry, next, self.stretch() * SOURCE_STRETCH_FACTOR)
    }

    /// Asks, and waits for nothing.
    fn ask_on_the_way(&mut self, now: Time) {
        if self.adapt_at <= now {
            self.adapt_rate(now);
        }
        self.request = Some(self.new_request(now));
        let next = now + self.ask_interval();
        if let Phase::Sending { ask_at, .. } = &mut self.phase {
            *ask_at = next;
        }
    }

    fn ask_interval(&self) -> Duration {
        self.answers.ask_interval(self.answer_window())
    }

    /// Asks all hosts what they lack. The same datagram goes out a second time for those that lost
    /// it.
    fn ask(&mut self, now: Time) {
        let request = self.new_request(now);
        self.audience.await_answers();
        let window = self.answer_window();
        let wait = self.answers.wait(self.fruitless_rounds);
        let deadline = now + window + wait;
        self.request = Some(request.clone());
        self.phase = Phase::Asking { repeat_at: Some(now + window + wait / 4), deadline, request };
    }

    fn new_request(&mut self, now: Time) -> Vec<u8> {
        self.round = self.round.checked_add(1).expect("2^32 rounds take years");
        self.asked.truncate(ROUNDS_REMEMBERED - 1);
        self.answers.fade();
        let sent_fragments = self.sent.total;
        self.asked.push_front(Asked { round: self.round, at: now, sent: self.sent.clone() });
        self.cipher.seal_status_request(&StatusRequest {
            round: self.round,
            answer_window_ms: self.answer_window().as_millis() as u32,
            sent_fragments,
            repeat_complete: self.someone_silent,
        })
    }

    fn answer_window(&self) -> Duration {
        answers::window(self.audience.active())
    }

    /// Serves the hosts that answered; the others are asked again after that.
    fn close_round(&mut self, now: Time) {
        self.someone_silent = self.audience.awaited() > 0;
        let by_expectation = std::mem::take(&mut self.by_expectation);
        for (id, stall) in self.audience.close_round(now, self.round, by_expectation) {
            self.events.push_back(TransferEvent::Stalled(id, stall));
        }
        self.adapt_rate(now);
        let demands = self.audience.demands(self.round);
        let pass = repair_pass(&self.geometry, &mut self.cursors, demands);
        if !pass.is_empty() {
            self.fruitless_rounds = 0;
            self.begin_pass(now, Pass::Repair(pass));
        } else if self.audience.active() > 0 {
            self.fruitless_rounds = self.fruitless_rounds.saturating_add(1);
            self.ask(now);
        } else {
            self.phase = Phase::Idle;
        }
    }

    fn adapt_rate(&mut self, now: Time) {
        self.adapt_at = now + self.congestion.interval().max(self.ask_interval() * 2);
        let fragments_min = self.congestion.fragments_min();
        if let Some((loss, fragments)) = self.audience.take_shared_loss(fragments_min) {
            let sample = Sample { loss, fragments, delay: self.answers.take_quickest() };
            self.pacing.take_step(self.congestion.step(sample));
        } else if self.audience.active() > 0 && self.answers.take_quickest().is_none() {
            self.pacing.take_step(self.congestion.step_in_silence());
        }
    }

    fn next_fragment(&mut self) -> Option<(u16, u32)> {
        match &mut self.phase {
            Phase::Sending { pass, .. } => pass.next(&self.geometry),
            _ => None,
        }
    }

    fn seal_fragment(&mut self, block: u16, number: u32) -> Vec<u8> {
        let data = match number.checked_sub(self.geometry.source_count(block)) {
            None => self.payload.fragment(self.geometry.source_range(block, number)),
            Some(index) => self
                .repairs
                .fragment(&self.geometry, &self.payload, block, index)
                .expect("a geometry is only made of blocks that the code supports"),
        };
        self.cipher.seal_fragment(block, number, data)
    }
}
