//! Asks the name servers, and waits for them. Nothing else happens meanwhile: the host has nobody to talk to yet.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rand_core::{OsRng, RngCore as _};

use crate::net::dns::{DATAGRAM_SIZE_MAX, Resolver, Transmit, Wanted};
use crate::time::Time;

/// The shortest wait for an answer: a read timeout of zero would wait for ever.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// The addresses that are looked for.
pub(super) fn resolve(wanted: &Wanted, servers: &[IpAddr]) -> Result<Vec<SocketAddr>, String> {
    let started = Instant::now();
    let now = || Time::ZERO + started.elapsed();
    let seed = OsRng.next_u64();
    let mut resolver = Resolver::new(wanted, servers, seed, now());
    let mut socket = None;
    loop {
        if let Some(result) = resolver.poll_result() {
            return result.map_err(|error| error.to_string());
        }
        if let Some(transmit) = resolver.poll_transmit() {
            // What cannot be sent is asked again, of the next server.
            socket = send(&transmit).ok();
        }
        let Some(deadline) = resolver.poll_timeout() else {
            return Err("the search ended without a result".into());
        };
        let wait = deadline.since(now()).max(WAIT_MIN);
        match &socket {
            Some(socket) => receive(socket, wait, |from, bytes| {
                resolver.handle_datagram(now(), from, bytes);
            }),
            None => std::thread::sleep(wait),
        }
        resolver.handle_timeout(now());
    }
}

/// From a socket of its own, whose port the kernel chooses.
fn send(transmit: &Transmit) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match transmit.destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.send_to(&transmit.bytes, transmit.destination)?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, wait: Duration, take: impl FnOnce(SocketAddr, &[u8])) {
    let mut buffer = [0; DATAGRAM_SIZE_MAX];
    let received = socket.set_read_timeout(Some(wait)).and_then(|()| socket.recv_from(&mut buffer));
    match received {
        Ok((size, from)) => take(from, &buffer[..size]),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        // A message that bounced; a wait keeps an interface that is down from using up the tries at once.
        Err(_) => std::thread::sleep(wait),
    }
}
