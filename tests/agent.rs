//! The real firmcastd on loopback: what it tells by hand, and what it does while nobody talks to
//! it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firmcast::keys::{HostSecretKey, ManagerSecretKey, SecretKey as _, load_secret};
use firmcast::session::discovery::Discovery;
use firmcast::session::{Endpoint, SessionEvent};
use firmcast::time::Time;
use firmcast::wire::answer::{Answer, Environment, Identity};
use firmcast::wire::command::Command as Instruction;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};

const PATIENCE: Duration = Duration::from_secs(20);
/// Most calls of one kind for the files of a host key.
const CALLS_MAX: usize = 40;

/// A firmcastd that ends with the test.
struct Agent {
    process: Child,
    address: SocketAddr,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Agent {
    /// Starts an agent that trusts `manager`; waits until it has its socket.
    fn start(folder: &Path, manager: &ManagerSecretKey) -> Self {
        let address = free_address();
        let config = write_config(folder, address, &manager.public().to_string());
        let log = fs::File::create(folder.join("log")).unwrap();
        let process = firmcastd()
            .arg("--foreground")
            .arg("--config")
            .arg(config)
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, address }.when_it_listens(folder)
    }

    fn when_it_listens(self, folder: &Path) -> Self {
        let listens = || fs::read_to_string(folder.join("log")).unwrap().contains("listens on");
        wait_until("the agent listens", listens);
        self
    }

    fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.process.id())).unwrap()
    }

    /// Both kinds together: whatever made the agent run is counted.
    fn context_switches(&self) -> u64 {
        self.proc_file("status")
            .lines()
            .filter(|line| line.contains("ctxt_switches"))
            .map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    fn sockets(&self) -> Vec<String> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let targets = files.map(|file| fs::read_link(file.unwrap().path()).unwrap());
        let names = targets.map(|target| target.display().to_string());
        names.filter(|name| name.starts_with("socket:")).collect()
    }
}

