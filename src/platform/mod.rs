//! What PID 1 of the recovery environment owes to the machine: file systems, console, modules,
//! network, watchdog, and a way out. The recovery state machine decides; this does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::net::dns::{DnsError, Wanted};
use crate::net::{InterfaceConfig, NetError, Netlink, link};
use crate::power::Power;
use crate::reason::{FlashState, Reason};

mod bmc_timer;
mod bonds;
mod efi;
mod hold;
mod lease;
mod log_kmsg;
mod lookup;
mod modules;
mod mounts;
mod network;
mod power;
mod syscall;
mod watchdog;
mod watchdogs;

pub use network::{AddressSource, LINK_PATIENCE, NetworkUp};
pub use power::{Ending, end};
pub use watchdog::WATCHDOG_TIMEOUT_S;
pub use watchdogs::Watchdogs;

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
        "no network after {waited_s} s: {state}; check cable, switch port and the modules in the \
        recovery initramfs"
    )]
    NoNetwork {
        /// How long it took.
        waited_s: u64,
        /// What was there: NICs, carriers, DHCP.
        state: String,
    },
    /// Signals cannot be held off.
    #[error("cannot hold off signals")]
    Signals(#[source] nix::Error),
    /// The firmware may run while its flash is rewritten.
    #[error("{0}")]
    FirmwareRuns(String),
    /// The machine may lose its power.
    #[error("{why}: {0}", why = crate::reason::Reason::PowerUnsafe)]
    Power(String),
    /// A watchdog may reset the machine.
    #[error("{0}")]
    Watchdog(String),
    /// Something could interrupt the update in its middle.
    #[error("this machine might be interrupted while its flash is written, so nothing was written")]
    Unsafe(#[source] Box<PlatformError>),
}

impl PlatformError {
    /// Why an update ends with it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unsafe(source) => source.reason(),
            Self::Watchdog(_) => Reason::WatchdogRuns,
            Self::NoNetwork { .. } => Reason::NetworkUnavailable,
            _ => Reason::RecoveryFailed,
        }
    }
}

/// The machine under recovery.
#[derive(Debug)]
pub struct Platform {
    modules: modules::Modules,
    watchdogs: Watchdogs,
    hold: Option<hold::Hold>,
}

impl Platform {
    /// As PID 1: mounts what every program expects, takes the console, sends the log to the
    /// kernel's. In any case: loads the modules for the devices that are there, but for disks.
    ///
    /// # Errors
    /// When a file system cannot be mounted or the kernel's events cannot be had. Missing modules
    /// are only told.
    pub fn start() -> Result<Self, PlatformError> {
        let mut hold = None;
        if is_init() {
            hold = Some(hold::Hold::signals()?);
            mounts::mount_all()?;
            mounts::take_console();
            log_kmsg::install();
        }
        log::info!("recovery environment, version {}", env!("CARGO_PKG_VERSION"));
        let mut modules = modules::Modules::new()?;
        modules.load_listed();
        modules.load_new();
        Ok(Platform { modules, watchdogs: Watchdogs::default(), hold })
    }

    /// Waits until no more devices appear: for those who do not know which ones they want.
    ///
    /// # Errors
    /// [`PlatformError::Wait`].
    pub fn settle(&mut self) -> Result<(), PlatformError> {
        self.modules.settle(SETTLE_QUIET, Instant::now() + SETTLE_MAX)
    }

    /// Loads the drivers of disks, and waits for the disks.
    ///
    /// # Errors
    /// [`PlatformError::Wait`].
    pub fn find_disks(&mut self) -> Result<(), PlatformError> {
        self.modules.load_late();
        self.settle()
    }

    /// Arms all hardware watchdogs: a hang must end in a reset. From here on the BMC's is fed, if
    /// it runs.
    pub fn arm_watchdogs(&mut self) {
        self.watchdogs.arm();
    }

    /// Feeds the BMC's watchdog from here on, if it runs. The others are somebody else's.
    pub fn tend_bmc_watchdog(&mut self) {
        self.watchdogs.tend_bmc();
    }

