//! Whether the recovery environment can be entered, and has the memory that it needs.

use std::path::{Path, PathBuf};

use nix::sys::sysinfo::sysinfo;
use nix::sys::utsname::uname;

use super::Purpose;
use super::drivers::{RecoveryImage, drivers};
use crate::agent::check::{Checklist, Subject};
use crate::agent::local_machine::LocalMachine;
use crate::kexec::{
    self, KexecError, Lockdown, Preflight, RecoveryFiles, Trial, failed_builds, kept_images,
};
use crate::reason::{Reason, with_causes};
use crate::recovery::memory::peak_bytes;

/// How much larger an initramfs may be unpacked.
const INITRAMFS_GROWTH: u64 = 4;

/// What kernel and firmcastd need in the recovery environment beside that.
const RECOVERY_MEMORY_BYTES: u64 = 160 << 20;

/// Looks at kernel and initramfs, and whether the initramfs has the drivers of the MTD devices
/// `mtd` and of the `interfaces`. Returns the files if they can be used.
pub(super) fn recovery(
    list: &mut Checklist,
    machine: &LocalMachine,
    flash_size_bytes: u64,
    mtd: &[u32],
    interfaces: &[String],
    purpose: Purpose<'_>,
) -> Option<RecoveryFiles> {
    let Chosen { kernel: kernel_path, initramfs: path, found, is_kept } = choose(list, machine);
    let kernel = found.kernel.as_ref().ok().map(|(_, image)| image);
    let initramfs = found.initramfs.as_ref().ok().map(|(_, image)| image);
    let mut of_drivers = Checklist::default();
    let image = RecoveryImage { path: &path, is_kept, kernel, initramfs };
    drivers(&mut of_drivers, &machine.root, &image, mtd, interfaces);
    let initramfs_bytes = initramfs.map_or(0, |image| image.size_bytes);
    let kernel = found.kernel.as_ref().map(|(_, kernel)| {
        let release = kernel.release.as_deref().unwrap_or("of unknown release");
        format!("{}: {release}", kernel_path.display())
    });
    list.result(Subject::RecoveryKernel, Reason::RecoveryMissing, said(kernel), "");
    let initramfs = match (&found.initramfs, &found.fit) {
        (Ok((_, image)), Ok(())) => Ok(format!("{}: {} bytes", path.display(), image.size_bytes)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    list.result(Subject::RecoveryInitramfs, Reason::RecoveryMissing, said(initramfs), "");
    list.append(of_drivers);
    let memory = found.memory.as_ref().map(|bytes| format!("{} MiB available", bytes >> 20));
    let memory = said(memory);
    let loading = said(found.loading.as_ref().map(|()| found.lockdown));
    let files = found.into_files().ok();
    let loading = match (loading, &files, purpose) {
        (Ok(_), Some(files), Purpose::Check) => tried(files),
        (loading, ..) => loading.map(untried),
    };
    list.result(Subject::Kexec, Reason::KexecUnavailable, loading, "");
    list.result(Subject::Memory, Reason::MemoryTooLow, memory, "");
    recovery_memory(list, initramfs_bytes, flash_size_bytes);
    files
}

/// What is known without a trial.
fn untried(lockdown: Lockdown) -> &'static str {
    match lockdown {
        Lockdown::Off => "allowed",
        Lockdown::Unknown => "allowed, as far as can be seen",
        _ => "allowed for signed kernels only (lockdown)",
    }
}

/// Has the kernel take the files for a moment.
fn tried(files: &RecoveryFiles) -> Result<&'static str, String> {
    let cmdline = said(kexec::current_recovery_cmdline().as_deref())?.to_owned();
    said(kexec::try_to_load(files, &cmdline).as_ref()).map(|trial| match trial {
        Trial::Taken => "tried: the kernel takes kernel and initramfs",
        Trial::Occupied => "allowed; not tried, because another kernel is loaded",
    })
}

/// The kernel and the initramfs that an update would start.
struct Chosen {
    kernel: PathBuf,
    initramfs: PathBuf,
    found: Preflight,
    /// `firmcast-mkrecovery --all` keeps them, no setting names them.
    is_kept: bool,
}

/// Takes what the settings name, else the newest kept image that can be started. Tells what was
/// passed over, and which builds have failed.
fn choose(list: &mut Checklist, machine: &LocalMachine) -> Chosen {
    let config = &machine.config;
    if !config.recovery_kernel.as_os_str().is_empty() {
        let (kernel, initramfs) = (&config.recovery_kernel, &config.recovery_initramfs);
        return Chosen::look(kernel, initramfs, false);
    }
    let folder = machine.state.folder().join("recovery");
    let mut problems: Vec<String> = failed_builds(&folder)
        .into_iter()
        .map(|(release, reason)| format!("the last build for kernel {release} failed: {reason}"))
        .collect();
    let images = kept_images(&machine.root, &folder);
    let mut chosen: Option<Chosen> = None;
    for image in &images {
        let looked = Chosen::look(&image.kernel, &image.initramfs, true);
        match looked.problem() {
            None => {
                chosen = Some(looked);
                break;
            }
            Some(problem) => problems.push(format!("kernel {}: {problem}", image.release)),
        }
    }
    match problems.as_slice() {
        [] if images.is_empty() => {}
        [] => list.ok(Subject::RecoveryImages, format_args!("{} kept", images.len())),
        _ => {
            list.told(Subject::RecoveryImages, problems.join("; "), "run firmcast-mkrecovery --all")
        }
    }
    chosen.unwrap_or_else(|| match images.into_iter().next() {
        Some(newest) => Chosen::look(&newest.kernel, &newest.initramfs, true),
        None => {
            // What would be there if it had been made.
            let release = uname().map(|name| name.release().to_string_lossy().into_owned());
            let release = release.unwrap_or_default();
            let kernel = machine.root.join(format!("boot/vmlinuz-{release}"));
            Chosen::look(&kernel, &folder.join(format!("{release}.img")), true)
        }
    })
}

impl Chosen {
    fn look(kernel: &Path, initramfs: &Path, is_kept: bool) -> Self {
        let found = kexec::preflight(kernel, initramfs);
        Self { kernel: kernel.into(), initramfs: initramfs.into(), found, is_kept }
    }

    /// Why these files cannot be started.
    fn problem(&self) -> Option<String> {
        let Preflight { kernel, initramfs, fit, .. } = &self.found;
        let problems = [kernel.as_ref().err(), initramfs.as_ref().err(), fit.as_ref().err()];
        problems.into_iter().flatten().next().map(|error| with_causes(error))
    }
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
