//! What PID 1 of the recovery environment owes to the machine: file systems, console, modules, network, watchdog, and a
//! way out. The recovery state machine decides; this does.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::net::{InterfaceConfig, NetError};

mod lease;
mod log_kmsg;
mod modules;
mod mounts;
mod network;
mod power;
mod syscall;
mod watchdog;

pub use network::{AddressSource, LINK_PATIENCE, NetworkUp};
pub use power::{Ending, end};
pub use watchdog::{WATCHDOG_TIMEOUT_S, Watchdog};

/// How long the kernel may be silent before all devices are taken as found.
const SETTLE_QUIET: Duration = Duration::from_millis(200);

/// How long the first search for devices may take in all.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// Why the platform is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// A file system is not there.
    #[error("cannot mount {what} on {target}")]
    Mount {
        /// The file system.
        what: &'static str,
        /// Where.
        target: &'static str,
        /// What the kernel said.
        source: nix::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The network's configuration failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Waiting for the kernel failed.
    #[error("cannot wait for the kernel's events")]
    Wait(#[source] nix::Error),
    /// No NIC became usable in time.
    #[error(
        "no network after {waited_s} s: {state}; check cable, switch port and the modules in the recovery initramfs"
    )]
    NoNetwork {
        /// How long it took.
        waited_s: u64,
        /// What was there: NICs, carriers, DHCP.
        state: String,
    },
    /// The kernel would still reboot by itself in the middle of the update.
    #[error(
        "cannot keep the kernel from rebooting by itself; not a byte of flash has been changed"
    )]
    Unsafe(#[source] Box<PlatformError>),
}

/// The machine under recovery.
#[derive(Debug)]
pub struct Platform {
    modules: modules::Modules,
    watchdog: Watchdog,
}

impl Platform {
    /// As PID 1: mounts what every program expects, takes the console, sends the log to the kernel's. In any case: loads
    /// the modules for the devices that are there and arms the hardware watchdog.
    ///
    /// # Errors
    /// When a file system cannot be mounted or the kernel's events cannot be had. Missing modules or watchdogs are only
    /// told.
    pub fn start() -> Result<Self, PlatformError> {
        if is_init() {
            mounts::mount_all()?;
            mounts::take_console();
            log_kmsg::install();
        }
        log::info!("recovery environment, version {}", env!("CARGO_PKG_VERSION"));
        let mut modules = modules::Modules::new()?;
        modules.load_listed();
        modules.settle(SETTLE_QUIET, Instant::now() + SETTLE_MAX)?;
        Ok(Platform { modules, watchdog: Watchdog::arm() })
    }

    /// Loads modules for devices that appear, until `condition` holds or `patience` is over; whether it holds.
    ///
    /// # Errors
    /// [`PlatformError::Wait`].
    pub fn wait_for(
        &mut self,
        patience: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<bool, PlatformError> {
        let deadline = Instant::now() + patience;
        loop {
            if condition() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.watchdog.feed();
            self.modules.wait(deadline.min(Instant::now() + self.watchdog.feed_interval()))?;
        }
    }

    /// Brings the network up as `wanted` says, or by DHCP on every NIC when it is empty or its NIC is not usable for
    /// long. Waits up to `patience` for NICs and carriers; [`LINK_PATIENCE`] suits slow switches.
    ///
    /// # Errors
    /// [`PlatformError::NoNetwork`] when the time is over; the kernel's refusals.
    pub fn network(
        &mut self,
        wanted: &[InterfaceConfig],
        patience: Duration,
    ) -> Result<NetworkUp, PlatformError> {
        network::bring_up(&mut self.modules, &mut self.watchdog, wanted, patience)
    }

    /// The watchdog, which wants [`Watchdog::feed`] at least every [`Watchdog::feed_interval`].
    pub fn watchdog(&mut self) -> &mut Watchdog {
        &mut self.watchdog
    }

    /// Makes sure that neither the watchdog nor a panicking kernel reboots the machine by itself from here on. Must
    /// succeed before the first erase.
    ///
    /// # Errors
    /// [`PlatformError::Unsafe`].
    pub fn before_first_erase(&mut self) -> Result<(), PlatformError> {
        let is_safe =
            power::forbid_reboot_on_panic().and_then(|()| self.watchdog.disarm_or_keep_fed());
        is_safe.map_err(|error| PlatformError::Unsafe(Box::new(error)))
    }

    /// Collects children that nobody waits for. As PID 1 firmcastd inherits all orphans. Only between own child processes:
    /// it would collect those too.
    pub fn reap(&self) {
        if is_init() {
            power::reap();
        }
    }
}

/// Whether this process is the init of the recovery environment.
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
