//! Whether the recovery environment could be entered from here, found out without changing
//! anything.

use std::fs::File;
use std::io;
use std::path::Path;

use super::KexecError;
use super::formats::Formats;
use super::initramfs_image::InitramfsImage;
use super::kernel_image::KernelImage;

/// What the recovery kernel needs beside its own files while it is loaded: page tables, the second
/// copy while relocating, and the normal OS's way down.
const MEMORY_MARGIN_BYTES: u64 = 64 << 20;

/// The facts, one by one, so that `firmcastd check` can show each.
#[derive(Debug)]
pub struct Preflight {
    /// The system call is there, allowed for this process, and not disabled.
    pub loading: Result<(), KexecError>,
    /// What the kernel's lockdown asks for.
    pub lockdown: Lockdown,
    /// The kernel file, open.
    pub kernel: Result<(File, KernelImage), KexecError>,
    /// The initramfs file, open.
    pub initramfs: Result<(File, InitramfsImage), KexecError>,
    /// The initramfs has the modules of this kernel, also where one of them does not tell, and
    /// understands what this program hands over.
    pub fit: Result<(), KexecError>,
    /// Available memory in bytes, when it is enough to load both.
    pub memory: Result<u64, KexecError>,
}

/// `/sys/kernel/security/lockdown`. Unless it is `Off`, the kernel loads only signed kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// `none`: any kernel may be loaded.
    Off,
    /// `integrity`: signed kernels only.
    Integrity,
    /// `confidentiality`: signed kernels only.
    Confidentiality,
    /// The file cannot be read or says something else: the kernel may have no lockdown, or this
    /// process may not see it.
    Unknown,
}

/// Collects the facts for these two files.
pub fn preflight(kernel: &Path, initramfs: &Path) -> Preflight {
    let initramfs_path = initramfs;
    let (kernel, initramfs) = (KernelImage::open(kernel), InitramfsImage::open(initramfs));
    let kernel_bytes = kernel.as_ref().map_or(0, |(_, image)| image.size_bytes);
    let initramfs_bytes = initramfs.as_ref().map_or(0, |(_, image)| image.size_bytes);
    let fit = match (&kernel, &initramfs) {
        (Ok((_, kernel)), Ok((_, initramfs))) => same_release(kernel, initramfs)
            .and_then(|()| same_formats(initramfs_path, initramfs.formats)),
        _ => Ok(()),
    };
    Preflight {
        loading: probe_loading(),
        lockdown: lockdown(),
        memory: probe_memory(kernel_bytes + initramfs_bytes),
        kernel,
        initramfs,
        fit,
    }
}

/// A kernel and an initramfs that belong together, open: what was looked at is what is loaded.
#[derive(Debug)]
pub struct RecoveryFiles {
    pub(super) kernel: File,
    pub(super) initramfs: File,
}

impl Preflight {
    /// The files, if both can be used.
    ///
    /// # Errors
    /// What is wrong with one of them, or with both together.
    pub fn into_files(self) -> Result<RecoveryFiles, KexecError> {
        let (kernel, initramfs) = (self.kernel?.0, self.initramfs?.0);
        self.fit.map(|()| RecoveryFiles { kernel, initramfs })
    }
}

/// Modules of another kernel do not load: recovery would have neither network nor flash.
fn same_release(kernel: &KernelImage, initramfs: &InitramfsImage) -> Result<(), KexecError> {
    match (&kernel.release, &initramfs.release) {
        (Some(kernel), Some(initramfs)) if kernel != initramfs => {
            Err(KexecError::Releases { kernel: kernel.clone(), initramfs: initramfs.clone() })
        }
        _ => Ok(()),
    }
}

/// An image of another firmcastd would refuse what it is handed, when the host has left its OS.
fn same_formats(path: &Path, image: Option<Formats>) -> Result<(), KexecError> {
    match image {
        Some(image) if image != Formats::OWN => {
            Err(KexecError::Formats { path: path.into(), image, own: Formats::OWN })
        }
        _ => Ok(()),
    }
}

