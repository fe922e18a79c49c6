//! All watchdogs of the machine: those of sysfs, one of an old driver, the BMC's.
//!
//! ```text
//! Asleep --arm()--> Waiting: fed by the loop, a hang ends in a reset
//!    |                 |
//!    '-----------------+--quieten()--> Quiet: stopped, or fed by a thread of its own
//! ```
//!
//! The thread feeds whatever the flash does: it sleeps a quarter of the shortest time, and a single
//! erase, which is all that the kernel may be busy with, takes less than that.

use std::path::Path;
use std::time::Duration;

use super::bmc_timer::BmcTimer;
use super::watchdog::Armed;
use crate::host::watchdogs::{Watchdog, Watchdogs as Found};

/// How often recovery looks after watchdogs when there is none: nothing depends on it.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// What watchdogs of old drivers are called.
const OLD: &str = "watchdog";

/// The watchdogs, or the lack of them.
#[derive(Debug, Default)]
pub struct Watchdogs {
    armed: Vec<Armed>,
    /// Names of those that were opened once: they are armed, stopped, or with the thread.
    met: Vec<String>,
    bmc: BmcTimer,
}

impl Watchdogs {
    /// Arms every hardware watchdog: some that nobody has started run all the same, since the
    /// kernel of before. Feeds the BMC's if it runs.
    pub(super) fn arm(&mut self) {
        self.bmc.look();
        for problem in self.open_all(Path::new("/")) {
            log::warn!("{problem}");
        }
        if self.armed.is_empty() {
            log::info!("no hardware watchdog");
        }
    }

    /// Feeds the BMC's watchdog from now on, if it runs, and leaves all others alone.
    pub(super) fn tend_bmc(&mut self) {
        self.bmc.look();
    }

    /// Puts the reset off, unless that has just been done.
    pub fn feed(&mut self) {
        self.armed.iter_mut().for_each(Armed::feed);
        self.bmc.feed();
    }

    /// Returns how often to call [`Watchdogs::feed`].
    pub fn feed_interval(&self) -> Duration {
        let own = self.armed.iter().map(|armed| armed.timeout / 3);
        own.chain(self.bmc.feed_interval()).min().unwrap_or(IDLE_INTERVAL)
    }

    /// Returns whether one runs and is fed by [`Watchdogs::feed`].
    pub fn is_armed(&self) -> bool {
        !self.armed.is_empty()
    }

    /// Stops all of them. One that cannot be stopped is fed by a thread of its own for as long as
    /// the machine runs.
    ///
    /// # Errors
    /// Which ones may reset the machine, and why.
    pub(super) fn quieten(&mut self) -> Result<(), String> {
        let root = Path::new("/");
        let mut problems = self.open_all(root);
        let mut fed = Vec::new();
        for armed in std::mem::take(&mut self.armed) {
            let (armed, result) = armed.stop(root);
            fed.extend(armed);
            problems.extend(result.err());
        }
        if let Err(error) = feed_by_thread(fed) {
            problems.push(format!("no thread to feed the watchdog: {error}"));
        }
        problems.extend(self.bmc.stop().err());
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems.join("; ")),
        }
    }

    /// Opens those that are not open yet; tells what was in the way.
    fn open_all(&mut self, root: &Path) -> Vec<String> {
        let found = Found::of(root);
        let shown = found.shown.iter().map(|watchdog| (watchdog.name.as_str(), Some(watchdog)));
        // The BMC's is handled without its driver.
        let old = (found.has_old && !found.is_old_of_bmc).then_some((OLD, None));
        shown.chain(old).filter_map(|(name, shown)| self.open(name, shown).err()).collect()
    }

    /// Opens one unless that was done before.
    fn open(&mut self, name: &str, shown: Option<&Watchdog>) -> Result<(), String> {
        if self.met.iter().any(|met| met == name) {
            return Ok(());
        }
        let path = Path::new("/dev").join(name);
        let failed = |error| format!("{} cannot be opened: {error}", path.display());
        self.armed.push(Armed::open(&path, shown).map_err(failed)?);
        self.met.push(name.to_owned());
        Ok(())
    }
}

fn feed_by_thread(mut fed: Vec<Armed>) -> std::io::Result<()> {
    let Some(shortest) = fed.iter().map(|armed| armed.timeout).min() else { return Ok(()) };
    let feed = move || {
        loop {
            fed.iter_mut().for_each(Armed::feed_now);
            std::thread::sleep(shortest / 4);
        }
    };
    std::thread::Builder::new().name("watchdog".into()).spawn(feed).map(drop)
}
