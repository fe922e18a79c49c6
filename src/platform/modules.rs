//! Loads the modules for the devices that are there, with the distribution's modprobe, as udev
//! would.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::PlatformError;
use crate::net::Uevents;

/// Modules that no device asks for, but without which flash, BMC or VLANs stay unseen: map and chip
/// drivers are asked for by the kernel by name while it probes, which finds them faster when they
/// are loaded.
const ALWAYS: &[&str] = &[
    "mtd",
    "spi-nor",
    "cfi_probe",
    "jedec_probe",
    "cfi_cmdset_0001",
    "cfi_cmdset_0002",
    "physmap",
    "ipmi_si",
    "ipmi_devintf",
    "8021q",
];

/// More modules for this site, one in a line with its parameters; written by the tool that builds
/// the initramfs.
const LISTED: &str = "/etc/firmcast/modules";

/// Keeps drivers of disks from being loaded for their devices; written by the tool that builds the
/// initramfs (`modprobe.d(5)`: `blacklist`).
const LATE: &str = "/etc/modprobe.d/firmcast-late.conf";

/// Most lines of [`LISTED`] that are read.
const LISTED_MAX: usize = 256;

/// Most different aliases that are remembered. A large server has about a thousand devices.
const ALIASES_MAX: usize = 16_384;

/// Longest alias (`uevent_env.buf` of the kernel is 2048 bytes).
const ALIAS_LENGTH_MAX: usize = 2048;

/// Aliases that one modprobe gets, far below the kernel's limit for arguments.
const BATCH: usize = 64;

/// Rounds without a pause between them; a device that appears again and again ends here.
const ROUNDS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Modules {
    seen: HashSet<String>,
    uevents: Uevents,
}

impl Modules {
    /// Listens to the kernel from here on, so that no device is missed between looking and waiting.
    pub(super) fn new() -> Result<Self, PlatformError> {
        Ok(Modules { seen: HashSet::new(), uevents: Uevents::open()? })
    }

    /// Loads the modules that no device asks for.
    pub(super) fn load_listed(&mut self) {
        modprobe(&["-a", "-q"], ALWAYS);
        let listed = fs::read_to_string(LISTED).unwrap_or_default();
        for line in module_lines(&listed).take(LISTED_MAX) {
            modprobe(&["-v"], &line.split_ascii_whitespace().collect::<Vec<_>>());
        }
    }

    /// Loads the module `name`, unless it is part of the kernel.
    pub(super) fn load(&self, name: &str) {
        modprobe(&["-q"], &[name]);
    }

    /// Loads the drivers of disks, which no stay needs before its end.
    pub(super) fn load_late(&mut self) {
        match fs::remove_file(LATE) {
            Ok(()) => {
                self.seen.clear();
                self.load_new();
            }
            // They are loaded already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("cannot remove {LATE} ({error}); disks may stay unseen"),
        }
    }

    /// Loads modules until the kernel has been quiet for `quiet`, or until `deadline`.
    pub(super) fn settle(
        &mut self,
        quiet: Duration,
        deadline: Instant,
    ) -> Result<(), PlatformError> {
        for _ in 0..ROUNDS_MAX {
            self.load_new();
            let until = deadline.min(Instant::now() + quiet);
            if !self.wait_for_event(until)? {
                break;
            }
        }
        Ok(())
    }

    /// Loads modules for devices that appear, then waits for the next or until `deadline`.
    pub(super) fn wait(&mut self, deadline: Instant) -> Result<(), PlatformError> {
        self.load_new();
        self.wait_for_event(deadline).map(drop)
    }

    /// Loads modules for the devices that were not there before.
    pub(super) fn load_new(&mut self) {
        self.uevents.drain();
        loop {
            let new: Vec<String> = aliases(Path::new("/sys/bus"))
                .into_iter()
                .filter(|alias| !self.seen.contains(alias))
                .take(ALIASES_MAX - self.seen.len())
                .collect();
            if new.is_empty() {
                return;
            }
            for batch in new.chunks(BATCH) {
                let names: Vec<&str> = batch.iter().map(String::as_str).collect();
                modprobe(&["-a", "-b", "-q"], &names);
            }
            self.seen.extend(new);
        }
    }

    fn wait_for_event(&self, deadline: Instant) -> Result<bool, PlatformError> {
        wait_readable(&[self.uevents.as_fd()], deadline)
    }
}

impl AsFd for Modules {
    /// Readable when the kernel has found or lost a device.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.uevents.as_fd()
    }
}

/// Waits until one of `descriptors` is readable; false when `deadline` came first.
pub(super) fn wait_readable(
    descriptors: &[BorrowedFd<'_>],
    deadline: Instant,
) -> Result<bool, PlatformError> {
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up, so that the deadline has passed after the wait.
    let timeout =
        PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::Error::EINTR) => Ok(false),
        Err(error) => Err(PlatformError::Wait(error)),
    }
}

/// Returns the aliases of all devices on all buses.
fn aliases(buses: &Path) -> HashSet<String> {
    let devices =
        children(buses).flat_map(|bus| children(&bus.join("devices")).collect::<Vec<_>>());
    devices
        .filter_map(|device| fs::read_to_string(device.join("modalias")).ok())
        .map(|alias| alias.trim().to_owned())
        .filter(|alias| !alias.is_empty() && alias.len() <= ALIAS_LENGTH_MAX)
        .collect()
}

fn children(directory: &Path) -> impl Iterator<Item = std::path::PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// Returns the lines of a list of modules: `#` begins a comment.
fn module_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
}

/// Most aliases have no module in the initramfs, or a driver that is built in: modprobe's exit
/// status says nothing.
fn modprobe(options: &[&str], names: &[&str]) {
    let run = Command::new("modprobe")
        .args(options)
        .arg("--")
        .args(names)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output();
    match run {
        Ok(output) => tell(&output.stderr),
        Err(error) => log::warn!("cannot run modprobe ({error}); only built-in drivers will work"),
    }
}

fn tell(messages: &[u8]) {
    for line in String::from_utf8_lossy(messages).lines().take(8) {
        log::warn!("{line}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn finds_each_alias_once() {
        let root = tempfile::tempdir().unwrap();
        for (device, alias) in
            [("pci/devices/a", "pci:v1"), ("pci/devices/b", "pci:v1"), ("spi/devices/c", "spi:x")]
        {
            let directory = root.path().join(device);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("modalias"), format!("{alias}\n")).unwrap();
        }
        fs::create_dir_all(root.path().join("cpu/devices/d")).unwrap();
        let expected = ["pci:v1", "spi:x"].map(String::from).into();
        assert_eq!(aliases(root.path()), expected);
        assert!(aliases(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn reads_module_lines() {
        let text = "# site modules\n\nphysmap\n spi_intel writeable=1 # for locked-down boards\n";
        assert_eq!(module_lines(text).collect::<Vec<_>>(), ["physmap", "spi_intel writeable=1"]);
    }
}
