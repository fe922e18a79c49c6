//! A dead host: the real machine of the recovery environment, and what goes wrong with it.

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::environment::stay::{Conclusion, Patient, Situation, Stay, StayAction};
use firmcast::flash::JobBackup;
use firmcast::image::{Board, ByteRanges};
use firmcast::keys::{HostSecretKey, PublicKey as _, SecretKey as _};
use firmcast::reason::{Condition, Ending, FlashState, Reason};
use firmcast::recovery::machine::{FlashEnd, Permit};
use firmcast::rescue::search::SearchSituation;
use firmcast::rescue::seek::{Candidate, Source};
use firmcast::session;
use firmcast::time::Time;
use firmcast::wire::answer::{Environment, Identity, Phase};
use firmcast::wire::help::CONFIRMED_STAY;
use firmcast::wire::help::{Finding, HelpRequest};
use firmcast::wire::samples;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::world::{manager_address, manager_key, release_key};

const FLASHING: Duration = Duration::from_secs(2);
pub(super) const IMAGE_SIZE_BYTES: usize = 128 << 10;

/// What a host is like, and what goes wrong with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead {
    pub(super) product: &'static str,
    pub(super) up_at: Duration,
    pub(super) floor: u64,
    /// What the manager knows of its floor; an old recovery image knows less.
    pub(super) known_floor: u64,
    pub(super) wants_image: bool,
    /// So many attempts to write fail, and leave the chip damaged.
    pub(super) bad_writes: u32,
    /// So often its chip is damaged again after it was rescued.
    pub(super) relapses: u32,
    /// It counts its rescues, and tells how many there were in vain.
    pub(super) counts: bool,
    /// Its count stays as it is.
    pub(super) cannot_write: bool,
    /// How many it has counted.
    pub(super) rescues: u8,
    /// How long it runs until its chip is damaged again.
    pub(super) up_for: Duration,
    /// It has the key of this host, as a copy of its disk.
    pub(super) twin_of: Option<usize>,
    /// It loses its power so long after it came up, once.
    pub(super) power_cut: Option<Duration>,
    pub(super) is_known: bool,
    pub(super) finding: Finding,
    /// It holds its upload back, fragment by fragment.
    pub(super) dawdles: bool,
    /// Somebody holds back this one of its datagrams, for [`WITHHELD_FOR`].
    pub(super) withheld: Option<usize>,
}

/// How long a datagram is held back.
pub(super) const WITHHELD_FOR: Duration = Duration::from_secs(60);

/// Time between two fragments of one that dawdles.
const DAWDLING: Duration = Duration::from_secs(30);

impl Default for Dead {
    fn default() -> Self {
        Self {
            product: "P",
            up_at: Duration::ZERO,
            floor: 0,
            known_floor: 0,
            wants_image: true,
            bad_writes: 0,
            relapses: 0,
            counts: false,
            cannot_write: false,
            rescues: 0,
            up_for: Duration::from_secs(20),
            twin_of: None,
            power_cut: None,
            is_known: true,
            finding: Finding::Invalid,
            dawdles: false,
            withheld: None,
        }
    }
}

pub(super) struct DeadHost {
    pub(super) address: SocketAddr,
    pub(super) dead: Dead,
    pub(super) machine: Option<Stay>,
    pub(super) conclusion: Option<Conclusion>,
    /// Images that were written, by their digest.
    pub(super) written: Vec<[u8; 32]>,
    pub(super) attempts: u32,
    secret: HostSecretKey,
    boots: u8,
    boot_at: Option<Time>,
    flashing: Option<(Time, [u8; 32])>,
    /// The digest of an image that may not be written yet.
    wants_permit: Option<[u8; 32]>,
    pub(super) outbox: Vec<session::Transmit>,
    next_fragment: Time,
    /// Datagrams that it has sent.
    said: usize,
}

