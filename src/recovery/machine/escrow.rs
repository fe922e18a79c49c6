//! Storing the backup at the manager before the first change of the chip.
//!
//! ```text
//! Given <--BackupStored-- Uploading <--job read its backup-- Wanted <--CommitWithEscrow-- Given
//!                            |                                 |
//!                            '--- Release, or no progress -----'--> Withdrawn
//! ```
//! The roles of the transfer are reversed: the host is the sender, of one payload to one receiver.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};

use super::{Recovery, UNTOUCHED_STAY_MAX};
use crate::flash::JobBackup;
use crate::image::ByteRanges;
use crate::random;
use crate::reason::{FlashState, Reason, Refusal};
use crate::session::Transmit;
use crate::time::Time;
use crate::transfer::{Geometry, HostId, Sender, SenderConfig, TransferError, TransferEvent};
use crate::wire::answer::{Answer, Phase};
use crate::wire::broadcast::{FecScheme, FragmentStatus, GroupKey, TransferParameters};
use crate::wire::escrow::{BackupOffer, CLOSED_RANGES_MAX};

/// How long an upload may make no progress.
pub const ESCROW_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Time between two offers until the manager takes one.
pub const OFFER_INTERVAL: Duration = Duration::from_millis(500);
/// Most fragments that wait to be taken by the driver.
pub const FRAGMENTS_WAITING_MAX: usize = 64;

/// The manager, as the sender numbers its only receiver.
const MANAGER: HostId = HostId(0);

const SKIPPED: &str = "no backup was stored at the manager: the firmware was broken before";

/// Whether a flash job may make its first change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Given,
    /// Not yet: the backup is on its way to the manager. Ask again at every turn of the loop.
    Wait,
    /// It has to end with the chip untouched.
    Refused(Refusal),
}

/// A commit that asks for the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EscrowOrder {
    /// The rate of the upload.
    pub(super) rate_kbit_s: u32,
    /// A chip whose contents are broken may be written without.
    pub(super) unless_broken: bool,
}

#[derive(Debug)]
enum Permission {
    Given,
    Wanted(EscrowOrder),
    Uploading(Box<BackupUpload>),
    Withdrawn(Refusal),
}

/// What stands between a job and its first change.
#[derive(Debug)]
pub(super) struct Escrow {
    permission: Permission,
    /// The manager has the backup of what this chip held when this stay began.
    is_stored: bool,
    /// A backup was wanted, but there was none to be had.
    was_skipped: bool,
}

impl Escrow {
    pub(super) fn new() -> Self {
        Self { permission: Permission::Given, is_stored: false, was_skipped: false }
    }

    /// Takes a commit, with the order for escrow if the backup must be stored first. That an
    /// earlier one went without is forgotten while the chip still holds its old contents.
    pub(super) fn begin(&mut self, order: Option<EscrowOrder>, flash: FlashState) {
        self.was_skipped &= flash.contents_changed() != Some(false);
        self.permission = match order {
            Some(order) if !self.is_stored => Permission::Wanted(order),
            _ => Permission::Given,
        };
    }

    /// What an operator should know of a job that ends.
    pub(super) fn note(&self) -> Option<&'static str> {
        self.was_skipped.then_some(SKIPPED)
    }

    /// The manager lets the host go. No effect once the job may change the chip.
    pub(super) fn withdraw(&mut self, refusal: Refusal) {
        if !matches!(self.permission, Permission::Given) {
            self.permission = Permission::Withdrawn(refusal);
        }
    }

    fn upload(&mut self) -> Option<&mut BackupUpload> {
        match &mut self.permission {
            Permission::Uploading(upload) => Some(upload),
            _ => None,
        }
    }

    fn handle_stored(&mut self, digest: &[u8; 32]) {
        let Some(upload) = self.upload() else { return };
        if upload.offer.digest == *digest {
            info!("the manager keeps the backup");
            self.is_stored = true;
            self.permission = Permission::Given;
        } else {
            warn!("the manager says that it keeps another backup than this host's");
        }
    }

    /// Sends on, or ends an upload that went on for too long without progress.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        let Some(upload) = self.upload() else { return };
        if now < upload.deadline() {
            upload.pump(now);
            return;
        }
        let detail = match (upload.missing, upload.total) {
            (None, _) => "the manager did not take the backup".into(),
            (Some(0), _) => "the manager has the backup, but did not store it".into(),
            (Some(_), total) => {
                format!("{} of {total} fragments of the backup were uploaded", upload.done())
            }
        };
        self.withdraw(Refusal::new(Reason::EscrowFailed, detail));
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        match &self.permission {
            Permission::Uploading(upload) => Some(upload.poll_timeout()),
            _ => None,
        }
    }
}

/// An upload under way.
#[derive(Debug)]
struct BackupUpload {
    offer: BackupOffer,
    sender: Sender,
    total: u32,
    /// The fewest fragments that the manager lacked; none until it took the offer.
    missing: Option<u32>,
    progress: Time,
    /// It must be over by then, whatever the manager says.
    stay_end: Time,
    next_offer: Time,
    fragments: VecDeque<Vec<u8>>,
}

impl BackupUpload {
    fn new(
        now: Time,
        offer: BackupOffer,
        backup: &Arc<Vec<u8>>,
        rate_kbit_s: u32,
        stay_end: Time,
    ) -> Result<Self, TransferError> {
        let config =
            SenderConfig { rate_cap_bits_per_s: u64::from(rate_kbit_s) * 1000, is_polite: false };
        let mut sender = Sender::new(Arc::clone(backup), &offer.parameters, config)?;
        sender.add_host(now, MANAGER)?;
        let total = Geometry::new(&offer.parameters)?.source_total();
        let fragments = VecDeque::new();
        Ok(Self {
            offer,
            sender,
            total,
            missing: None,
            progress: now,
            stay_end,
            next_offer: now,
            fragments,
        })
    }

