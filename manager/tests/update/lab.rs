//! A manager's directory, and scripted hosts on sockets.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firmcast::image::{Bundle, SignedManifest};
use firmcast::keys::{self, ManagerSecretKey, SecretKey as _};
use firmcast::time::Time;
use serde_json::Value;

use crate::host::{Cargo, Script, ScriptedHost};

/// A manager's directory with keys and a bundle.
pub(crate) struct Manager {
    pub(crate) directory: tempfile::TempDir,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let manager = Self { directory: tempfile::tempdir().unwrap() };
        let image: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        std::fs::write(manager.path("image"), image).unwrap();
        let key = |role, file| ["key", "new", "--role", role, "--out", file];
        manager.must(&key("release", "release.key"));
        manager.must(&key("manager", "manager.key"));
        manager.must(&[
            "bundle",
            "create",
            "--image",
            "image",
            "--version",
            "2.0",
            "--security-version",
            "1",
            "--vendor",
            "V",
            "--product",
            "P",
            "--expect-version",
            "2.0",
            "--key",
            "release.key",
            "--out",
            "b.fcb",
        ]);
        manager
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(crate::firmcast());
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

    pub(crate) fn key(&self) -> ManagerSecretKey {
        keys::load_secret(&self.path("manager.key")).unwrap()
    }

    pub(crate) fn cargo(&self) -> Cargo {
        let file = std::fs::read(self.path("b.fcb")).unwrap();
        let bundle = Bundle::parse(&file).unwrap();
        let signed = SignedManifest::parse(bundle.manifest).unwrap();
        Cargo {
            manifest: bundle.manifest.to_vec(),
            payload: bundle.payload.to_vec(),
            image_size_bytes: signed.unverified().unwrap().image_size_bytes(),
            stable_digest: *signed.unverified().unwrap().stable_digest(),
        }
    }

    /// Enrols a host by hand, as discovery would.
    pub(crate) fn enrol(&self, hosts: &[&Server]) {
        let line = |server: &&Server| {
            serde_json::json!({
                "name": server.name, "key": server.key, "address": server.address,
                "vendor": "V", "product": "P",
            })
        };
        let hosts: Vec<Value> = hosts.iter().map(line).collect();
        std::fs::create_dir_all(self.path("state")).unwrap();
        let text = serde_json::json!({ "form": 1, "hosts": hosts }).to_string();
        std::fs::write(self.path("state/inventory.json"), text).unwrap();
    }

    /// `firmcast update` of the bundle with these words more.
    pub(crate) fn update_command(&self, more: &[&str]) -> Command {
        let common =
            ["update", "--bundle", "b.fcb", "--key", "manager.key", "--port", "0", "--unicast"];
        self.command(&[&common, more].concat())
    }

    pub(crate) fn update(&self, more: &[&str]) -> Output {
        self.update_command(more).output().unwrap()
    }
}

/// A scripted host behind a socket of its own.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) backup: Vec<u8>,
    pub(crate) address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(index: usize, script: Script, manager: &Manager) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let mut host =
            ScriptedHost::new(index, script, *manager.key().public().exchange(), manager.cargo());
        let key = keys::HostPublicKey::from_exchange(host.key()).unwrap().to_string();
        let backup = host.backup();
        let address = socket.local_addr().unwrap().to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let origin = Instant::now();
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let received = socket.recv_from(&mut buffer);
                let now = Time::ZERO + origin.elapsed();
                if let Ok((size, from)) = received {
                    host.handle_datagram(now, from, &buffer[..size]);
                }
                if host.poll_timeout().is_some_and(|due| due <= now) {
                    host.handle_timeout(now);
                }
                for (to, bytes) in host.take_outbox() {
                    socket.send_to(&bytes, to).unwrap();
                }
            }
        });
        Self { name: format!("host-{index}"), key, backup, address, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) fn quick() -> Script {
    let boot = Duration::from_millis(300);
    Script { recovery_boot: boot, home_boot: boot, ..Script::default() }
}

pub(crate) fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn wait_for_record(manager: &Manager, word: &str) {
    for _ in 0..3000 {
        std::thread::sleep(Duration::from_millis(20));
        let Ok(records) = std::fs::read_dir(manager.path("state/campaigns")) else { continue };
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(entry.unwrap().path()).unwrap()
        };
        if records.map(read).any(|text| text.contains(word)) {
            return;
        }
    }
    panic!("{word} was not recorded");
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
