//! The hardware watchdog: armed while a hang should end in the normal OS, off while it must not.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{PlatformError, syscall};

/// What the watchdog is asked for, in seconds. Long enough for a loaded machine, short enough for
/// an operator.
pub const WATCHDOG_TIMEOUT_S: i32 = 60;

/// The first is the one that knows sysfs; the second is what old drivers have.
const DEVICES: &[&str] = &["/dev/watchdog0", "/dev/watchdog"];

/// "1" when the driver cannot be stopped once it runs.
const NOWAYOUT: &str = "/sys/class/watchdog/watchdog0/nowayout";

/// `WDIOF_MAGICCLOSE`: stops when 'V' is written before it is closed.
const MAGIC_CLOSE: u32 = 0x0100;

/// How often recovery looks after the watchdog when there is none: nothing depends on it.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// The watchdog, or the lack of one.
#[derive(Debug)]
pub struct Watchdog {
    armed: Option<Armed>,
}

#[derive(Debug)]
struct Armed {
    device: File,
    timeout: Duration,
    fed: Instant,
    can_stop: bool,
}

impl Watchdog {
    /// Leaves the hardware watchdog alone.
    pub(super) fn asleep() -> Self {
        Watchdog { armed: None }
    }

    /// Arms the hardware watchdog where there is one.
    pub(super) fn arm() -> Self {
        let device = DEVICES.iter().find_map(|path| OpenOptions::new().write(true).open(path).ok());
        let Some(device) = device else {
            log::info!("no hardware watchdog");
            return Watchdog { armed: None };
        };
        // Opening has armed it. A driver that cannot set a time keeps its own, at least one second.
        let timeout_s = syscall::set_watchdog_timeout(device.as_fd(), WATCHDOG_TIMEOUT_S);
        let timeout = Duration::from_secs(timeout_s.map_or(1, |seconds| seconds.max(1)) as u64);
        let (name, can_stop) = describe(&device);
        log::info!("watchdog {name} armed, {} s", timeout.as_secs());
        let mut watchdog =
            Watchdog { armed: Some(Armed { device, timeout, fed: Instant::now(), can_stop }) };
        watchdog.feed_now();
        watchdog
    }

    /// Puts the reset off, unless that has just been done.
    pub fn feed(&mut self) {
        let due = self.armed.as_ref().is_some_and(|armed| armed.fed.elapsed() >= armed.timeout / 6);
        if due {
            self.feed_now();
        }
    }

    /// Returns how often to call [`Watchdog::feed`].
    pub fn feed_interval(&self) -> Duration {
        self.armed.as_ref().map_or(IDLE_INTERVAL, |armed| armed.timeout / 3)
    }

    /// Returns whether it runs.
    pub fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    fn feed_now(&mut self) {
        if let Some(armed) = &mut self.armed {
            // Any byte but 'V'. If it fails, the reset is what the watchdog is for.
            let _ = armed.device.write_all(b"1");
            armed.fed = Instant::now();
        }
    }

    /// Stops the watchdog. One that cannot be stopped is fed by a thread of its own for as long as
    /// the machine runs, so that no slow erase ends in a reset.
    pub(super) fn disarm_or_keep_fed(&mut self) -> Result<(), PlatformError> {
        let Some(mut armed) = self.armed.take() else { return Ok(()) };
        if armed.can_stop {
            let stopped = armed.device.write_all(b"V");
            drop(armed);
            log::info!("watchdog stopped");
            return stopped.map_err(|source| PlatformError::File {
                action: "stop the watchdog",
                path: DEVICES[0].into(),
                source,
            });
        }
        log::warn!("this watchdog cannot be stopped; it is fed until the end");
        let feed = move || {
            loop {
                let _ = armed.device.write_all(b"1");
                std::thread::sleep(armed.timeout / 4);
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(feed);
        thread.map(drop).map_err(|source| PlatformError::File {
            action: "start a thread that feeds the watchdog",
            path: DEVICES[0].into(),
            source,
        })
    }
}

/// Returns the watchdog's name, and whether it can be stopped.
fn describe(device: &File) -> (String, bool) {
    let Ok(info) = syscall::watchdog_info(device.as_fd()) else {
        return ("(unnamed)".into(), false);
    };
    let end = info.identity.iter().position(|&byte| byte == 0).unwrap_or(info.identity.len());
    let name = String::from_utf8_lossy(&info.identity[..end]).into_owned();
    let is_forever = std::fs::read_to_string(NOWAYOUT).is_ok_and(|text| text.trim() == "1");
    (name, info.options & MAGIC_CLOSE != 0 && !is_forever)
}
