//! Taking hosts' backups into keeping before they change their flash: the receiving side of an upload.
//!
//! Nothing but an offer from the host's own session makes a receiver, and only while the host holds one of the
//! [`UPLOADS_MAX`] turns; so at most that many backups, each as large as the image, are in memory.

use firmcast::reason::{Reason, Refusal};
use firmcast::time::Time;
use firmcast::transfer::{Received, Receiver};
use firmcast::wire::answer::{Phase, Report};
use firmcast::wire::command::Command;
use firmcast::wire::escrow::BackupOffer;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use sha2::{Digest as _, Sha256};

use super::host::{Host, Plan};
use super::stage::Stage;

/// Most hosts that upload their backup at the same time; the others wait with their verified image.
pub const UPLOADS_MAX: usize = 16;

/// A backup that arrived whole. The driver makes it durable and says so with
/// [`Campaign::backup_stored`](super::Campaign::backup_stored).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The host, by its index.
    pub host: usize,
    /// SHA-256 of the bytes; checked.
    pub digest: [u8; 32],
    /// What the chip held from its first byte on.
    pub bytes: Vec<u8>,
}

/// One host's backup on its way.
#[derive(Debug, Default)]
pub(super) struct Deposit {
    upload: Option<(BackupOffer, Receiver)>,
    /// Digest of the backup that is durable.
    stored: Option<[u8; 32]>,
    /// The answer to an offer.
    answer: Option<Command>,
}

impl Deposit {
    /// What the host is told about its upload now.
    pub(super) fn commands(&mut self, now: Time) -> impl Iterator<Item = Command> {
        let status = self.upload.as_mut().and_then(|(_, receiver)| receiver.poll_status(now));
        self.answer.take().into_iter().chain(status.map(Command::BackupStatus))
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.upload.as_ref().and_then(|(_, receiver)| receiver.poll_timeout())
    }

    /// Digest of the backup that is durable.
    pub(super) fn stored(&self) -> Option<[u8; 32]> {
        self.stored
    }

    /// Ends the upload and frees its memory.
    pub(super) fn end_upload(&mut self) {
        (self.upload, self.answer) = (None, None);
    }
}

impl Host {
    /// Whether it holds a verified image and waits for one of the turns to upload its backup.
    pub(super) fn waits_for_upload(&self) -> bool {
        self.stage == Stage::Escrow && !self.may_speak
    }

    /// Takes a host's offer. The same one is answered again: the answer may be lost.
    pub(super) fn handle_offer(
        &mut self,
        now: Time,
        offer: &BackupOffer,
        plan: &Plan,
        rng: &mut ChaCha20Rng,
    ) {
        let due = self.stage == Stage::Escrow && self.may_speak;
        let (Some(escrow), true) = (&plan.escrow, due) else { return };
        let parameters = &offer.parameters;
        if parameters.campaign != plan.campaign() {
            return;
        }
        let (expected, got) = (escrow.image_size_bytes, parameters.payload_size_bytes as usize);
        if expected != got {
            let detail = format!("its backup has {got:#x} bytes, the image {expected:#x}");
            self.escrow_failed(now, detail, plan);
            return;
        }
        if self.deposit.upload.as_ref().is_none_or(|(known, _)| known != offer) {
            // The sizes were checked when the offer was read.
            let Ok(receiver) = Receiver::new(parameters, rng.next_u64()) else { return };
            self.deposit.upload = Some((offer.clone(), receiver));
            self.extend_deadline(now, plan);
        }
        let first_status = |(_, receiver): &(_, Receiver)| receiver.first_status();
        self.deposit.answer =
            self.deposit.upload.as_ref().map(first_status).map(Command::BackupStatus);
    }

    /// Takes a datagram of the upload. Gives the backup when this makes it whole.
    pub(super) fn handle_fragment(
        &mut self,
        now: Time,
        datagram: &[u8],
        plan: &Plan,
    ) -> Option<([u8; 32], Vec<u8>)> {
        let (offer, receiver) = self.deposit.upload.as_mut()?;
        if receiver.handle_datagram(now, datagram) != Received::Useful {
            return None;
        }
        let digest = offer.digest;
        let whole = receiver.is_complete().then(|| receiver.take_payload().ok()).flatten();
        (self.done, self.total) = receiver.progress();
        self.extend_deadline(now, plan);
        let bytes = whole?;
        if <[u8; 32]>::from(Sha256::digest(&bytes)) == digest {
            return Some((digest, bytes));
        }
        // Only the host itself can seal fragments of its upload.
        self.escrow_failed(now, "its backup does not have the digest that it named".into(), plan);
        None
    }

    /// The backup is durable: now the host may change its flash.
    pub(super) fn backup_stored(&mut self, now: Time, digest: [u8; 32], plan: &Plan) {
        let is_offered = |(offer, _): &(BackupOffer, _)| offer.digest == digest;
        if self.stage == Stage::Escrow && self.deposit.upload.as_ref().is_some_and(is_offered) {
            self.deposit.stored = Some(digest);
            self.enter(now, Stage::Commit, plan);
        }
    }

    /// Ends it: its backup is not in keeping.
    pub(super) fn escrow_failed(&mut self, now: Time, detail: String, plan: &Plan) {
        if self.stage == Stage::Escrow {
            self.end_after_release(now, Refusal::new(Reason::EscrowFailed, detail), plan);
        }
    }

    /// It reads its backup, or uploads it.
    pub(super) fn secures_backup(&mut self, now: Time, report: &Report, plan: &Plan) {
        if report.phase != self.phase {
            (self.done, self.total) = (0, 0);
            self.flash_turned(now, plan);
        }
        // How far the upload is, the receiver knows better.
        if report.phase != Phase::Escrow {
            self.take_progress(now, report, plan);
        }
    }
}
