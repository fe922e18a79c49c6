//! firmcastd as a process of the test.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firmcast::keys::{ManagerSecretKey, SecretKey as _};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A firmcastd that ends with the test.
pub(crate) struct Agent {
    pub(crate) process: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Agent {
    /// Starts an agent that trusts `manager`; waits until it has its socket.
    pub(crate) fn start(folder: &Path, manager: &ManagerSecretKey) -> Self {
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

    pub(crate) fn when_it_listens(self, folder: &Path) -> Self {
        let listens = || fs::read_to_string(folder.join("log")).unwrap().contains("listens on");
        wait_until("the agent listens", listens);
        self
    }

    pub(crate) fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.process.id())).unwrap()
    }

    /// Both kinds together: whatever made the agent run is counted.
    pub(crate) fn context_switches(&self) -> u64 {
        self.proc_file("status")
            .lines()
            .filter(|line| line.contains("ctxt_switches"))
            .map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    pub(crate) fn sockets(&self) -> Vec<String> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let targets = files.map(|file| fs::read_link(file.unwrap().path()).unwrap());
        let names = targets.map(|target| target.display().to_string());
        names.filter(|name| name.starts_with("socket:")).collect()
    }
}

/// Starts an agent on a socket that stands open already, as systemd does it: LISTEN_FDS, from
/// descriptor 3 on.
pub(crate) fn start_on_inherited_socket(folder: &Path, manager: &ManagerSecretKey) -> Agent {
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

pub(crate) fn firmcastd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firmcastd"));
    command.env_clear().stdin(Stdio::null());
    command
}

pub(crate) fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn write_config(folder: &Path, listen: SocketAddr, manager: &str) -> std::path::PathBuf {
    let path = folder.join("agent.toml");
    let shown = folder.display();
    let text = format!(
        "listen = \"{listen}\"\nhost_key = \"{shown}/host.key\"\nstate_dir = \"{shown}/state\"\n\
         trusted_managers = [\"{manager}\"]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn manager() -> (ChaCha20Rng, ManagerSecretKey) {
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let secret = ManagerSecretKey::generate(&mut rng);
    (rng, secret)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    firmcastd().args(arguments).envs(environment.iter().copied()).output().unwrap()
}

pub(crate) fn can_make_namespaces() -> bool {
    let probe = Command::new("unshare").args(["--mount", "--map-root-user", "true"]).status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: this user may not make mount namespaces (unshare --map-root-user)");
    }
    can
}