/// Starts an agent on a socket that stands open already, as systemd does it: LISTEN_FDS, from
/// descriptor 3 on.
fn start_on_inherited_socket(folder: &Path, manager: &ManagerSecretKey) -> Agent {
    let config = write_config(folder, free_address(), &manager.public().to_string());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    let process = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_firmcastd"), "--foreground", "--config"])
        .arg(config)
        .stdin(OwnedFd::from(socket))
        .stderr(fs::File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap();
    Agent { process, address }.when_it_listens(folder)
}

#[test]
fn a_socket_from_systemd_is_used_instead_of_an_own_one() {
    let folder = tempfile::tempdir().unwrap();
    let (_, manager) = manager();
    let agent = start_on_inherited_socket(folder.path(), &manager);
    let identity = query(&agent, &manager, &folder.path().join("host.key"));
    assert_eq!(identity.environment, Environment::NormalOs);
    assert_eq!(agent.sockets().len(), 1, "{:?}", agent.sockets());
}

fn firmcastd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firmcastd"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn write_config(folder: &Path, listen: SocketAddr, manager: &str) -> std::path::PathBuf {
    let path = folder.join("agent.toml");
    let shown = folder.display();
    let text = format!(
        "listen = \"{listen}\"\nhost_key = \"{shown}/host.key\"\nstate_dir = \"{shown}/state\"\n\
         trusted_managers = [\"{manager}\"]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn manager() -> (ChaCha20Rng, ManagerSecretKey) {
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let secret = ManagerSecretKey::generate(&mut rng);
    (rng, secret)
}

fn manager_socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

/// Asks the agent who it is, in a session.
fn query(agent: &Agent, manager: &ManagerSecretKey, host_key: &Path) -> Identity {
    let host: HostSecretKey = load_secret(host_key).unwrap();
    let host = *host.public().exchange();
    let mut endpoint = Endpoint::new(*manager.exchange(), [5; 32]);
    endpoint.set_stamp(1_000_000);
    let socket = manager_socket();
    let started = Instant::now();
    endpoint.connect(Time::ZERO, host, agent.address);
    let mut buffer = [0; 2048];
    while started.elapsed() < PATIENCE {
        let now = Time::ZERO + started.elapsed();
        endpoint.handle_timeout(now);
        while let Some(transmit) = endpoint.poll_transmit() {
            socket.send_to(&transmit.bytes, transmit.to).unwrap();
        }
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        match endpoint.handle_datagram(now, from, &buffer[..length]) {
            Some(SessionEvent::Connected { .. }) => {
                assert!(endpoint.send(now, &host, &Instruction::Query.emit()));
            }
            Some(SessionEvent::Message { bytes, .. }) => match Answer::parse(&bytes).unwrap() {
                Answer::Identity(identity) => return identity,
                other => panic!("{other:?}"),
            },
            Some(SessionEvent::StaleCall { .. } | SessionEvent::Incompatible { .. }) | None => {}
        }
    }
    panic!("no answer");
}

#[test]
fn an_idle_agent_has_one_thread_and_one_socket_and_does_not_wake_up() {
    let folder = tempfile::tempdir().unwrap();
    let (_, manager) = manager();
    let agent = Agent::start(folder.path(), &manager);
    let identity = query(&agent, &manager, &folder.path().join("host.key"));
    assert_eq!(identity.environment, Environment::NormalOs);
    assert_ne!(identity.boot_id, [0; 16]);

    // The answer was the last thing; give it time to go back to sleep.
    std::thread::sleep(Duration::from_millis(300));
    let before = agent.context_switches();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(agent.context_switches(), before);
    assert!(agent.proc_file("status").contains("Threads:\t1\n"));
    assert_eq!(agent.sockets().len(), 1, "{:?}", agent.sockets());
}

#[test]
fn garbage_gets_no_answer_and_a_manager_still_does() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rng, manager) = manager();
    let agent = Agent::start(folder.path(), &manager);
    let socket = manager_socket();
    for round in 0..3000u32 {
        let mut datagram = vec![0; rng.next_u32() as usize % 2000];
        rng.fill_bytes(&mut datagram);
        if let [kind, version, ..] = datagram.as_mut_slice() {
            (*kind, *version) = ((round % 9) as u8, 1);
        }
        socket.send_to(&datagram, agent.address).unwrap();
    }
    let silence = socket.recv_from(&mut [0; 2048]).unwrap_err();
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);

    let discovery = Discovery::new(&manager, 1, [8; 16]);
    let mut buffer = [0; 2048];
    let started = Instant::now();
    let length = loop {
        // The first may fall out of a socket buffer that is still full.
        assert!(started.elapsed() < PATIENCE, "no answer");
        socket.send_to(&discovery.request(), agent.address).unwrap();
        if let Ok((length, _)) = socket.recv_from(&mut buffer) {
            break length;
        }
    };
    let (key, _) = discovery.open(&manager, &buffer[..length]).unwrap();
    let host: HostSecretKey = load_secret(&folder.path().join("host.key")).unwrap();
    assert_eq!(key, host.public());
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.lines().count() < 10, "a flood fills the log:\n{log}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    firmcastd().args(arguments).envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn check_tells_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), free_address(), "/none.pub");
    let config = config.to_str().unwrap();
    let output = run(&["check", "--json", "--config", config], &[("FIRMCAST_FLASH", "nosuch")]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ready"], false);
    let check = |name: &str| {
        let checks = json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap().clone()
    };
    let flash = check("flash");
    assert_eq!(
        (&flash["verdict"], &flash["reason"]),
        (&"not-ok".into(), &"flash-not-found".into())
    );
    assert!(flash["detail"].as_str().unwrap().contains("nosuch"));
    assert!(check("trusted-managers")["detail"].as_str().unwrap().contains("/none.pub"));
    assert_eq!(check("recovery-kernel")["reason"], "recovery-missing");
    assert_eq!(check("host-key")["verdict"], "unknown");
    assert!(!folder.path().join("host.key").exists(), "check changes nothing");

    let output = run(&["check", "--config", config], &[]);
    assert!(text(&output.stdout).contains("things are in the way."));
}

