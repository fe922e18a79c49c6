//! What a host in recovery holds in memory at its peak, phase by phase, held to what preflight
//! asks for (`firmcast::recovery::memory`).
//!
//! The real state machine, receiver, flash job and escrow run against a scripted manager. Only what
//! the host's own calls allocate is counted.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::flash::{Geometry, SimulatedFlash, WriteRule, read_twice};
use firmcast::image::{
    Board, Description, Manifest, PayloadFormat, Region, RegionAction, SignedManifest,
};
use firmcast::keys::{HostSecretKey, ManagerSecretKey, PublicKey, ReleaseSecretKey, SecretKey};
use firmcast::reason::FlashState;
use firmcast::recovery::flashing::Flashing;
use firmcast::recovery::machine::{Action, Mission, Recovery};
use firmcast::recovery::memory::{MARGIN_PERCENT, MemoryPhase};
use firmcast::session::{Endpoint, SessionEvent};
use firmcast::time::Time;
use firmcast::transfer::{HostId, Receiver, Sender, SenderConfig};
use firmcast::wire::answer::{Answer, Environment, Identity, Phase};
use firmcast::wire::broadcast::{Broadcast, FecScheme, GroupKey, TransferParameters};
use firmcast::wire::command::Command;
use firmcast::wire::escrow::BackupOffer;
use firmcast::wire::excerpt::{Excerpt, PieceSet};
use firmcast::wire::samples;
use peak_alloc::PeakAlloc;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest as _, Sha256};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const CAMPAIGN: u64 = 7;
const IMAGE_BYTES: usize = 16 << 20;
/// Makes a few more than 2^14 fragments: the erasure code works on powers of two, so this is its
/// worst case.
const FRAGMENT_BYTES: u16 = 1022;
const HOST: HostId = HostId(0);
const TURN: Duration = Duration::from_millis(1);
const TURNS_MAX: u32 = 1_000_000;
const RATE_KBIT_S: u32 = 1_000_000;

fn manager_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5000))
}

fn host_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 9847))
}

/// Counts what the host has allocated, however much the manager allocates in between.
#[derive(Default)]
struct Meter {
    live_bytes: i64,
    peak_bytes: i64,
}

impl Meter {
    fn host<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let before = ALLOCATOR.current_usage() as i64;
        ALLOCATOR.reset_peak_usage();
        let result = work();
        let peak = self.live_bytes + ALLOCATOR.peak_usage() as i64 - before;
        self.peak_bytes = self.peak_bytes.max(peak);
        self.live_bytes += ALLOCATOR.current_usage() as i64 - before;
        result
    }

    /// Ends a phase: its peak in percent of the image.
    fn end_phase(&mut self) -> u64 {
        let peak_bytes = std::mem::replace(&mut self.peak_bytes, self.live_bytes);
        (peak_bytes * 100 / IMAGE_BYTES as i64) as u64
    }
}

/// A phase and its measured peak in percent of the image.
type Measured = (MemoryPhase, u64);

fn stated_percent(phase: MemoryPhase) -> u64 {
    let image_bytes = IMAGE_BYTES as u64;
    phase.peak_bytes(image_bytes) * 100 / image_bytes
}

fn is_as_stated((phase, peak_percent): &Measured) -> bool {
    let stated_percent = stated_percent(*phase);
    (stated_percent - MARGIN_PERCENT..=stated_percent).contains(peak_percent)
}

/// A host on its way through one campaign, and the manager that leads it.
struct Stay {
    meter: Meter,
    now: Time,
    host: Recovery,
    host_key: [u8; 32],
    manager: Endpoint,
    chip: SimulatedFlash,
    flashing: Option<Flashing>,
    upstream: Option<Receiver>,
    offer: Option<BackupOffer>,
    uploads: u64,
}

impl Stay {
    fn begin(release: &ReleaseSecretKey, old: Vec<u8>) -> Self {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let manager_key = ManagerSecretKey::generate(&mut rng);
        let host_key = HostSecretKey::generate(&mut rng);
        let public = *host_key.public().exchange();
        let mut manager = Endpoint::new(*manager_key.exchange(), [2; 32]);
        manager.serve_hosts(1);
        manager.allow(public);
        let flash_size_bytes = old.len() as u64;
        let mission = Mission {
            campaign: CAMPAIGN,
            manager: manager_key.public(),
            manager_address: manager_address(),
            releases: vec![release.public()],
            board: Board {
                vendor: "V".into(),
                product: "P".into(),
                bios_version: "1".into(),
                flash_size_bytes,
                security_version_floor: 0,
                host: Some(host_key.public().fingerprint()),
            },
            host_key,
            identity: Identity {
                environment: Environment::Recovery,
                flash_size_bytes,
                ..samples::identity()
            },
            reach_timeout: Duration::from_secs(300),
            transfer_timeout: Duration::from_secs(120),
            rescue: false,
            drill: false,
            flash: FlashState::UNTOUCHED,
        };
        let geometry = Geometry::uniform(flash_size_bytes, 4096, 1, WriteRule::ClearBits).unwrap();
        let chip = SimulatedFlash::new(geometry, old);
        let mut meter = Meter::default();
        let host = meter.host(|| Recovery::new(Time::ZERO, mission, [3; 32]));
        Self {
            meter,
            now: Time::ZERO,
            host,
            host_key: public,
            manager,
            chip,
            flashing: None,
            upstream: None,
            offer: None,
            uploads: 0,
        }
    }

