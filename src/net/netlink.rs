//! Synchronous requests to the kernel over rtnetlink, and events from it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use netlink_sys::protocols::{NETLINK_KOBJECT_UEVENT, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::NetError;
use super::rtnetlink::RouteNetlinkMessage;

/// Most messages taken as the answer to one request.
const REPLIES_MAX: usize = 65_536;

/// The kernel answers at once; longer means that it never will.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// `RTMGRP_LINK` and `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUP_LINK: u32 = 0x1;
const GROUP_IPV6_ADDRESS: u32 = 0x100;

/// The kernel's own uevents, as opposed to udev's.
const GROUP_KERNEL_UEVENT: u32 = 0x1;

/// Most datagrams taken from an event socket at once; what is left makes it readable again.
const EVENTS_PER_DRAIN_MAX: usize = 1024;

/// A connection to the kernel's network configuration.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// What happens when the object is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is an error.
    Refuse,
    /// It is replaced.
    Replace,
}

impl Netlink {
    /// Connects.
    ///
    /// # Errors
    /// [`NetError::Socket`].
    pub fn open() -> Result<Self, NetError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // With strict checking the kernel filters dumps by interface. Kernels before 4.20 have
            // no such option; there the callers' own filters do all the work.
            let _ = socket.set_netlink_get_strict_chk(true);
            let timeout = TimeVal::seconds(REPLY_TIMEOUT.as_secs() as i64);
            setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
            Ok(socket)
        };
        let socket = open()
            .map_err(|source| NetError::Socket { action: "open a netlink socket", source })?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Returns all links.
    pub(super) fn links(&mut self) -> Result<Vec<LinkMessage>, NetError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies = self.request("list the links", request, NLM_F_DUMP)?;
        Ok(keep(replies, |reply| match reply {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        }))
    }

    /// Returns the addresses of the interface `index`.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<AddressMessage>, NetError> {
        let mut filter = AddressMessage::default();
        filter.header.index = index;
        let request = RouteNetlinkMessage::GetAddress(filter);
        let replies = self.request("list the addresses", request, NLM_F_DUMP)?;
        Ok(keep(replies, |reply| match reply {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => {
                Some(address)
            }
            _ => None,
        }))
    }

    /// Returns the indices of the interfaces that have `address`.
    pub(super) fn interfaces_with(&mut self, address: Ipv4Addr) -> Result<Vec<u32>, NetError> {
        let mut filter = AddressMessage::default();
        filter.header.family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetAddress(filter);
        let replies = self.request("list the addresses", request, NLM_F_DUMP)?;
        let wanted = AddressAttribute::Local(address.into());
        Ok(keep(replies, |reply| match reply {
            RouteNetlinkMessage::NewAddress(found) if found.attributes.contains(&wanted) => {
                Some(found.header.index)
            }
            _ => None,
        }))
    }

    /// Returns the routes of the main table that go through the interface `index`, of `family`.
    /// Without a kernel that filters there are others among them.
    pub(super) fn routes(
        &mut self,
        family: AddressFamily,
        index: u32,
    ) -> Result<Vec<RouteMessage>, NetError> {
        let mut filter = RouteMessage::default();
        filter.header.address_family = family;
        filter.header.table = RouteHeader::RT_TABLE_MAIN;
        filter.attributes.push(RouteAttribute::Oif(index));
        let request = RouteNetlinkMessage::GetRoute(filter);
        let replies = self.request("list the routes", request, NLM_F_DUMP)?;
        Ok(keep(replies, |reply| match reply {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        }))
    }

    /// Returns the route that a datagram to `address` takes; through the interface `scope`, unless
    /// that is 0.
    pub(super) fn route_to(
        &mut self,
        address: IpAddr,
        scope: u32,
    ) -> Result<Option<RouteMessage>, NetError> {
        let mut query = RouteMessage::default();
        (query.header.address_family, query.header.destination_prefix_length) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        query.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
        if scope != 0 {
            query.attributes.push(RouteAttribute::Oif(scope));
        }
        let request = RouteNetlinkMessage::GetRoute(query);
        let replies = match self.request("look up a route", request, 0) {
            Err(NetError::Netlink { source, .. }) if is_unreachable(&source) => return Ok(None),
            replies => replies?,
        };
        let routes = keep(replies, |reply| match reply {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        Ok(routes.into_iter().next())
    }

    /// Sends a change and waits for the kernel's acknowledgement.
    pub(super) fn change(
        &mut self,
        action: &str,
        request: RouteNetlinkMessage,
        existing: Existing,
    ) -> Result<(), NetError> {
        let flags = match existing {
            Existing::Refuse => NLM_F_CREATE | NLM_F_EXCL,
            Existing::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        };
        self.request(action, request, NLM_F_ACK | flags).map(drop)
    }

    /// Sends a change of something that must be there already.
    pub(super) fn modify(
        &mut self,
        action: &str,
        request: RouteNetlinkMessage,
    ) -> Result<(), NetError> {
        self.request(action, request, NLM_F_ACK).map(drop)
    }

    /// Sends `request` and collects what the kernel answers to it: everything up to its "done" for
    /// a dump, up to its acknowledgement when one was asked for, else the one reply.
    fn request(
        &mut self,
        action: &str,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NetError> {
        let refused = |source| NetError::Netlink { action: action.to_owned(), source };
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(refused)?;

        let mut replies = Vec::new();
        while replies.len() < REPLIES_MAX {
            let (datagram, _) = self.socket.recv_from_full().map_err(refused)?;
            if self.take_replies(action, &datagram, flags, &mut replies)? {
                return Ok(replies);
            }
        }
        Err(NetError::NetlinkForm {
            action: action.to_owned(),
            reason: format!("more than {REPLIES_MAX} messages"),
        })
    }

    /// Takes the messages of one datagram; true when the answer is complete.
    fn take_replies(
        &self,
        action: &str,
        datagram: &[u8],
        flags: u16,
        replies: &mut Vec<RouteNetlinkMessage>,
    ) -> Result<bool, NetError> {
        for message in messages_of(datagram) {
            let message = message
                .map_err(|reason| NetError::NetlinkForm { action: action.to_owned(), reason })?;
            let (header, payload) = message.into_parts();
            if header.sequence_number != self.sequence {
                continue;
            }
            match payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => {
                    return Err(NetError::Netlink {
                        action: action.to_owned(),
                        source: error.to_io(),
                    });
                }
                NetlinkPayload::InnerMessage(reply) => {
                    replies.push(reply);
                    if flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
                        return Ok(true);
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

fn keep<T>(
    replies: Vec<RouteNetlinkMessage>,
    wanted: impl FnMut(RouteNetlinkMessage) -> Option<T>,
) -> Vec<T> {
    replies.into_iter().filter_map(wanted).collect()
}

fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}

/// Returns the messages in one datagram, each as long as its header says. Ends at the first that
/// makes no sense.
fn messages_of(
    datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<RouteNetlinkMessage>, String>> {
    /// Length of `struct nlmsghdr`, and what messages are aligned to.
    const HEADER_LEN: usize = 16;
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        if length < HEADER_LEN || length > rest.len() {
            rest = &[];
            return Some(Err(format!("message length {length} in {} bytes", datagram.len())));
        }
        let (message, _) = rest.split_at(length);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(NetlinkMessage::deserialize(message).map_err(|error| error.to_string()))
    })
}

/// Returns the links, addresses and routes among the messages of `dump` that make sense.
pub(super) fn parse_all(dump: &[u8]) -> (Vec<LinkMessage>, Vec<AddressMessage>, Vec<RouteMessage>) {
    let (mut links, mut addresses, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    for message in messages_of(dump).flatten() {
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => links.push(link),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
                addresses.push(address);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
                routes.push(route);
            }
            _ => {}
        }
    }
    (links, addresses, routes)
}

/// Wakes up when a link appears, goes, or changes its state, and when an IPv6 address comes or
/// goes.
#[derive(Debug)]
pub struct Events(Socket);

impl Events {
    /// Subscribes.
    ///
    /// # Errors
    /// [`NetError::Socket`].
    pub fn open() -> Result<Self, NetError> {
        open_events(NETLINK_ROUTE, GROUP_LINK | GROUP_IPV6_ADDRESS).map(Events)
    }

    /// Discards what has been received; the caller looks at the links afresh.
    pub fn drain(&self) {
        drain(&self.0);
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Wakes up when the kernel finds, binds or loses a device.
#[derive(Debug)]
pub struct Uevents(Socket);

impl Uevents {
    /// Subscribes.
    ///
    /// # Errors
    /// [`NetError::Socket`].
    pub fn open() -> Result<Self, NetError> {
        open_events(NETLINK_KOBJECT_UEVENT, GROUP_KERNEL_UEVENT).map(Uevents)
    }

    /// Discards what has been received; the caller looks at /sys afresh.
    pub fn drain(&self) {
        drain(&self.0);
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open_events(protocol: isize, groups: u32) -> Result<Socket, NetError> {
    let open = || -> io::Result<Socket> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        socket.set_non_blocking(true)?;
        Ok(socket)
    };
    open().map_err(|source| NetError::Socket { action: "subscribe to the kernel's events", source })
}

/// An overrun (ENOBUFS) is an event like any other: something has happened.
fn drain(socket: &Socket) {
    let mut scratch = Vec::with_capacity(64);
    for _ in 0..EVENTS_PER_DRAIN_MAX {
        scratch.clear();
        match socket.recv(&mut scratch, libc::MSG_TRUNC) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_running_kernel_answers() {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        let loopback = links.iter().find(|link| link.header.index == 1).unwrap();
        let addresses = netlink.addresses(loopback.header.index).unwrap();
        assert!(addresses.iter().all(|address| address.header.index == 1));
        let route = netlink.route_to("127.0.0.1".parse().unwrap(), 0).unwrap().unwrap();
        assert!(route.attributes.contains(&RouteAttribute::Oif(1)));
        netlink.routes(AddressFamily::Inet, 1).unwrap();
        netlink.routes(AddressFamily::Inet6, 1).unwrap();
    }

    proptest! {
        #[test]
        fn any_datagram_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(messages_of(&bytes).count() <= 300);
        }
    }
}
