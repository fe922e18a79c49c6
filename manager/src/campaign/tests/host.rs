//! A host that follows a script. Its sessions and its receiver are the real ones; its state machine
//! is only as large as the campaign's tests need.

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::keys::{HostSecretKey, SecretKey as _};
use firmcast::reason::{Ending, FlashState, Reason};
use firmcast::session::{self, Endpoint, PeerKey};
use firmcast::time::Time;
use firmcast::transfer::{HostId, Receiver, Sender, SenderConfig, TransferEvent};
use firmcast::wire::answer::{
    Answer, End, Environment, Identity, Measurement, Phase, Programs, Report,
};
use firmcast::wire::broadcast::{FragmentStatus, GroupKey, Missing, TransferParameters};
use firmcast::wire::command::Command;
use firmcast::wire::escrow::BackupOffer;
use firmcast::wire::foresight::Foresight;
use firmcast::wire::help::{Finding, HelpRequest};
use firmcast::wire::samples;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng};
use sha2::{Digest as _, Sha256};

const HEARTBEAT: Duration = Duration::from_secs(1);
const RECONNECT_AFTER: Duration = Duration::from_secs(10);
const FLASH_STEPS: u32 = 3;
/// What a drill comes to.
pub(super) const DRILL_REPORT: &str = "3 of 512 eraseblocks would change";

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) silent: bool,
    pub(super) refuse: Option<Reason>,
    pub(super) recovery_boot: Duration,
    pub(super) home_boot: Duration,
    pub(super) dies_in_kexec: bool,
    pub(super) gives_up_in_recovery: bool,
    pub(super) deaf_to_fragments: bool,
    /// Its answers to status requests cannot be.
    pub(super) answers_nonsense: bool,
    /// It says that it is updated when it is told to receive.
    pub(super) claims_update: bool,
    /// Another machine with its key answers behind it each time.
    pub(super) has_twin: bool,
    /// It answers in recovery, but takes no manifest.
    pub(super) loses_manifests: bool,
    pub(super) backup: ScriptedBackup,
    pub(super) dies_while_flashing: bool,
    /// In the middle of a write; then its normal OS starts.
    pub(super) loses_power_while_flashing: bool,
    /// Answers after the campaign brought it home, or after it came home by itself; then it is
    /// silent.
    pub(super) answers_at_home: Option<u32>,
    pub(super) cannot_measure: bool,
    /// Its measurement is one of the boot before.
    pub(super) measured_before: bool,
    pub(super) fails_to_write: Option<FlashState>,
    pub(super) fails_once: bool,
    pub(super) reboots_without_release: bool,
    pub(super) never_boots_again: bool,
    pub(super) other_digest: bool,
    pub(super) other_version: bool,
    /// What its agent cannot keep when it has measured the new firmware.
    pub(super) cannot_keep: &'static str,
    /// What recovery says beside that it has updated the chip.
    pub(super) remark: &'static str,
    /// What its administrator's programs came to.
    pub(super) programs: &'static str,
    /// It knows no drills: it says so, or nothing.
    pub(super) knows_no_drills: Option<Unknown>,
    /// It takes a rehearsal for a commit.
    pub(super) writes_in_drill: bool,
}

/// What a host makes of a command that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Told,
    Ignored,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            silent: false,
            refuse: None,
            recovery_boot: Duration::from_secs(15),
            home_boot: Duration::from_secs(40),
            dies_in_kexec: false,
            gives_up_in_recovery: false,
            deaf_to_fragments: false,
            answers_nonsense: false,
            claims_update: false,
            has_twin: false,
            loses_manifests: false,
            backup: ScriptedBackup::Good,
            dies_while_flashing: false,
            loses_power_while_flashing: false,
            answers_at_home: None,
            cannot_measure: false,
            measured_before: false,
            fails_to_write: None,
            fails_once: false,
            reboots_without_release: false,
            never_boots_again: false,
            other_digest: false,
            other_version: false,
            cannot_keep: "",
            remark: "",
            programs: "",
            knows_no_drills: None,
            writes_in_drill: false,
        }
    }
}

