//! One session: keys, the counter of what was sent, protection from replay of what is received.

use std::net::SocketAddr;
use std::time::Duration;

use snow::StatelessTransportState;

use super::window::ReplayWindow;
use crate::time::Time;
use crate::wire::datagram::{MAC_SIZE, Transport};

/// How long a session may be used.
const SESSION_LIFETIME: Duration = Duration::from_secs(3 * 3600);

#[derive(Debug)]
pub(super) struct Session {
    pub(super) index: u32,
    peer_index: u32,
    keys: StatelessTransportState,
    counter: u64,
    window: ReplayWindow,
    end: Time,
    /// Where the peer is: where it was called, or where the answer to its call went. Its first
    /// message has proved that it is there. It stays there: whoever moves opens another session.
    pub(super) address: SocketAddr,
}

impl Session {
    pub(super) fn new(
        now: Time,
        index: u32,
        peer_index: u32,
        keys: StatelessTransportState,
        address: SocketAddr,
    ) -> Self {
        let (window, end) = (ReplayWindow::default(), now + SESSION_LIFETIME);
        Self { index, peer_index, keys, counter: 0, window, end, address }
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        now >= self.end
    }

    /// Returns the datagram with a sealed message.
    pub(super) fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = vec![0; message.len() + MAC_SIZE];
        self.keys.write_message(self.counter, message, &mut sealed).ok()?;
        let datagram = Transport { receiver: self.peer_index, counter: self.counter, sealed };
        self.counter += 1;
        Some(datagram.emit())
    }

    /// Whether a message was opened that the peer sealed behind this one.
    pub(super) fn has_overtaken(&self, counter: u64) -> bool {
        self.window.is_late(counter)
    }

    /// Opens a message that is authentic, and was not opened before.
    pub(super) fn open(&mut self, now: Time, datagram: &Transport) -> Option<Vec<u8>> {
        if self.is_over(now) || !self.window.is_fresh(datagram.counter) {
            return None;
        }
        let mut message = vec![0; datagram.sealed.len()];
        let length =
            self.keys.read_message(datagram.counter, &datagram.sealed, &mut message).ok()?;
        self.window.accept(datagram.counter);
        message.truncate(length);
        Some(message)
    }
}
