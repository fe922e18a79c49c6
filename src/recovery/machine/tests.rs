//! The recovery environment against a scripted manager; the simulator has the wide tests.

#![allow(clippy::unwrap_used)]

mod drill;
mod escrow;
mod merge;

use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::{Action, FlashEnd, Mission, RELEASE_WAIT, RESCUE_PAUSE, Recovery, UNTOUCHED_STAY_MAX};
use crate::image::{Board, Description, Manifest, PayloadFormat, SignedManifest};
use crate::keys::{HostSecretKey, ManagerSecretKey, PublicKey, ReleaseSecretKey, SecretKey};
use crate::reason::{Condition, Ending, FlashState, Reason};
use crate::session::{Endpoint, SessionEvent};
use crate::time::Time;
use crate::transfer::{Sender, SenderConfig};
use crate::wire::answer::{Answer, End, Environment, Identity, Phase, Report};
use crate::wire::broadcast::{FecScheme, GroupKey, TransferParameters};
use crate::wire::command::Command;
use crate::wire::excerpt::Excerpt;
use crate::wire::samples;

const CAMPAIGN: u64 = 0xca;
const CHIP: usize = 128 * 1024;

fn manager_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5000))
}

fn host_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 9847))
}

fn second(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

struct Bench {
    manager: Endpoint,
    host: Recovery,
    host_key: [u8; 32],
    release: ReleaseSecretKey,
    reports: Vec<Report>,
}

impl Bench {
    fn new() -> Self {
        Self::of(false)
    }

    fn of(drill: bool) -> Self {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let manager_key = ManagerSecretKey::generate(&mut rng);
        let host_key = HostSecretKey::generate(&mut rng);
        let release = ReleaseSecretKey::generate(&mut rng);
        let mut manager = Endpoint::new(*manager_key.exchange(), [2; 32]);
        manager.serve_hosts(100);
        let host_public = *host_key.public().exchange();
        manager.allow(host_public);
        let board = Board {
            vendor: "V".into(),
            product: "P".into(),
            bios_version: "1".into(),
            flash_size_bytes: CHIP as u64,
            security_version_floor: 3,
            host: Some(host_key.public().fingerprint()),
        };
        let mission = Mission {
            campaign: CAMPAIGN,
            manager: manager_key.public(),
            manager_address: manager_address(),
            host_key,
            releases: vec![release.public()],
            board,
            identity: identity(),
            reach_timeout: Duration::from_secs(300),
            transfer_timeout: Duration::from_secs(120),
            rescue: false,
            drill,
            flash: FlashState::UNTOUCHED,
        };
        let host = Recovery::new(Time::ZERO, mission, [3; 32]);
        Self { manager, host, host_key: host_public, release, reports: Vec::new() }
    }

    fn manifest(&self, security_version: u64, image: &[u8]) -> Vec<u8> {
        let description = Description {
            version: "2".into(),
            security_version,
            vendor: "V".into(),
            products: vec!["P".into()],
            ..Description::default()
        };
        let manifest = Manifest::describe(description, image, PayloadFormat::Raw, image).unwrap();
        SignedManifest::sign(&manifest, &self.release).unwrap()
    }

    /// Delivers everything between the two.
    fn run(&mut self, now: Time) {
        self.host.handle_timeout(now);
        loop {
            let up: Vec<_> = std::iter::from_fn(|| self.host.poll_transmit()).collect();
            for transmit in &up {
                assert_eq!(transmit.to, manager_address());
                let event = self.manager.handle_datagram(now, host_address(), &transmit.bytes);
                if let Some(SessionEvent::Message { bytes, .. }) = event
                    && let Answer::Report(report) = Answer::parse(&bytes).unwrap()
                {
                    self.reports.push(report);
                }
            }
            let down: Vec<_> = std::iter::from_fn(|| self.manager.poll_transmit()).collect();
            for transmit in &down {
                self.host.handle_datagram(now, manager_address(), &transmit.bytes);
            }
            if up.is_empty() && down.is_empty() {
                return;
            }
        }
    }

    fn command(&mut self, now: Time, command: &Command) {
        assert!(self.manager.send(now, &self.host_key, &command.emit()));
        self.run(now);
    }

    fn send_manifest(&mut self, now: Time, manifest: &[u8]) {
        let total_bytes = manifest.len() as u32;
        for (index, bytes) in manifest.chunks(1024).enumerate() {
            let (offset_bytes, bytes) = (index as u32 * 1024, bytes.to_vec());
            let campaign = CAMPAIGN;
            self.command(
                now,
                &Command::ManifestPart { campaign, total_bytes, offset_bytes, bytes },
            );
        }
    }

    fn join(&mut self, now: Time, payload: &[u8], key: u8) -> Sender {
        self.join_excerpt(now, payload, key, None)
    }

    fn join_excerpt(
        &mut self,
        now: Time,
        payload: &[u8],
        key: u8,
        excerpt: Option<Excerpt>,
    ) -> Sender {
        let parameters = TransferParameters {
            campaign: CAMPAIGN,
            group_key: GroupKey::new([key; 32]),
            payload_size_bytes: payload.len() as u32,
            fragment_size_bytes: 1440,
            fec: FecScheme::Doubled,
        };
        let join = Command::Join {
            parameters: parameters.clone(),
            report_interval_ms: 500,
            group: None,
            excerpt,
        };
        self.command(now, &join);
        let config = SenderConfig { rate_cap_bits_per_s: 1_000_000_000, is_polite: false };
        let mut sender = Sender::new(payload.to_vec(), &parameters, config).unwrap();
        sender.add_host(now, sender_host()).unwrap();
        sender.start(now);
        sender
    }

    /// Sends source fragments only, until the host has what it needs or the pass is over.
    fn transfer(&mut self, start: Time, sender: &mut Sender) -> Time {
        let mut now = start;
        for _ in 0..2000 {
            while let Some(datagram) = sender.poll_transmit(now) {
                self.host.handle_datagram(now, manager_address(), &datagram);
            }
            if self.host.report().phase != Phase::Receiving {
                break;
            }
            now += Duration::from_millis(1);
        }
        now
    }

    fn last(&self) -> &Report {
        self.reports.last().unwrap()
    }

    /// A host that holds `image`, verified.
    fn verified(image: &[u8]) -> (Self, Time) {
        Self::verified_in(false, image)
    }

    fn verified_in(drill: bool, image: &[u8]) -> (Self, Time) {
        let mut bench = Self::of(drill);
        bench.run(Time::ZERO);
        let manifest = bench.manifest(3, image);
        bench.send_manifest(Time::ZERO, &manifest);
        let mut sender = bench.join(Time::ZERO, image, 1);
        let now = bench.transfer(Time::ZERO, &mut sender);
        bench.run(now);
        assert_eq!(bench.last().phase, Phase::Verified);
        (bench, now)
    }

    /// A host that was told to flash `image`, and its action.
    fn committed(image: &[u8]) -> (Self, Time) {
        let (mut bench, now) = Self::verified(image);
        bench.command(now, &Command::Commit { campaign: CAMPAIGN });
        match bench.host.poll_action() {
            Some(Action::Flash { image: verified, flash: FlashState::UNTOUCHED, drill: false }) => {
                assert_eq!(verified.bytes(), image);
            }
            other => panic!("{other:?}"),
        }
        (bench, now)
    }

    fn expect_reboot(&mut self, reason: Reason, flash: FlashState) -> End {
        match self.host.poll_action() {
            Some(Action::Leave(end)) => {
                assert_eq!(
                    (end.ending.reason, end.ending.flash, end.campaign),
                    (reason, flash, CAMPAIGN)
                );
                end
            }
            other => panic!("{other:?}"),
        }
    }
}

fn sender_host() -> crate::transfer::HostId {
    crate::transfer::HostId(0)
}

fn identity() -> Identity {
    Identity {
        environment: Environment::Recovery,
        flash_size_bytes: CHIP as u64,
        security_version_floor: 3,
        ..samples::identity()
    }
}

fn image(fill: u8) -> Vec<u8> {
    (0..CHIP).map(|index| (index as u8).wrapping_mul(31) ^ fill).collect()
}

#[test]
fn ready_received_verified_committed_updated_released() {
    let (mut bench, now) = Bench::committed(&image(1));
    let phases: Vec<Phase> = bench.reports.iter().map(|report| report.phase).collect();
    for phase in [Phase::Ready, Phase::Receiving, Phase::Verified, Phase::BackingUp] {
        assert!(phases.contains(&phase), "{phase:?} in {phases:?}");
    }
    bench.host.flash_progress(now, Phase::Writing, 1, 32);
    let (flash, reason) = (FlashState::Updated, Reason::Updated);
    let digests = Some(([4; 32], [5; 32]));
    bench.host.flash_ended(now, FlashEnd { ending: Ending::new(reason, flash, ""), digests });
    bench.run(now);
    assert_eq!((bench.last().phase, bench.last().digests), (Phase::Updated, digests));
    assert!(bench.host.poll_action().is_none(), "it waits for the release");
    bench.command(now, &Command::Release { campaign: CAMPAIGN });
    bench.expect_reboot(reason, flash);
}

#[test]
fn a_manager_that_is_not_there_or_dies_lets_the_host_return_untouched() {
    let mut bench = Bench::new();
    while bench.host.poll_transmit().is_some() {}
    for now in (0..300).map(second) {
        bench.host.handle_timeout(now);
        while bench.host.poll_transmit().is_some() {}
        assert!(bench.host.poll_action().is_none());
    }
    bench.host.handle_timeout(second(300));
    let end = bench.expect_reboot(Reason::ManagerNotReached, FlashState::UNTOUCHED);
    assert!(end.ending.detail.contains("10.0.0.1:5000"), "{}", end.ending.detail);

    let mut bench = Bench::new();
    bench.run(Time::ZERO);
    let image = image(2);
    let manifest = bench.manifest(3, &image);
    bench.send_manifest(Time::ZERO, &manifest);
    bench.join(Time::ZERO, &image, 1);
    bench.host.handle_timeout(second(119));
    assert_eq!(bench.host.report().phase, Phase::Receiving);
    bench.host.handle_timeout(second(120));
    assert_eq!(bench.host.report().ending.reason, Reason::TransferTimedOut);
    bench.host.handle_timeout(second(120) + RELEASE_WAIT);
    bench.expect_reboot(Reason::TransferTimedOut, FlashState::UNTOUCHED);
}

#[test]
fn a_manager_that_keeps_talking_but_never_sends_cannot_keep_the_host() {
    let mut bench = Bench::new();
    let mut now = Time::ZERO;
    while now < Time::ZERO + UNTOUCHED_STAY_MAX {
        bench.run(now);
        bench.command(now, &Command::Query);
        now += Duration::from_secs(60);
    }
    bench.host.handle_timeout(now);
    assert_eq!(bench.host.report().ending.reason, Reason::TransferTimedOut);
}

#[test]
fn a_bundle_that_does_not_belong_here_is_refused_before_a_fragment_is_taken() {
    let image = image(3);
    let cases: [(u64, &[u8], Reason); 2] = [
        (2, &image, Reason::SecurityVersionTooOld),
        (3, &image[..CHIP / 2], Reason::ImageSizeMismatch),
    ];
    for (security_version, image, reason) in cases {
        let mut bench = Bench::new();
        bench.run(Time::ZERO);
        let manifest = bench.manifest(security_version, image);
        bench.send_manifest(Time::ZERO, &manifest);
        assert_eq!((bench.last().phase, bench.last().ending.reason), (Phase::Failed, reason));
        bench.command(Time::ZERO, &Command::Release { campaign: CAMPAIGN });
        bench.expect_reboot(reason, FlashState::UNTOUCHED);
    }
    let mut bench = Bench::new();
    bench.run(Time::ZERO);
    bench.release = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([9; 32]));
    let manifest = bench.manifest(3, &image);
    bench.send_manifest(Time::ZERO, &manifest);
    assert_eq!(bench.last().ending.reason, Reason::ManifestUntrusted);
}

