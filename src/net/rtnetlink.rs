//! The rtnetlink messages that are used here, of the many that there are (`linux/rtnetlink.h`).
//!
//! `netlink-packet-route` has one enum of all of them; parsing that brings traffic control, name
//! spaces and neighbours into the program, a twentieth of its size.

use netlink_packet_core::{
    DecodeError, Emitable as _, NetlinkDeserializable, NetlinkHeader, NetlinkPayload,
    NetlinkSerializable, Parseable as _,
};
use netlink_packet_route::address::{AddressMessage, AddressMessageBuffer};
use netlink_packet_route::link::{LinkMessage, LinkMessageBuffer};
use netlink_packet_route::route::{RouteMessage, RouteMessageBuffer};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

/// A message to or from the kernel.
#[derive(Clone, Debug)]
pub(super) enum RouteNetlinkMessage {
    NewLink(LinkMessage),
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
            Self::NewLink(link) | Self::GetLink(link) | Self::SetLink(link) => link.buffer_len(),
            Self::NewAddress(address) | Self::DelAddress(address) | Self::GetAddress(address) => {
                address.buffer_len()
            }
            Self::NewRoute(route) | Self::GetRoute(route) => route.buffer_len(),
            Self::Other => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::NewLink(link) | Self::GetLink(link) | Self::SetLink(link) => link.emit(buffer),
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
                let buffer = LinkMessageBuffer::new_checked(&payload)?;
                Self::NewLink(LinkMessage::parse(&buffer)?)
            }
            RTM_NEWADDR => Self::NewAddress(AddressMessage::parse(
                &AddressMessageBuffer::new_checked(&payload)?,
            )?),
            RTM_NEWROUTE => {
                Self::NewRoute(RouteMessage::parse(&RouteMessageBuffer::new_checked(&payload)?)?)
            }
            _ => Self::Other,
        })
    }
}

impl From<RouteNetlinkMessage> for NetlinkPayload<RouteNetlinkMessage> {
    fn from(message: RouteNetlinkMessage) -> Self {
        Self::InnerMessage(message)
    }
}
