//! Floods a real agent, and reaches it as its manager meanwhile: `flood FIRMCASTD [RATE]`.
//!
//! For each kind of datagram an agent is started on loopback and flooded at RATE datagrams a second
//! (100,000). One line of JSON for each kind tells how long the manager took to hear the agent's
//! identity, and what the agent's memory was before and after. The benchmark runs it
//! (`tests/bench/run flood`); `tests/flood.rs` does the same with a smaller load.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blake2::digest::{Digest as _, Mac as _, consts::U16};
use firmcast::keys::{
    HostSecretKey, ManagerSecretKey, PublicKey as _, SecretKey as _, load_secret,
};
use firmcast::session::{Endpoint, SessionEvent};
use firmcast::time::Time;
use firmcast::wire::answer::Answer;
use firmcast::wire::command::Command as Instruction;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};

/// What the agent is flooded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Random bytes of the length of an initiation.
    Noise,
    /// One recorded call of the manager, again and again.
    Replayed,
    /// Calls with a right mac, each another one, from one address.
    Fresh,
    /// The same from as many addresses as there are sockets.
    FreshFromMany,
    /// Discovery requests with a right mac and a wrong signature.
    WrongSignatures,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] =
        [Self::Noise, Self::Replayed, Self::Fresh, Self::FreshFromMany, Self::WrongSignatures];
}

/// How many addresses there are in a flood from many. Nobody reads what comes back to them, as with
/// forged ones.
const SOURCES: u8 = 200;

/// How many datagrams are sent between two looks at the clock.
const BURST: u32 = 50;

