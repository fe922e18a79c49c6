//! What the host must have of its own: keys, a place for its state, a board that has a name.

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::agent::check::Checklist;
use crate::agent::system::System;
use crate::agent::trust::with_causes;
use crate::image::Board;
use crate::keys::{HostSecretKey, PublicKey, SecretKey as _, load_secret};
use crate::reason::Reason;

pub(super) fn host_key(list: &mut Checklist, system: &System) {
    let path = &system.config.host_key;
    if !path.exists() {
        list.unknown("host-key", "none yet, the agent makes one at its first start");
        return;
    }
    let key = load_secret::<HostSecretKey>(path).map_err(|error| with_causes(&error));
    let fingerprint = key.map(|key| key.public().fingerprint());
    let advice = "run firmcastd check as root; if the file is damaged, restore it";
    list.result("host-key", Reason::NotPossibleNow, fingerprint, advice);
}

pub(super) fn trusted_keys(list: &mut Checklist, system: &System) {
    let trust = &system.trust;
    let (keys, problems) = (&trust.managers, &trust.manager_problems);
    let advice = "name the manager's public key in trusted_managers in agent.toml";
    trusted(list, "trusted-managers", Reason::NotPossibleNow, keys, problems, advice);
    let (keys, problems) = (&trust.releases, &trust.release_problems);
    let advice =
        "name the public key that bundles are signed with in trusted_releases in agent.toml";
    trusted(list, "trusted-releases", Reason::ManifestUntrusted, keys, problems, advice);
}

fn trusted<K: PublicKey>(
    list: &mut Checklist,
    name: &'static str,
    reason: Reason,
    keys: &[K],
    problems: &[String],
    advice: &'static str,
) {
    let mut said: Vec<String> = keys.iter().map(|key| key.fingerprint().to_string()).collect();
    said.extend(problems.iter().cloned());
    let said = said.join("; ");
    match (keys.len(), problems.len()) {
        (0, 0) => list.not_ok(name, reason, "none", advice),
        (0, _) => list.not_ok(name, reason, said, advice),
        (_, 0) => list.ok(name, said),
        _ => list.unknown(name, said),
    }
}

/// Looks without writing: this runs whenever a manager asks.
pub(super) fn state_folder(list: &mut Checklist, system: &System) {
    let folder = system.state.folder();
    let shown = folder.display();
    if !folder.exists() {
        list.unknown("state-dir", format_args!("{shown}: the agent makes it at its first start"));
    } else if let Err(errno) = access(folder, AccessFlags::W_OK | AccessFlags::X_OK) {
        let problem = format!("{shown} is not writable: {errno}");
        let advice = "make it writable for root, or set state_dir in agent.toml";
        list.not_ok("state-dir", Reason::NotPossibleNow, problem, advice);
    } else if statvfs(folder).is_ok_and(|filesystem| filesystem.blocks_available() == 0) {
        let problem = format!("{shown} is full");
        list.not_ok("state-dir", Reason::NotPossibleNow, problem, "free space on its file system");
    } else {
        list.ok("state-dir", shown);
    }
}

pub(super) fn board(list: &mut Checklist, system: &System) -> Board {
    let board = system.board();
    let Board { vendor, product, bios_version, .. } = &board;
    if vendor.is_empty() && product.is_empty() {
        list.not_ok(
            "board",
            Reason::WrongBoard,
            "the firmware names no vendor and no product in /sys/class/dmi/id",
            "only boards with SMBIOS can be updated",
        );
    } else {
        list.ok("board", format_args!("{vendor} / {product}, firmware version {bios_version}"));
    }
    let floor = system.state.security_version_floor();
    list.result("security-version", Reason::NotPossibleNow, floor, "");
    board
}
