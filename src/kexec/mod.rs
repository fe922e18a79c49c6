//! The way from the normal OS into the recovery environment: `kexec_file_load(2)` of the
//! distribution's own kernel and of the recovery initramfs, with the handoff in a second archive,
//! then an orderly `reboot(LINUX_REBOOT_CMD_KEXEC)`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::reboot::{RebootMode, reboot};

use crate::handover::{Handoff, HandoverError};
use crate::helper;

mod archive;
mod cmdline;
mod formats;
mod head;
mod images;
mod initramfs_image;
mod kernel_image;
mod modules;
mod preflight;
#[cfg(test)]
mod samples;
mod syscall;
mod trial;
mod zboot;

pub use archive::{INITRAMFS_SIZE_MAX, write_archive};
pub use cmdline::{CMDLINE_LENGTH_MAX, RECOVERY_INIT, modules_not_for_devices, recovery_cmdline};
pub use formats::Formats;
pub use images::{IMAGES_MAX, KeptImage, failed_builds, kept_images};
pub use initramfs_image::InitramfsImage;
pub use kernel_image::KernelImage;
pub use modules::{Listed, ModuleList};
pub use preflight::{Lockdown, Preflight, RecoveryFiles, preflight};
pub use trial::{Trial, try_to_load};

const LOADED_FLAG: &str = "/sys/kernel/kexec_loaded";
const SYSTEMD_MARK: &str = "/run/systemd/system";

/// Why the recovery environment cannot be entered. In every case nothing has changed yet.
#[derive(Debug, thiserror::Error)]
pub enum KexecError {
    /// The kernel file cannot be opened.
    #[error(
        "cannot read the recovery kernel {}; set recovery_kernel to the distribution's kernel",
        path.display()
    )]
    KernelFile {
        /// The file asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not a bootable kernel image.
    #[error(
        "{} is no kernel that can be started: {found}; set recovery_kernel to the distribution's \
        kernel",
        path.display()
    )]
    KernelForm {
        /// The file asked for.
        path: PathBuf,
        /// What it looks like.
        found: &'static str,
    },
    /// The initramfs file cannot be opened.
    #[error(
        "cannot read the recovery initramfs {}; build it with firmcast-mkrecovery",
        path.display()
    )]
    InitramfsFile {
        /// The file asked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not an initramfs.
    #[error(
        "{} is no initramfs (neither cpio nor a compression the kernel knows); build it with \
        firmcast-mkrecovery",
        path.display()
    )]
    InitramfsForm {
        /// The file asked for.
        path: PathBuf,
    },
    /// The initramfs is empty or too large.
    #[error(
        "the recovery initramfs has {size} bytes, expected 1 to {limit}; build it again with \
        firmcast-mkrecovery"
    )]
    InitramfsSize {
        /// Its size in bytes.
        size: u64,
        /// [`INITRAMFS_SIZE_MAX`].
        limit: u64,
    },
    /// Kernel and initramfs do not belong together.
    #[error(
        "the recovery kernel is {kernel}, but the recovery initramfs has the modules of \
        {initramfs}; build it again with firmcast-mkrecovery"
    )]
    Releases {
        /// The kernel's release.
        kernel: String,
        /// The release that the modules are for.
        initramfs: String,
    },
    /// The firmcastd in the initramfs understands another form of what is handed over to it.
    #[error(
        "{} understands {image}, this firmcastd writes {own}: build it again with \
         firmcast-mkrecovery --all",
        path.display()
    )]
    Formats {
        /// The initramfs.
        path: PathBuf,
        /// What it understands.
        image: Formats,
        /// What this program writes.
        own: Formats,
    },
    /// The joined initramfs could not be made.
    #[error("cannot put the recovery initramfs together in memory")]
    Initramfs(#[source] io::Error),
    /// The handoff cannot be written.
    #[error(transparent)]
    Handoff(#[from] HandoverError),
    /// The command line is too long or holds a NUL.
    #[error(
        "the recovery kernel's command line has {length} bytes, expected at most {limit} and no NUL"
    )]
    Cmdline {
        /// Its length in bytes.
        length: usize,
        /// [`CMDLINE_LENGTH_MAX`].
        limit: usize,
    },
    /// This process may not load a kernel.
    #[error(
        "loading a kernel needs CAP_SYS_BOOT; run firmcastd as root, with CAP_SYS_BOOT in its \
        service file"
    )]
    NoPermission,
    /// The administrator has switched loading off until the next boot.
    #[error(
        "loading a kernel is disabled (kernel.kexec_load_disabled is 1, until the next boot); \
        remove the sysctl setting and reboot"
    )]
    LoadDisabled,
    /// The running kernel has no kexec_file_load.
    #[error(
        "the running kernel has no kexec_file_load (CONFIG_KEXEC_FILE); use the distribution's \
        standard kernel"
    )]
    NotSupported,
    /// The kernel refused what it was given.
    #[error("the kernel refused to load the recovery kernel{}", refused_because(.0))]
    Load(#[source] io::Error),
    /// Too little memory for the recovery kernel, its initramfs and the image.
    #[error(
        "{available_bytes} bytes of memory are available, expected at least {needed_bytes}; free \
        memory first"
    )]
    Memory {
        /// `MemAvailable` of /proc/meminfo.
        available_bytes: u64,
        /// What is needed to load.
        needed_bytes: u64,
    },
    /// A file under /proc or /sys cannot be read.
    #[error("cannot read {path}")]
    Probe {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// No recovery kernel is loaded.
    #[error("no recovery kernel is loaded; load it first")]
    NotLoaded,
    /// systemd would not do it.
    #[error("systemctl kexec failed with {status}: {message}")]
    Systemctl {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed.
        message: String,
    },
    /// The last step failed.
    #[error("cannot start the recovery kernel")]
    Start(#[source] io::Error),
}

/// What the error numbers of `kexec_file_load(2)` mean, where that is not what they say.
fn refused_because(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOKEY | libc::EKEYREJECTED | libc::EBADMSG | libc::ENODATA) => {
            ", which no key that this kernel trusts has signed: under Secure Boot it must be the \
             distribution's signed one"
        }
        Some(libc::EPERM | libc::EACCES) => {
            ": lockdown, IMA or a security module forbids it; the kernel's log says which"
        }
        Some(libc::ENOEXEC) => ": it does not know the form of this file",
        _ => "",
    }
}

