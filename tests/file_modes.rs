//! What firmcastd writes, under a umask that keeps nothing from others: all files and their modes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firmcast::agent::state::{CampaignRecord, State};
use firmcast::image::{ByteRanges, KnownGood};
use firmcast::keys::{
    HostSecretKey, ManagerSecretKey, ReleaseSecretKey, SecretKey, create_pair, public_path,
};
use nix::sys::stat::{Mode, umask};
use rand_core::OsRng;

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the agent until it listens and has written the archive for recovery.
fn run_agent(folder: &Path, config: &Path) {
    let log = folder.join("log");
    let mut agent = firmcastd()
        .arg("--foreground")
        .arg("--config")
        .arg(config)
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !fs::read_to_string(&log).unwrap().contains("rescue.cpio is up to date") {
        let said = fs::read_to_string(&log).unwrap();
        assert!(started.elapsed() < PATIENCE, "waited in vain for the archive: {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
    fs::remove_file(log).unwrap();
}

fn firmcastd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firmcastd"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Everything that only happens around an update or a rescue.
fn write_state(folder: &Path) {
    let state = State::new(folder.into());
    state.raise_security_version_floor(7).unwrap();
    let campaign = CampaignRecord { campaign: 1, boot_id: [1; 16], end: None };
    state.record_campaign(&campaign).unwrap();
    let good = KnownGood {
        volatile: ByteRanges::default(),
        learned: ByteRanges::default(),
        version: "1".into(),
        bios_version: "1".into(),
        security_version: 1,
        size_bytes: 0,
        left_out: ByteRanges::default(),
        closed: ByteRanges::default(),
        digest: String::new(),
        pieces: Vec::new(),
    };
    state.record_known_good(&good).unwrap();
}

fn write_pair<S: SecretKey>(path: &Path, key: &S) {
    create_pair(path, key, None).unwrap();
    assert!(public_path(path).is_file());
}

/// All below `folder`, by name, with the type's and the permission's bits as `ls` shows them.
fn modes(folder: &Path, below: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        let metadata = entry.metadata().unwrap();
        let kind = if metadata.is_dir() { "folder" } else { "file" };
        found.push(format!("{name} {kind} {:o}", metadata.permissions().mode() & 0o7777));
        if metadata.is_dir() {
            modes(&entry.path(), &format!("{name}/"), found);
        }
    }
}

#[test]
fn what_may_hold_a_secret_is_for_its_owner_alone_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let config = root.join("agent.toml");
    let shown = root.display();
    let text = format!(
        "listen = \"127.0.0.1:0\"\ntrusted_dir = \"\"\nhost_key = \"{shown}/key/host.key\"\n\
         state_dir = \"{shown}/state\"\nrescue_archive = \"{shown}/boot/rescue.cpio\"\n"
    );
    fs::write(&config, text).unwrap();
    umask(Mode::empty());
    run_agent(root, &config);
    let output = root.join("archive/named.cpio");
    let mut command = firmcastd();
    command.args(["rescue-archive", "--config"]).arg(&config).arg("--output").arg(&output);
    assert!(command.output().unwrap().status.success());
    write_state(&root.join("state"));
    fs::create_dir(root.join("keys")).unwrap();
    write_pair(&root.join("keys/h.key"), &HostSecretKey::generate(&mut OsRng));
    write_pair(&root.join("keys/m.key"), &ManagerSecretKey::generate(&mut OsRng));
    write_pair(&root.join("keys/r.key"), &ReleaseSecretKey::generate(&mut OsRng));

    let mut found = Vec::new();
    modes(root, "", &mut found);
    // Only some file systems have a place for word from recovery.
    found.retain(|line| line != "state/recovery-result file 600");
    found.sort();
    let expected = [
        "agent.toml file 644",
        "archive folder 700",
        "archive/named.cpio file 600",
        "boot folder 700",
        "boot/rescue.cpio file 600",
        "key folder 700",
        "key/host.key file 600",
        "key/host.machine file 600",
        "key/host.pub file 644",
        "keys folder 777",
        "keys/h.key file 600",
        "keys/h.pub file 644",
        "keys/m.key file 600",
        "keys/m.pub file 644",
        "keys/r.key file 600",
        "keys/r.pub file 644",
        "state folder 700",
        "state/known-good.json file 600",
        "state/last-campaign.json file 600",
        "state/security-version-floor file 600",
    ];
    assert_eq!(found, expected);
}