/// As a socket unit of systemd binds one.
#[test]
fn check_tells_of_a_socket_where_no_broadcast_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bound = socket.local_addr().unwrap();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], bound.port()));
    let config = write_config(folder.path(), everywhere, "");
    let listen = || {
        let output = run(&["check", "--json", "--config", config.to_str().unwrap()], &[]);
        let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = checks["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "listen").unwrap()
    };
    let told = listen();
    assert_eq!(told["verdict"], "unknown", "{told}");
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains(&bound.to_string()), "{detail}");
    assert!(detail.contains("systemctl disable --now firmcastd.socket"), "{detail}");
    drop(socket);
    let _everywhere = UdpSocket::bind(everywhere).unwrap();
    assert_eq!(listen()["verdict"], "ok");
}

/// The /sys of a machine whose watchdog runs, driven by the module my_wdt.
fn machine_with_watchdog(sys: &Path) {
    let put = |place: &str, text: &str| {
        let file = sys.join(place);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    let link = |from: &str, to: &str| {
        let from = sys.join(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        symlink(Path::new("/sys").join(to), from).unwrap();
    };
    let device = "devices/pci0000:00/0000:00:1f.0";
    put(&format!("{device}/watchdog/watchdog0/state"), "active\n");
    put("module/my_wdt/initstate", "live\n");
    link("class/watchdog/watchdog0", &format!("{device}/watchdog/watchdog0"));
    link(&format!("{device}/driver"), "bus/pci/drivers/my_wdt");
    link("bus/pci/drivers/my_wdt/module", "module/my_wdt");
}

/// What firmcast-mkrecovery puts before an initramfs: the kernel's release, and its modules.
fn marked_initramfs(path: &Path, modules: &str) {
    let mut file = fs::File::create(path).unwrap();
    let files = [("firmcast-kernel-release", "6.1.0-test\n"), ("firmcast-modules", modules)];
    for (name, text) in files {
        let builder = cpio::newc::Builder::new(name).mode(0o100_600);
        let mut entry = builder.write(&mut file, text.len() as u32);
        entry.write_all(text.as_bytes()).unwrap();
        entry.finish().unwrap();
    }
    cpio::newc::trailer(&mut file).unwrap();
}

/// firmcastd in a mount namespace where `sys` stands for /sys.
fn firmcastd_on(sys: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /sys && exec \"$@\"";
    command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(sys);
    command.arg(env!("CARGO_BIN_EXE_firmcastd")).env_remove("FIRMCAST_FLASH");
    command
}

fn can_make_namespaces() -> bool {
    let probe = Command::new("unshare").args(["--mount", "--map-root-user", "true"]).status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: this user may not make mount namespaces (unshare --map-root-user)");
    }
    can
}

#[test]
fn another_machine_under_the_same_disk_is_told_before_and_after_its_key_is_made() {
    if !can_make_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, manager) = manager();
    let config = write_config(folder.path(), free_address(), &manager.public().to_string());
    let uuid = folder.path().join("sys/class/dmi/id/product_uuid");
    fs::create_dir_all(uuid.parent().unwrap()).unwrap();
    let check = || {
        let mut command = firmcastd_on(&folder.path().join("sys"));
        let output = command.args(["check", "--json", "--config"]).arg(&config).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let line = json["checks"][0].clone();
        assert_eq!(line["name"], "host-key");
        (line["verdict"].clone(), line["detail"].as_str().unwrap().to_owned())
    };
    let start = || {
        let mut command = firmcastd_on(&folder.path().join("sys"));
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.args(["--foreground", "--config"]).arg(&config).stderr(log);
        let process = command.spawn().unwrap();
        drop(Agent { process, address: free_address() }.when_it_listens(folder.path()));
        fs::read_to_string(folder.path().join("host.pub")).unwrap()
    };
    fs::write(&uuid, "4c4c4544-0042-3510-8052-b4c04f4e4c31\n").unwrap();
    let first = start();
    let (verdict, detail) = check();
    assert!(verdict == "ok" && first.contains(&detail), "{detail}");

    fs::write(&uuid, "4c4c4544-0042-3510-8052-b4c04f4e4c32\n").unwrap();
    let (verdict, detail) = check();
    assert!(verdict == "unknown" && detail.contains("another product UUID"), "{detail}");
    let second = start();
    assert_ne!(second, first);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("because of another product UUID") && log.contains("--replace"), "{log}");
    let (verdict, detail) = check();
    assert!(verdict == "ok" && detail.contains("made in place of"), "{detail}");
    assert_eq!(start(), second);
}

