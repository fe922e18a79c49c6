//! Brings datagrams to the socket, many at a time, and waits when the socket has no room.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use firmcast::net::batch_sender::{BatchSender, SEND_BATCH_MAX};
use firmcast::time::Time;
use firmcast_manager::campaign::{Destination, Transmit};
use mio::net::UdpSocket;

/// Most datagrams that are sent before the socket is read again.
const TURN_MAX: usize = 16 * SEND_BATCH_MAX;

/// Gives the next datagram to send, if there is one now.
pub(crate) type Source<'a> = dyn FnMut(Time) -> Option<Transmit> + 'a;

/// How long to wait when the socket or the interface has no room.
const PAUSE: Duration = Duration::from_millis(2);

/// Warnings about the network follow each other after this.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// What wants to be sent and the socket has not taken yet: one batch for one destination.
pub(crate) struct Sender {
    batches: BatchSender,
    group: Option<SocketAddr>,
    batch: Vec<Vec<u8>>,
    to: Option<SocketAddr>,
    /// The datagram that did not fit the batch, because it goes elsewhere.
    next: VecDeque<(SocketAddr, Vec<u8>)>,
    paused_until: Option<Time>,
    warned: Option<Time>,
}

impl Sender {
    pub(crate) fn new(group: Option<SocketAddr>) -> Self {
        Self {
            batches: BatchSender::new(),
            group,
            batch: Vec::new(),
            to: None,
            next: VecDeque::new(),
            paused_until: None,
            warned: None,
        }
    }

    /// When there is something to send again that the socket did not take.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.paused_until
    }

    /// Sends what `source` has; gives a warning for the operator when the network does not work.
    pub(crate) fn send(
        &mut self,
        now: Time,
        source: &mut Source<'_>,
        socket: &UdpSocket,
    ) -> Option<String> {
        if self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        self.paused_until = None;
        let mut warning = None;
        for _ in 0..TURN_MAX / SEND_BATCH_MAX {
            self.fill(now, source);
            let to = self.to?;
            match self.batches.send(socket, to, &self.batch) {
                Ok(count) => drop(self.batch.drain(..count.max(1).min(self.batch.len()))),
                Err(error) if has_no_room(&error) => {
                    self.paused_until = Some(now + PAUSE);
                    return warning;
                }
                // As if the network had lost them: what matters is sent again until its deadline.
                Err(error) => {
                    self.batch.clear();
                    warning = self.warning(now, to, &error).or(warning);
                }
            }
        }
        // There may be more: after the socket was read.
        self.paused_until = Some(now);
        warning
    }

    /// Gathers datagrams that go to one destination.
    fn fill(&mut self, now: Time, source: &mut Source<'_>) {
        if self.batch.is_empty() {
            self.to = None;
        }
        while self.batch.len() < SEND_BATCH_MAX {
            let Some((to, bytes)) = self.next.pop_front().or_else(|| self.poll(now, source)) else {
                return;
            };
            if *self.to.get_or_insert(to) != to {
                self.next.push_front((to, bytes));
                return;
            }
            self.batch.push(bytes);
        }
    }

    fn poll(&self, now: Time, source: &mut Source<'_>) -> Option<(SocketAddr, Vec<u8>)> {
        loop {
            let transmit = source(now)?;
            let to = match transmit.destination {
                Destination::Host(address) => Some(address),
                Destination::Group => self.group,
            };
            if let Some(to) = to {
                return Some((to, transmit.bytes));
            }
        }
    }

    fn warning(&mut self, now: Time, to: SocketAddr, error: &io::Error) -> Option<String> {
        if self.warned.is_some_and(|warned| now.since(warned) < WARNING_INTERVAL) {
            return None;
        }
        self.warned = Some(now);
        Some(format!("cannot send to {to}: {error}; trying on until the deadlines"))
    }
}

fn has_no_room(error: &io::Error) -> bool {
    let no_buffers = error.raw_os_error() == Some(nix::libc::ENOBUFS);
    no_buffers || matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
