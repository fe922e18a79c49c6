//! The recovery environment on the real machine: how it was entered, its loop, and what it came to.
//!
//! - `errand`: an agent sent this host for a campaign; `rescue`: nobody did. `intent` decides what
//!   is done then.
//! - [`options`]: what the kernel's command line adds to the provision ([`crate::handover`]).
//! - [`stay`]: searches and campaigns until the boot may go on (sans-IO); `drive`: its loop around
//!   one socket and one flash chip.
//! - `sources`: the network, and the places there that know a manager's address; [`screen`]: the
//!   host's display.
//! - `conclude`: what a stay came to, and word of it for the agent; `host`: what this computer is.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, info};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::handover::{HANDOFF_PATH, Handoff};
use crate::platform::{self, Ending, Platform};
use crate::reason::with_causes;

mod conclude;
mod drive;
mod errand;
mod error;
mod host;
mod intent;
pub mod options;
mod rescue;
pub mod screen;
mod sources;
pub mod stay;
mod vain;

pub use error::EnvironmentError;
pub use rescue::hook;

/// How long a person has to read why the environment cannot even begin.
const ERROR_PAUSE: Duration = Duration::from_secs(60);
/// How long a last message may take to leave before the reboot.
const REBOOT_PAUSE: Duration = Duration::from_millis(100);

/// What `statfs(2)` says of an initramfs that is not a tmpfs (`RAMFS_MAGIC` of linux/magic.h).
const RAMFS_MAGIC: u32 = 0x8584_58f6;

/// Fails unless this is an initramfs, where a recovery environment belongs: it takes the network
/// and the flash chip, and resets the machine.
///
/// # Errors
/// [`EnvironmentError::NotInitramfs`].
pub fn check_place() -> Result<(), EnvironmentError> {
    let root = statfs("/").map(|found| found.filesystem_type());
    match root.is_ok_and(|root| root == TMPFS_MAGIC || root.0 as u32 == RAMFS_MAGIC) {
        true => Ok(()),
        false => Err(EnvironmentError::NotInitramfs),
    }
}

/// Runs the recovery environment to its end, which is a reboot. PID 1 reboots after an error, too:
/// nothing else leads back to the operating system.
///
/// # Errors
/// [`EnvironmentError::End`]. Where another process is PID 1, every error: then nothing is
/// rebooted.
pub fn run() -> Result<Infallible, EnvironmentError> {
    let ending = match do_what_is_due(Instant::now()) {
        Ok(ending) => ending,
        Err(error) if std::process::id() != 1 => return Err(error),
        Err(error) => {
            error!("{}; the flash is untouched", with_causes(&error));
            if error.needs_a_person() {
                std::thread::sleep(ERROR_PAUSE);
            }
            Ending::Restart
        }
    };
    end(ending)
}

/// With a handoff, does what the agent was instructed for; without one, looks after this machine by
/// itself.
fn do_what_is_due(started: Instant) -> Result<Ending, EnvironmentError> {
    let mut platform = Platform::start()?;
    platform::disable_ctrl_alt_del();
    match Handoff::read(Path::new(HANDOFF_PATH))? {
        Some(handoff) => {
            errand::run(started, &mut platform, &handoff);
            Ok(Ending::Restart)
        }
        None => rescue::run(started, &mut platform),
    }
}

fn end(ending: Ending) -> Result<Infallible, EnvironmentError> {
    info!("{}", if ending == Ending::Restart { "rebooting" } else { "switching off" });
    std::thread::sleep(REBOOT_PAUSE);
    platform::end(ending).map_err(EnvironmentError::End)
}
