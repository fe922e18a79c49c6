//! Where the agent's log goes: to syslog, or to stderr when run by hand.
//!
//! The connection to syslog exists only while a line is written, so that an idle agent holds
//! nothing but its UDP socket.

use std::io::{IsTerminal as _, Write as _, stderr};

use log::{Level, LevelFilter, Log, Metadata, Record};
use syslog::{Facility, Formatter3164};

/// Sends the log to stderr if that is a terminal or `foreground` is asked for, else to syslog;
/// panics too. Errors go to stderr in any case.
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
