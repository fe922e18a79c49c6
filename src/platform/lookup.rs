//! Drives the DNS resolver: a fresh socket for each question, so that its port is a new one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Instant;

use rand_core::{OsRng, RngCore};

use super::modules::wait_readable;
use super::{PlatformError, Watchdogs};
use crate::net::dns::{DATAGRAM_SIZE_MAX, DnsError, Resolver, Transmit, Wanted};
use crate::time::Time;

/// Most datagrams taken at once.
const DATAGRAMS_PER_STEP_MAX: usize = 64;

pub(super) fn look_up(
    watchdogs: &mut Watchdogs,
    wanted: &Wanted,
    servers: &[IpAddr],
) -> Result<Result<Vec<SocketAddr>, DnsError>, PlatformError> {
    let origin = Instant::now();
    let now = || Time::from_micros(origin.elapsed().as_micros() as u64);
    let mut resolver = Resolver::new(wanted, servers, OsRng.next_u64(), now());
    let mut socket = None;
    loop {
        watchdogs.feed();
        if let Some(transmit) = resolver.poll_transmit() {
            // Without a way to this server the next one is asked when the wait is over.
            socket = send(&transmit)
                .inspect_err(|error| log::debug!("DNS: {}: {error}", transmit.destination))
                .ok();
        }
        if let Some(result) = resolver.poll_result() {
            return Ok(result);
        }
        let wake = Instant::now() + watchdogs.feed_interval();
        let deadline = resolver.poll_timeout().map(|time| origin + time.since(Time::ZERO));
        let descriptors: Vec<_> = socket.iter().map(UdpSocket::as_fd).collect();
        wait_readable(&descriptors, deadline.map_or(wake, |deadline| deadline.min(wake)))?;
        if let Some(socket) = &socket {
            receive(socket, |from, bytes| resolver.handle_datagram(now(), from, bytes));
        }
        resolver.handle_timeout(now());
    }
}

fn send(transmit: &Transmit) -> io::Result<UdpSocket> {
    let unspecified: IpAddr = match transmit.destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((unspecified, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(transmit.destination)?;
    socket.send(&transmit.bytes)?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, mut take: impl FnMut(SocketAddr, &[u8])) {
    let mut buffer = [0; DATAGRAM_SIZE_MAX + 1];
    for _ in 0..DATAGRAMS_PER_STEP_MAX {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { return };
        take(from, &buffer[..length]);
    }
}