fn told(programs: &str) -> Option<Programs> {
    (!programs.is_empty()).then(|| Programs { failed: true, told: programs.into() })
}

/// Number of the boot in which the campaign finds the host.
const FIRST_BOOT: u8 = 1;

/// What a host uploads when it is asked for its backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptedBackup {
    Good,
    /// It says that it is on it, and no more.
    Nothing,
    OtherSize,
    OtherDigest,
    /// It falls silent when it has offered its backup.
    Offer,
    /// It offers another one with each heartbeat.
    AlwaysAnother,
    /// It sends a fragment shortly before each deadline.
    Drop,
}

/// Time between two fragments of one that drops them.
const DROP_INTERVAL: Duration = Duration::from_secs(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Os,
    Recovery,
    Boot { until: Time, into_recovery: bool },
    Dead,
}

/// What should arrive.
#[derive(Clone, Debug)]
pub(super) struct Cargo {
    pub(super) manifest: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) image_size_bytes: usize,
    pub(super) stable_digest: [u8; 32],
}

pub(super) struct ScriptedHost {
    pub(super) address: SocketAddr,
    pub(super) writes: u32,
    script: Script,
    secret: HostSecretKey,
    manager: PeerKey,
    /// Where the instruction came from.
    manager_address: SocketAddr,
    cargo: Cargo,
    endpoint: Endpoint,
    boots: u8,
    place: Place,
    campaign: u64,
    /// It was told that this is a drill.
    drill: bool,
    /// Its drill is done; it looks for a manager by itself, and tells it.
    searches: bool,
    manifest: Vec<u8>,
    receiver: Option<Receiver>,
    upload: Option<(BackupOffer, Sender)>,
    next_drop: Time,
    report: Report,
    last_end: Option<End>,
    next_report: Option<Time>,
    heard: Time,
    /// When it gives up in recovery: nobody said anything new.
    give_up: Option<Time>,
    outbox: Vec<(SocketAddr, Vec<u8>)>,
}

impl ScriptedHost {
    pub(super) fn new(index: usize, script: Script, manager: PeerKey, cargo: Cargo) -> Self {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
        let secret = HostSecretKey::generate(&mut ChaCha20Rng::from_seed(seed));
        let octets = (index as u16 + 2).to_be_bytes();
        let mut host = Self {
            address: SocketAddr::from(([10, 0, octets[0], octets[1]], 9847)),
            writes: 0,
            script,
            endpoint: Endpoint::new(*secret.exchange(), seed),
            secret,
            manager,
            manager_address: SocketAddr::from(([0; 4], 0)),
            cargo,
            boots: 0,
            place: Place::Os,
            campaign: 0,
            drill: false,
            searches: false,
            manifest: Vec::new(),
            receiver: None,
            upload: None,
            next_drop: Time::ZERO,
            report: report(Phase::Idle),
            last_end: None,
            next_report: None,
            heard: Time::ZERO,
            give_up: None,
            outbox: Vec::new(),
        };
        host.boot(Time::ZERO, false);
        host
    }

    pub(super) fn key(&self) -> PeerKey {
        *self.secret.public().exchange()
    }