#[test]
fn an_insider_who_sends_another_image_never_gets_it_flashed() {
    let mut bench = Bench::new();
    bench.run(Time::ZERO);
    let manifest = bench.manifest(3, &image(4));
    bench.send_manifest(Time::ZERO, &manifest);
    let mut now = Time::ZERO;
    for _ in 0..=crate::transfer::RESTARTS_MAX {
        let mut forger = bench.join(now, &image(5), 1);
        now = bench.transfer(now, &mut forger);
        now += Duration::from_millis(1);
        assert!(bench.host.poll_action().is_none());
    }
    bench.run(now);
    assert_eq!(
        (bench.last().phase, bench.last().ending.reason),
        (Phase::Failed, Reason::PayloadInvalid)
    );
    bench.command(now, &Command::Commit { campaign: CAMPAIGN });
    assert!(bench.host.poll_action().is_none());
}

#[test]
fn a_mixed_chip_never_reboots_and_is_written_again() {
    let (mut bench, mut now) = Bench::committed(&image(6));
    let mixed = || FlashEnd {
        ending: Ending::new(Reason::WriteFailed, FlashState::Mixed, "block 3"),
        digests: None,
    };
    for _ in 0..3 {
        bench.host.flash_ended(now, mixed());
        bench.run(now);
        assert!(!bench.last().ending.flash.reboot_is_safe());
        bench.command(now, &Command::Release { campaign: CAMPAIGN });
        assert!(bench.host.poll_action().is_none(), "it must not reboot");
        now += RESCUE_PAUSE;
        bench.host.handle_timeout(now);
        let action = bench.host.poll_action();
        assert!(
            matches!(action, Some(Action::Flash { flash: FlashState::Mixed, .. })),
            "{action:?}"
        );
    }
    bench.host.flash_ended(now, mixed());
    now += UNTOUCHED_STAY_MAX;
    bench.run(now);
    assert!(bench.host.poll_action().is_none(), "neither a reboot nor a fourth try by itself");
    bench.command(now, &Command::Commit { campaign: CAMPAIGN });
    assert!(matches!(
        bench.host.poll_action(),
        Some(Action::Flash { flash: FlashState::Mixed, .. })
    ));
}

