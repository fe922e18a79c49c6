//! Limits of the page.

use std::time::Duration;

use crate::rollout::file::FILE_BYTES_MAX;

/// Maximum number of connections at a time; more wait in the kernel.
pub const CONNECTIONS_MAX: usize = 11_000;

/// Maximum number of bytes of a request's head, and of what waits to be sent on a connection beyond
/// the answer itself.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Maximum number of header fields of a request.
pub const HEADERS_MAX: usize = 64;

/// Maximum number of bytes of a form, and of a request to the API that has no rollout file in it.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Maximum number of bytes of a rollout file as a JSON string and what stands around it: as ASCII,
/// which some programs write, letters of two bytes take six.
pub const ROLLOUT_BODY_BYTES_MAX: usize = 3 * FILE_BYTES_MAX + BODY_BYTES_MAX;

/// How long Prometheus waits for the store: less than [`Patience::request`], so that it hears that
/// the store is away.
pub const METRICS_TIME: Duration = Duration::from_secs(8);

/// How long nobody is accepted after the machine had no room for another connection.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Number of threads that ask the store, each with a connection of its own.
pub const STORE_THREADS: usize = 4;

/// Maximum number of questions that wait for such a thread.
pub const STORE_QUEUE_MAX: usize = 64;

/// Maximum number of hosts that have a cell each; of more the racks are shown.
pub const CELLS_MAX: usize = 20_000;

/// How long what was read of a rollout is shown when nothing happens, in microseconds.
pub const SEEN_KEPT_US: i64 = 5_000_000;

/// How long it is believed where the hosts stand, in microseconds.
pub const RACKS_KEPT_US: i64 = 30_000_000;

/// Maximum number of rollouts of which is kept what was read.
pub const ROLLOUTS_KEPT_MAX: usize = 16;

/// Maximum number of attempts of a host that are shown, the last ones.
pub const ATTEMPTS_SHOWN_MAX: usize = 100;

/// Maximum number of cells that stand for the hosts of a rack.
pub const STRIP_CELLS_MAX: usize = 48;

/// After how many seconds a page without script is loaded again.
pub const RELOAD_S: u32 = 15;

/// Maximum number of dead hosts that are shown.
pub const CALLS_SHOWN_MAX: usize = 1000;

/// Maximum number of events on one page.
pub const EVENTS_SHOWN_MAX: usize = 200;

/// Maximum number of streams of events at a time: pages have the other connections.
pub const STREAMS_MAX: usize = 10_000;

/// Maximum number of bulletins that a stream may be behind before it is dropped.
pub const BEHIND_MAX: usize = 256;

/// Maximum number of bulletins that are kept for those who connect again.
pub const BULLETINS_KEPT_MAX: usize = 512;

/// Maximum number of cells in a bulletin; when more changed, pages read their grid anew.
pub const CELLS_TOLD_MAX: usize = 200;

/// Shortest time between two bulletins.
pub const BULLETIN_PAUSE: Duration = Duration::from_millis(250);

/// How long who follows the store waits at a time.
pub const FOLLOW_WAIT: Duration = Duration::from_secs(5);

/// After how long the store is tried again when it failed.
pub const FOLLOW_RETRY: Duration = Duration::from_secs(1);

/// How long a stream may be silent before it shows that it is there.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);

/// After how many milliseconds a browser connects again at the earliest; at the latest after twice
/// that.
pub const RECONNECT_MS: u32 = 2000;

/// Number of different times after which browsers connect again.
pub const RECONNECT_STEPS: u32 = 64;

/// How long clients are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To send a request's head; also how long a connection may be idle.
    pub head: Duration,
    /// To send a request's body, and for us to begin the answer.
    pub request: Duration,
    /// To take a further byte of an answer.
    pub write: Duration,
    /// To end, when the program was told to stop.
    pub stop: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [head, request, write, stop] = [15, 10, 20, 5].map(Duration::from_secs);
        Self { head, request, write, stop }
    }
}
