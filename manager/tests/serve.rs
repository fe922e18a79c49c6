//! `firmcast serve` and `firmcast status` as processes, against the real machine of dead hosts on
//! real sockets.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // Shared with the tests of updates.
mod stuck_pipe;

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
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
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_json::Value;

const IMAGE_SIZE_BYTES: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// A manager's directory with keys and a bundle.
struct Manager {
    directory: tempfile::TempDir,
    address: SocketAddr,
}

impl Manager {
    fn new() -> Self {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let manager = Self { directory: tempfile::tempdir().unwrap(), address };
        std::fs::create_dir(manager.path("bundles")).unwrap();
        let key = |role, file| ["key", "new", "--role", role, "--out", file];
        manager.must(&key("release", "release.key"));
        manager.must(&key("release", "other.key"));
        manager.must(&key("manager", "manager.key"));
        manager.bundle("good.fcb", "2.0", 1, "release.key");
        manager
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bundle(&self, file: &str, version: &str, image: u32, key: &str) {
        let image: Vec<u8> = (0..IMAGE_SIZE_BYTES as u32)
            .map(|i| (i.wrapping_mul(i.wrapping_add(image)) >> 7) as u8)
            .collect();
        std::fs::write(self.path("image"), image).unwrap();
        let out = format!("bundles/{file}");
        let what =
            ["bundle", "create", "--image", "image", "--security-version", "1", "--vendor", "V"];
        let which = ["--product", "P", "--version", version, "--key", key, "--out", &out];
        self.must(&[&what[..], &which[..]].concat());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast"));
        command.current_dir(self.directory.path()).args(["--state", "state"]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn must(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn serve_command(&self, more: &[&str]) -> Command {
        let address = self.address.to_string();
        let common = ["serve", "--bundles", "bundles", "--key", "manager.key"];
        let way: &[&str] = if self.address.ip().is_loopback() { &["--unicast"] } else { &[] };
        let listen = ["--json", "--rate", "1000", "--listen", &address];
        self.command(&[&common[..], way, &listen[..], more].concat())
    }

    fn serve(&self, more: &[&str]) -> Service {
        let mut child = self.serve_command(more).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let events = Arc::new(Mutex::new(Vec::new()));
        let into = events.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().push(serde_json::from_str::<Value>(&line).unwrap());
            }
        });
        let service = Service { child, events };
        service.wait_for(|event| event["event"] == "serving");
        service
    }

    fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn enrol(&self, count: usize) {
        let line = |index: usize| {
            let key = keys::HostPublicKey::from_exchange(*host_key(index).public().exchange());
            serde_json::json!({
                "name": format!("host-{index}"), "key": key.unwrap().to_string(),
                "address": "127.0.0.1:9", "vendor": "V", "product": "P",
            })
        };
        let hosts: Vec<Value> = (0..count).map(line).collect();
        std::fs::create_dir_all(self.path("state")).unwrap();
        let text = serde_json::json!({ "form": 1, "hosts": hosts }).to_string();
        std::fs::write(self.path("state/inventory.json"), text).unwrap();
    }
}

/// A service that runs.
struct Service {
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Service {
    fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(event) = self.events.lock().unwrap().iter().find(|event| wanted(event)) {
                return event.clone();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not told: {:#?}", self.events.lock().unwrap());
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// A field of /proc/PID/status, in KiB.
    fn memory_kib(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn stop(mut self) -> Vec<Value> {
        self.signal(Signal::SIGTERM);
        assert!(self.child.wait().unwrap().success());
        self.wait_for(|event| event["event"] == "stopped");
        self.events.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn host_key(index: usize) -> HostSecretKey {
    let mut seed = [5; 32];
    seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
    HostSecretKey::generate(&mut ChaCha20Rng::from_seed(seed))
}

fn rescue(index: usize, manager: &Manager) -> Stay {
    let public = host_key(index).public().fingerprint();
    let board = Board {
        vendor: "V".into(),
        product: "P".into(),
        flash_size_bytes: IMAGE_SIZE_BYTES as u64,
        host: Some(public),
        ..Board::default()
    };
    let identity = Identity {
        environment: Environment::Recovery,
        flash_size_bytes: IMAGE_SIZE_BYTES as u64,
        ..samples::identity()
    };
    let (wants_image, finding, why) = (true, Finding::Invalid, "torn".into());
    let manager_key: ManagerSecretKey = keys::load_secret(&manager.path("manager.key")).unwrap();
    let release: ReleaseSecretKey = keys::load_secret(&manager.path("release.key")).unwrap();
    let patient = Patient {
        host_key: host_key(index),
        managers: vec![manager_key.public()],
        releases: vec![release.public()],
        board,
        request: HelpRequest { wants_image, finding, offset_bytes: 7, why, identity },
        flash: FlashState::Untouched(Condition::Broken),
        patience: None,
    };
    let mut seed = [6; 32];
    seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
    Stay::by_itself(Time::ZERO, patient, seed)
}

/// Dead hosts, each behind a socket of its own, all in one thread.
struct Hosts {
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
    fn start(indices: std::ops::Range<usize>, manager: &Manager, flashing: Duration) -> Self {
        Self::start_at("127.0.0.1:0", indices, manager, flashing)
    }

    fn start_at(
        address: &str,
        indices: std::ops::Range<usize>,
        manager: &Manager,
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
        let (count, stopped, address) = (rescued.clone(), stop.clone(), manager.address);
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

    fn wait_for(&self, count: usize) {
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
                StayAction::JoinGroup(_) => {}
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

#[test]
fn dead_hosts_are_rescued_and_the_status_shows_it() {
    let manager = Manager::new();
    manager.enrol(2);
    std::fs::write(manager.path("policy.toml"), "gather_s = 1").unwrap();
    let service = manager.serve(&["--policy", "policy.toml", "--trust", "release.pub"]);
    let hosts = Hosts::start(0..3, &manager, Duration::from_secs(2));
    service.wait_for(|event| event["stage"] == "flashing");
    let status = manager.status();
    assert_eq!(status["bundles"][0]["file"], "good.fcb");
    assert_eq!(status["campaigns"][0]["active"], 2);
    assert_eq!(status["hosts"].as_array().unwrap().len(), 2, "the third is not known: {status}");
    hosts.wait_for(2);
    service.wait_for(|event| event["event"] == "finished" && event["confirmed"] == 2);
    let text = String::from_utf8(manager.run(&["status"]).stdout).unwrap();
    assert!(text.contains("good.fcb: V / P version 2.0") && text.contains("host-1"), "{text}");
    assert!(text.contains("the host repaired its firmware"), "{text}");

    // Now the third is enrolled.
    manager.enrol(3);
    service.signal(Signal::SIGHUP);
    hosts.wait_for(3);
    service.wait_for(|event| event["host"] == "host-2" && event["reason"] == "rescued");
    let events = service.stop();
    let results = events.iter().filter(|event| event["event"] == "result");
    assert_eq!(results.count(), 3);
    assert!(!manager.path("state/serve.sock").exists());
    assert!(!manager.run(&["status"]).status.success());

    let history = manager.run(&["history", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    let campaigns = history.as_array().unwrap();
    assert!(!campaigns.is_empty(), "the rescues are in no history");
    for campaign in campaigns {
        assert_eq!((&campaign["kind"], &campaign["state"]), (&"rescue".into(), &"finished".into()));
    }
    let rescued: u64 = campaigns.iter().map(|one| one["confirmed"].as_u64().unwrap()).sum();
    assert_eq!(rescued, 3, "{history}");
    let text = String::from_utf8(manager.run(&["history"]).stdout).unwrap();
    assert!(text.contains("rescue: 2 of 2 rescued, finished"), "{text}");
    assert!(text.contains("host-2: the host repaired its firmware and starts it"), "{text}");
}

#[test]
fn a_reader_that_stops_stops_neither_the_service_nor_its_signals() {
    let manager = Manager::new();
    manager.enrol(1);
    let (reader, pipe) = stuck_pipe::stuck_pipe();
    let mut service = manager.serve_command(&[]).stdout(pipe).spawn().unwrap();
    let hosts = Hosts::start(0..1, &manager, Duration::from_millis(10));
    hosts.wait_for(1);
    assert_eq!(manager.status()["hosts"][0]["attempts"], 1);

    // Programs that only print are ended by the signal itself.
    for words in [&["status"][..], &["status", "--json"], &["history"], &["history", "--json"]] {
        let (_reader, pipe) = stuck_pipe::stuck_pipe();
        let mut child = manager.command(words).stdout(pipe).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(child.try_wait().unwrap(), None, "{words:?} wrote into a full pipe");
        let status = stuck_pipe::end(&mut child, Signal::SIGTERM);
        assert_eq!(status.signal(), Some(Signal::SIGTERM as i32), "{words:?}");
    }

    assert!(stuck_pipe::end(&mut service, Signal::SIGTERM).success());
    drop(reader);

    // Who reads again gets all of it.
    let (reader, pipe) = stuck_pipe::stuck_pipe();
    let mut service = manager.serve_command(&[]).stdout(pipe).spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while !manager.run(&["status"]).status.success() {
        assert!(Instant::now() < end, "it does not serve");
    }
    let reading = std::thread::spawn(move || reader.read());
    assert!(stuck_pipe::end(&mut service, Signal::SIGINT).success());
    let told = reading.join().unwrap();
    assert!(told.contains("\"serving\"") && told.contains("\"stopped\""), "{told}");
}

/// Also while it serves: its socket and locks.
#[test]
fn what_a_service_writes_is_for_its_owner_alone() {
    // Nothing is left to the umask.
    umask(Mode::empty());
    let manager = Manager::new();
    manager.must(&["key", "new", "--role", "manager"]);
    let mut service = manager.serve_command(&[]).stdout(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while !manager.run(&["status"]).status.success() {
        assert!(Instant::now() < end, "it does not serve");
    }
    let mut found: Vec<String> = (std::fs::read_dir(manager.path("state")).unwrap())
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            format!("{} {mode:o}", entry.file_name().to_str().unwrap())
        })
        .collect();
    found.sort();
    assert!(stuck_pipe::end(&mut service, Signal::SIGTERM).success());
    let expected = ["manager.key 600", "manager.pub 644", "serve.lock 600", "serve.sock 600"];
    assert_eq!(found, expected);
    let state = std::fs::metadata(manager.path("state")).unwrap().permissions().mode();
    assert_eq!(state & 0o777, 0o700);
}

/// A network of its own, with one interface whose address has no `brd`.
const WITHOUT_BRD: &str = "ip link set lo up; ip link add name fc0 type veth peer name fc1; \
                           ip link set fc0 up; ip link set fc1 up; \
                           ip addr add 10.9.8.1/24 dev fc0; \
                           exec \"$0\" --exact inside_a_network_without_brd --ignored --nocapture";

#[test]
fn a_network_without_brd_is_reached() {
    let in_network = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]).args(words).output()
    };
    let may =
        in_network(&["ip", "link", "add", "name", "fc0", "type", "veth", "peer", "name", "fc1"]);
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no network namespace can be made here: {may:?}");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let output = in_network(&["sh", "-ec", WITHOUT_BRD, own.to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "runs in the network that the test before makes"]
fn inside_a_network_without_brd() {
    let manager = Manager { address: "10.9.8.1:9848".parse().unwrap(), ..Manager::new() };
    manager.enrol(1);
    let listen = |address: &str| {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    // The broadcast address hears broadcasts only, the own one what is sent to it alone.
    let (everybody, own) = (listen("10.9.8.255:9849"), listen("10.9.8.1:9849"));
    let discover = ["discover", "--key", "manager.key", "--timeout", "1", "--agent-port", "9849"];
    let output = manager.run(&discover);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no host answered"), "{output:?}");
    let mut buffer = [0; 2048];
    assert!(own.recv_from(&mut buffer).is_err(), "it asks itself");
    assert_eq!(everybody.recv_from(&mut buffer).unwrap().0, 1232);

    let service = manager.serve(&[]);
    let hosts = Hosts::start_at("0.0.0.0:9847", 0..1, &manager, Duration::from_millis(10));
    hosts.wait_for(1);
    service.stop();
}

#[test]
fn a_killed_service_is_replaced_and_goes_on() {
    let manager = Manager::new();
    manager.enrol(1);
    std::fs::write(manager.path("policy.toml"), "gather_s = 1").unwrap();
    let mut first = manager.serve(&["--policy", "policy.toml"]);
    let second = manager.serve_command(&[]).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && error.contains("another firmcast serve"), "{error}");
    let hosts = Hosts::start(0..1, &manager, Duration::from_secs(3));
    first.wait_for(|event| event["stage"] == "flashing");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(manager.path("state/serve.sock").exists(), "a stale socket");
    let service = manager.serve(&["--policy", "policy.toml"]);
    hosts.wait_for(1);
    let recalled = service.wait_for(|event| event["event"] == "recalled");
    assert_eq!((&recalled["host"], &recalled["phase"]), (&"host-0".into(), &"updated".into()));
    service.stop();
    let history = manager.run(&["history", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!(
        (&history[0]["kind"], &history[0]["state"]),
        (&"rescue".into(), &"unfinished".into())
    );
    assert_eq!(history[0]["hosts"][0]["stage"], "flashing");
}

#[test]
fn what_is_broken_is_named_and_the_rest_is_served() {
    let manager = Manager::new();
    manager.bundle("a.fcb", "3.0", 2, "release.key");
    manager.bundle("b.fcb", "3.0", 3, "release.key");
    manager.bundle("foreign.fcb", "9.0", 4, "other.key");
    let good = std::fs::read(manager.path("bundles/good.fcb")).unwrap();
    std::fs::write(manager.path("bundles/cut.fcb"), &good[..good.len() - 1]).unwrap();
    std::fs::write(manager.path("bundles/copy.fcb"), &good).unwrap();
    std::os::unix::fs::symlink("nowhere", manager.path("bundles/dangling.fcb")).unwrap();
    std::fs::write(manager.path("bundles/.hidden"), "x").unwrap();
    std::fs::write(manager.path("policy.toml"), "escrow = false\n\ngather = 5\n").unwrap();
    let arguments = ["--policy", "policy.toml", "--trust", "release.pub"];
    let refused = manager.serve_command(&arguments).output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(error.contains("policy.toml") && error.contains("line 3"), "{error}");
    assert!(error.contains("unknown field `gather`"), "{error}");

    std::fs::write(manager.path("policy.toml"), "gather_s = 1").unwrap();
    let service = manager.serve(&arguments);
    let why = |file: &str| {
        let is = |event: &Value| event["event"] == "bundle-refused" && event["file"] == file;
        service.wait_for(is)["why"].as_str().unwrap().to_owned()
    };
    assert!(why("a.fcb").contains("b.fcb is version 3.0 for the same board too"));
    assert!(why("b.fcb").contains("a.fcb is version 3.0"));
    assert!(why("foreign.fcb").contains("SHA256:"), "{}", why("foreign.fcb"));
    assert!(why("good.fcb").contains("the same bundle as copy.fcb"));
    assert!(!why("cut.fcb").is_empty() && why("dangling.fcb").contains("No such file"));
    assert_eq!(service.wait_for(|event| event["event"] == "serving")["bundles"], 1);

    std::fs::write(manager.path("policy.toml"), "attempts_max = 0").unwrap();
    service.signal(Signal::SIGHUP);
    let warning = service.wait_for(|event| event["event"] == "warning");
    let message = warning["message"].as_str().unwrap();
    assert!(message.contains("line 1") && message.contains("the policy stays"), "{message}");
    service.wait_for(|event| event["event"] == "reloaded");
    service.stop();

    for (arguments, expected) in [
        (&["--bundles", "nowhere"][..], "nowhere"),
        (&["--trust", "manager.pub"], "expected a release key"),
        (&["--policy", "nowhere"], "cannot read the policy nowhere"),
    ] {
        let mut command = manager.command(&["serve", "--key", "manager.key", "--unicast"]);
        if arguments[0] != "--bundles" {
            command.args(["--bundles", "bundles"]);
        }
        let output = command.args(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(expected), "{error}");
    }
}

#[test]
fn three_hundred_hosts_cost_little_memory() {
    const HOSTS: usize = 300;
    let manager = Manager::new();
    manager.enrol(HOSTS);
    let service = manager.serve(&[]);
    let before = service.memory_kib("VmRSS");
    let hosts = Hosts::start(0..HOSTS, &manager, Duration::from_millis(200));
    hosts.wait_for(HOSTS);
    let per_host = (service.memory_kib("VmHWM") - before) / HOSTS;
    eprintln!("{per_host} KiB per host");
    assert!(per_host <= 64, "{per_host} KiB per host");
    service.wait_for(|event| event["event"] == "finished" && event["confirmed"] == HOSTS);
    service.stop();
}
