//! The file systems that every program expects, and the console.

use std::fs::OpenOptions;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::PlatformError;

/// What is mounted where: type, target, flags beside `nosuid`.
const MOUNTS: &[(&str, &str, MsFlags)] = &[
    ("proc", "/proc", MsFlags::MS_NOEXEC.union(MsFlags::MS_NODEV)),
    ("sysfs", "/sys", MsFlags::MS_NOEXEC.union(MsFlags::MS_NODEV)),
    ("devtmpfs", "/dev", MsFlags::MS_NOEXEC),
    ("tmpfs", "/run", MsFlags::MS_NODEV),
];

/// Mounts what is not mounted yet.
pub(super) fn mount_all() -> Result<(), PlatformError> {
    for &(what, target, flags) in MOUNTS {
        std::fs::create_dir_all(target).map_err(|source| PlatformError::File {
            action: "make the directory",
            path: target.into(),
            source,
        })?;
        match mount(Some(what), target, Some(what), flags | MsFlags::MS_NOSUID, None::<&str>) {
            // The kernel may have done it (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(source) => return Err(PlatformError::Mount { what, target, source }),
        }
    }
    Ok(())
}

/// Makes /dev/console the standard input and outputs. Without a console recovery goes on: the
/// kernel's log remains.
pub(super) fn take_console() {
    let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") else {
        return;
    };
    let _ = dup2_stdin(&console);
    let _ = dup2_stdout(&console);
    let _ = dup2_stderr(&console);
}
