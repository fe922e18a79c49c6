//! The sending end: fragments and questions in one stream, and rounds of awaited answers at its
//! end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::TransferError;
use super::audience::{Audience, HOSTS_MAX, HostId, HostProgress, Stall};
use super::code::RepairCache;
use super::congestion::{Congestion, Sample};
use super::geometry::Geometry;
use super::pacing::Pacing;
use super::payload::Payload;
use super::repair::{Cursors, expected_pass, repair_pass};
use super::sent::Sent;
use crate::time::Time;
use crate::wire::broadcast::{
    BROADCAST_HEADER_SIZE, BROADCAST_TAG_SIZE, FragmentRange, FragmentStatus, GroupCipher,
    StatusRequest, TransferParameters,
};

/// Time in the answer window for each host that is asked: 20,000 answers per second.
const ANSWER_SPACING_US: usize = 50;

/// The shortest and the longest answer window, in milliseconds.
const ANSWER_WINDOW_MS: std::ops::RangeInclusive<u64> = 2..=1_000;

/// How long answers may be under way behind the window: until measured, at least, and at most.
const GRACE_AT_FIRST: Duration = Duration::from_millis(100);
const GRACE_MIN: Duration = Duration::from_millis(5);
const GRACE_MAX: Duration = Duration::from_secs(1);

/// How often hosts are asked while fragments go out, at most: what they lack is known when all
/// source fragments are sent, and the stream goes on without a pause. Less often where answers take
/// longer, or come from very many hosts.
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// So many fragments go out before it is looked again what hosts lack by their newest answers.
const STRETCH_FRAGMENTS: u32 = 64;
const _: () = assert!(HOSTS_MAX * ANSWER_SPACING_US < 1_000_000);

/// The wait for answers doubles with each fruitless round, this often and up to this.
const BACKOFF_DOUBLINGS_MAX: u32 = 10;
const WAIT_MAX: Duration = Duration::from_secs(2);

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
/// back to `Asking`. It stays `Sending`, and asks on the way, while hosts are expected to lack
/// something; `Asking` waits for their answers.
#[derive(Debug)]
enum Phase {
    Waiting,
    Sending { pass: Pass, ask_at: Time },
    Asking { repeat_at: Option<Time>, deadline: Time, request: Vec<u8> },
    Idle,
}

