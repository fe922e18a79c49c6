//! What has to be true before a host leaves its normal operating system for an update.

use std::fs;

use nix::sys::statvfs::statvfs;
use nix::sys::sysinfo::sysinfo;
use nix::unistd::{AccessFlags, access};

use super::check::Checklist;
use super::machine::Order;
use super::system::System;
use super::trust::with_causes;
use crate::dmi::{Dmi, read_line};
use crate::flash::Flash as _;
use crate::image::Board;
use crate::kexec::{self, KexecError, Lockdown};
use crate::keys::{HostSecretKey, PublicKey, SecretKey as _, load_secret};
use crate::mtd::{Access, MTD_POWERUP_LOCK, MtdDevice, MtdError};
use crate::reason::Reason;

/// Most eraseblocks that are asked whether they are locked: a question takes a chip up to 0.1 ms.
const LOCK_PROBES_MAX: u32 = 1024;

/// How often the image may lie in the recovery environment's memory: as payload, as repair fragments, as image, as
/// backup, and as the contents to write.
const IMAGE_COPIES: u64 = 5;

/// How much larger an initramfs may be unpacked.
const INITRAMFS_GROWTH: u64 = 4;

/// What kernel and firmcastd need in the recovery environment beside that.
const RECOVERY_MEMORY_BYTES: u64 = 160 << 20;

/// Everything that an update needs of `system`; with an order also what its bundle and its manager need.
pub(super) fn checklist(system: &System, order: Option<&Order<'_>>) -> Checklist {
    let mut list = Checklist::default();
    host_key(&mut list, system);
    trusted_keys(&mut list, system);
    state_folder(&mut list, system);
    let mut board = board(&mut list, system);
    match open_flash(&mut list, system) {
        Some(mut flash) => {
            board.flash_size_bytes = flash.geometry().size_bytes();
            bundle(&mut list, &board, order);
            flash_locks(&mut list, &mut flash);
        }
        None => list.unknown("flash-locks", "no flash chip to ask"),
    }
    recovery(&mut list, system, board.flash_size_bytes);
    power(&mut list, system);
    network(&mut list, system, order);
    list
}

