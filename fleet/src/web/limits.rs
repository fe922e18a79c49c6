//! Limits of the page.

use std::time::Duration;

/// Maximum number of connections at a time; more wait in the kernel.
pub const CONNECTIONS_MAX: usize = 11_000;

/// Maximum number of bytes of a request's head, and of what waits to be sent on a connection beyond
/// the answer itself.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Maximum number of header fields of a request.
pub const HEADERS_MAX: usize = 64;

/// Maximum number of bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long an answer may take until it begins.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);

/// How long Prometheus waits for the store: less than for us, so that it hears that the store is
/// away.
pub const METRICS_TIME: Duration = Duration::from_secs(8);

/// How long nobody is accepted after the machine had no room for another connection.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Number of threads that ask the store, each with a connection of its own.
pub const STORE_THREADS: usize = 4;

/// Maximum number of questions that wait for such a thread.
pub const STORE_QUEUE_MAX: usize = 64;

/// Maximum number of rollouts that are listed, the newest ones.
pub const ROLLOUTS_MAX: usize = 500;

/// How long clients are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To send a request's head; also how long a connection may be idle.
    pub head: Duration,
    /// To take a further byte of an answer.
    pub write: Duration,
    /// To end, when the program was told to stop.
    pub stop: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [head, write, stop] = [15, 20, 5].map(Duration::from_secs);
        Self { head, write, stop }
    }
}
