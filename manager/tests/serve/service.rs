//! A manager's directory, and `firmcast serve` as a process of the test.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firmcast::keys::{self, SecretKey as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::dead_hosts::{Managed, host_key};

pub(crate) const IMAGE_SIZE_BYTES: usize = 64 << 10;
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A manager's directory with keys and a bundle.
pub(crate) struct Manager {
    directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Manager {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn bundle(&self, file: &str, version: &str, image: u32, key: &str) {
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

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast"));
        command.current_dir(self.directory.path()).args(["--state", "state"]).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn must(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    pub(crate) fn serve_command(&self, more: &[&str]) -> Command {
        let address = self.address.to_string();
        let common = ["serve", "--bundles", "bundles", "--key", "manager.key"];
        let way: &[&str] = if self.address.ip().is_loopback() { &["--unicast"] } else { &[] };
        let listen = ["--json", "--rate", "1000", "--listen", &address];
        self.command(&[&common[..], way, &listen[..], more].concat())
    }

    pub(crate) fn serve(&self, more: &[&str]) -> Service {
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

    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn enrol(&self, count: usize) {
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

impl Managed for Manager {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    fn flash_size_bytes(&self) -> usize {
        IMAGE_SIZE_BYTES
    }
}

/// A service that runs.
pub(crate) struct Service {
    pub(crate) child: Child,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Service {
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(event) = self.events.lock().unwrap().iter().find(|event| wanted(event)) {
                return event.clone();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not told: {:#?}", self.events.lock().unwrap());
    }

    /// Until as many hosts as this are confirmed in all campaigns that ended.
    pub(crate) fn wait_for_confirmed(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        let confirmed = || -> u64 {
            let events = self.events.lock().unwrap();
            events.iter().filter_map(|event| event["confirmed"].as_u64()).sum()
        };
        while confirmed() < count as u64 {
            assert!(Instant::now() < end, "{} of {count} confirmed", confirmed());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// A field of /proc/PID/status, in KiB.
    pub(crate) fn memory_kib(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn stop(mut self) -> Vec<Value> {
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