/// A running host whose firmware merely looks odd, and whose chip does not read well for a moment.
#[test]
fn a_chip_that_this_stay_has_not_changed_is_as_safe_as_before_and_not_written_again() {
    for condition in [Condition::Whole, Condition::Doubtful] {
        let (mut bench, mut now) = Bench::committed(&image(6));
        let flash = FlashState::Untouched(condition);
        let ending = Ending::new(Reason::BackupFailed, flash, "cannot read 0x1000 bytes at 0x0");
        bench.host.flash_ended(now, FlashEnd { ending, digests: None });
        bench.run(now);
        let ended = (bench.last().phase, bench.last().ending.reason, bench.last().ending.flash);
        assert_eq!(ended, (Phase::Failed, Reason::BackupFailed, flash));
        now += 2 * RESCUE_PAUSE;
        bench.run(now);
        assert!(bench.host.poll_action().is_none(), "nobody said that it may try again");
        bench.command(now, &Command::Release { campaign: CAMPAIGN });
        bench.expect_reboot(Reason::BackupFailed, flash);
    }
}

#[test]
fn a_manager_that_starts_again_finds_the_host_again() {
    let mut bench = Bench::new();
    bench.run(Time::ZERO);
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let manager_key = ManagerSecretKey::generate(&mut rng);
    assert!(!manager_key.public().fingerprint().to_string().is_empty());
    bench.manager = Endpoint::new(*manager_key.exchange(), [7; 32]);
    bench.manager.serve_hosts(100);
    bench.manager.allow(bench.host_key);
    for now in (1..=16).map(second) {
        bench.run(now);
    }
    assert!(bench.manager.is_connected(&bench.host_key));
    bench.command(second(17), &Command::Query);
}
