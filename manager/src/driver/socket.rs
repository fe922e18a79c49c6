//! The manager's one UDP socket: opened for its hosts, and read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use firmcast::net::udp::{self, UdpOptions};
use firmcast::wire::broadcast::DATAGRAM_SIZE_MAX;
use mio::net::UdpSocket;

use super::stderr;

/// Room in the socket for the answers of many hosts at once.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// Room for a few milliseconds of the stream.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Most datagrams that are read before something is sent again.
const RECEIVE_MAX: usize = 4096;

/// Opens the socket at `listen`; tells the operator who is not heard there.
pub(crate) fn listen(listen: SocketAddr) -> anyhow::Result<UdpSocket> {
    if let Some(warning) = who_is_not_heard(listen) {
        stderr::tell(warning);
    }
    let options = UdpOptions {
        receive_buffer_bytes: Some(RECEIVE_BUFFER_BYTES),
        send_buffer_bytes: Some(SEND_BUFFER_BYTES),
        ..UdpOptions::at(listen)
    };
    udp::open(&options).with_context(|| format!("cannot use UDP at {listen}"))
}

/// Nobody who broadcasts, unless the socket is at all addresses. Loopback has no broadcasts.
fn who_is_not_heard(listen: SocketAddr) -> Option<String> {
    let hears_all = listen.ip().is_unspecified() || listen.ip().is_loopback();
    (!hears_all).then(|| {
        format!(
            "WARNING: at {listen} alone no broadcast arrives: dead hosts that call everybody are \
             not heard; listen at 0.0.0.0, or tell them this address (docs/BOOT.md)"
        )
    })
}

/// Opens the socket at `port`, 0 for any, in the family of `peers`.
pub(crate) fn open(port: u16, peers: &[SocketAddr]) -> anyhow::Result<UdpSocket> {
    let ipv6 = peers.iter().any(SocketAddr::is_ipv6);
    ensure!(
        !ipv6 || peers.iter().all(SocketAddr::is_ipv6),
        "some hosts have IPv4 and some IPv6 addresses; update them one after the other"
    );
    let any: IpAddr =
        if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    listen(SocketAddr::new(any, port)).map_err(|error| {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        match kind == Some(io::ErrorKind::AddrInUse) {
            true => error.context("the port is taken; choose another one with --port"),
            false => error,
        }
    })
}

/// Gives what has arrived to `take`; what the operator must know, when the socket does not work.
pub(crate) fn receive(
    socket: &UdpSocket,
    mut take: impl FnMut(SocketAddr, &[u8]),
) -> Option<String> {
    let mut buffer = [0; DATAGRAM_SIZE_MAX];
    for _ in 0..RECEIVE_MAX {
        match socket.recv_from(&mut buffer) {
            Ok((size, from)) => take(from, &buffer[..size]),
            // The network says that an earlier datagram did not arrive.
            Err(error) if is_network_error(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => return Some(format!("cannot receive: {error}")),
        }
    }
    None
}

/// Whether an error of the socket tells of the network rather than of the socket itself: it may be
/// better later.
pub(crate) fn is_network_error(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable | Interrupted
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_where_no_broadcast_arrives_is_told() {
        let told = |at: &str| who_is_not_heard(at.parse().unwrap()).is_some();
        assert!(told("192.0.2.1:9848") && told("[2001:db8::1]:9848"));
        assert!(!told("0.0.0.0:9848") && !told("[::]:9848") && !told("127.0.0.1:9848"));
    }

    #[test]
    fn hosts_of_both_families_do_not_fit_one_socket() {
        let mixed = ["10.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
        assert!(open(0, &mixed).is_err());
    }
}
