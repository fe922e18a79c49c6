//! A host's socket at one IPv4 address, which hears broadcasts too.
//!
//! A socket that is bound to an address gets nothing that was sent to another one, and so no
//! broadcast: no discovery would find the host. This one is bound to all addresses. A filter in the
//! kernel (`SO_ATTACH_FILTER`, socket(7)) drops what is neither a broadcast nor for the address. Of
//! the broadcasts the socket takes those that came in where the address is (`IP_PKTINFO`, ip(7)):
//! other interfaces may lead to other people's networks.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use log::warn;
use mio::net::UdpSocket;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrStorage, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::udp::{self, UdpOptions};
use super::{NetError, Netlink};
use crate::time::Time;

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

/// Minimum interval between two questions to the kernel about which interface has the address.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);

/// The one socket of a host.
#[derive(Debug)]
pub struct HostSocket {
    socket: UdpSocket,
    at: Option<OneAddress>,
}

/// What a socket at one address minds.
#[derive(Debug)]
struct OneAddress {
    address: Ipv4Addr,
    /// Indices of the interfaces that have the address, as the kernel said last.
    interfaces: Vec<u32>,
    look_up_again: Time,
}

impl HostSocket {
    /// Opens the socket of a host that listens at `listen`. IPv6 has no broadcast, and loopback
    /// needs none.
    ///
    /// # Errors
    /// [`NetError::Socket`] that names the step.
    pub fn open(listen: SocketAddr) -> Result<Self, NetError> {
        match listen {
            SocketAddr::V4(at) if !at.ip().is_unspecified() && !at.ip().is_loopback() => {
                let socket = open_filtered(*at.ip(), at.port())?;
                Ok(Self { socket, at: Some(OneAddress::new(*at.ip())) })
            }
            _ => Ok(Self::from(udp::open(&UdpOptions::at(listen))?)),
        }
    }

    /// Returns where it listens, if the socket itself does not only know a part of it.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok().filter(|_| self.at.is_none())
    }

    /// Returns what to wait at.
    pub fn source(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// Takes a datagram; `None` when it is a broadcast on an interface that does not have the
    /// address. The address may come, go and move meanwhile.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when there is none.
    pub fn receive(
        &mut self,
        now: Time,
        buffer: &mut [u8],
    ) -> io::Result<Option<(usize, SocketAddr)>> {
        let Some(at) = &mut self.at else { return self.socket.recv_from(buffer).map(Some) };
        let mut space = cmsg_space!(libc::in_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let descriptor = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrIn>(descriptor, &mut parts, Some(&mut space), flags)?;
        let packet = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(packet) => Some(packet),
            _ => None,
        });
        let is_for_us = packet.is_some_and(|packet| at.takes(now, &packet));
        let from = message.address.filter(|_| is_for_us);
        Ok(from.map(|from| (message.bytes, SocketAddr::V4(from.into()))))
    }

    /// Sends a datagram, from the one address where the kernel may choose another one.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when the buffer is full.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let Some(OneAddress { address, .. }) = self.at else {
            return self.socket.send_to(datagram, to).map(drop);
        };
        let source = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: address.to_bits().to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&source)];
        let (parts, to) = ([IoSlice::new(datagram)], SockaddrStorage::from(to));
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(self.socket.as_raw_fd(), &parts, &control, flags, Some(&to))?;
        Ok(())
    }
}

impl From<UdpSocket> for HostSocket {
    /// A socket that hears what the kernel gives it, and lets it choose what it sends from.
    fn from(socket: UdpSocket) -> Self {
        Self { socket, at: None }
    }
}

impl OneAddress {
    fn new(address: Ipv4Addr) -> Self {
        Self { address, interfaces: Vec::new(), look_up_again: Time::ZERO }
    }

    /// Whether a datagram is for the address, or a broadcast in its network.
    fn takes(&mut self, now: Time, packet: &libc::in_pktinfo) -> bool {
        if Ipv4Addr::from_bits(u32::from_be(packet.ipi_addr.s_addr)) == self.address {
            return true;
        }
        if now >= self.look_up_again {
            self.look_up_again = now + LOOK_UP_INTERVAL;
            match Netlink::open().and_then(|mut netlink| netlink.interfaces_with(self.address)) {
                Ok(interfaces) => self.interfaces = interfaces,
                Err(error) => warn!("cannot tell whose broadcasts these are: {error}"),
            }
        }
        u32::try_from(packet.ipi_ifindex).is_ok_and(|index| self.interfaces.contains(&index))
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
        .and_then(|()| Ok(setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?))
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
