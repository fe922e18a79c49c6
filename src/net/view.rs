//! What the kernel says of one link.

use netlink_packet_route::link::{
    InfoBondPort, InfoData, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage,
};

use super::NetError;
use super::config::MacAddress;

/// One link as the kernel lists it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a>(pub(super) &'a LinkMessage);

impl<'a> View<'a> {
    pub(super) fn find(links: &'a [LinkMessage], index: u32) -> Option<Self> {
        links.iter().find(|link| link.header.index == index).map(View)
    }

    pub(super) fn name(&self) -> &'a str {
        let name = self.0.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        });
        name.unwrap_or("?")
    }

    pub(super) fn mtu(&self) -> u32 {
        /// Ethernet's.
        const DEFAULT: u32 = 1500;
        let mtu = self.0.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        mtu.unwrap_or(DEFAULT)
    }

    /// The data of an interface that stands on others.
    pub(super) fn data(&self) -> Option<&'a InfoData> {
        self.infos().find_map(|info| match info {
            LinkInfo::Data(data) => Some(data),
            _ => None,
        })
    }

    fn infos(&self) -> impl Iterator<Item = &'a LinkInfo> + use<'a> {
        self.0.attributes.iter().flat_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.as_slice(),
            _ => &[],
        })
    }

    /// None for hardware.
    pub(super) fn kind(&self) -> Option<InfoKind> {
        self.infos().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind.clone()),
            _ => None,
        })
    }

    /// The interface that this one stands on.
    pub(super) fn lower(&self) -> Option<u32> {
        self.0.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Link(index) => Some(*index),
            _ => None,
        })
    }

    /// The bond or bridge that this one is a member or port of.
    pub(super) fn upper(&self) -> Option<u32> {
        self.0.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        })
    }

    /// Returns the permanent Ethernet address, else the current one (virtual NICs may have no
    /// permanent one); none for what is no Ethernet.
    pub(super) fn nic_address(&self) -> Option<MacAddress> {
        let permanent = self.0.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::PermAddress(bytes) => Some(bytes),
            _ => None,
        });
        // Kernels before 5.6 tell it of members of a bond alone, which all have the bond's.
        let of_member = || {
            self.infos().find_map(|info| match info {
                LinkInfo::PortData(InfoPortData::BondPort(attributes)) => {
                    attributes.iter().find_map(|attribute| match attribute {
                        InfoBondPort::PermHwaddr(bytes) => Some(bytes),
                        _ => None,
                    })
                }
                _ => None,
            })
        };
        let mac = permanent.or_else(of_member).and_then(|bytes| mac_of(bytes));
        let current = self.address()?;
        Some(mac.unwrap_or(current))
    }

    /// Returns the Ethernet address that is in use; none for what is no Ethernet.
    pub(super) fn address(&self) -> Option<MacAddress> {
        if self.0.header.link_layer_type != LinkLayerType::Ether {
            return None;
        }
        self.0.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => mac_of(bytes),
            _ => None,
        })
    }

    /// There is a cable with something at its other end, and the interface is up.
    pub(super) fn has_carrier(&self) -> bool {
        self.0.header.flags.contains(LinkFlags::LowerUp)
    }

    /// The error that recovery cannot go this way.
    pub(super) fn unsuitable(&self, reason: &str) -> NetError {
        let (interface, reason) = (self.name().to_owned(), reason.to_owned());
        NetError::Unsuitable { interface, reason }
    }
}

fn mac_of(bytes: &[u8]) -> Option<MacAddress> {
    <[u8; 6]>::try_from(bytes).ok().map(MacAddress)
}