    fn tell(&mut self, command: &Command) {
        self.manager.send(self.now, &self.host_key, &command.emit());
    }

    fn deliver(&mut self, datagram: &[u8]) {
        let (now, host) = (self.now, &mut self.host);
        self.meter.host(|| host.handle_datagram(now, manager_address(), datagram));
    }

    /// One turn of both loops; `downstream` is the manager's transfer.
    fn turn(&mut self, mut downstream: Option<&mut Sender>) {
        self.now += TURN;
        let now = self.now;
        let Self { meter, host, flashing, chip, .. } = self;
        meter.host(|| host.handle_timeout(now));
        meter.host(|| host.work(now));
        let goes_on = meter.host(|| {
            flashing.as_mut().is_none_or(|flashing| flashing.step(now, chip, host, || Ok(())))
        });
        if !goes_on {
            meter.host(|| *flashing = None);
        }
        while let Some(transmit) = self.meter.host(|| self.host.poll_transmit()) {
            self.take(&transmit.bytes, downstream.as_deref_mut());
            self.meter.host(|| drop(transmit));
        }
        let status = self.upstream.as_mut().and_then(|receiver| receiver.poll_status(now));
        if let Some(status) = status {
            self.tell(&Command::BackupStatus(status));
        }
        while let Some(transmit) = self.manager.poll_transmit() {
            self.deliver(&transmit.bytes);
        }
    }

    fn take(&mut self, datagram: &[u8], downstream: Option<&mut Sender>) {
        let now = self.now;
        if Broadcast::parse(datagram).is_ok() {
            self.uploads += 1;
            // The loss of every second fragment makes the host send repair fragments.
            if !self.uploads.is_multiple_of(2) {
                self.upstream.as_mut().unwrap().handle_datagram(now, datagram);
            }
            return;
        }
        let event = self.manager.handle_datagram(now, host_address(), datagram);
        let Some(SessionEvent::Message { bytes, .. }) = event else { return };
        match Answer::parse(&bytes).unwrap() {
            Answer::FragmentStatus(status) => {
                if let Some(sender) = downstream {
                    sender.handle_status(now, HOST, &status).unwrap();
                }
            }
            Answer::BackupOffer(offer) => {
                let receiver = self
                    .upstream
                    .get_or_insert_with(|| Receiver::new(&offer.parameters, 5).unwrap());
                let status = Command::BackupStatus(receiver.first_status());
                self.offer = Some(offer);
                self.tell(&status);
            }
            _ => {}
        }
    }

    fn run_until(&mut self, mut downstream: Option<&mut Sender>, end: impl Fn(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if end(self) {
                return;
            }
            self.turn(downstream.as_deref_mut());
        }
        panic!("no end: {:?}", self.host.report());
    }

    fn send_manifest(&mut self, manifest: &[u8]) {
        for (index, bytes) in manifest.chunks(1024).enumerate() {
            self.tell(&Command::ManifestPart {
                campaign: CAMPAIGN,
                total_bytes: manifest.len() as u32,
                offset_bytes: index as u32 * 1024,
                bytes: bytes.to_vec(),
            });
            self.turn(None);
        }
    }

    /// Brings the payload to the host, of which it misses every second fragment.
    fn transfer(&mut self, payload: Vec<u8>, excerpt: Option<Excerpt>) {
        let parameters = TransferParameters {
            campaign: CAMPAIGN,
            group_key: GroupKey::new([4; 32]),
            payload_size_bytes: payload.len() as u32,
            fragment_size_bytes: FRAGMENT_BYTES,
            fec: FecScheme::Doubled,
        };
        let (join, group) = (parameters.clone(), None);
        self.tell(&Command::Join { parameters: join, report_interval_ms: 500, group, excerpt });
        self.run_until(None, |stay| stay.host.report().phase == Phase::Receiving);
        let config =
            SenderConfig { rate_cap_bits_per_s: u64::from(RATE_KBIT_S) * 1000, is_polite: false };
        let mut sender = Sender::new(payload, &parameters, config).unwrap();
        sender.add_host(self.now, HOST).unwrap();
        sender.start(self.now);
        let mut sent = 0u32;
        while self.host.report().phase == Phase::Receiving {
            while let Some(datagram) = sender.poll_transmit(self.now) {
                sent += 1;
                if sent.is_multiple_of(2) {
                    self.deliver(&datagram);
                }
            }
            self.read_piece();
            self.turn(Some(&mut sender));
        }
        assert_eq!(self.host.report().phase, Phase::Verified);
    }

