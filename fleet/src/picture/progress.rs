//! How many hosts are where.

use serde::Serialize;

use crate::model::AttemptState;

/// Hosts by what became of them so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Nobody has begun.
    pub planned: u64,
    /// A worker has them.
    pub in_flight: u64,
    /// The new firmware was seen.
    pub confirmed: u64,
    /// Ended otherwise.
    pub failed: u64,
    /// Will not be tried.
    pub skipped: u64,
}

impl Progress {
    /// Counts further hosts.
    pub fn add(&mut self, state: AttemptState, hosts: u64) {
        *match state {
            AttemptState::Planned => &mut self.planned,
            AttemptState::InFlight => &mut self.in_flight,
            AttemptState::Confirmed => &mut self.confirmed,
            AttemptState::Failed => &mut self.failed,
            AttemptState::Skipped => &mut self.skipped,
        } += hosts;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.planned + self.in_flight + self.ended()
    }

    /// Those that have ended, however.
    pub fn ended(&self) -> u64 {
        self.confirmed + self.failed + self.skipped
    }

    /// The part that has ended, in percent, rounded down; 100 where there is nobody.
    pub fn percent(&self) -> u64 {
        (self.ended() * 100).checked_div(self.total()).unwrap_or(100)
    }

    /// Returns it in words, what is zero left out.
    pub fn words(&self) -> String {
        let Self { planned, in_flight, confirmed, failed, skipped } = *self;
        let parts = [
            (confirmed, "confirmed"),
            (failed, "failed"),
            (in_flight, "in flight"),
            (planned, "planned"),
            (skipped, "skipped"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = parts.map(|(count, word)| format!("{count} {word}")).collect();
        if words.is_empty() { "no hosts".to_owned() } else { words.join(", ") }
    }
}
