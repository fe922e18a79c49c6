//! How long a sender waits for its hosts' answers.

use std::time::Duration;

use super::audience::HOSTS_MAX;

/// Time in the answer window for each host that is asked: 20,000 answers per second.
const ANSWER_SPACING_US: usize = 50;

/// The shortest and the longest answer window, in milliseconds.
const ANSWER_WINDOW_MS: std::ops::RangeInclusive<u64> = 2..=1_000;

/// How long answers may be under way behind the window: until measured, at least, and at most.
const GRACE_AT_FIRST: Duration = Duration::from_millis(100);
const GRACE_MIN: Duration = Duration::from_millis(5);
const GRACE_MAX: Duration = Duration::from_secs(1);
const _: () = assert!(HOSTS_MAX * ANSWER_SPACING_US < 1_000_000);

/// How often hosts are asked while fragments go out, at most: what they lack is known when all
/// source fragments are sent, and the stream goes on without a pause. Less often where answers take
/// longer, or come from very many hosts.
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// The wait for answers doubles with each fruitless round, this often and up to this.
const BACKOFF_DOUBLINGS_MAX: u32 = 10;
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Returns the time in which so many hosts answer, each at a random moment.
pub(super) fn window(hosts: usize) -> Duration {
    let millis = (hosts * ANSWER_SPACING_US / 1000) as u64;
    Duration::from_millis(millis.clamp(*ANSWER_WINDOW_MS.start(), *ANSWER_WINDOW_MS.end()))
}

/// What was seen of the answers.
#[derive(Debug, Default)]
pub(super) struct AnswerTimes {
    /// How long the quickest answer took since this was asked last.
    quickest: Option<Duration>,
    /// How long answers were seen to take lately, with some room, from the end of their window;
    /// none until measured.
    grace: Option<Duration>,
}

impl AnswerTimes {
    /// An answer came so long after its question, which gave it this window.
    pub(super) fn took(&mut self, took: Duration, window: Duration) {
        self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
        let late = took.saturating_sub(window) * 2;
        let slowest = self.grace.map_or(late, |grace| late.max(grace));
        self.grace = Some(slowest.clamp(GRACE_MIN, GRACE_MAX));
    }

    /// A question goes out: what was seen before counts less.
    pub(super) fn fade(&mut self) {
        self.grace = self.grace.map(|grace| (grace * 7 / 8).max(GRACE_MIN));
    }

    /// How long to wait for answers behind their window, after so many fruitless rounds.
    pub(super) fn wait(&self, fruitless_rounds: u32) -> Duration {
        let grace = self.grace.unwrap_or(GRACE_AT_FIRST);
        let wait = grace * 2u32.pow(fruitless_rounds.min(BACKOFF_DOUBLINGS_MAX));
        wait.min(WAIT_MAX)
    }

    /// How long after a question the next one goes out while fragments do.
    pub(super) fn ask_interval(&self, window: Duration) -> Duration {
        ASK_INTERVAL_MIN.max(window * 2).max(self.grace.unwrap_or_default())
    }

    /// How long the quickest answer took since this was asked last.
    pub(super) fn take_quickest(&mut self) -> Option<Duration> {
        self.quickest.take()
    }
}
