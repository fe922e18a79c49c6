//! The leg in which the host gives its backup into keeping before it changes its flash: the
//! receiving side of an upload.
//!
//! Only an offer from the host's own session makes a receiver, and only while the host holds one of
//! the [`UPLOADS_MAX`] turns. So at most that many backups, each as large as the image, are in
//! memory.

use std::num::NonZeroU32;
use std::ops::Range;

use firmcast::reason::{Reason, Refusal};
use firmcast::time::Time;
use firmcast::transfer::{Received, Receiver};
use firmcast::wire::answer::{End, Phase, Report};
use firmcast::wire::broadcast::Broadcast;
use firmcast::wire::command::Command;
use firmcast::wire::escrow::BackupOffer;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;

use super::super::config::{Deadlines, Purpose};
use super::super::contact::{CampaignPlan, Contact};
use super::super::stage::Stage;
use super::ending::{came_back, leave, rescued};
use super::next::{Next, Start};

/// Maximum number of hosts that upload their backup at the same time; the others wait with their
/// verified image.
pub const UPLOADS_MAX: usize = 16;

/// Maximum number of different offers in one turn: a host whose job is done again reads its chip
/// again.
const OFFERS_PER_TURN_MAX: u32 = 3;

/// A backup that arrived whole.
#[derive(Debug)]
pub(in crate::campaign) struct WholeBackup {
    /// SHA-256 of the bytes; checked.
    pub(in crate::campaign) digest: [u8; 32],
    /// What the chip held.
    pub(in crate::campaign) bytes: Vec<u8>,
    /// What the host may not read of it.
    pub(in crate::campaign) closed: Vec<Range<u32>>,
}

/// A host that holds the verified image and waits for its turn to upload its backup, or uploads it.
#[derive(Debug, Default)]
pub(in crate::campaign) struct EscrowLeg {
    upload: Option<Box<(BackupOffer, Receiver)>>,
    /// Different offers until now.
    offers: u32,
    /// The answer to an offer.
    answer: Option<Command>,
}

impl EscrowLeg {
    pub(in crate::campaign) fn stage(&self) -> Stage {
        Stage::Escrow
    }

    pub(in crate::campaign) fn span(&self, deadlines: &Deadlines) -> std::time::Duration {
        deadlines.escrow
    }

    pub(in crate::campaign) fn commands(
        &mut self,
        now: Time,
        due: bool,
        contact: &Contact,
        plan: &CampaignPlan,
    ) -> Vec<Command> {
        let mut commands: Vec<Command> = self.answer.take().into_iter().collect();
        let status = self.upload.as_mut().and_then(|upload| upload.1.poll_status(now));
        commands.extend(status.map(Command::BackupStatus));
        let campaign = plan.campaign();
        commands.extend(plan.escrow.as_ref().filter(|_| due).map(|escrow| {
            match contact.may_speak {
                true if plan.purpose == Purpose::Drill => Command::Rehearse {
                    campaign,
                    escrow_rate_kbit_s: NonZeroU32::new(escrow.rate_kbit_s),
                },
                // A dead host's contents are worth nothing to anybody who cannot have them.
                true => Command::CommitWithEscrow {
                    campaign,
                    rate_kbit_s: escrow.rate_kbit_s,
                    unless_broken: plan.rescue,
                },
                false => Command::Query,
            }
        }));
        commands
    }

    pub(in crate::campaign) fn poll_timeout(&self) -> Option<Time> {
        self.upload.as_ref().and_then(|upload| upload.1.poll_timeout())
    }

    pub(in crate::campaign) fn handle_timeout(&self, now: Time, contact: &Contact) -> Next {
        let turn_is_over = contact.turn_end.is_some_and(|end| end <= now);
        let progress = self.upload.as_ref().map(|upload| upload.1.progress());
        self.fail(match (turn_is_over, progress) {
            (true, Some((done, total))) => {
                format!("its turn is over, with {done} of {total} fragments of its backup")
            }
            (true, None) => "its turn is over, and it offered no backup".into(),
            (false, _) => format!("no progress, last heard of while {}", contact.phase.name()),
        })
    }

    /// Its backup is not in keeping.
    pub(in crate::campaign) fn fail(&self, detail: String) -> Next {
        Next::release(Refusal::new(Reason::EscrowFailed, detail))
    }