fn probe_loading() -> Result<(), KexecError> {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/kexec_load_disabled");
    if disabled.is_ok_and(|text| text.trim() == "1") {
        return Err(KexecError::LoadDisabled);
    }
    match super::may_load() {
        Ok(()) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EPERM) => KexecError::NoPermission,
            Some(libc::ENOSYS) => KexecError::NotSupported,
            _ => KexecError::Load(error),
        }),
    }
}

fn lockdown() -> Lockdown {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    parse_lockdown(&text)
}

fn parse_lockdown(text: &str) -> Lockdown {
    let chosen =
        text.split_ascii_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    match chosen {
        Some("none") => Lockdown::Off,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// The files are held twice for a moment: as file pages and in the kernel's copy.
fn probe_memory(files_bytes: u64) -> Result<u64, KexecError> {
    let path = "/proc/meminfo";
    let text =
        std::fs::read_to_string(path).map_err(|source| KexecError::Probe { path, source })?;
    let available_bytes = available_bytes(&text).ok_or_else(|| KexecError::Probe {
        path,
        source: io::Error::new(io::ErrorKind::InvalidData, "no line MemAvailable"),
    })?;
    let needed_bytes = files_bytes.saturating_mul(2).saturating_add(MEMORY_MARGIN_BYTES);
    if available_bytes < needed_bytes {
        return Err(KexecError::Memory { available_bytes, needed_bytes });
    }
    Ok(available_bytes)
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kexec::initramfs_image::{FORMATS_FILE, MODULES_FILE, RELEASE_FILE};
    use crate::kexec::samples::{archive, bzimage, file_of};

    #[test]
    fn modules_of_another_kernel_are_noticed() {
        let formats = Formats::OWN.lines();
        let marks = [(RELEASE_FILE, "6.1.0-40-amd64\n"), (FORMATS_FILE, formats.as_str())];
        let initramfs = file_of(&archive(&marks));
        let newer = file_of(&bzimage(0x300, "6.1.0-41-amd64 #1"));
        let error = preflight(newer.path(), initramfs.path()).fit.unwrap_err().to_string();
        assert!(error.contains("6.1.0-40-amd64") && error.contains("6.1.0-41-amd64"), "{error}");
        let same = file_of(&bzimage(0x300, "6.1.0-40-amd64 #1"));
        assert!(preflight(same.path(), initramfs.path()).fit.is_ok());
    }

    #[test]
    fn an_image_of_an_older_or_newer_firmcastd_is_refused() {
        let kernel = file_of(&bzimage(0x300, "6.1 #1"));
        let newer = Formats { handoff: Formats::OWN.handoff + 1, ..Formats::OWN };
        let newer = newer.lines();
        let newer = archive(&[(RELEASE_FILE, "6.1\n"), (FORMATS_FILE, newer.as_str())]);
        let older = archive(&[(RELEASE_FILE, "6.1\n"), (MODULES_FILE, "mtd:\n")]);
        for image in [newer, older] {
            let initramfs = file_of(&image);
            let error = preflight(kernel.path(), initramfs.path()).into_files().unwrap_err();
            assert!(matches!(error, KexecError::Formats { .. }), "{error}");
            assert!(error.to_string().contains("firmcast-mkrecovery --all"), "{error}");
        }
    }

    #[test]
    fn reads_lockdown_and_memory() {
        assert_eq!(parse_lockdown("[none] integrity confidentiality\n"), Lockdown::Off);
        assert_eq!(parse_lockdown("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(parse_lockdown(""), Lockdown::Unknown);
        assert_eq!(available_bytes("MemFree: 1 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available_bytes("MemAvailable: 99999999999999999999 kB\n"), None);
        assert!(matches!(probe_memory(u64::MAX / 4), Err(KexecError::Memory { .. })));
    }
}
