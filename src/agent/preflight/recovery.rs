//! Whether the recovery environment can be entered, and has the memory that it needs.

use nix::sys::sysinfo::sysinfo;

use super::drivers::drivers;
use crate::agent::check::Checklist;
use crate::agent::system::System;
use crate::agent::trust::with_causes;
use crate::kexec::{self, KexecError, Lockdown};
use crate::reason::Reason;

/// How often the image may lie in the recovery environment's memory: as payload, as repair fragments, as image, as
/// backup, and as the contents to write.
const IMAGE_COPIES: u64 = 5;

/// How much larger an initramfs may be unpacked.
const INITRAMFS_GROWTH: u64 = 4;

/// What kernel and firmcastd need in the recovery environment beside that.
const RECOVERY_MEMORY_BYTES: u64 = 160 << 20;

/// Looks at kernel and initramfs, and whether the initramfs has the drivers of MTD device `mtd` and of the `interfaces`.
pub(super) fn recovery(
    list: &mut Checklist,
    system: &System,
    flash_size_bytes: u64,
    mtd: Option<u32>,
    interfaces: &[String],
) {
    let config = &system.config;
    let found = kexec::preflight(&config.recovery_kernel, &config.recovery_initramfs);
    let images = (found.kernel.as_ref().ok(), found.initramfs.as_ref().ok());
    let mut of_drivers = Checklist::default();
    drivers(&mut of_drivers, &system.root, config, images, mtd, interfaces);
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
    list.append(of_drivers);
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