fn host_key(list: &mut Checklist, system: &System) {
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

fn trusted_keys(list: &mut Checklist, system: &System) {
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
fn state_folder(list: &mut Checklist, system: &System) {
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

fn board(list: &mut Checklist, system: &System) -> Board {
    let Dmi { vendor, product, bios_version, .. } = Dmi::read(&system.root);
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
    let security_version_floor = *floor.as_ref().unwrap_or(&u64::MAX);
    let host = load_secret::<HostSecretKey>(&system.config.host_key).ok();
    let host = host.map(|key| key.public().fingerprint());
    list.result("security-version", Reason::NotPossibleNow, floor, "");
    Board { vendor, product, bios_version, flash_size_bytes: 0, security_version_floor, host }
}

fn open_flash(list: &mut Checklist, system: &System) -> Option<MtdDevice> {
    let selector = &system.config.flash;
    if selector.is_empty() {
        let advice = "set flash in agent.toml to the chip's name in /proc/mtd";
        list.not_ok("flash", Reason::FlashNotFound, "flash in agent.toml is not set", advice);
        return None;
    }
    match MtdDevice::open(selector, Access::ReadOnly) {
        Ok(flash) if !flash.info().is_writeable() => {
            let path = flash.info().path();
            let problem = format!("{} is read-only", path.display());
            let advice = "load its driver with writing enabled, lift the board's write protection";
            list.not_ok("flash", Reason::FlashLocked, problem, advice);
            Some(flash)
        }
        Ok(flash) => {
            let (info, blocks) = (flash.info(), flash.geometry().block_count());
            let (path, size) = (info.path(), info.size_bytes);
            list.ok(
                "flash",
                format_args!(
                    "{} \"{}\", {}, {size:#x} bytes in {blocks} eraseblocks",
                    path.display(),
                    info.name,
                    info.kind
                ),
            );
            Some(flash)
        }
        Err(error) => {
            let reason = match error {
                MtdError::NotFound { .. } => Reason::FlashNotFound,
                _ => Reason::FlashUnsupported,
            };
            list.not_ok("flash", reason, with_causes(&error), "");
            None
        }
    }
}

fn bundle(list: &mut Checklist, board: &Board, order: Option<&Order<'_>>) {
    let Some(order) = order else { return };
    match board.admit(order.manifest) {
        Ok(()) => list.ok("bundle", order.manifest.version()),
        Err(refusal) => {
            list.not_ok("bundle", refusal.reason, refusal.detail, refusal.reason.advice())
        }
    }
}

/// Asks every eraseblock, or on chips with very many as many as [`LOCK_PROBES_MAX`], evenly spread: those lock in
/// ranges. Recovery asks each block again before it changes it.
fn flash_locks(list: &mut Checklist, flash: &mut MtdDevice) {
    let step = flash.geometry().block_count().div_ceil(LOCK_PROBES_MAX).max(1);
    let blocks: Vec<_> = flash.geometry().blocks().step_by(step as usize).collect();
    let mut locked = Vec::new();
    for block in &blocks {
        match flash.is_locked(*block) {
            Ok(false) => {}
            Ok(true) => locked.push(block.offset_bytes()),
            Err(error) => {
                let offset = block.offset_bytes();
                let problem =
                    format!("the chip does not say whether {offset:#x} is locked: {error}");
                list.not_ok("flash-locks", Reason::FlashLocked, problem, "");
                return;
            }
        }
    }
    let Some(first) = locked.first() else {
        list.ok("flash-locks", "none");
        return;
    };
    let (count, asked) = (locked.len(), blocks.len());
    let found = format!("{count} of {asked} eraseblocks are locked, the first at {first:#x}");
    if flash.info().flags & MTD_POWERUP_LOCK != 0 {
        list.ok(
            "flash-locks",
            format_args!("{found}, as after each power-up; they can be unlocked"),
        );
    } else {
        let advice = Reason::FlashLocked.advice();
        list.not_ok("flash-locks", Reason::FlashLocked, found, advice);
    }
}

fn recovery(list: &mut Checklist, system: &System, flash_size_bytes: u64) {
    let config = &system.config;
    let found = kexec::preflight(&config.recovery_kernel, &config.recovery_initramfs);
    let initramfs_bytes = found.initramfs.as_ref().map_or(0, |image| image.size_bytes);
    let kernel = found.kernel.map(|kernel| {
        let release = kernel.release.unwrap_or_else(|| "of unknown release".into());
        format!("{}: {release}", config.recovery_kernel.display())
    });
    list.result("recovery-kernel", Reason::RecoveryMissing, said(kernel), "");
    let initramfs = found.initramfs.and_then(|image| {
        found.releases?;
        let path = config.recovery_initramfs.display();
        Ok(format!("{path}: {} bytes", image.size_bytes))
    });
    list.result("recovery-initramfs", Reason::RecoveryMissing, said(initramfs), "");
    let lockdown = match found.lockdown {
        Lockdown::Off => "allowed",
        Lockdown::Unknown => "allowed, as far as can be seen",
        _ => "allowed for signed kernels only (lockdown)",
    };
    list.result("kexec", Reason::KexecUnavailable, said(found.loading.map(|()| lockdown)), "");
    let memory = found.memory.map(|bytes| format!("{} MiB available", bytes >> 20));
    list.result("memory", Reason::MemoryTooLow, said(memory), "");
    recovery_memory(list, initramfs_bytes, flash_size_bytes);
}

fn said<T>(result: Result<T, KexecError>) -> Result<T, String> {
    result.map_err(|error| with_causes(&error))
}

fn recovery_memory(list: &mut Checklist, initramfs_bytes: u64, flash_size_bytes: u64) {
    let needed_bytes = RECOVERY_MEMORY_BYTES
        + initramfs_bytes.saturating_mul(INITRAMFS_GROWTH)
        + flash_size_bytes.saturating_mul(IMAGE_COPIES);
    let needed = needed_bytes >> 20;
    match sysinfo().map(|info| info.ram_total()) {
        Ok(total_bytes) if total_bytes < needed_bytes => {
            let total = total_bytes >> 20;
            let problem =
                format!("recovery needs about {needed} MiB, this machine has {total} MiB in all");
            list.not_ok("recovery-memory", Reason::MemoryTooLow, problem, "");
        }
        Ok(_) => list.ok("recovery-memory", format_args!("about {needed} MiB are needed")),
        Err(errno) => list.unknown("recovery-memory", errno),
    }
}

/// A machine with a mains supply that is offline runs on its battery (Documentation/ABI/testing/sysfs-class-power).
fn power(list: &mut Checklist, system: &System) {
    let supplies = fs::read_dir(system.root.join("sys/class/power_supply"));
    let mains: Vec<bool> = supplies
        .into_iter()
        .flatten()
        .flatten()
        .filter(|supply| read_line(&supply.path().join("type")).as_deref() == Some("Mains"))
        .filter_map(|supply| read_line(&supply.path().join("online")))
        .map(|online| online == "1")
        .collect();
    match mains.as_slice() {
        [] => list.ok("power", "no battery is known"),
        some if some.contains(&true) => list.ok("power", "mains"),
        _ => list.not_ok(
            "power",
            Reason::NotPossibleNow,
            "runs on battery",
            "connect it to the mains",
        ),
    }
}

fn network(list: &mut Checklist, system: &System, order: Option<&Order<'_>>) {
    let Some(order) = order else { return };
    match system.network(order) {
        Ok(interfaces) => match interfaces.first() {
            Some(interface) => list.ok("network", &interface.name),
            None => list.unknown("network", "recovery will ask DHCP"),
        },
        Err(error) => list.not_ok("network", Reason::NetworkUnknown, with_causes(&error), ""),
    }
}