    /// Reads what the host has to take from its own chip, when an excerpt leaves it out.
    fn read_piece(&mut self) {
        let Some(Action::ReadPiece { piece, range }) = self.host.poll_action() else { return };
        let Self { meter, now, host, chip, .. } = self;
        meter.host(|| {
            let bytes = read_twice(chip, range);
            host.piece_read(*now, piece, bytes);
        });
    }

    fn commit(&mut self, command: &Command) {
        self.tell(command);
        self.run_until(None, |stay| stay.host.report().phase == Phase::BackingUp);
        let Some(Action::Flash { image, flash, .. }) = self.host.poll_action() else {
            panic!("{:?}", self.host.report())
        };
        self.flashing = Some(self.meter.host(|| Flashing::new(image, flash)));
    }

    fn finish(&mut self) {
        self.run_until(None, |stay| stay.flashing.is_none());
        assert_eq!(self.host.report().phase, Phase::Updated, "{:?}", self.host.report());
    }
}

fn random(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    ChaCha20Rng::from_seed([seed; 32]).fill_bytes(&mut bytes);
    bytes
}

/// A host that joined the campaign of a release whose image keeps a region of the chip, the worst
/// case for flashing: the target is neither the image nor the backup.
fn begin(format: PayloadFormat, image: &[u8], payload: &[u8], old: Vec<u8>) -> Stay {
    let release = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([9; 32]));
    let kept = Region {
        name: "settings".into(),
        offset_bytes: 0x1_0000,
        length_bytes: 0x1_0000,
        action: RegionAction::Preserve,
    };
    let description = Description {
        version: "2".into(),
        vendor: "V".into(),
        products: vec!["P".into()],
        regions: vec![kept],
        ..Description::default()
    };
    let manifest = Manifest::describe(description, image, format, payload).unwrap();
    let signed = SignedManifest::sign(&manifest, &release).unwrap();
    let mut stay = Stay::begin(&release, old);
    stay.run_until(None, |stay| stay.manager.is_connected(&stay.host_key));
    stay.send_manifest(&signed);
    stay
}

#[test]
fn no_phase_of_a_stay_takes_more_memory_than_preflight_asks_for() {
    let mut image = random(1, IMAGE_BYTES);
    let mut measured = Vec::new();
    let old = || random(2, IMAGE_BYTES);
    let mut stay = begin(PayloadFormat::Raw, &image, &image, old());
    stay.transfer(image.clone(), None);
    measured.push((MemoryPhase::Receiving, stay.meter.end_phase()));
    let (campaign, rate_kbit_s) = (CAMPAIGN, RATE_KBIT_S);
    stay.commit(&Command::CommitWithEscrow { campaign, rate_kbit_s, unless_broken: false });
    stay.run_until(None, |stay| stay.upstream.as_ref().is_some_and(Receiver::is_complete));
    measured.push((MemoryPhase::Escrow, stay.meter.end_phase()));
    let digest = stay.offer.as_ref().unwrap().digest;
    stay.tell(&Command::BackupStored { campaign: CAMPAIGN, digest });
    stay.finish();

    // Hardly smaller when it is compressed: payload and image are then held side by side.
    image[..IMAGE_BYTES / 64].fill(0x5a);
    let payload = zstd::bulk::compress(&image, 19).unwrap();
    let mut stay = begin(PayloadFormat::Zstd, &image, &payload, old());
    stay.transfer(payload, None);
    measured.push((MemoryPhase::Opening, stay.meter.end_phase()));
    stay.commit(&Command::Commit { campaign: CAMPAIGN });
    stay.finish();
    measured.push((MemoryPhase::Flashing, stay.meter.end_phase()));

    let with_own_pieces = excerpt_peak_percent();
    println!("percent of the image: {measured:?}, of an excerpt {with_own_pieces}");
    assert!((150..=stated_percent(MemoryPhase::Opening)).contains(&with_own_pieces));
    assert!(measured.iter().all(is_as_stated), "{measured:?}: too much, or less than the margin");
}

/// The peak of a host that takes half of the image from its own chip, which is in memory next to
/// what travelled.
fn excerpt_peak_percent() -> u64 {
    const PIECE_BYTES: usize = 0x1_0000;
    let image = random(1, IMAGE_BYTES);
    let mut chip = image.clone();
    let mut carried = PieceSet::none_of(IMAGE_BYTES / PIECE_BYTES).unwrap();
    let mut raw = Vec::new();
    for (piece, bytes) in image.chunks(PIECE_BYTES).enumerate().step_by(2) {
        carried.insert(piece);
        raw.extend_from_slice(bytes);
        chip[piece * PIECE_BYTES] ^= 1;
    }
    let payload = zstd::bulk::compress(&raw, 6).unwrap();
    let payload_digest = Sha256::digest(&payload).into();
    let mut stay = begin(PayloadFormat::Raw, &image, &image, chip);
    stay.transfer(payload, Some(Excerpt { payload_digest, carried }));
    let peak_percent = stay.meter.end_phase();
    stay.commit(&Command::Commit { campaign: CAMPAIGN });
    stay.finish();
    peak_percent
}
