//! The ways out of recovery, and what keeps the kernel from taking one by itself.

use std::path::Path;

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::PlatformError;

/// What makes a kernel panic, or reboot after one. Only the first must be there; the others depend
/// on the kernel's configuration.
const PANIC_SWITCHES: &[&str] = &[
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/kernel/panic_on_warn",
    "/proc/sys/kernel/softlockup_panic",
    "/proc/sys/kernel/hardlockup_panic",
    "/proc/sys/kernel/hung_task_panic",
    "/proc/sys/kernel/unknown_nmi_panic",
];

/// Most children collected at once.
const REAPED_MAX: usize = 4096;

/// How recovery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Reboot through the firmware.
    Restart,
    /// Switch the machine off.
    PowerOff,
}

/// From here on a panic stops the machine where it is: half-written flash must not be booted.
pub(super) fn forbid_reboot_on_panic() -> Result<(), PlatformError> {
    for (number, switch) in PANIC_SWITCHES.iter().map(Path::new).enumerate() {
        if number > 0 && !switch.exists() {
            continue;
        }
        let failed =
            |source| PlatformError::File { action: "write 0 to", path: switch.into(), source };
        std::fs::write(switch, "0\n").map_err(failed)?;
    }
    Ok(())
}

/// Ends recovery. Comes back only when the kernel refuses.
///
/// # Errors
/// The kernel's refusal.
pub fn end(how: Ending) -> Result<std::convert::Infallible, nix::Error> {
    nix::unistd::sync();
    reboot(match how {
        Ending::Restart => RebootMode::RB_AUTOBOOT,
        Ending::PowerOff => RebootMode::RB_POWER_OFF,
    })
}

/// Collects the children that have ended.
pub(super) fn reap() {
    for _ in 0..REAPED_MAX {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
