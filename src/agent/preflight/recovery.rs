//! Whether the recovery environment can be entered, and has the memory that it needs.

use nix::sys::sysinfo::sysinfo;

use super::drivers::drivers;
use crate::agent::check::{Checklist, Subject};
use crate::agent::local_machine::LocalMachine;
use crate::kexec::{self, KexecError, Lockdown, RecoveryFiles};
use crate::reason::{Reason, with_causes};
use crate::recovery::memory::peak_bytes;

/// How much larger an initramfs may be unpacked.
const INITRAMFS_GROWTH: u64 = 4;

/// What kernel and firmcastd need in the recovery environment beside that.
const RECOVERY_MEMORY_BYTES: u64 = 160 << 20;

/// Looks at kernel and initramfs, and whether the initramfs has the drivers of MTD device `mtd` and
/// of the `interfaces`. Returns the files if they can be used.
pub(super) fn recovery(
    list: &mut Checklist,
    machine: &LocalMachine,
    flash_size_bytes: u64,
    mtd: Option<u32>,
    interfaces: &[String],
) -> Option<RecoveryFiles> {
    let config = &machine.config;
    let found = kexec::preflight(&config.recovery_kernel, &config.recovery_initramfs);
    let kernel = found.kernel.as_ref().ok().map(|(_, image)| image);
    let initramfs = found.initramfs.as_ref().ok().map(|(_, image)| image);
    let mut of_drivers = Checklist::default();
    drivers(&mut of_drivers, &machine.root, config, (kernel, initramfs), mtd, interfaces);
    let initramfs_bytes = initramfs.map_or(0, |image| image.size_bytes);
    let kernel = found.kernel.as_ref().map(|(_, kernel)| {
        let release = kernel.release.as_deref().unwrap_or("of unknown release");
        format!("{}: {release}", config.recovery_kernel.display())
    });
    list.result(Subject::RecoveryKernel, Reason::RecoveryMissing, said(kernel), "");
    let initramfs = match (&found.initramfs, &found.releases) {
        (Ok((_, image)), Ok(())) => {
            let path = config.recovery_initramfs.display();
            Ok(format!("{path}: {} bytes", image.size_bytes))
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    list.result(Subject::RecoveryInitramfs, Reason::RecoveryMissing, said(initramfs), "");
    list.append(of_drivers);
    let lockdown = match found.lockdown {
        Lockdown::Off => "allowed",
        Lockdown::Unknown => "allowed, as far as can be seen",
        _ => "allowed for signed kernels only (lockdown)",
    };
    list.result(
        Subject::Kexec,
        Reason::KexecUnavailable,
        said(found.loading.as_ref().map(|()| lockdown)),
        "",
    );
    let memory = found.memory.as_ref().map(|bytes| format!("{} MiB available", bytes >> 20));
    list.result(Subject::Memory, Reason::MemoryTooLow, said(memory), "");
    recovery_memory(list, initramfs_bytes, flash_size_bytes);
    found.into_files().ok()
}

fn said<T>(result: Result<T, &KexecError>) -> Result<T, String> {
    result.map_err(|error| with_causes(error))
}

fn recovery_memory(list: &mut Checklist, initramfs_bytes: u64, flash_size_bytes: u64) {
    let (needed_bytes, needed) = memory_needed(initramfs_bytes, flash_size_bytes);
    match sysinfo().map(|info| info.ram_total()) {
        Ok(total_bytes) if total_bytes < needed_bytes => {
            let total = total_bytes >> 20;
            let problem = format!("recovery needs {needed}; this machine has {total} MiB in all");
            list.not_ok(Subject::RecoveryMemory, Reason::MemoryTooLow, problem, "");
        }
        Ok(_) => list.ok(Subject::RecoveryMemory, format_args!("{needed} are needed")),
        Err(errno) => list.unknown(Subject::RecoveryMemory, errno),
    }
}

/// What the recovery environment needs in bytes, and what that is made of.
fn memory_needed(initramfs_bytes: u64, flash_size_bytes: u64) -> (u64, String) {
    let initramfs = initramfs_bytes.saturating_mul(INITRAMFS_GROWTH);
    let image = peak_bytes(flash_size_bytes);
    let bytes = RECOVERY_MEMORY_BYTES.saturating_add(initramfs).saturating_add(image);
    let text = format!(
        "about {} MiB ({} for kernel and firmcastd, {} for the unpacked initramfs, {} for image, \
        target, backup and repair fragments)",
        bytes >> 20,
        RECOVERY_MEMORY_BYTES >> 20,
        initramfs >> 20,
        image >> 20,
    );
    (bytes, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_need_for_memory_is_told_with_its_parts() {
        let (bytes, text) = memory_needed(10 << 20, 16 << 20);
        assert_eq!(bytes, (160 << 20) + (40 << 20) + peak_bytes(16 << 20));
        let parts = "160 for kernel and firmcastd, 40 for the unpacked initramfs, 69 for image";
        assert!(text.contains(parts), "{text}");
    }
}
