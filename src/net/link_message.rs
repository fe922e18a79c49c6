//! Messages about links, with those of their attributes that are used here (`linux/if_link.h`).
//!
//! `netlink-packet-route` has types for all attributes of all kinds of links. Reading and writing
//! what nobody here asks for would be a thirtieth of firmcastd.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, Nla, NlaBuffer, NlasIterator, Parseable, parse_string,
    parse_u8, parse_u32,
};
use netlink_packet_route::link::{
    InfoBondPort, InfoBridge, InfoData, InfoKind, InfoPortData, InfoPortKind, LinkAttribute,
    LinkHeader, LinkInfo, LinkMessage, LinkMessageBuffer,
};

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_PERM_ADDRESS: u16 = 54;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_PORT_KIND: u16 = 4;
const IFLA_INFO_PORT_DATA: u16 = 5;

const IFLA_BR_VLAN_FILTERING: u16 = 7;

/// An attribute as it lies in a message.
type Bytes<'a> = NlaBuffer<&'a [u8]>;

/// Reads what is used of a message about a link.
pub(super) fn parse(payload: &[u8]) -> Result<LinkMessage, DecodeError> {
    let buffer = LinkMessageBuffer::new_checked(payload)?;
    let mut message = LinkMessage::default();
    message.header = LinkHeader::parse(&buffer)?;
    for bytes in buffer.attributes() {
        message.attributes.extend(attribute(&bytes?)?);
    }
    Ok(message)
}

fn attribute(bytes: &Bytes<'_>) -> Result<Option<LinkAttribute>, DecodeError> {
    let value = bytes.value();
    Ok(Some(match bytes.kind() {
        IFLA_ADDRESS => LinkAttribute::Address(value.to_vec()),
        IFLA_PERM_ADDRESS => LinkAttribute::PermAddress(value.to_vec()),
        IFLA_IFNAME => LinkAttribute::IfName(parse_string(value)?),
        IFLA_MTU => LinkAttribute::Mtu(parse_u32(value)?),
        IFLA_LINK => LinkAttribute::Link(parse_u32(value)?),
        IFLA_MASTER => LinkAttribute::Controller(parse_u32(value)?),
        IFLA_LINKINFO => LinkAttribute::LinkInfo(infos(value)?),
        _ => return Ok(None),
    }))
}

/// Kinds come before their data, whose form depends on them.
fn infos(value: &[u8]) -> Result<Vec<LinkInfo>, DecodeError> {
    let mut infos = Vec::new();
    let (mut kind, mut port_kind) = (None, None);
    for bytes in NlasIterator::new(value) {
        let bytes = bytes?;
        let info = match bytes.kind() {
            IFLA_INFO_KIND => Some(LinkInfo::Kind(kind.insert(InfoKind::parse(&bytes)?).clone())),
            IFLA_INFO_DATA => data(kind.as_ref(), bytes.value())?.map(LinkInfo::Data),
            IFLA_INFO_PORT_KIND => {
                let kind = port_kind.insert(InfoPortKind::parse(&bytes)?);
                Some(LinkInfo::PortKind(kind.clone()))
            }
            IFLA_INFO_PORT_DATA if port_kind == Some(InfoPortKind::Bond) => {
                let data = nested::<InfoBondPort>(bytes.value())?;
                Some(LinkInfo::PortData(InfoPortData::BondPort(data)))
            }
            _ => None,
        };
        infos.extend(info);
    }
    Ok(infos)
}

fn data(kind: Option<&InfoKind>, value: &[u8]) -> Result<Option<InfoData>, DecodeError> {
    Ok(Some(match kind {
        Some(InfoKind::Vlan) => InfoData::Vlan(nested(value)?),
        Some(InfoKind::Bond) => InfoData::Bond(nested(value)?),
        Some(InfoKind::Bridge) => InfoData::Bridge(bridge(value)?),
        _ => return Ok(None),
    }))
}

/// Reads whether a bridge divides its ports by VLANs: of the some forty attributes nothing else is
/// asked for.
fn bridge(value: &[u8]) -> Result<Vec<InfoBridge>, DecodeError> {
    let mut read = Vec::new();
    for bytes in NlasIterator::new(value) {
        let bytes = bytes?;
        if bytes.kind() == IFLA_BR_VLAN_FILTERING {
            read.push(InfoBridge::VlanFiltering(parse_u8(bytes.value())? != 0));
        }
    }
    Ok(read)
}

fn nested<T: for<'a> Parseable<Bytes<'a>>>(value: &[u8]) -> Result<Vec<T>, DecodeError> {
    NlasIterator::new(value).map(|bytes| T::parse(&bytes?)).collect()
}

