//! How much of the agent's log there may be.

use std::time::Duration;

use log::warn;

use crate::session::RateLimit;
use crate::time::Time;

/// Maximum number of lines a second in the log, whatever managers ask.
pub const LOG_LINES_PER_SECOND: u32 = 5;

/// Minimum interval between log lines that count the datagrams that did not authenticate.
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

    /// Counts a datagram that brought nothing. The count is logged when such a datagram comes in
    /// and the last line is [`DROPPED_LOG_INTERVAL`] old, never by a timer.
    pub fn count_dropped(&mut self, now: Time) {
        self.dropped += 1;
        let is_due = |logged: Time| now.since(logged) >= DROPPED_LOG_INTERVAL;
        if self.dropped_logged.is_none_or(is_due) {
            warn!("{} datagrams dropped that are no message for this host", self.dropped);
            (self.dropped, self.dropped_logged) = (0, Some(now));
        }
    }
}