    fn deadline(&self) -> Time {
        (self.progress + ESCROW_SILENCE_MAX).min(self.stay_end)
    }

    fn done(&self) -> u32 {
        self.missing.map_or(0, |missing| self.total.saturating_sub(missing))
    }

    fn poll_timeout(&self) -> Time {
        let offer = self.missing.is_none().then_some(self.next_offer);
        let times = [offer, self.sender.poll_timeout()].into_iter().flatten();
        times.fold(self.deadline(), Time::min)
    }

    /// The offer, when it is due: until the manager took it.
    fn take_offer(&mut self, now: Time) -> Option<BackupOffer> {
        if self.missing.is_some() || now < self.next_offer {
            return None;
        }
        self.next_offer = now + OFFER_INTERVAL;
        Some(self.offer.clone())
    }

    fn handle_status(&mut self, now: Time, status: &FragmentStatus) {
        // A status that cannot be one of this upload counts as silence.
        if self.sender.handle_status(now, MANAGER, status).is_err() {
            return;
        }
        self.sender.start(now);
        if self.missing.is_none_or(|missing| status.missing_total < missing) {
            self.missing = Some(status.missing_total);
            self.progress = now;
        }
        self.pump(now);
    }

    fn pump(&mut self, now: Time) {
        while self.fragments.len() < FRAGMENTS_WAITING_MAX
            && let Some(datagram) = self.sender.poll_transmit(now)
        {
            self.fragments.push_back(datagram);
        }
        while let Some(event) = self.sender.poll_event() {
            // There is no other receiver to go on with: it is asked until this upload's own
            // deadline.
            if let TransferEvent::Stalled(manager, _) = event {
                let _ = self.sender.add_host(now, manager);
            }
        }
    }
}

/// The closed ranges of a backup as an offer has them.
fn offered(closed: &ByteRanges) -> Result<Vec<Range<u32>>, String> {
    let count = closed.iter().count();
    if count > CLOSED_RANGES_MAX {
        return Err(format!(
            "the host may not read {count} ranges of the flash, expected at most \
            {CLOSED_RANGES_MAX}"
        ));
    }
    let at = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    Ok(closed.iter().map(|range| at(range.start)..at(range.end)).collect())
}

impl Recovery {
    /// Answers a job that is ready to make its first change. `backup` is what it read before.
    pub fn may_change(&mut self, now: Time, backup: Option<JobBackup<'_>>) -> Permit {
        match &self.escrow.permission {
            Permission::Given => return Permit::Given,
            Permission::Withdrawn(refusal) => return Permit::Refused(refusal.clone()),
            Permission::Wanted(EscrowOrder { rate_kbit_s, unless_broken }) => {
                let rate_kbit_s = *rate_kbit_s;
                // Neither broken contents nor those of a mixed chip are worth a backup.
                if *unless_broken && !self.flash.reboot_is_safe() {
                    warn!("{SKIPPED}");
                    (self.escrow.permission, self.escrow.was_skipped) = (Permission::Given, true);
                    return Permit::Given;
                }
                match self.start_upload(now, backup, rate_kbit_s) {
                    Ok(upload) => self.escrow.permission = Permission::Uploading(Box::new(upload)),
                    Err(detail) => {
                        return Permit::Refused(Refusal::new(Reason::EscrowFailed, detail));
                    }
                }
            }
            Permission::Uploading(_) => {}
        }
        if let Some(upload) = self.escrow.upload() {
            let (done, total) = (upload.done(), upload.total);
            self.flash_progress(now, Phase::Escrow, done, total);
            self.offer_backup(now);
        }
        Permit::Wait
    }

    fn start_upload(
        &mut self,
        now: Time,
        backup: Option<JobBackup<'_>>,
        rate_kbit_s: u32,
    ) -> Result<BackupUpload, String> {
        let digest = backup.and_then(|backup| backup.digest());
        let Some((JobBackup { bytes, closed, .. }, digest)) = backup.zip(digest) else {
            return Err("the backup has holes: some of the flash could not be read".into());
        };
        let closed = offered(closed)?;
        // The image came in fragments of this size, so they fit the path.
        let joined = self.parameters.as_ref().ok_or("the host has not joined a transfer")?;
        let parameters = TransferParameters {
            campaign: self.mission.campaign,
            group_key: GroupKey::new(random::seed(&mut self.rng)),
            payload_size_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            fragment_size_bytes: joined.fragment_size_bytes,
            fec: FecScheme::Doubled,
        };
        info!("uploading the backup of {:#x} bytes", bytes.len());
        let stay_end = self.started + UNTOUCHED_STAY_MAX;
        BackupUpload::new(
            now,
            BackupOffer { parameters, digest, closed },
            bytes,
            rate_kbit_s,
            stay_end,
        )
        .map_err(|error| error.to_string())
    }

    pub(super) fn offer_backup(&mut self, now: Time) {
        if let Some(offer) = self.escrow.upload().and_then(|upload| upload.take_offer(now)) {
            self.send(now, &Answer::BackupOffer(offer));
        }
    }

    pub(super) fn handle_backup_status(&mut self, now: Time, status: &FragmentStatus) {
        if let Some(upload) = self.escrow.upload() {
            upload.handle_status(now, status);
        }
    }

    pub(super) fn handle_backup_stored(&mut self, digest: &[u8; 32]) {
        self.escrow.handle_stored(digest);
    }

    pub(super) fn poll_backup_fragment(&mut self) -> Option<Transmit> {
        let bytes = self.escrow.upload()?.fragments.pop_front()?;
        Some(Transmit { to: self.mission.manager_address, bytes })
    }
}