impl DeadHost {
    pub(super) fn new(index: usize, dead: Dead) -> Self {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&(dead.twin_of.unwrap_or(index) as u64).to_be_bytes());
        let octets = (index as u16 + 2).to_be_bytes();
        Self {
            address: SocketAddr::from(([10, 0, octets[0], octets[1]], 9847)),
            dead,
            machine: None,
            conclusion: None,
            written: Vec::new(),
            attempts: 0,
            secret: HostSecretKey::generate(&mut ChaCha20Rng::from_seed(seed)),
            boots: if dead.twin_of.is_some() { 100 } else { 0 },
            boot_at: Some(Time::ZERO + dead.up_at),
            flashing: None,
            wants_permit: None,
            outbox: Vec::new(),
            next_fragment: Time::ZERO,
            said: 0,
        }
    }

    pub(super) fn key(&self) -> [u8; 32] {
        *self.secret.public().exchange()
    }

    pub(super) fn name(&self) -> String {
        match self.dead.is_known {
            true => self.address.to_string(),
            false => self.secret.public().fingerprint().to_string(),
        }
    }

    pub(super) fn is_rescued(&self) -> bool {
        matches!(self.conclusion, Some(Conclusion::Repaired { .. }))
    }

    fn boot(&mut self, now: Time) {
        self.boots += 1;
        let identity = Identity {
            environment: Environment::Recovery,
            boot_id: [self.boots; 16],
            flash_size_bytes: IMAGE_SIZE_BYTES as u64,
            security_version_floor: self.dead.floor,
            product: self.dead.product.into(),
            ..samples::identity()
        };
        let request = HelpRequest {
            wants_image: self.dead.wants_image,
            finding: self.dead.finding,
            offset_bytes: 7,
            why: "torn".into(),
            identity,
            rescues: self.dead.counts.then_some(self.dead.rescues),
        };
        let board = Board {
            vendor: "V".into(),
            product: self.dead.product.into(),
            flash_size_bytes: IMAGE_SIZE_BYTES as u64,
            security_version_floor: self.dead.floor,
            host: Some(self.secret.public().fingerprint()),
            ..Board::default()
        };
        let patient = Patient {
            host_key: self.secret.clone(),
            managers: vec![manager_key().public()],
            releases: vec![release_key().public()],
            board,
            request,
            flash: FlashState::Untouched(match self.dead.finding {
                Finding::Invalid => Condition::Broken,
                _ => Condition::Whole,
            }),
            patience: (!self.dead.wants_image).then_some(Duration::from_secs(30)),
        };
        let mut seed = [self.boots; 32];
        seed[16..].copy_from_slice(&self.key()[..16]);
        self.machine = Some(Stay::by_itself(now, patient, seed));
        self.boot_at = self.dead.power_cut.take().map(|after| now + after);
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.boot_at.is_some_and(|at| at <= now) {
            (self.flashing, self.wants_permit) = (None, None);
            self.boot(now);
        }
        let Some(machine) = &mut self.machine else { return };
        machine.handle_timeout(now);
        if let (Some((end, digest)), Some(recovery)) = (self.flashing, machine.recovery()) {
            let bad = self.dead.bad_writes > 0;
            if end > now {
                recovery.flash_progress(now, Phase::Writing, 1, 3);
            } else {
                self.flashing = None;
                self.dead.bad_writes = self.dead.bad_writes.saturating_sub(1);
                let (flash, reason) = match bad {
                    true => (FlashState::Mixed, Reason::WriteFailed),
                    false => (FlashState::Updated, Reason::Updated),
                };
                if !bad {
                    self.written.push(digest);
                }
                let end = FlashEnd { ending: Ending::new(reason, flash, ""), digests: None };
                recovery.flash_ended(now, end);
            }
        }
        self.act(now);
    }

    pub(super) fn act(&mut self, now: Time) {
        let Some(machine) = &mut self.machine else { return };
        // As the driver does it: what is to be said is said before anything is done.
        self.outbox.extend(std::iter::from_fn(|| machine.poll_transmit()));
        while let Some(action) = machine.poll_action(now) {
            match action {
                StayAction::LookUp(source) => {
                    let (address, broadcast) = (manager_address(), false);
                    let candidate = Candidate { address, broadcast, key: None };
                    let is_stored = source == Source::Stored;
                    let found = if is_stored { vec![candidate] } else { Vec::new() };
                    machine.found(now, source, Ok(found));
                }
                StayAction::Flash { image, .. } => {
                    self.attempts += 1;
                    self.wants_permit = Some(*image.digest());
                }
                StayAction::JoinGroup(_) | StayAction::ReadPiece { .. } => {}
                StayAction::Conclude(Conclusion::Repaired { .. }) if self.dead.relapses > 0 => {
                    self.dead.relapses -= 1;
                    let is_confirmed = self.dead.up_for >= CONFIRMED_STAY;
                    self.dead.rescues = match (is_confirmed, self.dead.cannot_write) {
                        (true, _) => 0,
                        (false, is_stuck) => self.dead.rescues + u8::from(!is_stuck),
                    };
                    self.boot_at = Some(now + self.dead.up_for);
                }
                StayAction::Conclude(conclusion) => self.conclusion = Some(conclusion),
            }
        }
        self.ask_permit(now);
    }

    /// No byte is written before the backup is in keeping, where that is wanted.
    fn ask_permit(&mut self, now: Time) {
        let Some(digest) = self.wants_permit else { return };
        let Some(recovery) = self.machine.as_mut().and_then(Stay::recovery) else { return };
        let old = std::sync::Arc::new(vec![0x5a; IMAGE_SIZE_BYTES]);
        let closed = ByteRanges::default();
        let backup = JobBackup { bytes: &old, is_whole: true, closed: &closed };
        match recovery.may_change(now, Some(backup)) {
            Permit::Given => {
                self.wants_permit = None;
                self.flashing = Some((now + FLASHING, digest));
            }
            Permit::Wait => {}
            Permit::Refused(refusal) if self.dead.dawdles => {
                self.wants_permit = None;
                let flash = FlashState::Untouched(Condition::Whole);
                let ending = Ending::new(refusal.reason, flash, refusal.detail);
                recovery.flash_ended(now, FlashEnd { ending, digests: None });
            }
            Permit::Refused(refusal) => panic!("{refusal}"),
        }
    }

    pub(super) fn lets_out(&mut self, now: Time, bytes: &[u8]) -> bool {
        if !self.dead.dawdles || bytes[0] != 6 {
            return true;
        }
        let is_due = self.next_fragment <= now;
        if is_due {
            self.next_fragment = now + DAWDLING;
        }
        is_due
    }

    /// How much longer than usual its next datagram takes.
    pub(super) fn delay(&mut self) -> Duration {
        self.said += 1;
        match self.dead.withheld == Some(self.said - 1) {
            true => WITHHELD_FOR,
            false => Duration::ZERO,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let machine = self.machine.as_ref().and_then(Stay::poll_timeout);
        [machine, self.boot_at, self.flashing.map(|(end, _)| end)].into_iter().flatten().min()
    }

    pub(super) fn held(&self) -> Option<&str> {
        match self.machine.as_ref()?.situation() {
            Situation::Searching(SearchSituation::Asking { held, .. }) => held,
            _ => None,
        }
    }
}
