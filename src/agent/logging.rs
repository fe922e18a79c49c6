//! Where the agent's log goes: to syslog, or to stderr when run by hand; and how much of it there may be.
//!
//! The connection to syslog exists only while a line is written, so that an idle agent holds nothing but its UDP socket.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record, warn};
use syslog::{Facility, Formatter3164};

use crate::session::RateLimit;
use crate::time::Time;

/// Most lines a second in the log, whatever managers ask.
pub const LOG_LINES_PER_SECOND: u32 = 5;

/// How often, at most, the log counts the datagrams that did not authenticate.
pub const DROPPED_LOG_INTERVAL: Duration = Duration::from_secs(600);

/// Keeps peers from filling the log. Sans-IO.
#[derive(Debug)]
pub struct LogBudget {
    limit: RateLimit,
    dropped: u64,
    dropped_logged: Option<Time>,
}

impl Default for LogBudget {
    fn default() -> Self {
        Self { limit: RateLimit::new(LOG_LINES_PER_SECOND), dropped: 0, dropped_logged: None }
    }
}

impl LogBudget {
    /// Writes a line if there is room for it now.
    pub fn line(&mut self, now: Time, write: impl FnOnce()) {
        if self.limit.take(now) {
            write();
        }
    }

    /// Counts a datagram that brought nothing. The count is logged when such a datagram comes in and the last line is
    /// [`DROPPED_LOG_INTERVAL`] old, never by a timer.
    pub fn count_dropped(&mut self, now: Time) {
        self.dropped += 1;
        let is_due = |logged: Time| now.since(logged) >= DROPPED_LOG_INTERVAL;
        if self.dropped_logged.is_none_or(is_due) {
            warn!("{} datagrams dropped that are no message for this host", self.dropped);
            (self.dropped, self.dropped_logged) = (0, Some(now));
        }
    }
}

/// Sends the log to stderr if that is a terminal or `foreground` is asked for, else to syslog; panics too. Errors go to
/// stderr in any case.
pub fn start(foreground: bool) {
    let logger: &'static dyn Log =
        if foreground || stderr().is_terminal() { &StderrLog } else { &SyslogLog };
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
        std::panic::set_hook(Box::new(|panic| log::error!("firmcastd has a bug: {panic}")));
    }
}

/// Libraries have nothing to say to an operator.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("firmcast")
}

struct StderrLog;

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(stderr(), "firmcastd: {}: {}", word(record.level()), record.args());
    }

    fn flush(&self) {}
}

struct SyslogLog;

impl Log for SyslogLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let formatter = Formatter3164 {
            facility: Facility::LOG_DAEMON,
            hostname: None,
            process: "firmcastd".into(),
            pid: std::process::id(),
        };
        let written = syslog::unix(formatter).and_then(|mut syslog| match record.level() {
            Level::Error => syslog.err(record.args()),
            Level::Warn => syslog.warning(record.args()),
            _ => syslog.info(record.args()),
        });
        // Whoever starts firmcastd by a script sees at once why it does not start.
        if written.is_err() || record.level() == Level::Error {
            StderrLog.log(record);
        }
    }

    fn flush(&self) {}
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        _ => "info",
    }
}