/// Writes a message with attributes that are asked for somewhere here; there are no others in it.
pub(super) fn emit(message: &LinkMessage) -> Vec<u8> {
    let attributes: Vec<DefaultNla> = message.attributes.iter().filter_map(written).collect();
    let header_size = message.header.buffer_len();
    let mut buffer = vec![0; header_size + attributes.as_slice().buffer_len()];
    message.header.emit(&mut buffer);
    attributes.as_slice().emit(&mut buffer[header_size..]);
    buffer
}

fn written(attribute: &LinkAttribute) -> Option<DefaultNla> {
    let (kind, value) = match attribute {
        LinkAttribute::Address(address) => (IFLA_ADDRESS, address.clone()),
        LinkAttribute::IfName(name) => (IFLA_IFNAME, [name.as_bytes(), &[0]].concat()),
        LinkAttribute::Mtu(bytes) => (IFLA_MTU, bytes.to_ne_bytes().to_vec()),
        LinkAttribute::Link(index) => (IFLA_LINK, index.to_ne_bytes().to_vec()),
        LinkAttribute::Controller(index) => (IFLA_MASTER, index.to_ne_bytes().to_vec()),
        LinkAttribute::LinkInfo(infos) => {
            let infos: Vec<DefaultNla> = infos.iter().filter_map(written_info).collect();
            (IFLA_LINKINFO, nest(&infos))
        }
        _ => return None,
    };
    Some(DefaultNla::new(kind, value))
}

fn written_info(info: &LinkInfo) -> Option<DefaultNla> {
    let (kind, value) = match info {
        LinkInfo::Kind(kind) => {
            let mut value = vec![0; kind.value_len()];
            kind.emit_value(&mut value);
            (IFLA_INFO_KIND, value)
        }
        LinkInfo::Data(InfoData::Vlan(data)) => (IFLA_INFO_DATA, nest(data)),
        LinkInfo::Data(InfoData::Bond(data)) => (IFLA_INFO_DATA, nest(data)),
        _ => return None,
    };
    Some(DefaultNla::new(kind, value))
}

fn nest<T: Nla>(attributes: &[T]) -> Vec<u8> {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(value.as_mut_slice());
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use netlink_packet_route::link::{InfoBond, InfoVlan, LinkFlags};
    use proptest::prelude::*;

    fn with(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up;
        message.attributes = attributes;
        message
    }

    /// What the crate for all links makes of a message.
    fn emitted_by_the_crate(message: &LinkMessage) -> Vec<u8> {
        let mut buffer = vec![0; message.buffer_len()];
        message.emit(&mut buffer);
        buffer
    }

    fn info(kind: InfoKind, data: InfoData) -> LinkAttribute {
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)])
    }

    fn simple() -> Vec<LinkAttribute> {
        vec![
            LinkAttribute::IfName("eth0.7".into()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 9]),
            LinkAttribute::Mtu(1400),
            LinkAttribute::Link(3),
            LinkAttribute::Controller(4),
        ]
    }

    #[test]
    fn what_is_asked_for_is_written_and_read_as_the_crate_for_all_links_does() {
        let vlan = info(InfoKind::Vlan, InfoData::Vlan(vec![InfoVlan::Id(7)]));
        let modes = vec![InfoBond::Mode(4.into()), InfoBond::MiiMon(100), InfoBond::AdLacpRate(1)];
        let bond = info(InfoKind::Bond, InfoData::Bond(modes));
        for kind in [vlan, bond] {
            let message = with([simple(), vec![kind]].concat());
            let bytes = emit(&message);
            assert_eq!(bytes, emitted_by_the_crate(&message));
            assert_eq!(parse(&bytes).unwrap(), message);
        }
    }

    #[test]
    fn what_only_the_kernel_says_is_read_and_the_rest_left_out() {
        let port = vec![
            LinkInfo::PortKind(InfoPortKind::Bond),
            LinkInfo::PortData(InfoPortData::BondPort(vec![InfoBondPort::PermHwaddr(vec![1; 6])])),
        ];
        let told = vec![
            LinkAttribute::PermAddress(vec![2; 6]),
            info(InfoKind::Bridge, InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])),
            LinkAttribute::LinkInfo(port),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other("team".into()))]),
        ];
        let mut message = with(told.clone());
        message.attributes.push(LinkAttribute::Qdisc("noqueue".into()));
        assert_eq!(parse(&emitted_by_the_crate(&message)).unwrap(), with(told));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = infos(&bytes);
        }
    }
}
