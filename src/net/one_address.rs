//! A host's socket at one IPv4 address, which hears broadcasts too.
//!
//! A socket that is bound to an address gets nothing that was sent to another one, and so no
//! broadcast: no discovery would find the host. This one is bound to all addresses. A filter in the
//! kernel (`SO_ATTACH_FILTER`, socket(7)) drops what is neither a broadcast nor for the address.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use mio::net::UdpSocket;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::NetError;
use super::udp::{self, UdpOptions};

/// Classic BPF (linux/bpf_common.h): load a word from a place, compare, return.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Place of the destination in the IPv4 header (`SKF_NET_OFF` of linux/filter.h, RFC 791).
const DESTINATION: u32 = 0xfff0_0000 + 16;
/// Place of the packet's type (`SKF_AD_OFF + SKF_AD_PKTTYPE`), and two of the types
/// (linux/if_packet.h): a broadcast from others, and one from this machine.
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const PACKET_BROADCAST: u32 = 1;
const PACKET_LOOPBACK: u32 = 5;
/// The whole datagram.
const ALL: u32 = u32::MAX;

/// Opens the socket of a host that listens at `listen`; also the address that it must send from,
/// where the kernel may choose another one. IPv6 has no broadcast, and loopback needs none.
///
/// # Errors
/// [`NetError::Socket`] that names the step.
pub fn open(listen: SocketAddr) -> Result<(UdpSocket, Option<Ipv4Addr>), NetError> {
    match listen {
        SocketAddr::V4(at) if !at.ip().is_unspecified() && !at.ip().is_loopback() => {
            Ok((open_filtered(*at.ip(), at.port())?, Some(*at.ip())))
        }
        _ => Ok((udp::open(&UdpOptions::at(listen))?, None)),
    }
}

fn open_filtered(address: Ipv4Addr, port: u16) -> Result<UdpSocket, NetError> {
    let failed = |action| move |source| NetError::Socket { action, source };
    let socket = || Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP));
    let bind = |socket: &Socket, at: (Ipv4Addr, u16)| socket.bind(&SocketAddr::from(at).into());
    // Whether this machine has the address at all: nothing else would tell.
    socket()
        .and_then(|probe| bind(&probe, (address, 0)))
        .map_err(failed("bind the UDP socket; check that this machine has the address"))?;
    let socket = socket().map_err(failed("open a UDP socket"))?;
    // Before the first datagram can come.
    socket
        .attach_filter(&filter(address))
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| socket.set_broadcast(true))
        .map_err(failed("set up the UDP socket"))?;
    bind(&socket, (Ipv4Addr::UNSPECIFIED, port))
        .map_err(failed("bind the UDP socket; another program may have its port"))?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// Takes broadcasts, and what is sent to `address`.
fn filter(address: Ipv4Addr) -> [SockFilter; 8] {
    let step = SockFilter::new;
    [
        step(LOAD, 0, 0, PACKET_TYPE),
        step(JUMP_IF_EQUAL, 5, 0, PACKET_BROADCAST),
        step(JUMP_IF_EQUAL, 4, 0, PACKET_LOOPBACK),
        step(LOAD, 0, 0, DESTINATION),
        step(JUMP_IF_EQUAL, 2, 0, address.to_bits()),
        step(JUMP_IF_EQUAL, 1, 0, Ipv4Addr::BROADCAST.to_bits()),
        step(RETURN, 0, 0, 0),
        step(RETURN, 0, 0, ALL),
    ]
}

/// Sends a datagram, from the address `from` if there is one.
///
/// # Errors
/// The kernel's; `WouldBlock` when the buffer is full.
pub fn send(
    socket: &UdpSocket,
    from: Option<Ipv4Addr>,
    to: SocketAddr,
    datagram: &[u8],
) -> io::Result<()> {
    let Some(from) = from else { return socket.send_to(datagram, to).map(drop) };
    let source = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: from.to_bits().to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let control = [ControlMessage::Ipv4PacketInfo(&source)];
    let (parts, to) = ([IoSlice::new(datagram)], SockaddrStorage::from(to));
    sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
    Ok(())
}
