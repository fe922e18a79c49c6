//! The receiving end: datagrams in, status out, payload at the end.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest as _, Sha256};

use super::TransferError;
use super::geometry::Geometry;
use super::shards::Shards;
use crate::time::Time;
use crate::wire::broadcast::{
    Broadcast, BroadcastKind, FragmentStatus, GroupCipher, StatusRequest, TransferParameters,
};

/// How often a payload that turned out wrong is received again.
pub const RESTARTS_MAX: u32 = 3;

/// Bytes of the payload that one call of [`Receiver::work`] hashes, at most.
const HASHED_AT_ONCE: usize = 64 << 10;

/// How long one call of [`Receiver::work`] takes, at most, on a slow processor: no answer may be
/// late for it.
const WORK_MAX: Duration = Duration::from_millis(5);

/// A payload as the holders of the group key sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedPayload {
    /// All of it.
    pub bytes: Vec<u8>,
    /// SHA-256 over these bytes.
    pub digest: [u8; 32],
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A fragment that was needed.
    Useful,
    /// A fragment that is held already or no longer needed. Its seal was not looked at.
    Duplicate,
    /// A status request; [`Receiver::poll_timeout`] tells when it is answered.
    StatusRequest,
    /// A status request that an earlier or later one made pointless.
    StaleRequest,
    /// Does not open with the group key, or is not a broadcast datagram.
    Corrupt,
    /// Of another campaign.
    Foreign,
    /// A block, number or size that the transfer does not have.
    OutOfRange,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    useful: u32,
    duplicate: u32,
    corrupt: u32,
    foreign: u32,
    out_of_range: u32,
}

#[derive(Debug)]
struct PendingAnswer {
    round: u32,
    due: Time,
    counters: Counters,
}

/// Receives one payload.
#[derive(Debug)]
pub struct Receiver {
    campaign: u64,
    cipher: GroupCipher,
    geometry: Geometry,
    /// Nothing after the payload was taken.
    shards: Option<Shards>,
    /// Over the first bytes of the payload, and how many these are.
    hash: Sha256,
    hashed_bytes: usize,
    counters: Counters,
    random: ChaCha20Rng,
    last_round: Option<u32>,
    pending: Option<PendingAnswer>,
    said_complete: bool,
    restarts: u32,
}

impl Receiver {
    /// Allocates the whole payload; `seed` makes the delays of the answers.
    ///
    /// # Errors
    /// [`TransferError::Parameters`] when a size is out of bounds.
    pub fn new(parameters: &TransferParameters, seed: u64) -> Result<Self, TransferError> {
        let geometry = Geometry::new(parameters)?;
        Ok(Self {
            campaign: parameters.campaign,
            cipher: GroupCipher::new(parameters.campaign, &parameters.group_key),
            geometry,
            shards: Some(Shards::new(geometry)),
            hash: Sha256::new(),
            hashed_bytes: 0,
            counters: Counters::default(),
            random: ChaCha20Rng::seed_from_u64(seed),
            last_round: None,
            pending: None,
            said_complete: false,
            restarts: 0,
        })
    }

    /// Takes a broadcast datagram, whatever its bytes are.
    pub fn handle_datagram(&mut self, now: Time, datagram: &[u8]) -> Received {
        match Broadcast::parse(datagram) {
            Ok(sealed) => self.handle_broadcast(now, &sealed),
            Err(_) => self.count(Received::Corrupt),
        }
    }

    /// Takes a broadcast datagram that its owner has parsed.
    pub fn handle_broadcast(&mut self, now: Time, sealed: &Broadcast<'_>) -> Received {
        let outcome = self.sort(now, sealed);
        self.count(outcome)
    }

    fn count(&mut self, outcome: Received) -> Received {
        let counter = match outcome {
            Received::Useful => &mut self.counters.useful,
            Received::Duplicate => &mut self.counters.duplicate,
            Received::Corrupt => &mut self.counters.corrupt,
            Received::Foreign => &mut self.counters.foreign,
            Received::OutOfRange => &mut self.counters.out_of_range,
            Received::StatusRequest | Received::StaleRequest => return outcome,
        };
        *counter = counter.wrapping_add(1);
        outcome
    }

    fn sort(&mut self, now: Time, sealed: &Broadcast<'_>) -> Received {
        if !self.cipher.is_of_campaign(sealed) {
            return Received::Foreign;
        }
        match sealed.kind {
            BroadcastKind::Fragment { block, number } => self.take_fragment(sealed, block, number),
            BroadcastKind::StatusRequest { .. } => match self.cipher.open_status_request(sealed) {
                Ok(request) => self.take_request(now, &request),
                Err(_) => Received::Corrupt,
            },
        }
    }

    fn take_fragment(&mut self, sealed: &Broadcast<'_>, block: u16, number: u32) -> Received {
        let size_fits = sealed.data_size() == self.geometry.fragment_size();
        if !size_fits || !self.geometry.has(block, number) {
            return Received::OutOfRange;
        }
        match &mut self.shards {
            Some(shards) if shards.needs(block, number) => {
                match shards.insert(block, number, |slot| self.cipher.open(sealed, slot)) {
                    Ok(()) => Received::Useful,
                    Err(_) => Received::Corrupt,
                }
            }
            _ => Received::Duplicate,
        }
    }