/// Loads kernel and initramfs with `handoff` for [`start`]; nothing else changes.
///
/// `cmdline` is usually [`current_recovery_cmdline`].
///
/// # Errors
/// A [`KexecError`] that says which part is wrong; no kernel is loaded then.
pub fn load(files: RecoveryFiles, handoff: &Handoff, cmdline: &str) -> Result<(), KexecError> {
    let RecoveryFiles { kernel, mut initramfs } = files;
    let cmdline_text = checked(cmdline)?;
    let joined = archive::join(&mut initramfs, handoff)?;
    let (kernel, joined) = (kernel.as_fd(), joined.as_fd());
    let loaded = match helper::ask(&format!("load {cmdline}"), &[kernel, joined]) {
        Some(answer) => answer.map(drop),
        None => syscall::kexec_file_load(kernel, joined, &cmdline_text),
    };
    loaded.map_err(KexecError::Load)
}

/// Loads a kernel and an initramfs that [`load`] has put together in another process.
///
/// # Errors
/// [`KexecError::Cmdline`], [`KexecError::Load`].
pub fn load_files(
    kernel: BorrowedFd<'_>,
    initramfs: BorrowedFd<'_>,
    cmdline: &str,
) -> Result<(), KexecError> {
    syscall::kexec_file_load(kernel, initramfs, &checked(cmdline)?).map_err(KexecError::Load)
}

fn checked(cmdline: &str) -> Result<CString, KexecError> {
    let too_long = || KexecError::Cmdline { length: cmdline.len(), limit: CMDLINE_LENGTH_MAX };
    if cmdline.len() > CMDLINE_LENGTH_MAX {
        return Err(too_long());
    }
    CString::new(cmdline).map_err(|_| too_long())
}

/// Asks whether a kernel may be loaded, without loading one.
///
/// # Errors
/// `EPERM` when it is not allowed, `ENOSYS` when the kernel has been built without it.
pub fn may_load() -> io::Result<()> {
    match helper::ask("may-load", &[]) {
        Some(answer) => answer.map(drop),
        None => syscall::kexec_file_load_is_allowed(),
    }
}

/// Forgets a loaded kernel, so that a later reboot is an ordinary one.
///
/// # Errors
/// [`KexecError::Load`].
pub fn unload() -> Result<(), KexecError> {
    match helper::ask("unload", &[]) {
        Some(answer) => answer.map(drop),
        None => syscall::kexec_file_unload(),
    }
    .map_err(KexecError::Load)
}

/// [`recovery_cmdline`] for the running kernel.
///
/// # Errors
/// [`KexecError::Probe`] when /proc/cmdline cannot be read.
pub fn current_recovery_cmdline() -> Result<String, KexecError> {
    let path = "/proc/cmdline";
    let running =
        std::fs::read_to_string(path).map_err(|source| KexecError::Probe { path, source })?;
    let systab = std::fs::read_to_string("/sys/firmware/efi/systab").unwrap_or_default();
    Ok(recovery_cmdline(&running, cmdline::rsdp_of_systab(&systab)))
}

/// Whether a kernel is loaded.
pub fn is_loaded() -> bool {
    std::fs::read_to_string(LOADED_FLAG).is_ok_and(|text| text.trim() == "1")
}

/// Leaves the normal OS for the loaded kernel: through systemd where it runs, so that services end
/// in their order, else at once.
///
/// With systemd this returns when the shutdown has been asked for; the caller goes on until it is
/// stopped. Without, it returns only on error.
///
/// # Errors
/// [`KexecError::NotLoaded`], [`KexecError::Systemctl`], [`KexecError::Start`].
pub fn start() -> Result<(), KexecError> {
    if !is_loaded() {
        return Err(KexecError::NotLoaded);
    }
    if let Some(answer) = helper::ask("start", &[]) {
        return answer.map(drop).map_err(KexecError::Start);
    }
    if Path::new(SYSTEMD_MARK).exists() {
        return start_by_systemd();
    }
    nix::unistd::sync();
    match reboot(RebootMode::RB_KEXEC) {
        Ok(never) => match never {},
        Err(errno) => Err(KexecError::Start(errno.into())),
    }
}

/// `systemctl kexec` takes the kernel that is already loaded.
fn start_by_systemd() -> Result<(), KexecError> {
    let output = Command::new("systemctl")
        .args(["--no-block", "kexec"])
        .stdin(Stdio::null())
        .output()
        .map_err(KexecError::Start)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(KexecError::Systemctl { status: output.status, message })
}