    /// What its chip held at the start.
    pub(super) fn backup(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.cargo.image_size_bytes];
        ChaCha20Rng::from_seed(self.key()).fill_bytes(&mut bytes);
        bytes
    }

    /// Its cable is pulled.
    #[allow(dead_code)] // Tests of the program do not do that.
    pub(super) fn fall_silent(&mut self) {
        self.place = Place::Dead;
    }

    pub(super) fn is_changing(&self) -> bool {
        self.writes > 0 || self.report.phase == Phase::Writing
    }

    pub(super) fn is_in_normal_os(&self) -> bool {
        self.place == Place::Os
    }

    fn boot(&mut self, now: Time, into_recovery: bool) {
        self.boots += 1;
        let mut seed = [self.boots; 32];
        seed[16..].copy_from_slice(&self.key()[..16]);
        self.endpoint = Endpoint::new(*self.secret.exchange(), seed);
        self.endpoint.allow(self.manager);
        self.place = if into_recovery { Place::Recovery } else { Place::Os };
        self.manifest.clear();
        (self.receiver, self.upload) = (None, None);
        self.report = report(if into_recovery { Phase::Ready } else { Phase::Idle });
        self.report.campaign = self.campaign;
        (self.next_report, self.give_up) = (None, None);
        if into_recovery {
            self.endpoint.connect(now, self.manager, self.manager_address);
            self.next_report = Some(now);
            self.give_up = Some(now + Duration::from_secs(200));
        }
    }

    fn restart(&mut self, now: Time, into_recovery: bool, span: Duration) {
        self.place = Place::Boot { until: now + span, into_recovery };
        (self.next_report, self.give_up) = (None, None);
    }

    /// Back to the normal OS, with a note of why.
    fn go_home(&mut self, now: Time, reason: Reason) {
        let detail = if reason == Reason::Drilled { DRILL_REPORT } else { "" };
        let ending = Ending::new(reason, self.report.ending.flash, detail);
        self.last_end = Some(End { campaign: self.campaign, ending });
        self.restart(now, false, self.script.home_boot);
        if self.script.never_boots_again {
            self.place = Place::Dead;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        match self.place {
            Place::Dead => None,
            Place::Boot { until, .. } => Some(until),
            Place::Os | Place::Recovery => {
                let receiver = self.receiver.as_ref().and_then(Receiver::poll_timeout);
                let upload = self.upload.as_ref().and_then(|(_, sender)| sender.poll_timeout());
                [self.next_report, self.give_up, self.endpoint.poll_timeout(), receiver, upload]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        match self.place {
            Place::Dead => return,
            Place::Boot { until, into_recovery } if until <= now => self.boot(now, into_recovery),
            Place::Boot { .. } => return,
            Place::Os | Place::Recovery => {}
        }
        self.endpoint.handle_timeout(now);
        if self.give_up.is_some_and(|at| at <= now) {
            self.go_home(now, Reason::ManagerNotReached);
        }
        if let Some(mut status) = self.receiver.as_mut().and_then(|r| r.poll_status(now)) {
            if self.script.answers_nonsense {
                status.missing_total = 9999;
                status.missing = Missing::Counts(vec![3333; 3]);
            }
            self.answer(now, &Answer::FragmentStatus(status));
        }
        if let Some((_, sender)) = &mut self.upload {
            while let Some(datagram) = sender.poll_transmit(now) {
                if self.script.backup == ScriptedBackup::Drop && datagram[0] == 6 {
                    if now < self.next_drop {
                        continue;
                    }
                    self.next_drop = now + DROP_INTERVAL;
                }
                self.outbox.push((self.manager_address, datagram));
            }
            while let Some(TransferEvent::Stalled(manager, _)) = sender.poll_event() {
                sender.add_host(now, manager).unwrap();
            }
        }
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = Some(now + HEARTBEAT);
            if let Some((offer, _)) = &mut self.upload {
                if self.script.backup == ScriptedBackup::AlwaysAnother {
                    let mut key = self.secret.public().exchange().to_owned();
                    key[..8].copy_from_slice(&now.as_micros().to_be_bytes());
                    offer.parameters.group_key = GroupKey::new(key);
                }
                let offer = offer.clone();
                self.answer(now, &Answer::BackupOffer(offer));
            }
            if now.since(self.heard) >= RECONNECT_AFTER {
                self.heard = now;
                self.endpoint.connect(now, self.manager, self.manager_address);
            }
            self.step_flash(now);
            match self.searches {
                true => self.answer(now, &Answer::HelpRequest(Box::new(drill_request()))),
                false => self.answer(now, &Answer::Report(self.report.clone())),
            }
        }
    }

    /// Flashing gets on with each heartbeat.
    fn step_flash(&mut self, now: Time) {
        if self.report.phase == Phase::Ready && self.script.gives_up_in_recovery {
            self.go_home(now, Reason::NetworkUnavailable);
        }
        if self.report.phase != Phase::Writing {
            return;
        }
        self.report.done += 1;
        if self.script.dies_while_flashing {
            self.place = Place::Dead;
        } else if self.script.loses_power_while_flashing {
            self.restart(now, false, self.script.home_boot);
        } else if let Some(flash) = self.script.fails_to_write {
            if self.script.fails_once {
                self.script.fails_to_write = None;
            }
            let ending = Ending::new(Reason::WriteFailed, flash, "");
            self.report = Report { ending, ..self.state(Phase::Failed) };
        } else if self.report.done == FLASH_STEPS {
            self.writes += 1;
            let digests = Some(([1; 32], [2; 32]));
            let ending = Ending::new(Reason::None, FlashState::Updated, self.script.remark);
            self.report = Report { digests, ending, ..self.state(Phase::Updated) };
            if self.script.reboots_without_release {
                self.go_home(now, Reason::Updated);
            }
        }
    }

    fn state(&self, phase: Phase) -> Report {
        Report { campaign: self.campaign, ..report(phase) }
    }

    pub(super) fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8]) {
        let listens = matches!(self.place, Place::Os | Place::Recovery) && !self.script.silent;
        if !listens {
            return;
        }
        if let Some(receiver) = self.receiver.as_mut().filter(|_| matches!(bytes[0], 6 | 7)) {
            if !self.script.deaf_to_fragments || bytes[0] == 7 {
                let before = receiver.progress().0;
                receiver.handle_datagram(now, bytes);
                if receiver.progress().0 > before {
                    self.give_up = Some(now + Duration::from_secs(200));
                }
            }
            if receiver.is_complete() && self.report.phase == Phase::Receiving {
                let payload = receiver.take_payload().unwrap();
                assert_eq!(payload, self.cargo.payload);
                self.report = self.state(Phase::Verified);
                self.next_report = Some(now);
            }
        }
        if let Some(session::SessionEvent::Message { bytes, .. }) =
            self.endpoint.handle_datagram(now, from, bytes)
        {
            self.heard = now;
            if self.place == Place::Os {
                self.manager_address = from;
            }
            self.handle_command(now, Command::parse(&bytes).unwrap());
        }
    }

    fn handle_command(&mut self, now: Time, command: Command) {
        let in_recovery = self.place == Place::Recovery;
        if in_recovery && campaign_of(&command).is_some_and(|campaign| campaign != self.campaign) {
            return;
        }
        match command {
            Command::Query => {
                if in_recovery && self.give_up.is_some() {
                    self.give_up = Some(now + Duration::from_secs(200));
                }
                let identity = self.identity();
                if self.script.has_twin {
                    for boot_id in [[1; 16], [101; 16]] {
                        let identity = Identity { boot_id, ..identity.clone() };
                        self.answer(now, &Answer::Identity(identity));
                    }
                    return;
                }
                self.answer(now, &Answer::Identity(identity));
            }
            Command::ManifestPart { campaign, offset_bytes, bytes, .. } => {
                self.campaign = campaign;
                let loses = in_recovery && self.script.loses_manifests;
                if offset_bytes as usize == self.manifest.len() && !loses {
                    self.manifest.extend(bytes);
                }
                let held_bytes = self.manifest.len() as u32;
                self.answer(now, &Answer::ManifestHeld { campaign, held_bytes });
            }
            Command::Begin { drill: true, .. }
                if self.script.knows_no_drills == Some(Unknown::Told) =>
            {
                self.answer(now, &Answer::NotUnderstood { kind: 0x0f });
            }
            Command::Begin { drill: true, .. } if self.script.knows_no_drills.is_some() => {}
            Command::Begin { drill, .. } if !in_recovery => {
                self.drill = drill;
                self.begin(now);
            }
            Command::Join { parameters, .. } if in_recovery && self.receiver.is_none() => {
                assert_eq!(self.manifest, self.cargo.manifest);
                self.receiver = Some(Receiver::new(&parameters, 9).unwrap());
                self.report = self.state(match self.script.claims_update {
                    true => Phase::Updated,
                    false => Phase::Receiving,
                });
            }
            Command::Commit { .. } | Command::CommitWithEscrow { .. } if self.drill => {
                panic!("told to write in a drill")
            }
            Command::Rehearse { .. } if self.script.writes_in_drill => {
                self.report = Report { total: FLASH_STEPS, ..self.state(Phase::Writing) };
            }
            Command::Rehearse { escrow_rate_kbit_s, .. }
                if self.drill && self.report.phase == Phase::Verified =>
            {
                match escrow_rate_kbit_s {
                    Some(rate) => self.begin_escrow(now, rate.get()),
                    None => self.end_drill(),
                }
            }
            Command::Commit { .. }
                if self.report.phase == Phase::Verified
                    || !self.report.ending.flash.reboot_is_safe() =>
            {
                self.report = Report { total: FLASH_STEPS, ..self.state(Phase::Writing) };
                self.give_up = None;
            }
            Command::CommitWithEscrow { rate_kbit_s, unless_broken, .. }
                if self.report.phase == Phase::Verified =>
            {
                assert!(!unless_broken, "an update never goes without the backup asked for");
                self.begin_escrow(now, rate_kbit_s);
            }
            Command::Hold { .. } if self.searches => {
                self.searches = false;
                self.go_home(now, Reason::Drilled);
            }
            Command::BackupStatus(status) => self.handle_backup_status(now, &status),
            Command::BackupStored { digest, .. } if self.report.phase == Phase::Escrow => {
                let (offer, _) = self.upload.take().unwrap();
                assert_eq!(digest, offer.digest);
                if self.drill {
                    return self.end_drill();
                }
                self.report = Report { total: FLASH_STEPS, ..self.state(Phase::Writing) };
                self.give_up = None;
            }
            Command::Release { .. } if in_recovery && self.report.phase != Phase::Writing => {
                self.release(now);
            }
            Command::Foresee { campaign, .. } => {
                self.answer(now, &Answer::Foresight(foresight(campaign)));
            }
            Command::Measure { campaign } => {
                self.answer(now, &Answer::Measurement(self.measurement(campaign)));
            }
            _ => {}
        }
    }

    fn end_drill(&mut self) {
        let ending = Ending::new(Reason::Drilled, FlashState::UNTOUCHED, DRILL_REPORT);
        let digests = Some(([1; 32], [1; 32]));
        self.report = Report { ending, digests, ..self.state(Phase::Drilled) };
        self.give_up = None;
    }

    fn begin_escrow(&mut self, now: Time, rate_kbit_s: u32) {
        self.report = self.state(Phase::Escrow);
        self.next_report = Some(now);
        if matches!(self.script.backup, ScriptedBackup::AlwaysAnother | ScriptedBackup::Drop) {
            self.give_up = None;
        }
        if self.script.backup != ScriptedBackup::Nothing {
            self.upload = Some(self.start_upload(now, rate_kbit_s));
        }
    }

    fn handle_backup_status(&mut self, now: Time, status: &FragmentStatus) {
        if let Some((_, sender)) = &mut self.upload {
            sender.handle_status(now, HostId(0), status).unwrap();
            sender.start(now);
        }
        if self.script.backup == ScriptedBackup::Offer {
            self.restart(now, false, Duration::from_secs(1000));
        }
    }

    fn measurement(&self, campaign: u64) -> Measurement {
        let Script { cannot_measure, measured_before, cannot_keep, other_digest, .. } = self.script;
        Measurement {
            campaign,
            matches: self.writes > 0 && !other_digest && !cannot_measure,
            stable_digest: self.cargo.stable_digest,
            boot_id: if measured_before { [FIRST_BOOT; 16] } else { [self.boots; 16] },
            bios_version: self.bios_version(),
            bios_vendor: "V".into(),
            detail: if cannot_measure { "no such device" } else { cannot_keep }.into(),
            programs: told(self.script.programs),
        }
    }

    fn start_upload(&self, now: Time, rate_kbit_s: u32) -> (BackupOffer, Sender) {
        let mut bytes = self.backup();
        let digest = Sha256::digest(&bytes).into();
        match self.script.backup {
            ScriptedBackup::OtherSize => bytes.push(0),
            ScriptedBackup::OtherDigest => bytes[0] ^= 1,
            _ => {}
        }
        let parameters = TransferParameters {
            campaign: self.campaign,
            group_key: GroupKey::new(self.key()),
            payload_size_bytes: bytes.len() as u32,
            fragment_size_bytes: 1440,
        };
        let config = SenderConfig { rate_cap_bits_per_s: u64::from(rate_kbit_s) * 1000 };
        let mut sender = Sender::new(bytes, &parameters, config).unwrap();
        sender.add_host(now, HostId(0)).unwrap();
        (BackupOffer { parameters, digest, closed: std::iter::once(1..3).collect() }, sender)
    }

    fn begin(&mut self, now: Time) {
        let answer = match self.script.refuse {
            Some(reason) => {
                let ending = Ending::new(reason, FlashState::UNTOUCHED, "");
                Report { ending, ..self.state(Phase::Refused) }
            }
            None => self.state(Phase::Accepted),
        };
        self.answer(now, &Answer::Report(answer));
        if self.script.dies_in_kexec {
            self.place = Place::Dead;
        } else if self.script.refuse.is_none() {
            self.restart(now, true, self.script.recovery_boot);
        }
    }

    fn release(&mut self, now: Time) {
        if !self.report.ending.flash.reboot_is_safe() {
            return;
        }
        let ending = Ending::new(Reason::None, self.report.ending.flash, "");
        let report = Report { ending, ..self.state(Phase::Rebooting) };
        self.answer(now, &Answer::Report(report));
        self.upload = None;
        if self.report.phase == Phase::Drilled {
            self.searches = true;
            return;
        }
        let reason = match self.report.phase {
            Phase::Updated => Reason::Updated,
            _ => Reason::Released,
        };
        self.go_home(now, reason);
    }

    fn bios_version(&self) -> String {
        if self.writes > 0 && !self.script.other_version { "2.0".into() } else { "1.0".into() }
    }

    fn identity(&self) -> Identity {
        Identity {
            environment: match self.place {
                Place::Recovery => Environment::Recovery,
                _ => Environment::NormalOs,
            },
            boot_id: [self.boots; 16],
            bios_version: self.bios_version(),
            last_end: self.last_end.clone(),
            ..samples::identity()
        }
    }

    fn answer(&mut self, now: Time, answer: &Answer) {
        if let (Place::Os, 3.., Some(left)) =
            (self.place, self.boots, &mut self.script.answers_at_home)
        {
            if *left == 0 {
                return;
            }
            *left -= 1;
        }
        self.endpoint.send(now, &self.manager, &answer.emit());
        // What is said on the way into a reboot still goes out.
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.outbox.push((transmit.to, transmit.bytes));
        }
    }

    pub(super) fn take_outbox(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.collect();
        if self.script.silent {
            self.outbox.clear();
        }
        std::mem::take(&mut self.outbox)
    }
}