    pub(in crate::campaign) fn interrupt(&self) -> Next {
        Next::release(Refusal::new(Reason::Interrupted, ""))
    }

    /// It is in its normal OS after another boot.
    pub(in crate::campaign) fn come_home(
        &self,
        rebooted: bool,
        end: Option<&End>,
        plan: &CampaignPlan,
    ) -> Next {
        came_back(rebooted, end, plan)
    }

    pub(in crate::campaign) fn handle_report(
        &mut self,
        now: Time,
        contact: &mut Contact,
        report: &Report,
        plan: &CampaignPlan,
    ) -> Next {
        match report.phase {
            Phase::BackingUp | Phase::Escrow => {
                contact.take_phase(now, report);
                // How far the upload is, the receiver knows better.
                if report.phase != Phase::Escrow {
                    contact.take_progress(now, report);
                }
                Next::Stay
            }
            Phase::Writing | Phase::Verifying | Phase::Restoring => Next::Go(Start::Flash(None)),
            // When nothing had to be changed.
            Phase::Updated => Next::Go(Start::Release(plan.rescue.then(rescued))),
            Phase::Drilled => Next::Go(Start::Release(None)),
            Phase::Refused => {
                contact.ask_after_refusal();
                Next::Stay
            }
            Phase::Rebooting => leave(report, plan),
            _ => Next::Stay,
        }
    }

    /// Takes a host's offer. The same one is answered again: the answer may be lost.
    pub(in crate::campaign) fn handle_offer(
        &mut self,
        now: Time,
        contact: &mut Contact,
        offer: &BackupOffer,
        plan: &CampaignPlan,
        rng: &mut ChaCha20Rng,
    ) -> Next {
        let (Some(escrow), true) = (&plan.escrow, contact.may_speak) else { return Next::Stay };
        let parameters = &offer.parameters;
        if parameters.campaign != plan.campaign() {
            return Next::Stay;
        }
        let (expected, got) = (escrow.image_size_bytes, parameters.payload_size_bytes as usize);
        if !escrow.fits(got) {
            return self.fail(format!("its backup has {got:#x} bytes, the image {expected:#x}"));
        }
        if self.upload.as_ref().is_none_or(|upload| upload.0 != *offer) {
            if self.offers == OFFERS_PER_TURN_MAX {
                let offers = OFFERS_PER_TURN_MAX;
                return self.fail(format!("it offered {offers} others before this backup"));
            }
            // The sizes were checked when the offer was read.
            let Ok(receiver) = Receiver::new(parameters, rng.next_u64()) else { return Next::Stay };
            self.upload = Some(Box::new((offer.clone(), receiver)));
            self.offers += 1;
            // Another offer is no progress.
            if self.offers == 1 {
                contact.extend_deadline(now);
            }
        }
        let first_status = self.upload.as_ref().map(|upload| upload.1.first_status());
        self.answer = first_status.map(Command::BackupStatus);
        Next::Stay
    }

    /// Takes a datagram of the upload. Gives the backup when this makes it whole.
    pub(in crate::campaign) fn handle_fragment(
        &mut self,
        now: Time,
        contact: &mut Contact,
        sealed: &Broadcast<'_>,
    ) -> (Next, Option<WholeBackup>) {
        let Some(upload) = &mut self.upload else { return (Next::Stay, None) };
        let (offer, receiver) = &mut **upload;
        if receiver.handle_broadcast(now, sealed) != Received::Useful {
            return (Next::Stay, None);
        }
        let digest = offer.digest;
        let whole = receiver.is_complete().then(|| receiver.take_payload().ok()).flatten();
        (contact.done, contact.total) = receiver.progress();
        contact.extend_deadline(now);
        match whole {
            None => (Next::Stay, None),
            Some(payload) if payload.digest == digest => {
                let bytes = payload.bytes;
                let closed = offer.closed.clone();
                (Next::Stay, Some(WholeBackup { digest, bytes, closed }))
            }
            // Only the host itself can seal fragments of its upload.
            Some(_) => {
                (self.fail("its backup does not have the digest that it named".into()), None)
            }
        }
    }

    /// The backup is durable: now the host may change its flash.
    pub(in crate::campaign) fn backup_stored(&self, digest: [u8; 32]) -> Next {
        match self.upload.as_ref().is_some_and(|upload| upload.0.digest == digest) {
            true => Next::Go(Start::Commit(Some(digest))),
            false => Next::Stay,
        }
    }
}
