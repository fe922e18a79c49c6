//! A host that follows a script. Its sessions and its receiver are the real ones; its state machine
//! is only as large as the campaign's tests need.

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::keys::{HostSecretKey, SecretKey as _};
use firmcast::reason::{Ending, FlashState, Reason};
use firmcast::session::{self, Endpoint, PeerKey};
use firmcast::time::Time;
use firmcast::transfer::{Receiver, Sender, TransferEvent};
use firmcast::wire::answer::{Answer, End, Environment, Identity, Phase, Programs, Report};
use firmcast::wire::broadcast::{GroupKey, Missing, TransferParameters};
use firmcast::wire::command::Command;
use firmcast::wire::escrow::BackupOffer;
use firmcast::wire::excerpt::{Excerpt, PieceSet};
use firmcast::wire::help::{Finding, HelpRequest};
use firmcast::wire::samples;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng};
use sha2::{Digest as _, Sha256};

#[path = "host/commands.rs"]
mod commands;
#[path = "host/script.rs"]
mod script;

pub(super) use script::{Script, ScriptedBackup, Unknown};

/// Size of the pieces of an image.
pub(super) const PIECE_BYTES: usize = 10_000;

const HEARTBEAT: Duration = Duration::from_secs(1);
const RECONNECT_AFTER: Duration = Duration::from_secs(10);
const FLASH_STEPS: u32 = 3;
/// What a drill comes to.
pub(super) const DRILL_REPORT: &str = "3 of 512 eraseblocks would change";

fn told(programs: &str) -> Option<Programs> {
    (!programs.is_empty()).then(|| Programs { failed: true, told: programs.into() })
}

/// Number of the boot in which the campaign finds the host.
const FIRST_BOOT: u8 = 1;

/// Time between two fragments of one that drops them.
const DROP_INTERVAL: Duration = Duration::from_secs(40);

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

impl Cargo {
    /// The payload carries these pieces of the image, which is the whole payload here.
    fn check_excerpt(&self, payload: &[u8], excerpt: &Excerpt) {
        assert_eq!(excerpt.payload_digest, *Sha256::digest(payload));
        let pieces = self.payload.chunks(PIECE_BYTES).enumerate();
        let carried = pieces.filter(|(piece, _)| excerpt.carried.contains(*piece));
        let expected: Vec<u8> = carried.flat_map(|(_, bytes)| bytes).copied().collect();
        assert!(zstd::bulk::decompress(payload, self.payload.len()).unwrap() == expected);
    }
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
    /// What it was told to receive.
    joined: Option<TransferParameters>,
    excerpt: Option<Excerpt>,
    /// Of the last image that arrived whole.
    last_excerpt: Option<Excerpt>,
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
            writes: u32::from(script.has_release),
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
            joined: None,
            excerpt: None,
            last_excerpt: None,
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
        (self.joined, self.excerpt) = (None, None);
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
                let payload = receiver.take_payload().unwrap().bytes;
                match self.excerpt {
                    None => assert_eq!(payload, self.cargo.payload),
                    Some(excerpt) => self.cargo.check_excerpt(&payload, &excerpt),
                }
                self.last_excerpt = self.excerpt;
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

    /// Pieces of the image that its chip lacks.
    fn lacking(&self) -> Option<PieceSet> {
        let mut lacking = PieceSet::none_of(self.cargo.payload.len().div_ceil(PIECE_BYTES))?;
        self.script.lacks?.iter().for_each(|piece| lacking.insert(*piece));
        Some(lacking)
    }

    /// The pieces that it was told to receive, if not all.
    pub(super) fn received(&self) -> Option<Vec<usize>> {
        self.last_excerpt.map(|excerpt| excerpt.carried.iter().collect())
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

fn drill_request() -> HelpRequest {
    HelpRequest {
        wants_image: false,
        finding: Finding::Valid,
        offset_bytes: 0,
        why: "a drill".into(),
        identity: samples::identity(),
        rescues: None,
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
        lacking: None,
    }
}