fn campaign_of(command: &Command) -> Option<u64> {
    match command {
        Command::Query
        | Command::Enlist { .. }
        | Command::Hold { .. }
        | Command::NotUnderstood { .. } => None,
        Command::ManifestPart { campaign, .. }
        | Command::Begin { campaign, .. }
        | Command::Commit { campaign }
        | Command::CommitWithEscrow { campaign, .. }
        | Command::BackupStored { campaign, .. }
        | Command::Rehearse { campaign, .. }
        | Command::Release { campaign }
        | Command::Foresee { campaign, .. }
        | Command::Measure { campaign } => Some(*campaign),
        Command::Join { parameters, .. } => Some(parameters.campaign),
        Command::BackupStatus(status) => Some(status.campaign),
    }
}

fn drill_request() -> HelpRequest {
    HelpRequest {
        wants_image: false,
        finding: Finding::Valid,
        offset_bytes: 0,
        why: "a drill".into(),
        identity: samples::identity(),
    }
}

fn report(phase: Phase) -> Report {
    Report {
        campaign: 0,
        phase,
        ending: Ending::new(Reason::None, FlashState::UNTOUCHED, ""),
        done: 0,
        total: 0,
        digests: None,
    }
}

/// Returns what a host with nothing in the way foresees.
fn foresight(campaign: u64) -> Foresight {
    Foresight {
        campaign,
        reason: Reason::None,
        blocks: 512,
        changed_blocks_max: 16,
        typical_ms: 1,
        longest_ms: 2001,
        detail: String::new(),
        findings: Vec::new(),
    }
}