    /// Loads modules for devices that appear, until `condition` holds or `patience` is over;
    /// whether it holds.
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
            self.watchdogs.feed();
            self.modules.wait(deadline.min(Instant::now() + self.watchdogs.feed_interval()))?;
        }
    }

    /// Brings the network up as the kernel command line says ([`crate::net::ip_option`]), else as
    /// `wanted` says, or by DHCP on every NIC when that is empty or its NIC is not usable for long;
    /// where no DHCP server answers, the advertisements of IPv6 routers do. Waits up to `patience`
    /// for NICs and carriers; [`LINK_PATIENCE`] suits slow switches.
    ///
    /// # Errors
    /// [`PlatformError::NoNetwork`] when the time is over; the kernel's refusals.
    pub fn network(
        &mut self,
        wanted: &[InterfaceConfig],
        patience: Duration,
    ) -> Result<NetworkUp, PlatformError> {
        network::bring_up(&mut self.modules, &mut self.watchdogs, wanted, patience)
    }

    /// Takes the network down again, for an operating system that wants to find it as the kernel
    /// made it.
    ///
    /// # Errors
    /// The kernel's refusals.
    pub fn leave_network(&mut self, network: &NetworkUp) -> Result<(), PlatformError> {
        let mut netlink = Netlink::open()?;
        for address in &network.addresses {
            link::remove_address(&mut netlink, network.index, address)?;
        }
        link::set_down(&mut netlink, network.index)?;
        Ok(link::remove_made(&mut netlink)?)
    }

    /// Returns whether the flash may be written at all in this boot; why not.
    ///
    /// # Errors
    /// [`PlatformError::FirmwareRuns`].
    pub fn may_flash(&self) -> Result<(), PlatformError> {
        efi::runtime_is_off(Path::new("/")).map_err(PlatformError::FirmwareRuns)
    }

    /// Asks the name servers where the manager is; the answer takes 20 s at most. At least one
    /// address, best first.
    ///
    /// # Errors
    /// [`PlatformError::Wait`]; why nothing was found is the inner result's.
    pub fn look_up(
        &mut self,
        wanted: &Wanted,
        servers: &[IpAddr],
    ) -> Result<Result<Vec<SocketAddr>, DnsError>, PlatformError> {
        lookup::look_up(&mut self.watchdogs, wanted, servers)
    }

    /// Returns the watchdogs, which want [`Watchdogs::feed`] at least every
    /// [`Watchdogs::feed_interval`].
    pub fn watchdogs(&mut self) -> &mut Watchdogs {
        &mut self.watchdogs
    }

    /// Makes sure that from here on nothing interrupts the flashing: no firmware code, no empty
    /// battery, no watchdog, no panicking kernel, no signal, no SysRq key. Must succeed before the
    /// first erase, and may be called again before the next try. `flash` is what the chip holds:
    /// damaged flash is written on battery too, it cannot get worse.
    ///
    /// # Errors
    /// [`PlatformError::Unsafe`].
    pub fn before_first_erase(&mut self, flash: FlashState) -> Result<(), PlatformError> {
        self.prepare_to_flash(flash).map_err(|error| {
            if flash.reboot_is_safe() {
                self.after_safe_end();
            }
            PlatformError::Unsafe(Box::new(error))
        })
    }

    fn prepare_to_flash(&mut self, flash: FlashState) -> Result<(), PlatformError> {
        efi::runtime_is_off(Path::new("/")).map_err(PlatformError::FirmwareRuns)?;
        if let Power::Unsafe(why) = Power::read(Path::new("/"))
            && flash.reboot_is_safe()
        {
            return Err(PlatformError::Power(why));
        }
        let hold = match self.hold.take() {
            Some(hold) => hold,
            None => hold::Hold::signals()?,
        };
        self.hold.insert(hold).forbid_sysrq()?;
        nix::sys::reboot::set_cad_enabled(false).map_err(PlatformError::Signals)?;
        power::forbid_reboot_on_panic()?;
        match self.watchdogs.quieten() {
            Err(why) if flash.reboot_is_safe() => return Err(PlatformError::Watchdog(why)),
            // A reset would do no more harm than the firmware that is there.
            Err(why) => log::error!("this machine may be reset while its flash is written: {why}"),
            Ok(()) => {}
        }
        log::info!("signals, ctrl-alt-del and SysRq keys are held off until a safe end");
        Ok(())
    }

    /// Tells of requests to end that came while they are held off.
    pub fn tell_held_off(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.tell();
        }
    }

    /// The flash holds all of the old or all of the new image, and nothing writes to it: what was
    /// held off may happen, which may be the end of this process. PID 1 still ends only by its own
    /// reboot.
    pub fn after_safe_end(&mut self) {
        match self.hold.take() {
            Some(mut hold) if is_init() => {
                hold.allow_sysrq();
                self.hold = Some(hold);
            }
            Some(hold) => {
                if let Err(error) = nix::sys::reboot::set_cad_enabled(true) {
                    log::warn!("ctrl-alt-del stays off: {error}");
                }
                hold.release();
            }
            None => {}
        }
    }

    /// Collects children that nobody waits for. As PID 1 firmcastd inherits all orphans. Only
    /// between own child processes: it would collect those too.
    pub fn reap(&self) {
        if is_init() {
            power::reap();
        }
    }
}

/// Sends the log of this process to the kernel's log.
pub fn log_to_kernel() {
    log_kmsg::install();
}

/// Turns ctrl-alt-del into a signal that nobody listens to.
pub(crate) fn disable_ctrl_alt_del() {
    if is_init()
        && let Err(error) = nix::sys::reboot::set_cad_enabled(false)
    {
        log::warn!("ctrl-alt-del may reboot this machine: {error}");
    }
}

/// Returns whether this process is the init of the recovery environment.
pub fn is_init() -> bool {
    std::process::id() == 1
}