#[test]
fn a_driver_that_recovery_lacks_is_in_the_way() {
    if !can_make_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (sys, image) = (folder.path().join("sys"), folder.path().join("recovery.img"));
    machine_with_watchdog(&sys);
    let config = write_config(folder.path(), free_address(), "/none.pub");
    let more =
        format!("recovery_kernel = \"/none\"\nrecovery_initramfs = \"{}\"\n", image.display());
    fs::File::options().append(true).open(&config).unwrap().write_all(more.as_bytes()).unwrap();
    let check = |modules: &str| {
        marked_initramfs(&image, modules);
        let mut command = firmcastd_on(&sys);
        let output = command.args(["check", "--json", "--config"]).arg(&config).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
        let checks = json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "recovery-drivers").unwrap().clone()
    };
    let lacks = "the initramfs lacks my_wdt (of watchdog0); build it again: \
                 firmcast-mkrecovery --kernel-version 6.1.0-test";
    let refuses = |modules: &str| {
        let found = check(modules);
        assert_eq!(found["verdict"], "not-ok", "{modules:?}: {found}");
        assert_eq!(found["reason"], "recovery-lacks-driver");
        assert!(found["detail"].as_str().unwrap().starts_with(lacks), "{found}");
    };
    let accepts = |modules: &str, detail: &str| {
        let found = check(modules);
        assert_eq!((&found["verdict"], &found["detail"]), (&"ok".into(), &detail.into()));
    };
    accepts("my_wdt:\n", "my_wdt (of watchdog0)");
    refuses("e1000e:\n");

    // Part of the running kernel, and maybe a module of the one for recovery.
    fs::remove_file(sys.join("module/my_wdt/initstate")).unwrap();
    accepts("e1000e:\nmy_wdt\n", "all are part of the kernel");
    accepts("my_wdt:\n", "my_wdt (of watchdog0)");
    refuses("e1000e:\n!my_wdt\n");
}

/// Starts that end by themselves behind the making of the key: this machine has no such address.
fn start_and_end(folder: &Path, before: &[&str]) -> bool {
    let config = write_config(folder, "192.0.2.1:9847".parse().unwrap(), "/none.pub");
    let (program, before) = before.split_first().unwrap_or((&"env", &[]));
    let mut command = Command::new(program);
    command.args(before).arg(env!("CARGO_BIN_EXE_firmcastd")).arg("--foreground").arg("--config");
    let output = command.arg(config).env_remove("FIRMCAST_LISTEN").output().unwrap();
    text(&output.stderr).contains("cannot listen on 192.0.2.1")
}

