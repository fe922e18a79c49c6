//! The rtnetlink messages that are used here, of the many that there are (`linux/rtnetlink.h`).
//!
//! `netlink-packet-route` has one enum of all of them; parsing that brings traffic control, name
//! spaces and neighbours into the program, a twentieth of its size.

use netlink_packet_core::{
    DecodeError, Emitable as _, NetlinkDeserializable, NetlinkHeader, NetlinkPayload,
    NetlinkSerializable, Parseable as _,
};
use netlink_packet_route::address::{AddressMessage, AddressMessageBuffer};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteMessage, RouteMessageBuffer};

use super::link_message;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

/// `IFLA_ADDRESS`, `IFLA_IFNAME`, `IFLA_MTU`, `IFLA_LINK`, `IFLA_MASTER`, `IFLA_LINKINFO`,
/// `IFLA_PERM_ADDRESS` of `linux/if_link.h`.
const LINK_ATTRIBUTES: &[u16] = &[1, 3, 4, 5, 10, 18, 54];
/// `IFA_ADDRESS`, `IFA_LOCAL` of `linux/if_addr.h`.
const ADDRESS_ATTRIBUTES: &[u16] = &[1, 2];
/// `RTA_DST`, `RTA_OIF`, `RTA_GATEWAY`, `RTA_PRIORITY`, `RTA_MULTIPATH`, `RTA_VIA`.
const ROUTE_ATTRIBUTES: &[u16] = &[1, 4, 5, 6, 9, 18];

/// A message to or from the kernel.
#[derive(Clone, Debug)]
pub(super) enum RouteNetlinkMessage {
    NewLink(LinkMessage),
    DelLink(LinkMessage),
    GetLink(LinkMessage),
    SetLink(LinkMessage),
    NewAddress(AddressMessage),
    DelAddress(AddressMessage),
    GetAddress(AddressMessage),
    NewRoute(RouteMessage),
    GetRoute(RouteMessage),
    /// Anything else, which nothing here asks for.
    Other,
}

impl NetlinkSerializable for RouteNetlinkMessage {
    fn message_type(&self) -> u16 {
        match self {
            Self::NewLink(_) => RTM_NEWLINK,
            Self::DelLink(_) => RTM_DELLINK,
            Self::GetLink(_) => RTM_GETLINK,
            Self::SetLink(_) => RTM_SETLINK,
            Self::NewAddress(_) => RTM_NEWADDR,
            Self::DelAddress(_) => RTM_DELADDR,
            Self::GetAddress(_) => RTM_GETADDR,
            Self::NewRoute(_) => RTM_NEWROUTE,
            Self::GetRoute(_) => RTM_GETROUTE,
            Self::Other => 0,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::NewLink(link)
            | Self::DelLink(link)
            | Self::GetLink(link)
            | Self::SetLink(link) => link_message::emit(link).len(),
            Self::NewAddress(address) | Self::DelAddress(address) | Self::GetAddress(address) => {
                address.buffer_len()
            }
            Self::NewRoute(route) | Self::GetRoute(route) => route.buffer_len(),
            Self::Other => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::NewLink(link)
            | Self::DelLink(link)
            | Self::GetLink(link)
            | Self::SetLink(link) => buffer.copy_from_slice(&link_message::emit(link)),
            Self::NewAddress(address) | Self::DelAddress(address) | Self::GetAddress(address) => {
                address.emit(buffer);
            }
            Self::NewRoute(route) | Self::GetRoute(route) => route.emit(buffer),
            Self::Other => {}
        }
    }
}

impl NetlinkDeserializable for RouteNetlinkMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(match header.message_type {
            RTM_NEWLINK => {
                let payload = only(payload, 16, LINK_ATTRIBUTES);
                Self::NewLink(link_message::parse(&payload)?)
            }
            RTM_NEWADDR => {
                let payload = only(payload, 8, ADDRESS_ATTRIBUTES);
                let buffer = AddressMessageBuffer::new_checked(&payload)?;
                Self::NewAddress(AddressMessage::parse(&buffer)?)
            }
            RTM_NEWROUTE => {
                let payload = only(payload, 12, ROUTE_ATTRIBUTES);
                Self::NewRoute(RouteMessage::parse(&RouteMessageBuffer::new_checked(&payload)?)?)
            }
            _ => Self::Other,
        })
    }
}

/// Returns the header of a message and its attributes of these types. The others, of which newer
/// kernels have more, are not looked into.
fn only(payload: &[u8], header_size: usize, types: &[u16]) -> Vec<u8> {
    let (header, mut rest) = payload.split_at(header_size.min(payload.len()));
    let mut kept = header.to_vec();
    while let [len_0, len_1, type_0, type_1, ..] = *rest {
        let len = usize::from(u16::from_ne_bytes([len_0, len_1]));
        // `NLA_TYPE_MASK`: two bits say how the value is written.
        let attribute_type = u16::from_ne_bytes([type_0, type_1]) & 0x3fff;
        let Some(attribute) = rest.get(..len).filter(|_| len >= 4) else { break };
        if types.contains(&attribute_type) {
            kept.extend_from_slice(attribute);
            kept.resize(kept.len().next_multiple_of(4), 0);
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    kept
}

impl From<RouteNetlinkMessage> for NetlinkPayload<RouteNetlinkMessage> {
    fn from(message: RouteNetlinkMessage) -> Self {
        Self::InnerMessage(message)
    }
}
