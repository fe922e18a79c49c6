//! The real machine of dead hosts, on sockets.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firmcast::environment::stay::{Conclusion, Patient, Stay, StayAction};
use firmcast::image::Board;
use firmcast::keys::{
    self, HostSecretKey, ManagerSecretKey, PublicKey as _, ReleaseSecretKey, SecretKey as _,
};
use firmcast::reason::{Condition, Ending, FlashState, Reason};
use firmcast::recovery::machine::FlashEnd;
use firmcast::rescue::seek::{Candidate, Source};
use firmcast::time::Time;
use firmcast::wire::answer::{Environment, Identity};
use firmcast::wire::help::{Finding, HelpRequest};
use firmcast::wire::samples;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

/// How long rescues may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A manager as dead hosts know it.
pub(crate) trait Managed {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// The file of a key.
    fn key_file(&self, name: &str) -> PathBuf;
    /// Size of the hosts' flash.
    fn flash_size_bytes(&self) -> usize;
}

/// The key of the host with this number.
pub(crate) fn host_key(index: usize) -> HostSecretKey {
    let mut seed = [5; 32];
    seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
    HostSecretKey::generate(&mut ChaCha20Rng::from_seed(seed))
}

fn rescue(index: usize, manager: &impl Managed) -> Stay {
    let flash_size_bytes = manager.flash_size_bytes() as u64;
    let public = host_key(index).public().fingerprint();
    let board = Board {
        vendor: "V".into(),
        product: "P".into(),
        flash_size_bytes,
        host: Some(public),
        ..Board::default()
    };
    let identity =
        Identity { environment: Environment::Recovery, flash_size_bytes, ..samples::identity() };
    let (wants_image, finding, why) = (true, Finding::Invalid, "torn".into());
    let manager_key: ManagerSecretKey =
        keys::load_secret(&manager.key_file("manager.key")).unwrap();
    let release: ReleaseSecretKey = keys::load_secret(&manager.key_file("release.key")).unwrap();
    let patient = Patient {
        host_key: host_key(index),
        managers: vec![manager_key.public()],
        releases: vec![release.public()],
        board,
        request: HelpRequest {
            wants_image,
            finding,
            offset_bytes: 7,
            why,
            identity,
            rescues: None,
        },
        flash: FlashState::Untouched(Condition::Broken),
        patience: None,
    };
    let mut seed = [6; 32];
    seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
    Stay::by_itself(Time::ZERO, patient, seed)
}

/// Dead hosts, each behind a socket of its own, all in one thread.
pub(crate) struct Hosts {
    rescued: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Host {
    machine: Stay,
    socket: UdpSocket,
    flashing: Option<Time>,
}

impl Hosts {
    pub(crate) fn start(
        indices: std::ops::Range<usize>,
        manager: &impl Managed,
        flashing: Duration,
    ) -> Self {
        Self::start_at("127.0.0.1:0", indices, manager, flashing)
    }

    pub(crate) fn start_at(
        address: &str,
        indices: std::ops::Range<usize>,
        manager: &impl Managed,
        flashing: Duration,
    ) -> Self {
        let mut hosts: Vec<Host> = indices
            .map(|index| {
                let socket = UdpSocket::bind(address).unwrap();
                socket.set_nonblocking(true).unwrap();
                Host { machine: rescue(index, manager), socket, flashing: None }
            })
            .collect();
        let (rescued, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped, address) = (rescued.clone(), stop.clone(), manager.address());
        let thread = std::thread::spawn(move || {
            let origin = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                for host in &mut hosts {
                    let now = Time::ZERO + origin.elapsed();
                    count.fetch_add(
                        usize::from(host.turn(now, address, flashing)),
                        Ordering::Relaxed,
                    );
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { rescued, stop, thread: Some(thread) }
    }

    pub(crate) fn wait_for(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.rescued.load(Ordering::Relaxed) < count {
            assert!(
                Instant::now() < end,
                "{} of {count} rescued",
                self.rescued.load(Ordering::Relaxed)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Host {
    /// True when this makes it whole.
    fn turn(&mut self, now: Time, manager: SocketAddr, flashing: Duration) -> bool {
        let mut buffer = [0; 2048];
        while let Ok((size, from)) = self.socket.recv_from(&mut buffer) {
            self.machine.handle_datagram(now, from, &buffer[..size]);
        }
        if self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
        }
        if self.flashing.is_some_and(|end| end <= now) {
            self.flashing = None;
            let (flash, reason) = (FlashState::Updated, Reason::Updated);
            let end = FlashEnd { ending: Ending::new(reason, flash, ""), digests: None };
            self.machine.recovery().unwrap().flash_ended(now, end);
        }
        let mut repaired = false;
        self.transmit();
        while let Some(action) = self.machine.poll_action(now) {
            match action {
                StayAction::LookUp(source) => {
                    let candidate = Candidate { address: manager, broadcast: false, key: None };
                    let found = if source == Source::Stored { vec![candidate] } else { Vec::new() };
                    self.machine.found(now, source, Ok(found));
                }
                StayAction::Flash { .. } => self.flashing = Some(now + flashing),
                StayAction::JoinGroup(_) | StayAction::ReadPiece { .. } => {}
                StayAction::Conclude(conclusion) => {
                    repaired = matches!(conclusion, Conclusion::Repaired { .. });
                }
            }
        }
        self.transmit();
        repaired
    }

    fn transmit(&mut self) {
        while let Some(sent) = self.machine.poll_transmit() {
            let _ = self.socket.send_to(&sent.bytes, sent.to);
        }
    }
}