/// Kills the agent at each call that changes a file of its key, and starts it again; how often.
fn cut_everywhere(prepare: impl Fn(&Path)) -> usize {
    let mut cuts = 0;
    for call in ["openat", "?unlink", "?unlinkat", "write", "fsync", "?rename", "?renameat"] {
        for number in 1..=CALLS_MAX {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path());
            let trace = format!("trace={call}");
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let mut strace = vec!["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let names = ["key", "pub", "machine", "key.former"].map(|end| format!("host.{end}"));
            let all = names.iter().flat_map(|name| [name.clone(), format!("{name}.new")]);
            let paths: Vec<String> = all.map(|name| at(folder.path(), &name)).collect();
            strace.extend(paths.iter().flat_map(|path| ["-P", path.as_str()]));
            if start_and_end(folder.path(), &strace) {
                break;
            }
            cuts += 1;
            assert!(number < CALLS_MAX, "{call} never comes to an end");
            assert!(start_and_end(folder.path(), &[]), "after {call} {number}");
            let made = fs::read(folder.path().join("host.pub")).unwrap();
            assert!(start_and_end(folder.path(), &[]), "after {call} {number}");
            assert_eq!(fs::read(folder.path().join("host.pub")).unwrap(), made);
            let left =
                paths.iter().filter(|path| path.ends_with(".new") && Path::new(path).exists());
            assert_eq!(left.count(), 0, "after {call} {number}");
        }
    }
    cuts
}

fn at(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn killed_at_any_call_the_agent_starts_again_with_a_key_that_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: strace is not installed, or may not trace");
        return;
    }
    assert!(start_and_end(folder.path(), &[]));
    let first = fs::read_to_string(folder.path().join("host.machine")).unwrap();
    assert!(cut_everywhere(|_| {}) >= 10);
    // The same on another machine: each trait that tells something is another one there.
    let mut other: serde_json::Value = serde_json::from_str(&first).unwrap();
    for told in other["machine"].as_object_mut().unwrap().values_mut() {
        *told = format!("{}0", told.as_str().unwrap()).into();
    }
    let clone = |disk: &Path| {
        for name in ["host.key", "host.pub"] {
            fs::copy(folder.path().join(name), disk.join(name)).unwrap();
        }
        fs::write(disk.join("host.machine"), other.to_string()).unwrap();
    };
    assert!(cut_everywhere(clone) > 0);
}

/// As root of a user namespace of its own, from which nothing resets the machine.
fn harmless(more: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--map-root-user"])
        .args(more)
        .arg("timeout")
        .args(["--foreground", "9"]);
    command.arg(env!("CARGO_BIN_EXE_firmcastd")).args(arguments).output().unwrap()
}

#[test]
fn the_recovery_environment_does_not_begin_on_a_machine_that_runs() {
    if !can_make_namespaces() {
        return;
    }
    let output = harmless(&[], &["recover"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("that needs --resets-this-machine"), "{output:?}");
    let output = harmless(&[], &["rescue", "--hook"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("this is no initramfs"), "{output:?}");
    // PID 1, as in a container.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "--pid", "--fork", "--kill-child"]);
    let output = command.arg(env!("CARGO_BIN_EXE_firmcastd")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("this is no initramfs"), "{output:?}");
}

#[test]
fn whoever_asked_for_recovery_by_hand_is_told_the_error_and_nothing_is_reset() {
    if !can_make_namespaces() {
        return;
    }
    // Here nothing was handed over. With an error PID 1 would reboot after 60 s.
    let output = harmless(&[], &["recover", "--resets-this-machine"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn mistakes_are_told_in_one_line_with_the_right_status() {
    let cases = [
        (
            &["--config", "/none.toml"][..],
            1,
            "firmcastd: error: cannot read the configuration /none.toml: No such file",
        ),
        (&["--json"][..], 2, "firmcastd: unknown argument --json; see firmcastd --help"),
        (&["check", "--config"][..], 2, "firmcastd: --config needs the name of a file"),
    ];
    for (arguments, status, message) in cases {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(text(&output.stderr).starts_with(message), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr).lines().count(), 1);
    }
    let output = run(&["check"], &[("FIRMCAST_FLSH", "BIOS")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("unknown key `FIRMCAST_FLSH` in the environment"));
    assert_eq!(
        text(&run(&["--version"], &[]).stdout),
        concat!("firmcastd ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
