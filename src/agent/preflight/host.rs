//! What the host must have of its own: keys, a place for its state, a board that has a name.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::Purpose;
use crate::agent::check::{Checklist, Subject};
use crate::agent::host_key::note;
use crate::agent::local_machine::LocalMachine;
use crate::image::Board;
use crate::keys::{HostSecretKey, PublicKey, SecretKey as _};
use crate::net::bound;
use crate::reason::{Reason, with_causes};
use crate::tpm::Kept;

pub(super) fn host_key(
    list: &mut Checklist,
    machine: &LocalMachine,
    purpose: Purpose<'_>,
) -> Option<HostSecretKey> {
    if purpose.order().is_none() && !machine.config.host_key.exists() {
        list.unknown(Subject::HostKey, "none yet, the agent makes one at its first start");
        return None;
    }
    match machine.host_key() {
        Ok(key) => {
            let (note, is_of_another) = note(&machine.config.host_key, &key, &machine.root);
            let said = format!("{}{note}", key.public().fingerprint());
            match is_of_another {
                false => list.ok(Subject::HostKey, said),
                true => list.unknown(Subject::HostKey, said),
            }
            Some(key)
        }
        Err(error) => {
            let advice = "run firmcastd check as root; if the file is damaged, restore it";
            list.not_ok(Subject::HostKey, Reason::NotPossibleNow, with_causes(&error), advice);
            None
        }
    }
}

pub(super) fn trusted_keys(list: &mut Checklist, machine: &LocalMachine) {
    let trust = &machine.trust;
    let (keys, problems) = (&trust.managers, &trust.manager_problems);
    let advice = "copy the manager's public key to /etc/firmcast/trusted.d";
    trusted(list, Subject::TrustedManagers, Reason::NotPossibleNow, keys, problems, advice);
    let (keys, problems) = (&trust.releases, &trust.release_problems);
    let advice = "copy the public key that bundles are signed with to /etc/firmcast/trusted.d";
    trusted(list, Subject::TrustedReleases, Reason::ManifestUntrusted, keys, problems, advice);
}

fn trusted<K: PublicKey>(
    list: &mut Checklist,
    subject: Subject,
    reason: Reason,
    keys: &[K],
    problems: &[String],
    advice: &'static str,
) {
    let mut said: Vec<String> = keys.iter().map(|key| key.fingerprint().to_string()).collect();
    said.extend(problems.iter().cloned());
    let said = said.join("; ");
    match (keys.len(), problems.len()) {
        (0, 0) => list.not_ok(subject, reason, "none", advice),
        (0, _) => list.not_ok(subject, reason, said, advice),
        (_, 0) => list.ok(subject, said),
        _ => list.unknown(subject, said),
    }
}

/// What discovery is sent by reaches no loopback address, and IPv6 has no broadcast.
pub(super) fn listen(list: &mut Checklist, machine: &LocalMachine, purpose: Purpose<'_>) {
    let listen = machine.config.listen;
    let ip = listen.ip();
    if !ip.is_unspecified() && (ip.is_ipv6() || ip.is_loopback()) {
        list.unknown(
            Subject::Listen,
            format_args!(
                "{listen} alone, where no broadcast arrives: name this host to the manager, \
                 firmcast discover --host ADDRESS"
            ),
        );
    } else if let (Purpose::Check, Some(bound)) = (purpose, bound_alone(&machine.root, listen)) {
        list.unknown(
            Subject::Listen,
            format_args!(
                "a socket is bound to {bound}, as by firmcastd.socket, and no broadcast arrives \
                 there: systemctl disable --now firmcastd.socket, set listen in agent.toml to the \
                 address, and restart firmcastd; or name this host to the manager, firmcast \
                 discover --host ADDRESS"
            ),
        );
    } else {
        list.ok(Subject::Listen, listen);
    }
}

/// Returns the one address at which the port of `listen` is heard. The agent itself binds to all.
fn bound_alone(root: &Path, listen: SocketAddr) -> Option<SocketAddr> {
    let lists = ["proc/net/udp", "proc/net/udp6"].map(|file| fs::read_to_string(root.join(file)));
    let lists = lists.iter().flatten();
    let mut bound = lists.flat_map(|list| bound::addresses(list, listen.port()));
    let first = bound.next().filter(|address| !address.is_unspecified())?;
    bound.all(|address| !address.is_unspecified()).then(|| SocketAddr::new(first, listen.port()))
}

/// Looks without writing: this runs whenever a manager asks.
pub(super) fn state_folder(list: &mut Checklist, machine: &LocalMachine) {
    let folder = machine.state.folder();
    let shown = folder.display();
    if !folder.exists() {
        list.unknown(
            Subject::StateDir,
            format_args!("{shown}: the agent makes it at its first start"),
        );
    } else if let Err(errno) = access(folder, AccessFlags::W_OK | AccessFlags::X_OK) {
        let problem = format!("{shown} is not writable: {errno}");
        let advice = "make it writable for root, or set state_dir in agent.toml";
        list.not_ok(Subject::StateDir, Reason::NotPossibleNow, problem, advice);
    } else if statvfs(folder).is_ok_and(|filesystem| filesystem.blocks_available() == 0) {
        let problem = format!("{shown} is full");
        list.not_ok(
            Subject::StateDir,
            Reason::NotPossibleNow,
            problem,
            "free space on its file system",
        );
    } else {
        list.ok(Subject::StateDir, shown);
    }
}

pub(super) fn board(
    list: &mut Checklist,
    machine: &LocalMachine,
    key: Option<&HostSecretKey>,
) -> Board {
    // The size of the chip is not known yet.
    let mut floors = Checklist::default();
    let floor = security_version(&mut floors, machine);
    let board = machine.board(0, key, floor);
    let Board { vendor, product, bios_version, .. } = &board;
    if vendor.is_empty() && product.is_empty() {
        list.not_ok(
            Subject::Board,
            Reason::WrongBoard,
            "the firmware names no vendor and no product in /sys/class/dmi/id or /proc/device-tree",
            "only boards with SMBIOS or a device tree can be updated",
        );
    } else {
        list.ok(
            Subject::Board,
            format_args!("{vendor} / {product}, firmware version {bios_version}"),
        );
    }
    list.append(floors);
    board
}

/// Returns the floor; one that cannot be read admits nothing. A wiped disk does not lower it where
/// the TPM keeps it too.
fn security_version(list: &mut Checklist, machine: &LocalMachine) -> u64 {
    const NAME: Subject = Subject::SecurityVersion;
    let own = match machine.state.security_version_floor() {
        Ok(own) => own,
        Err(error) => {
            list.not_ok(NAME, Reason::NotPossibleNow, error, "");
            return u64::MAX;
        }
    };
    match Kept::read(&machine.root) {
        Ok(None) => list.ok(NAME, own),
        Ok(Some(kept)) if kept.floor == own => {
            list.ok(NAME, format_args!("{own}, as the TPM says"))
        }
        Ok(Some(kept)) => {
            let floor = kept.floor.max(own);
            list.ok(NAME, format_args!("{floor}: state_dir says {own}, the TPM {}", kept.floor));
            return floor;
        }
        Err(error) => {
            list.unknown(NAME, format_args!("{own}; what the TPM keeps is not known: {error}"));
        }
    }
    own
}
