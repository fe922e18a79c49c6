//! `firmcast update` as a process, against scripted hosts on real sockets.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // Shared with the campaign's own tests.
#[path = "../src/campaign/tests/host.rs"]
mod host;
#[allow(dead_code)] // Shared with the tests of the service.
mod stuck_pipe;

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firmcast::image::{Board, Bundle, SignedManifest, VerifiedManifest};
use firmcast::keys::{
    self, Fingerprint, ManagerSecretKey, PublicKey as _, ReleaseSecretKey, SecretKey as _,
};
use firmcast::reason::Reason;
use firmcast::time::Time;
use host::{Cargo, Script, ScriptedHost};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use serde_json::Value;

/// A manager's directory with keys and a bundle.
struct Manager {
    directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
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

    fn key(&self) -> ManagerSecretKey {
        keys::load_secret(&self.path("manager.key")).unwrap()
    }

    fn cargo(&self) -> Cargo {
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
    fn enrol(&self, hosts: &[&Server]) {
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

    fn update(&self, more: &[&str]) -> Output {
        let common =
            ["update", "--bundle", "b.fcb", "--key", "manager.key", "--port", "0", "--unicast"];
        self.run(&[&common, more].concat())
    }
}

/// A scripted host behind a socket of its own.
struct Server {
    name: String,
    key: String,
    backup: Vec<u8>,
    address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(index: usize, script: Script, manager: &Manager) -> Self {
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

fn quick() -> Script {
    let boot = Duration::from_millis(300);
    Script { recovery_boot: boot, home_boot: boot, ..Script::default() }
}

fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn hosts_are_updated_over_real_sockets_and_one_refusal_makes_exit_status_1() {
    let manager = Manager::new();
    let refusing = Script { refuse: Some(Reason::WrongBoard), ..quick() };
    let good = Server::start(0, quick(), &manager);
    let bad = Server::start(1, refusing, &manager);
    manager.enrol(&[&good, &bad]);

    let output = manager.update(&["--json", "--host", "host-0"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let events = events(&output);
    assert_eq!(events[0]["event"], "started");
    assert_eq!(events[0]["bundle"]["version"], "2.0");
    let result = events.iter().find(|event| event["event"] == "result").unwrap();
    assert_eq!((&result["reason"], &result["bios_version"]), (&"confirmed".into(), &"2.0".into()));
    assert_eq!(events.last().unwrap()["confirmed"], 1);
    assert!(events.iter().all(|event| event["campaign"] == events[0]["campaign"]));

    let output = manager.update(&["--all"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("host-0: confirmed, BIOS version 2.0"), "{text}");
    assert!(text.contains("host-1: FAILED: the bundle is for another board"), "{text}");

    let history = manager.run(&["history", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!(history[0]["confirmed"], 1);
    assert_eq!(history[1]["hosts"][1]["result"]["reason"], "wrong-board");
    assert!(history.as_array().unwrap().iter().all(|campaign| campaign["state"] == "finished"));
}

#[test]
fn a_manager_whose_clock_was_ahead_is_heard_when_it_is_right_again() {
    let manager = Manager::new();
    let host = Server::start(0, quick(), &manager);
    manager.enrol(&[&host]);
    // As a campaign leaves it that ran while the clock said 2100.
    let key = manager.key().public().fingerprint().to_string();
    let ahead = 4_102_444_800_000_000_u64;
    let text = serde_json::json!({ "form": 1, "last": { key.as_str(): ahead } }).to_string();
    std::fs::write(manager.path("state/stamps.json"), text).unwrap();
    for _ in 0..2 {
        let output = manager.update(&["--all", "--dry-run"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = self::text(&output.stderr);
        assert!(told.contains("WARNING: the clock is") && told.contains("behind"), "{told}");
    }
    let kept = std::fs::read(manager.path("state/stamps.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert!(kept["last"][&key].as_u64().unwrap() > ahead + 2, "{kept}");
}

#[test]
fn a_dry_run_says_and_records_what_it_is() {
    let manager = Manager::new();
    let good = Server::start(0, quick(), &manager);
    manager.enrol(&[&good]);
    let output = manager.update(&["--all", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    let foreseen =
        "host-0: an update could start: at most 16 of 512 eraseblocks change, in about 1 s";
    assert!(said.contains("dry run ") && said.contains(foreseen), "{said}");
    assert!(said.contains("finished: 1 could be updated, 0 could not"), "{said}");
    let shown = text(&manager.run(&["history"]).stdout);
    assert!(shown.contains("dry run: 1 of 1 could be updated, finished"), "{shown}");
    assert!(shown.contains(foreseen), "{shown}");
    assert!(!said.contains("confirmed") && !shown.contains("confirmed"), "{said}{shown}");

    let output = manager.update(&["--all", "--dry-run", "--json"]);
    for event in events(&output) {
        if ["started", "result", "finished"].contains(&event["event"].as_str().unwrap()) {
            assert_eq!(event["kind"], "dry-run", "{event}");
        }
    }
    let history: Value =
        serde_json::from_slice(&manager.run(&["history", "--json"]).stdout).unwrap();
    assert_eq!((&history[1]["kind"], &history[1]["confirmed"]), (&"dry-run".into(), &1.into()));
}

#[test]
fn a_host_that_could_not_keep_its_floor_is_confirmed_but_told_apart() {
    const WHY: &str = "security version floor not raised: no space left on device";
    let manager = Manager::new();
    let host = Server::start(0, Script { cannot_keep: WHY, ..quick() }, &manager);
    manager.enrol(&[&host]);
    let output = manager.update(&["--all"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let but = format!("host-0: confirmed, BIOS version 2.0, BUT {WHY}; mend the host's state_dir");
    let (said, history) = (text(&output.stdout), text(&manager.run(&["history"]).stdout));
    assert!(said.contains(&but) && history.contains(&but), "{said}{history}");
    let history = manager.run(&["history", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    let result = &history[0]["hosts"][0]["result"];
    assert_eq!((&result["confirmed"], &result["detail"]), (&true.into(), &WHY.into()));
    assert!(result["advice"].as_str().unwrap().contains("state_dir"), "{result}");
}

#[test]
fn an_interrupt_lets_the_host_go_and_a_killed_manager_leaves_an_unfinished_record() {
    let manager = Manager::new();
    let slow = Script { recovery_boot: Duration::from_secs(60), ..quick() };
    let host = Server::start(0, slow, &manager);
    manager.enrol(&[&host]);
    let start = || {
        let arguments =
            ["update", "--bundle", "b.fcb", "--key", "manager.key", "--port", "0", "--unicast"];
        let mut command = manager.command(&[&arguments[..], &["--json", "--all"]].concat());
        let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        wait_for_record(&manager, "entering-recovery");
        child
    };
    let interrupted = start();
    kill(Pid::from_raw(interrupted.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = interrupted.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let events = events(&output);
    assert!(events.iter().any(|event| event["event"] == "interrupted"));
    let result = events.iter().find(|event| event["event"] == "result").unwrap();
    assert_eq!(result["reason"], "interrupted");

    drop(host);
    std::fs::remove_dir_all(manager.path("state/campaigns")).unwrap();
    let host = Server::start(0, slow, &manager);
    manager.enrol(&[&host]);
    let mut killed = start();
    let state = || -> Value {
        serde_json::from_slice(&manager.run(&["history", "--json"]).stdout).unwrap()
    };
    assert_eq!(state()[0]["state"], "running");
    let second = manager.update(&["--all"]);
    assert_eq!(second.status.code(), Some(3));
    assert!(text(&second.stderr).contains("which is running"), "{second:?}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(state()[0]["state"], "unfinished");
    assert_eq!(state()[0]["hosts"][0]["stage"], "entering-recovery");
}

#[test]
fn a_reader_that_stops_holds_up_no_update_and_gets_its_results_later() {
    let manager = Manager::new();
    let host = Server::start(0, quick(), &manager);
    manager.enrol(&[&host]);
    let start = |pipe, how: &[&str]| {
        let arguments =
            ["update", "--bundle", "b.fcb", "--key", "manager.key", "--port", "0", "--unicast"];
        manager.command(&[&arguments[..], how].concat()).stdout(pipe).spawn().unwrap()
    };
    let (reader, pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(pipe, &["--all", "--json"]);
    wait_for_record(&manager, "\"finished\"");
    assert_eq!(update.try_wait().unwrap(), None, "results are still to be read");
    let told = reader.read();
    assert!(told.contains("\"confirmed\"") && told.contains("\"finished\""), "{told}");
    assert_eq!(stuck_pipe::wait(&mut update).code(), Some(0));

    // An operator who waits for no reader.
    std::fs::remove_dir_all(manager.path("state/campaigns")).unwrap();
    let (_reader, pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(pipe, &["--all", "--dry-run"]);
    wait_for_record(&manager, "\"finished\"");
    assert_eq!(stuck_pipe::end(&mut update, Signal::SIGTERM).code(), Some(0));

    // In the midst of it.
    drop(host);
    std::fs::remove_dir_all(manager.path("state/campaigns")).unwrap();
    let slow = Script { recovery_boot: Duration::from_secs(60), ..quick() };
    let host = Server::start(0, slow, &manager);
    manager.enrol(&[&host]);
    let (_reader, pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(pipe, &["--all"]);
    wait_for_record(&manager, "entering-recovery");
    kill(Pid::from_raw(update.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    wait_for_record(&manager, "\"finished\"");
    assert_eq!(stuck_pipe::end(&mut update, Signal::SIGINT).code(), Some(1));
}

/// As `firmcast update 2>&1 | less`, with a warning before the campaign and one behind it.
#[test]
fn a_reader_of_errors_that_stops_holds_up_no_update() {
    let manager = Manager::new();
    let host = Server::start(0, quick(), &manager);
    manager.enrol(&[&host]);
    let start = |pipe, errors| {
        let arguments =
            ["update", "--bundle", "b.fcb", "--key", "manager.key", "--port", "0", "--unicast"];
        let how = ["--all", "--dry-run"];
        let mut command = manager.command(&[&arguments[..], &how].concat());
        command.stdout(pipe).stderr(errors).spawn().unwrap()
    };
    let mut update = start(Stdio::null(), Stdio::null());
    assert_eq!(stuck_pipe::wait(&mut update).code(), Some(0));
    let stamps = manager.path("state/stamps.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&stamps).unwrap()).unwrap();
    let week_us = 7 * 24 * 3600 * 1_000_000;
    for last in kept["last"].as_object_mut().unwrap().values_mut() {
        *last = (last.as_u64().unwrap() + week_us).into();
    }
    std::fs::write(&stamps, kept.to_string()).unwrap();

    std::fs::remove_dir_all(manager.path("state/campaigns")).unwrap();
    let ((_reader, pipe), (errors, error_pipe)) =
        (stuck_pipe::stuck_pipe(), stuck_pipe::stuck_pipe());
    let mut update = start(pipe, error_pipe);
    wait_for_record(&manager, "\"finished\"");
    assert_eq!(stuck_pipe::end(&mut update, Signal::SIGTERM).code(), Some(0));
    drop(errors);

    // Who reads again gets the warning.
    let (errors, error_pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(Stdio::null(), error_pipe);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(errors.read().contains("WARNING: the clock is"));
    assert_eq!(stuck_pipe::wait(&mut update).code(), Some(0));

    // What is wrong before anything starts holds up no signal either.
    std::fs::remove_file(manager.path("b.fcb")).unwrap();
    let (_reader, pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(Stdio::null(), pipe);
    std::thread::sleep(Duration::from_millis(100));
    let status = stuck_pipe::end(&mut update, Signal::SIGTERM);
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
}

/// Both look for running campaigns as soon as they may.
#[test]
fn of_two_updates_of_a_host_that_start_at_the_same_moment_one_is_refused() {
    let manager = Manager::new();
    let slow = Script { recovery_boot: Duration::from_secs(60), ..quick() };
    let hosts = [Server::start(0, slow, &manager), Server::start(1, quick(), &manager)];
    manager.enrol(&[&hosts[0], &hosts[1]]);
    let lock = std::fs::File::create(manager.path("state/campaigns.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    let start = |host| {
        let arguments =
            ["update", "--bundle", "b.fcb", "--key", "manager.key", "--port", "0", "--unicast"];
        let mut command = manager.command(&[&arguments[..], &["--host", host]].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (mut same, mut other) = (["host-0", "host-0"].map(start), start("host-1"));
    // All have asked their hosts, and wait for their turn.
    std::thread::sleep(Duration::from_secs(3));
    assert!(same.iter_mut().all(|update| update.try_wait().unwrap().is_none()));
    drop(lock);
    assert_eq!(stuck_pipe::wait(&mut other).code(), Some(0), "hosts of nobody else");
    wait_for_record(&manager, "entering-recovery");
    let mut refused = Vec::from(same);
    let end = Instant::now() + Duration::from_secs(20);
    while refused.iter_mut().all(|update| update.try_wait().unwrap().is_none()) {
        assert!(Instant::now() < end, "both work on one host");
        std::thread::sleep(Duration::from_millis(20));
    }
    let started: Vec<Child> =
        refused.extract_if(.., |update| update.try_wait().unwrap().is_none()).collect();
    assert_eq!((refused.len(), started.len()), (1, 1));
    for update in refused {
        let output = update.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let error = text(&output.stderr);
        assert!(error.contains("host-0 takes part in campaign"), "{error}");
    }
    for mut update in started {
        assert_eq!(stuck_pipe::end(&mut update, Signal::SIGTERM).code(), Some(1));
    }
}

/// All that lies in a directory, with type and mode, by its path there.
fn modes(directory: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.symlink_metadata().unwrap().permissions().mode() & 0o777;
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                waiting.push(path);
            }
            found.push((name, mode));
        }
    }
    found.sort();
    found
}

#[test]
fn what_may_hold_secrets_is_readable_for_its_owner_alone() {
    // Nothing is left to the umask.
    umask(Mode::empty());
    let manager = Manager::new();
    let host = Server::start(0, quick(), &manager);
    // The state directory's own key; --key names another one below.
    manager.must(&["key", "new", "--role", "manager"]);
    let entry = firmcast_manager::store::inventory::Entry {
        security_version_floor: 0,
        name: host.name.clone(),
        key: host.key.parse().unwrap(),
        address: host.address.parse().unwrap(),
        vendor: "V".into(),
        product: "P".into(),
    };
    firmcast_manager::store::inventory::Inventory::change(&manager.path("state"), |inventory| {
        inventory.enrol(&entry, &std::collections::BTreeSet::new(), false)
    })
    .unwrap();
    let output = manager.update(&["--all", "--escrow"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let list = manager.run(&["backup", "list", "--json"]);
    let list: Vec<Value> = serde_json::from_slice(&list.stdout).unwrap();
    let digest = list[0]["sha256"].as_str().unwrap();
    let restored = ["--release-key", "release.key", "--output", "restored.fcb"];
    manager.must(&[&["backup", "restore", digest][..], &restored].concat());

    // What is public: keys for others, a bundle to hand on, and what the test itself made.
    let public = ["b.fcb", "image", "manager.pub", "release.pub", "state/manager.pub"];
    let found = modes(manager.directory.path());
    let exposed: Vec<_> = (found.iter())
        .filter(|(name, mode)| mode & 0o077 != 0 && !public.contains(&name.as_str()))
        .collect();
    assert!(exposed.is_empty(), "{exposed:?}");
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    for expected in ["restored.fcb", "state/stamps.json", "state/inventory.json"] {
        assert!(names.contains(&expected), "{names:?}");
    }
    let kept = names.iter().filter(|name| name.starts_with("state/backups/")).count();
    let records = names.iter().filter(|name| name.starts_with("state/campaigns/")).count();
    assert_eq!((kept, records), (2, 1), "{names:?}");
}

#[test]
fn backups_are_kept_and_a_restored_one_is_a_bundle_for_its_host_alone() {
    let manager = Manager::new();
    let hosts = [0, 1].map(|index| Server::start(index, quick(), &manager));
    manager.enrol(&[&hosts[0], &hosts[1]]);
    let output = manager.update(&["--json", "--all", "--escrow"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let events = events(&output);
    assert_eq!(events[0]["escrow"], true);
    let stored: Vec<&Value> =
        events.iter().filter(|event| event["event"] == "backup-stored").collect();
    assert_eq!(stored.len(), 2, "{events:?}");

    let list = manager.run(&["backup", "list", "--json"]);
    let list: Vec<Value> = serde_json::from_slice(&list.stdout).unwrap();
    let of_host = list.iter().find(|record| record["host"] == "host-0").unwrap();
    assert_eq!((&of_host["vendor"], &of_host["bios_version"]), (&"V".into(), &"1.0".into()));
    let digest = of_host["sha256"].as_str().unwrap();
    let file = manager.path("state/backups").join(digest);
    assert_eq!(std::fs::read(&file).unwrap(), hosts[0].backup);
    assert!(text(&manager.run(&["backup", "list"]).stdout).contains(digest));

    let restore = |digest: &str, output: &str| {
        let arguments = ["backup", "restore", digest, "--security-version", "7"];
        let files = ["--release-key", "release.key", "--output", output];
        manager.run(&[&arguments[..], &files[..]].concat())
    };
    assert!(restore(&digest[..8], "old.fcb").status.success());
    let bundle = std::fs::read(manager.path("old.fcb")).unwrap();
    let bundle = Bundle::parse(&bundle).unwrap();
    let release: ReleaseSecretKey = keys::load_secret(&manager.path("release.key")).unwrap();
    let manifest = VerifiedManifest::verify(bundle.manifest, &[release.public()]).unwrap();
    assert_eq!(manifest.open_payload(bundle.payload).unwrap().bytes(), hosts[0].backup);
    let versions = (manifest.security_version(), manifest.expect_version());
    assert_eq!(versions, (7, Some("1.0")));
    assert!(manifest.version().starts_with("backup of host-0 2"), "{}", manifest.version());
    let board = |key: &Value| Board {
        vendor: "V".into(),
        product: "P".into(),
        flash_size_bytes: hosts[0].backup.len() as u64,
        host: Some(key.as_str().unwrap().parse::<Fingerprint>().unwrap()),
        ..Board::default()
    };
    board(&of_host["key"]).admit(&manifest).unwrap();
    let other = list.iter().find(|record| record["host"] == "host-1").unwrap();
    let refusal = board(&other["key"]).admit(&manifest).unwrap_err();
    assert_eq!(refusal.reason, Reason::WrongHost);

    let refused = [
        (restore(digest, "old.fcb"), "exists already"),
        (restore("1234567", "new.fcb"), "at least 8"),
        (restore(&"0".repeat(64), "new.fcb"), "firmcast backup list"),
    ];
    std::fs::write(&file, "rotten").unwrap();
    for (output, expected) in refused.into_iter().chain([(restore(digest, "new.fcb"), "damaged")]) {
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{error}");
    }
    assert!(!manager.path("new.fcb").exists());
}

fn wait_for_record(manager: &Manager, word: &str) {
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

#[test]
fn nothing_is_started_when_anything_is_off_and_wrong_usage_is_told_apart() {
    let manager = Manager::new();
    let status = |output: &Output| (output.status.code(), text(&output.stderr));
    std::fs::write(manager.path("not-a-directory"), "").unwrap();
    let starts: [(&[&str], &str); 5] = [
        (&["--all"], "inventory is empty"),
        (&["--host", "127.0.0.1:9", "--bundle-missing"], ""),
        (&["--host", "127.0.0.1:9", "--trust", "manager.pub"], "expected a release key"),
        (&["--host", "no such name"], "neither in the inventory"),
        (&["--host", "127.0.0.1:9", "127.0.0.1:9"], "named twice"),
    ];
    for (arguments, expected) in starts {
        let (code, error) = status(&manager.update(arguments));
        let usage = arguments.contains(&"--bundle-missing");
        assert_eq!(code, Some(if usage { 2 } else { 3 }), "{arguments:?} {error}");
        assert!(error.contains(expected), "{arguments:?} {error}");
    }
    let common = [
        "update",
        "--bundle",
        "b.fcb",
        "--key",
        "manager.key",
        "--port",
        "0",
        "--unicast",
        "--host",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_firmcast"));
    command.current_dir(manager.directory.path()).args(["--state", "not-a-directory"]);
    let (code, error) = status(&command.args(common).arg("127.0.0.1:9").output().unwrap());
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("not-a-directory") && error.contains("nothing was started"), "{error}");

    for arguments in [
        &["update", "--bundle", "b.fcb"][..],
        &["update", "--all"],
        &["update", "--bundle", "b.fcb", "--all", "--host", "a"],
        &["update", "--bundle", "b.fcb", "--all", "--unicast", "--group", "239.0.0.1"],
        &["update", "--bundle", "b.fcb", "--all", "--rate", "0"],
        &["discover", "--replace"],
    ] {
        assert_eq!(manager.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(!Path::new(&manager.path("state")).exists(), "nothing was left behind");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
