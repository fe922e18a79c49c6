//! One hardware watchdog: armed while a hang should end in the normal OS, off while it must not.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::syscall;
use crate::host::watchdogs::{FED_TIMEOUT_MIN_S, Watchdog};

/// What a watchdog is asked for, in seconds. Long enough for a loaded machine, short enough for an
/// operator.
pub const WATCHDOG_TIMEOUT_S: i32 = 60;

/// What one that cannot be stopped is asked for before the first erase, in seconds, where its
/// driver names no limit; the first that it takes counts.
const LONG_TIMEOUTS_S: [i32; 5] = [3600, 1200, 600, 300, 120];

/// `WDIOF_MAGICCLOSE`: stops when 'V' is written before it is closed.
const MAGIC_CLOSE: u32 = 0x0100;

/// A watchdog that this process has opened, and thereby armed.
#[derive(Debug)]
pub(super) struct Armed {
    device: File,
    path: PathBuf,
    name: String,
    /// In sysfs; none for one that sysfs does not show.
    shown: Option<String>,
    pub(super) timeout: Duration,
    fed: Instant,
    can_stop: bool,
}

impl Armed {
    /// Opens the watchdog at `path`, which arms it, with the usual time. `shown` is what sysfs says
    /// of it.
    pub(super) fn open(path: &Path, shown: Option<&Watchdog>) -> io::Result<Self> {
        let device = OpenOptions::new().write(true).open(path)?;
        let (name, has_magic_close) = describe(&device, path);
        let is_way_out = shown.is_some_and(|shown| shown.is_nowayout == Some(false));
        let mut armed = Self {
            device,
            path: path.to_owned(),
            name,
            shown: shown.map(|shown| shown.name.clone()),
            timeout: Duration::from_secs(1),
            fed: Instant::now(),
            can_stop: has_magic_close && is_way_out,
        };
        armed.feed_now();
        armed.set_timeout(&[WATCHDOG_TIMEOUT_S]);
        log::info!("watchdog {} armed, {} s", armed.name, armed.timeout.as_secs());
        armed.feed_now();
        Ok(armed)
    }

    /// Sets the first of these times that the driver takes. One that takes none keeps its own, at
    /// least one second.
    fn set_timeout(&mut self, wanted_s: &[i32]) {
        let set = |seconds: &i32| syscall::set_watchdog_timeout(self.device.as_fd(), *seconds).ok();
        let is = wanted_s.iter().find_map(set);
        let is = is.or_else(|| syscall::watchdog_timeout(self.device.as_fd()).ok());
        self.timeout = Duration::from_secs(is.map_or(1, |seconds| seconds.max(1)) as u64);
    }

    /// Puts the reset off, unless that has just been done.
    pub(super) fn feed(&mut self) {
        if self.fed.elapsed() >= self.timeout / 6 {
            self.feed_now();
        }
    }

    pub(super) fn feed_now(&mut self) {
        // Any byte but 'V'. If it fails, the reset is what the watchdog is for.
        let _ = self.device.write_all(b"1");
        self.fed = Instant::now();
    }

    /// Stops it. One that cannot be stopped comes back, with the longest time that it has; and the
    /// problem, if that is not long enough.
    pub(super) fn stop(self, root: &Path) -> (Option<Self>, Result<(), String>) {
        if !self.can_stop {
            return self.lengthen(root);
        }
        let Self { mut device, path, name, shown, .. } = self;
        let stopped = device.write_all(b"V");
        drop(device);
        let shown = shown.map(|name| Watchdog::of(root, name));
        if stopped.is_ok() && shown.as_ref().is_some_and(|shown| shown.is_active == Some(false)) {
            log::info!("watchdog stopped: {name}");
            return (None, Ok(()));
        }
        // Its driver, or the hardware itself, does not let it stop.
        log::warn!("watchdog {name} did not stop");
        match Self::open(&path, shown.as_ref()) {
            Ok(armed) => armed.lengthen(root),
            Err(error) => (None, Err(format!("{name} runs on: {error}"))),
        }
    }

    fn lengthen(mut self, root: &Path) -> (Option<Self>, Result<(), String>) {
        let shown = self.shown.clone().map(|name| Watchdog::of(root, name));
        let longest = shown.and_then(|shown| i32::try_from(shown.max_timeout_s?).ok());
        let wanted: Vec<i32> = longest.into_iter().chain(LONG_TIMEOUTS_S).collect();
        self.set_timeout(&wanted);
        self.feed_now();
        let (name, seconds) = (&self.name, self.timeout.as_secs());
        if seconds >= u64::from(FED_TIMEOUT_MIN_S) {
            log::warn!("watchdog {name} cannot be stopped; it is fed, {seconds} s");
            return (Some(self), Ok(()));
        }
        let problem = format!(
            "{name} cannot be stopped, and its time is {seconds} s, less than {FED_TIMEOUT_MIN_S} s"
        );
        (Some(self), Err(problem))
    }
}

/// Returns the watchdog's name, and whether its driver has a way to stop it.
fn describe(device: &File, path: &Path) -> (String, bool) {
    let file = path.display();
    let Ok(info) = syscall::watchdog_info(device.as_fd()) else {
        return (file.to_string(), false);
    };
    let end = info.identity.iter().position(|&byte| byte == 0).unwrap_or(info.identity.len());
    let identity = String::from_utf8_lossy(&info.identity[..end]);
    (format!("{identity} ({file})"), info.options & MAGIC_CLOSE != 0)
}
