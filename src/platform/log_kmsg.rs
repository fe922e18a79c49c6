//! The log of recovery: lines in the kernel's log, which shows them on every console and keeps them
//! for `dmesg`.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Longest line in bytes; the kernel cuts at 1024 with its own prefix.
const LINE_LENGTH_MAX: usize = 900;

/// Lets the kernel take every line; by default it drops more than ten in five seconds.
const RATE_SWITCH: &str = "/proc/sys/kernel/printk_devkmsg";

struct KernelLog {
    device: Option<File>,
}

static LOGGER: OnceLock<KernelLog> = OnceLock::new();

/// Sends the log of this process to the kernel's log, or to the standard error output where there
/// is none. Later calls, and calls after another logger was installed, change nothing.
pub(super) fn install() {
    // Refused where the command line has fixed it; then a burst of lines is cut.
    let _ = std::fs::write(RATE_SWITCH, "on\n");
    let device = OpenOptions::new().write(true).open("/dev/kmsg").ok();
    let logger = LOGGER.get_or_init(|| KernelLog { device });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for KernelLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line_of(record.level(), record.args());
        let written = match &self.device {
            Some(device) => (&mut &*device).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
        // There is no place left to tell that the log cannot be written.
        let _ = written;
    }

    fn flush(&self) {}
}

/// One record for /dev/kmsg: the priority of `syslog(3)` in angle brackets, then one line.
fn line_of(level: Level, text: &std::fmt::Arguments<'_>) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 5,
        Level::Debug | Level::Trace => 7,
    };
    let mut line = format!("<{priority}>firmcast: ");
    // Writing to a string does not fail.
    let _ = write!(line, "{text}");
    let end = (0..=LINE_LENGTH_MAX.min(line.len())).rev().find(|&end| line.is_char_boundary(end));
    line.truncate(end.unwrap_or(0));
    let mut line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_single_and_bounded() {
        let line = line_of(Level::Warn, &format_args!("a\nb\x1b[2J"));
        assert_eq!(line, "<4>firmcast: a b [2J\n");
        let long = line_of(Level::Info, &format_args!("{}", "ä".repeat(2000)));
        assert!(long.len() <= LINE_LENGTH_MAX + 1 && long.ends_with('\n'));
    }
}
