//! Where the agent's log goes: to syslog, or to stderr when run by hand.
//!
//! The connection to syslog exists only while a line is written, so that an idle agent holds
//! nothing but its UDP socket.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write, stderr};

use log::{Level, LevelFilter, Log, Metadata, Record};
use syslog::{Facility, LogFormat, Severity};

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
        let written = syslog::unix(Unstamped).and_then(|mut syslog| match record.level() {
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

/// Lines without a time: whoever takes a line from the local socket stamps it, in the machine's own
/// time zone (RFC 3164, section 4.3.2), which a static program does not know.
#[derive(Clone, Copy)]
struct Unstamped;

impl<T: Display> LogFormat<T> for Unstamped {
    fn format<W: Write>(&self, to: &mut W, severity: Severity, said: T) -> syslog::Result<()> {
        let priority = Facility::LOG_DAEMON as u8 | severity as u8;
        let pid = std::process::id();
        write!(to, "<{priority}>firmcastd[{pid}]: {said}").map_err(syslog::Error::Write)
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// journald, rsyslog and busybox read the name behind the priority when no time is there.
    #[test]
    fn a_line_has_priority_name_and_process() {
        let mut line = Vec::new();
        Unstamped.warning(&mut line, "the chip is locked").unwrap();
        let pid = std::process::id();
        let expected = format!("<28>firmcastd[{pid}]: the chip is locked");
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}