    /// A later request replaces an earlier one. Rounds only grow, so a replayed request is never
    /// answered.
    fn take_request(&mut self, now: Time, request: &StatusRequest) -> Received {
        if self.last_round.is_some_and(|last| request.round <= last) {
            return Received::StaleRequest;
        }
        self.last_round = Some(request.round);
        if self.is_complete() && self.said_complete && !request.repeat_complete {
            self.pending = None;
            return Received::StaleRequest;
        }
        let window_us = u64::from(request.answer_window_ms) * 1000;
        let delay_us = if window_us == 0 { 0 } else { self.random.next_u64() % window_us };
        let due = now + Duration::from_micros(delay_us);
        self.pending = Some(PendingAnswer { round: request.round, due, counters: self.counters });
        Received::StatusRequest
    }

    /// When [`Receiver::poll_status`] has something to say.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.pending.as_ref().map(|pending| pending.due)
    }

    /// Returns the answer to the last status request, once its delay is over.
    pub fn poll_status(&mut self, now: Time) -> Option<FragmentStatus> {
        let pending = self.pending.take_if(|pending| pending.due <= now)?;
        self.said_complete = self.is_complete();
        Some(self.status(pending.round, pending.counters))
    }

    /// Returns the answer to round 0, which no sender asks: tells one that waits for its receiver
    /// that there is one.
    pub fn first_status(&self) -> FragmentStatus {
        self.status(0, self.counters)
    }

    fn status(&self, round: u32, counters: Counters) -> FragmentStatus {
        let missing = match &self.shards {
            Some(shards) => shards.missing(),
            None => crate::wire::broadcast::Missing::Numbers(Vec::new()),
        };
        let (have, need) = self.progress();
        FragmentStatus {
            campaign: self.campaign,
            round,
            missing_total: need - have,
            received: counters.useful,
            corrupt: counters.corrupt,
            duplicate: counters.duplicate,
            foreign: counters.foreign,
            out_of_range: counters.out_of_range,
            missing,
        }
    }

    /// Returns whether enough fragments are there; they may still turn out to be forged.
    pub fn is_complete(&self) -> bool {
        self.shards.as_ref().is_none_or(Shards::is_complete)
    }

    /// Useful fragments held, and how many make the payload complete.
    pub fn progress(&self) -> (u32, u32) {
        let need = self.geometry.source_total();
        (self.shards.as_ref().map_or(need, Shards::held_total), need)
    }

    /// Decodes and hashes a part of what is there, for about a millisecond, so that little is left
    /// to do when the last fragment has come. To be called while no datagram waits; true as long as
    /// there may be more to do now.
    pub fn work(&mut self, now: Time) -> bool {
        let answer_is_due = self.pending.as_ref().is_some_and(|it| it.due <= now + WORK_MAX);
        // The code fails for no input that it gets here; and if it did, the digest would tell.
        !answer_is_due && self.work_on().unwrap_or(false)
    }

    /// True as long as there is more to do.
    fn work_on(&mut self) -> Result<bool, TransferError> {
        let Some(shards) = &mut self.shards else { return Ok(false) };
        if shards.decode_part()? {
            return Ok(true);
        }
        let rest = &shards.sound_part()[self.hashed_bytes..];
        let part = &rest[..rest.len().min(HASHED_AT_ONCE)];
        self.hash.update(part);
        self.hashed_bytes += part.len();
        Ok(part.len() < rest.len())
    }

    /// Does what [`Receiver::work`] has left, and hands the payload out, once. The receiver goes on
    /// to say that it is complete.
    ///
    /// The payload is what the holders of the group key sent: the caller compares its digest with
    /// the signed one, and calls [`Receiver::restart`] when it is another.
    ///
    /// # Errors
    /// [`TransferError::Incomplete`], [`TransferError::Taken`].
    pub fn take_payload(&mut self) -> Result<ReceivedPayload, TransferError> {
        if !self.is_complete() {
            let (have, need) = self.progress();
            return Err(TransferError::Incomplete { have, need });
        }
        while self.work_on()? {}
        let bytes = self.shards.take().ok_or(TransferError::Taken)?.into_payload();
        Ok(ReceivedPayload { bytes, digest: self.hash.finalize_reset().into() })
    }

    /// Forgets all fragments and receives them again. Counters go on, so does the round.
    ///
    /// # Errors
    /// [`TransferError::RestartsExhausted`] when that was done [`RESTARTS_MAX`] times already.
    pub fn restart(&mut self) -> Result<(), TransferError> {
        if self.restarts == RESTARTS_MAX {
            return Err(TransferError::RestartsExhausted(RESTARTS_MAX + 1));
        }
        self.restarts += 1;
        self.said_complete = false;
        (self.hash, self.hashed_bytes) = (Sha256::new(), 0);
        self.shards = Some(Shards::new(self.geometry));
        Ok(())
    }
}
