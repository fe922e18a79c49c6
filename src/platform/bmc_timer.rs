//! The BMC's watchdog timer in recovery. The kernel of before may have armed it when it left
//! (`ipmi_watchdog`: 120 s, reset), and nobody else knows.

use std::time::{Duration, Instant};

use crate::bmc::{BmcError, watchdog};

/// Shortest time that the timer is left with, in seconds: recovery may be busy for some of it.
const TIMEOUT_MIN_S: u16 = 60;

/// What a timer with less gets, in seconds.
const TIMEOUT_S: u16 = 120;

/// How often a BMC is looked for, whose driver may still be on its way.
const LOOKS_MAX: u32 = 12;

/// Interval between these looks, and between tries of a BMC that does not answer.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What is known of the timer.
#[derive(Debug, Default)]
pub(super) struct BmcTimer {
    state: State,
    looks: u32,
    done: Option<Instant>,
}

#[derive(Debug, Default)]
enum State {
    /// No BMC was there.
    #[default]
    Absent,
    /// It does not run.
    Idle,
    /// It runs, and is fed.
    Runs { timeout: Duration },
    /// The BMC did not answer.
    Unknown,
}

impl BmcTimer {
    /// Looks whether the timer runs, and feeds it then.
    pub(super) fn look(&mut self) {
        self.looks += 1;
        self.done = Some(Instant::now());
        self.state = match watchdog::timer() {
            Ok(None) if watchdog::is_there() => State::Idle,
            Ok(None) => State::Absent,
            Ok(Some(timer)) if timer.is_running => {
                log::info!("the BMC's watchdog {timer}; it is fed");
                let timeout_s = timer.timeout_s().max(TIMEOUT_MIN_S);
                let (fed, timeout_s) = match timer.timeout_s() < TIMEOUT_MIN_S {
                    true => (watchdog::set_timer(&timer, TIMEOUT_S), TIMEOUT_S),
                    false => (watchdog::feed_timer(), timeout_s),
                };
                tell(fed);
                State::Runs { timeout: Duration::from_secs(timeout_s.into()) }
            }
            Ok(Some(_)) => State::Idle,
            Err(error) => {
                log::warn!("the BMC's watchdog: {}", error.in_full());
                State::Unknown
            }
        };
    }

    /// Feeds the timer when it is due, or looks for it again.
    pub(super) fn feed(&mut self) {
        let Some(done) = self.done else { return };
        let is_due = self.interval().is_some_and(|interval| done.elapsed() >= interval);
        match self.state {
            _ if !is_due => {}
            State::Runs { .. } => {
                self.done = Some(Instant::now());
                tell(watchdog::feed_timer());
            }
            State::Absent | State::Unknown => self.look(),
            State::Idle => {}
        }
    }

    /// Returns how often to call [`BmcTimer::feed`].
    pub(super) fn feed_interval(&self) -> Option<Duration> {
        self.done.and(self.interval())
    }

    fn interval(&self) -> Option<Duration> {
        match self.state {
            State::Runs { timeout } => Some(timeout / 6),
            State::Absent | State::Unknown if self.looks < LOOKS_MAX => Some(LOOK_INTERVAL),
            State::Absent | State::Unknown | State::Idle => None,
        }
    }

    /// Stops the timer, whatever was known of it.
    ///
    /// # Errors
    /// It may run on; why.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        watchdog::stop_timer()
            .map_err(|error| format!("the BMC's watchdog: {}", error.in_full()))?;
        if let State::Runs { .. } = self.state {
            log::info!("watchdog stopped: the BMC's");
        }
        // Nobody but this process starts it from here on.
        (self.state, self.done) = (State::Idle, None);
        Ok(())
    }
}

fn tell(fed: Result<(), BmcError>) {
    if let Err(error) = fed {
        log::warn!("cannot feed the BMC's watchdog: {}", error.in_full());
    }
}
