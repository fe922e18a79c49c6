//! What a scripted host does at a command.

use std::time::Duration;

use firmcast::reason::{Ending, FlashState, Reason};
use firmcast::time::Time;
use firmcast::transfer::{HostId, Receiver, Sender, SenderConfig};
use firmcast::wire::answer::{Answer, Identity, Measurement, Phase, Report};
use firmcast::wire::broadcast::{FecScheme, FragmentStatus, GroupKey, TransferParameters};
use firmcast::wire::command::Command;
use firmcast::wire::escrow::BackupOffer;
use firmcast::wire::foresight::Foresight;
use sha2::{Digest as _, Sha256};

use super::{
    DRILL_REPORT, FIRST_BOOT, FLASH_STEPS, Place, Script, ScriptedBackup, ScriptedHost, Unknown,
    told,
};

impl ScriptedHost {
    pub(super) fn handle_command(&mut self, now: Time, command: Command) {
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
            Command::Join { parameters, excerpt, .. }
                if in_recovery && self.joined.as_ref() != Some(&parameters) =>
            {
                assert_eq!(self.manifest, self.cargo.manifest);
                self.receiver = Some(Receiver::new(&parameters, 9).unwrap());
                (self.joined, self.excerpt) = (Some(parameters), excerpt);
                self.report = self.state(match self.script.claims_update {
                    true => Phase::Updated,
                    false => Phase::Receiving,
                });
                self.report.total = self.receiver.as_ref().map_or(0, |it| it.progress().1);
                self.report.lacking =
                    excerpt.and(self.lacking().filter(|_| self.script.lacks_more));
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
                self.answer(now, &Answer::Foresight(self.foresight(campaign)));
            }
            Command::Measure { campaign } => {
                self.answer(now, &Answer::Measurement(self.measurement(campaign)));
            }
            _ => {}
        }
    }

    /// What it foresees; nothing, if it would refuse.
    fn foresight(&self, campaign: u64) -> Foresight {
        let nothing = Foresight {
            campaign,
            reason: self.script.refuse.unwrap_or(Reason::None),
            blocks: 0,
            changed_blocks_max: 0,
            typical_ms: 0,
            longest_ms: 0,
            detail: String::new(),
            findings: Vec::new(),
        };
        match self.script.refuse {
            Some(_) => nothing,
            None => Foresight {
                blocks: 512,
                changed_blocks_max: if self.writes == 0 { 16 } else { 0 },
                typical_ms: 1,
                longest_ms: self.script.longest_write.as_millis() as u32,
                ..nothing
            },
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
            fec: FecScheme::Doubled,
        };
        let config =
            SenderConfig { rate_cap_bits_per_s: u64::from(rate_kbit_s) * 1000, is_polite: false };
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
            None => Report { lacking: self.lacking(), ..self.state(Phase::Accepted) },
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
