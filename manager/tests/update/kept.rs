//! What an update leaves in the manager's state directory: who may read it, and the backups.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use firmcast::image::{Board, Bundle, VerifiedManifest};
use firmcast::keys::{self, Fingerprint, ReleaseSecretKey, SecretKey as _};
use firmcast::reason::Reason;
use nix::sys::stat::{Mode, umask};
use serde_json::Value;

use crate::lab::{Manager, Server, events, quick, text};

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