#[derive(Debug)]
enum Pass {
    /// All source fragments, as they lie in the payload.
    Source { next: u32 },
    /// These fragments.
    Repair(VecDeque<FragmentRange>),
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
    /// Filled up to whole fragments.
    payload: Payload,
    repairs: RepairCache,
    cursors: Cursors,
    pacing: Pacing,
    congestion: Congestion,
    /// How long the quickest answer took since the rate was adapted.
    quickest: Option<Duration>,
    audience: Audience,
    phase: Phase,
    round: u32,
    asked: VecDeque<Asked>,
    /// A status request that goes out before the next fragment.
    request: Option<Vec<u8>>,
    /// How long answers were seen to take lately, with some room, from the end of their window;
    /// none until measured.
    grace: Option<Duration>,
    /// When the rate follows the loss next.
    adapt_at: Time,
    /// Rounds in a row that nobody answered who lacks something.
    fruitless_rounds: u32,
    /// Whether an awaited answer was missing in the last round.
    someone_silent: bool,
    sent: Sent,
    /// Fragments that went out since the last round by what hosts were expected to lack.
    by_expectation: u32,
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
            repairs: RepairCache::new(),
            cursors: Cursors::new(&geometry),
            sent: Sent::none(&geometry),
            by_expectation: 0,
            pacing,
            congestion: Congestion::new(config.is_polite),
            quickest: None,
            audience: Audience::default(),
            phase: Phase::Waiting,
            round: 0,
            asked: VecDeque::new(),
            request: None,
            grace: None,
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
            self.begin_pass(now, Pass::Source { next: 0 });
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
            let took = now.since(asked.at);
            self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
            let late = now.since(asked.at + self.answer_window()) * 2;
            let slowest = self.grace.map_or(late, |grace| late.max(grace));
            self.grace = Some(slowest.clamp(GRACE_MIN, GRACE_MAX));
        }
        let newest = status.round == self.round;
        let sent = asked.map(|asked| &asked.sent);
        let is_complete =
            self.audience.take_status(now, id, status, &self.geometry, newest, sent)?;
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
            Phase::Sending { .. } if self.audience.active() == 0 => self.phase = Phase::Idle,
            Phase::Sending { ask_at, .. } if *ask_at <= now => self.ask_on_the_way(now),
            Phase::Sending { pass, .. } if pass.is_over(&self.geometry) => self.go_on(now),
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

    /// All that was planned is sent: goes on with what hosts are expected to lack, or waits for
    /// their answers. A host that says whatever does not keep it going: after as much as the
    /// payload a round is awaited and counted.
    fn go_on(&mut self, now: Time) {
        let expected = match self.by_expectation < self.geometry.source_total() {
            true => {
                let hosts = self.audience.heard();
                let (geometry, cursors) = (&self.geometry, &mut self.cursors);
                expected_pass(geometry, cursors, hosts, &self.sent, STRETCH_FRAGMENTS)
            }
            false => VecDeque::new(),
        };
        if expected.is_empty() {
            return self.ask(now);
        }
        self.by_expectation += expected.iter().map(|range| u32::from(range.count)).sum::<u32>();
        if let Phase::Sending { pass, .. } = &mut self.phase {
            *pass = Pass::Repair(expected);
        }
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
        ASK_INTERVAL_MIN.max(self.answer_window() * 2).max(self.grace.unwrap_or_default())
    }

    /// Asks all hosts what they lack. The same datagram goes out a second time for those that lost
    /// it.
    fn ask(&mut self, now: Time) {
        let request = self.new_request(now);
        self.audience.await_answers();
        let window = self.answer_window();
        let grace = self.grace.unwrap_or(GRACE_AT_FIRST);
        let wait = grace * 2u32.pow(self.fruitless_rounds.min(BACKOFF_DOUBLINGS_MAX));
        let wait = wait.min(WAIT_MAX);
        let deadline = now + window + wait;
        self.request = Some(request.clone());
        self.phase = Phase::Asking { repeat_at: Some(now + window + wait / 4), deadline, request };
    }

    fn new_request(&mut self, now: Time) -> Vec<u8> {
        self.round = self.round.checked_add(1).expect("2^32 rounds take years");
        self.asked.truncate(ROUNDS_REMEMBERED - 1);
        self.grace = self.grace.map(|grace| (grace * 7 / 8).max(GRACE_MIN));
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
        let millis = (self.audience.active() * ANSWER_SPACING_US / 1000) as u64;
        Duration::from_millis(millis.clamp(*ANSWER_WINDOW_MS.start(), *ANSWER_WINDOW_MS.end()))
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
            let sample = Sample { loss, fragments, delay: self.quickest.take() };
            self.pacing.take_step(self.congestion.step(sample));
        } else if self.audience.active() > 0 && self.quickest.take().is_none() {
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

impl Pass {
    fn is_over(&self, geometry: &Geometry) -> bool {
        match self {
            Self::Source { next } => *next == geometry.source_total(),
            Self::Repair(ranges) => ranges.is_empty(),
        }
    }

    fn next(&mut self, geometry: &Geometry) -> Option<(u16, u32)> {
        match self {
            Self::Source { next } if *next < geometry.source_total() => {
                *next += 1;
                Some(geometry.source_at(*next - 1))
            }
            Self::Source { .. } => None,
            Self::Repair(ranges) => {
                let range = ranges.front_mut()?;
                let fragment = (range.block, range.first);
                range.first += 1;
                range.count -= 1;
                if range.count == 0 {
                    ranges.pop_front();
                }
                Some(fragment)
            }
        }
    }
}