/// How long the manager tries.
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent that ends with this value.
pub(crate) struct Agent {
    process: Child,
    address: SocketAddr,
    host: [u8; 32],
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Agent {
    /// Starts `program` with its files in `folder`; it trusts `manager`.
    pub(crate) fn start(program: &Path, folder: &Path, manager: &ManagerSecretKey) -> Self {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = folder.join("agent.toml");
        let (shown, trusted) = (folder.display(), manager.public().to_string());
        let text = format!(
            "listen = \"0.0.0.0:{}\"\n\
             host_key = \"{shown}/host.key\"\n\
             state_dir = \"{shown}/state\"\n\
             trusted_managers = [\"{trusted}\"]\n",
            address.port()
        );
        fs::write(&config, text).unwrap();
        let log = folder.join("log");
        let process = Command::new(program)
            .env_clear()
            .args(["--foreground", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !fs::read_to_string(&log).unwrap().contains("listens on") {
            assert!(started.elapsed() < PATIENCE, "the agent does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let host: HostSecretKey = load_secret(&folder.join("host.key")).unwrap();
        Self { process, address, host: *host.public().exchange() }
    }

    /// Its anonymous memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Opens a session with a manager's newest stamp and asks who the agent is.
    pub(crate) fn reach(&self, manager: &ManagerSecretKey, stamp: u64) -> Option<Reached> {
        let mut endpoint = Endpoint::new(*manager.exchange(), [stamp as u8; 32]);
        endpoint.set_stamp(stamp);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let started = Instant::now();
        endpoint.connect(Time::ZERO, self.host, self.address);
        let (mut calls, mut buffer) = (Vec::new(), [0; 2048]);
        while started.elapsed() < PATIENCE {
            let now = Time::ZERO + started.elapsed();
            endpoint.handle_timeout(now);
            if endpoint.is_connected(&self.host) {
                endpoint.send(now, &self.host, &Instruction::Query.emit());
            }
            while let Some(transmit) = endpoint.poll_transmit() {
                calls.extend((transmit.bytes[0] == 1).then(|| transmit.bytes.clone()));
                socket.send_to(&transmit.bytes, transmit.to).unwrap();
            }
            let wait = endpoint.poll_timeout().map_or(Duration::MAX, |at| at.since(now));
            let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(200));
            socket.set_read_timeout(Some(wait)).unwrap();
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            let now = Time::ZERO + started.elapsed();
            let event = endpoint.handle_datagram(now, from, &buffer[..length]);
            if let Some(SessionEvent::Message { bytes, .. }) = event
                && matches!(Answer::parse(&bytes), Ok(Answer::Identity(_)))
            {
                return Some(Reached { took: started.elapsed(), calls });
            }
        }
        None
    }
}

/// How an agent was reached.
pub(crate) struct Reached {
    /// From the first call to the agent's identity.
    pub(crate) took: Duration,
    /// The initiations that it took.
    pub(crate) calls: Vec<Vec<u8>>,
}

/// A flood that goes on until this value is dropped.
pub(crate) struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Begins to send `per_second` datagrams of this kind. `recorded` is a call of the manager's.
    pub(crate) fn start(
        agent: &Agent,
        manager: &ManagerSecretKey,
        kind: Kind,
        per_second: u32,
        recorded: Vec<u8>,
    ) -> Self {
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut forger = Forger::new(kind, agent.host, manager, recorded);
        let (to, stop, count) = (agent.address, over.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let sockets = forger.sockets();
            let started = Instant::now();
            for number in 0_u64.. {
                let socket = &sockets[number as usize % sockets.len()];
                // What does not fit in the receiver's buffer is lost, as on any network.
                drop(socket.send_to(forger.next(), to));
                if number % u64::from(BURST) == 0 {
                    count.store(number, Ordering::Relaxed);
                    let due = Duration::from_secs_f64(number as f64 / f64::from(per_second));
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        });
        Self { over, sent, thread: Some(thread) }
    }

    /// How many datagrams were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Makes the datagrams of somebody who has the public keys.
struct Forger {
    kind: Kind,
    datagram: Vec<u8>,
    mac: Option<([u8; 32], usize)>,
    rng: ChaCha20Rng,
}

impl Forger {
    fn new(kind: Kind, host: [u8; 32], manager: &ManagerSecretKey, recorded: Vec<u8>) -> Self {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let key = |label: &str, public: &[u8]| -> [u8; 32] {
            blake2::Blake2s256::new().chain_update(label).chain_update(public).finalize().into()
        };
        let (datagram, mac) = match kind {
            Kind::Noise => (vec![0; 128], None),
            Kind::Replayed => (recorded, None),
            Kind::Fresh | Kind::FreshFromMany => {
                (recorded[..128].to_vec(), Some((key("firmcast session mac", &host), 112)))
            }
            Kind::WrongSignatures => {
                let public = manager.public();
                let mut request = vec![0; 1232];
                request[..2].copy_from_slice(&[4, 2]);
                rng.fill_bytes(&mut request[4..100]);
                // A stamp that is above all others, and the manager's name.
                request[4] = 0x7f;
                request[28..36].copy_from_slice(&public.fingerprint().as_bytes()[..8]);
                let key = key("firmcast discovery mac", &public.to_bytes());
                (request, Some((key, 100)))
            }
        };
        Self { kind, datagram, mac, rng }
    }

    fn sockets(&self) -> Vec<UdpSocket> {
        let count = if self.kind == Kind::FreshFromMany { SOURCES } else { 1 };
        let bind = |number| UdpSocket::bind((Ipv4Addr::new(127, 0, 7, number), 0)).unwrap();
        (1..=count).map(bind).collect()
    }

    fn next(&mut self) -> &[u8] {
        match self.mac {
            None if self.kind == Kind::Noise => {
                self.rng.fill_bytes(&mut self.datagram);
                self.datagram[..4].copy_from_slice(&[1, 2, 0, 0]);
            }
            None => {}
            Some((key, end)) => {
                self.rng.fill_bytes(&mut self.datagram[12..20]);
                let mac = <blake2::Blake2sMac<U16> as blake2::digest::KeyInit>::new(&key.into());
                let mac = mac.chain_update(&self.datagram[..end]).finalize().into_bytes();
                self.datagram[end..end + 16].copy_from_slice(&mac);
            }
        }
        &self.datagram
    }
}

/// What a flood of one kind came to.
pub(crate) struct Outcome {
    /// How long the manager took without a flood.
    pub(crate) calm: Duration,
    /// How long it took during the flood, at most; none when the agent was not reached.
    pub(crate) flooded: Option<Duration>,
    /// How many calls it took, at most.
    pub(crate) calls: usize,
    /// Datagrams a second that were sent.
    pub(crate) per_second: f64,
    /// The agent's anonymous memory before and after, in KiB.
    pub(crate) memory_kib: (u64, u64),
}

/// Floods an agent for at least `least`, and reaches it `rounds` times meanwhile; the longest
/// counts.
pub(crate) fn run(
    program: &Path,
    kind: Kind,
    per_second: u32,
    least: Duration,
    rounds: u64,
) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let manager = ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([3; 32]));
    let agent = Agent::start(program, folder.path(), &manager);
    let mut calm = agent.reach(&manager, 1_000_000).expect("an agent that nobody floods");
    let recorded = calm.calls.swap_remove(0);
    let before = agent.memory_kib();
    let flood = Flood::start(&agent, &manager, kind, per_second, recorded);
    let started = Instant::now();
    std::thread::sleep(least);
    let reach = |round: u64| agent.reach(&manager, 2_000_000 * (round + 1));
    let reached: Vec<_> = (0..rounds).map(reach).collect();
    let per_second = flood.sent() as f64 / started.elapsed().as_secs_f64();
    drop(flood);
    let calls = reached.iter().flatten().map(|one| one.calls.len()).max().unwrap_or_default();
    let times = reached.iter().map(|one| one.as_ref().map(|one| one.took));
    let flooded = times.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
    let memory_kib = (before, agent.memory_kib());
    Outcome { calm: calm.took, flooded, calls, per_second, memory_kib }
}

#[allow(dead_code, reason = "the test has a main of its own")]
fn main() {
    let mut words = std::env::args().skip(1);
    let program = PathBuf::from(words.next().expect("usage: flood FIRMCASTD [RATE]"));
    let rate = words.next().map_or(100_000, |rate| rate.parse().expect("a number"));
    for kind in Kind::ALL {
        let outcome = run(&program, kind, rate, Duration::from_secs(2), 5);
        let seconds =
            outcome.flooded.map_or("null".into(), |took| format!("{:.3}", took.as_secs_f64()));
        println!(
            "{{\"kind\":\"{kind:?}\",\"per_second\":{:.0},\"calm_s\":{:.4},\
             \"longest_s\":{seconds},\"calls\":{},\
             \"memory_before_kib\":{},\"memory_after_kib\":{}}}",
            outcome.per_second,
            outcome.calm.as_secs_f64(),
            outcome.calls,
            outcome.memory_kib.0,
            outcome.memory_kib.1
        );
    }
}
