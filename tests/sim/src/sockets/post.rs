//! The sockets: one for each host, and one that hears what is sent to all.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use firmcast::net::udp::{self, UdpOptions};
use firmcast::session::Transmit;
use firmcast::wire::DEFAULT_PORT;
use firmcast::wire::broadcast::DATAGRAM_SIZE_MAX;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use super::nth;

/// Maximum number of datagrams that are read before the hosts are looked after.
const RECEIVE_MAX: usize = 256;

/// Room for a stream while the process has no processor.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// To whom a datagram came.
pub(super) enum To {
    /// The host in this place.
    Host(usize),
    All,
}

pub(super) struct Post {
    poll: Poll,
    events: Events,
    sockets: Vec<UdpSocket>,
    broadcast: UdpSocket,
}

impl Post {
    /// Opens the sockets of so many hosts, whose addresses follow `first`.
    pub(super) fn open(first: Ipv4Addr, hosts: usize, broadcast: Ipv4Addr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let open = |address, token| {
            let options = UdpOptions {
                receive_buffer_bytes: Some(RECEIVE_BUFFER_BYTES),
                ..UdpOptions::at(SocketAddr::new(Ipv4Addr::into(address), DEFAULT_PORT))
            };
            let mut socket = udp::open(&options).map_err(io::Error::other)?;
            poll.registry().register(&mut socket, Token(token), Interest::READABLE)?;
            Ok::<_, io::Error>(socket)
        };
        let sockets = (0..hosts).map(|place| open(nth(first, place), place));
        let sockets = sockets.collect::<Result<_, _>>()?;
        let broadcast = open(broadcast, hosts)?;
        Ok(Self { poll, events: Events::with_capacity(1024), sockets, broadcast })
    }

    /// Waits until something arrives, but not for longer than this.
    pub(super) fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(at_most)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            polled => polled,
        }
    }

    /// Hands out what has arrived, and returns whether there may be more.
    pub(super) fn receive(&self, mut take: impl FnMut(To, SocketAddr, &[u8])) -> bool {
        let mut buffer = [0; DATAGRAM_SIZE_MAX];
        let mut read = 0;
        let all = std::iter::once((&self.broadcast, None));
        let each = self.sockets.iter().enumerate().map(|(place, socket)| (socket, Some(place)));
        for (socket, place) in all.chain(each) {
            // Errors tell of datagrams that did not arrive.
            while read < RECEIVE_MAX
                && let Ok((size, from)) = socket.recv_from(&mut buffer)
            {
                read += 1;
                take(place.map_or(To::All, To::Host), from, &buffer[..size]);
            }
        }
        read == RECEIVE_MAX
    }

    /// Sends what a host wants to send. What does not leave is lost, as on any network.
    pub(super) fn send(&self, place: usize, transmits: &[Transmit]) {
        for Transmit { to, bytes } in transmits {
            let _ = self.sockets[place].send_to(bytes, *to);
        }
    }
}
