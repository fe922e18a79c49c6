//! Brings interfaces up: what `ip link`, `ip address` and `ip route` would do, without them.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};

use super::NetError;
use super::bond;
use super::config::{
    ADDRESSES_MAX, BondConfig, InterfaceAddress, InterfaceConfig, MacAddress, Route,
};
use super::netlink::{Existing, Netlink};
use super::rtnetlink::RouteNetlinkMessage;
use super::survey::keep_address;
use super::view::View;
use crate::order::sort_by_rank;

/// The loopback interface is always the first.
const LOOPBACK_INDEX: u32 = 1;

/// How the names of recovery's VLANs begin.
const VLAN_PREFIX: &str = "vlan";

/// How the names of recovery's bonds begin; "bond0" may be there as soon as the module is.
pub const BOND_PREFIX: &str = "lag";

/// An Ethernet NIC as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name here and now.
    pub name: String,
    /// Its permanent address, else its current one.
    pub mac: MacAddress,
    /// There is a cable with something at its other end. Seen only while the NIC is up.
    pub has_carrier: bool,
    /// The bond or bridge that it belongs to.
    pub upper: Option<u32>,
}

/// The NICs: Ethernet hardware, and the virtual cables of namespaces.
///
/// # Errors
/// When the kernel does not answer.
pub fn nics(netlink: &mut Netlink) -> Result<Vec<Nic>, NetError> {
    let links = netlink.links()?;
    Ok(links.iter().filter_map(|link| nic_of(&View(link))).collect())
}

fn nic_of(view: &View<'_>) -> Option<Nic> {
    if !matches!(view.kind(), None | Some(InfoKind::Veth)) {
        return None;
    }
    nic(view)
}

fn nic(view: &View<'_>) -> Option<Nic> {
    Some(Nic {
        index: view.0.header.index,
        name: view.name().to_owned(),
        mac: view.nic_address()?,
        has_carrier: view.has_carrier(),
        upper: view.upper(),
    })
}

/// Makes the bond `name`, unless it is there; returns it as it is now.
///
/// # Errors
/// When the kernel refuses it.
pub fn add_bond(netlink: &mut Netlink, bond: &BondConfig, name: &str) -> Result<Nic, NetError> {
    let mut message = LinkMessage::default();
    message.attributes = bond::request(bond, name);
    add(netlink, &format!("make the bond {name} ({})", bond.mode), message)?;
    named(netlink, name)
}

/// Returns the interface `name`.
///
/// # Errors
/// When it is gone, or the kernel does not answer.
pub fn named(netlink: &mut Netlink, name: &str) -> Result<Nic, NetError> {
    let links = netlink.links()?;
    let found = links.iter().map(View).find(|view| view.name() == name);
    found.and_then(|view| nic(&view)).ok_or_else(|| NetError::Unsuitable {
        interface: name.to_owned(),
        reason: "which is gone already".to_owned(),
    })
}

/// Makes `nic`, which is set down for it, a member of the bond with this index. The kernel sets it
/// up.
///
/// # Errors
/// When the kernel refuses.
pub fn join_bond(netlink: &mut Netlink, nic: &Nic, bond: u32) -> Result<(), NetError> {
    set_down(netlink, nic.index)?;
    let mut message = LinkMessage::default();
    message.header.index = nic.index;
    message.attributes.push(LinkAttribute::Controller(bond));
    let action = format!("add {} to a bond", nic.name);
    netlink.modify(&action, RouteNetlinkMessage::SetLink(message))
}

/// Has a bond prefer the member `nic`.
///
/// # Errors
/// When the kernel refuses.
pub fn prefer_member(netlink: &mut Netlink, bond: u32, nic: &Nic) -> Result<(), NetError> {
    let mut message = LinkMessage::default();
    message.header.index = bond;
    message.attributes.push(bond::prefer(nic.index));
    let action = format!("prefer {} in its bond", nic.name);
    netlink.modify(&action, RouteNetlinkMessage::NewLink(message))
}

/// Removes the VLANs and bonds that [`stack`] and [`add_bond`] have made.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_made(netlink: &mut Netlink) -> Result<(), NetError> {
    let links = netlink.links()?;
    let is_made = |view: &View<'_>| match view.kind() {
        Some(InfoKind::Vlan) => view.name().starts_with(VLAN_PREFIX),
        Some(InfoKind::Bond) => view.name().starts_with(BOND_PREFIX),
        _ => false,
    };
    let mut made: Vec<View<'_>> = links.iter().map(View).filter(is_made).collect();
    // VLANs first: they go with what they stand on.
    sort_by_rank(&mut made, |view| [(view.kind() == Some(InfoKind::Bond)).into()]);
    for view in made {
        let mut message = LinkMessage::default();
        message.header.index = view.0.header.index;
        let action = format!("remove {}", view.name());
        netlink.modify(&action, RouteNetlinkMessage::DelLink(message))?;
    }
    Ok(())
}

/// Sets the loopback interface up.
///
/// # Errors
/// When the kernel refuses.
pub fn set_loopback_up(netlink: &mut Netlink) -> Result<(), NetError> {
    set_up(netlink, LOOPBACK_INDEX)
}

/// Sets an interface down.
///
/// # Errors
/// When the kernel refuses.
pub fn set_down(netlink: &mut Netlink, index: u32) -> Result<(), NetError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.change_mask = LinkFlags::Up;
    netlink.modify("set an interface down", RouteNetlinkMessage::SetLink(message))
}

/// Sets an interface up. A NIC begins to look for a carrier then.
///
/// # Errors
/// When the kernel refuses.
pub fn set_up(netlink: &mut Netlink, index: u32) -> Result<(), NetError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink.modify("set an interface up", RouteNetlinkMessage::SetLink(message))
}

/// Gives `nic`, which is up and may be a bond, the VLAN and the MTU of `config`; returns index and
/// name of the interface to use. The addresses and routes are [`address`]'s.
///
/// # Errors
/// When the kernel refuses the VLAN. An MTU that this NIC or driver cannot do is only told: small
/// packets still pass.
pub fn stack(
    netlink: &mut Netlink,
    nic: &Nic,
    config: &InterfaceConfig,
) -> Result<(u32, String), NetError> {
    if config.mtu > 0 {
        set_mtu(netlink, &nic.name, nic.index, config.mtu);
    }
    let Some(id) = config.vlan else { return Ok((nic.index, nic.name.clone())) };
    let name = vlan_name(id);
    add_vlan(netlink, nic.index, id, &name)?;
    let index = named(netlink, &name)?.index;
    if config.mtu > 0 {
        set_mtu(netlink, &name, index, config.mtu);
    }
    set_up(netlink, index)?;
    Ok((index, name))
}

/// Names of interfaces end at 15 characters, so this one does not hold the NIC's.
fn vlan_name(id: u16) -> String {
    format!("{VLAN_PREFIX}{id}")
}

/// Sets an MTU. One that this NIC or driver cannot do is only told: small packets still pass.
pub fn set_mtu(netlink: &mut Netlink, name: &str, index: u32, mtu: u32) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Mtu(mtu));
    let set = netlink.modify("set an MTU", RouteNetlinkMessage::SetLink(message));
    if let Err(NetError::Netlink { source, .. }) = set {
        log::warn!("{name} does not take an MTU of {mtu} bytes ({source}); it keeps its own");
    }
}

fn add_vlan(netlink: &mut Netlink, parent: u32, id: u16, name: &str) -> Result<(), NetError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Link(parent),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id)])),
        ]),
    ];
    add(netlink, &format!("make the VLAN {id}"), message)
}

/// Makes an interface, unless it is there.
fn add(netlink: &mut Netlink, action: &str, message: LinkMessage) -> Result<(), NetError> {
    let made = netlink.change(action, RouteNetlinkMessage::NewLink(message), Existing::Refuse);
    match made {
        Err(NetError::Netlink { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
            Ok(())
        }
        made => made,
    }
}

/// Gives interface `index`, which is up, these addresses and routes. Gateways that need another
/// route to be reached come after it.
///
/// # Errors
/// When the kernel refuses an address, or every route. A single route that is refused is only told:
/// the manager may be reached without it.
pub fn address(
    netlink: &mut Netlink,
    index: u32,
    addresses: &[InterfaceAddress],
    routes: &[Route],
) -> Result<(), NetError> {
    for address in addresses {
        let action = format!("add the address {address}");
        let message = RouteNetlinkMessage::NewAddress(address_message(index, address));
        netlink.change(&action, message, Existing::Replace)?;
    }
    let (direct, routed): (Vec<&Route>, Vec<&Route>) =
        routes.iter().partition(|route| route.gateway.is_none());
    for route in direct.into_iter().chain(routed) {
        let action = format!("add the route {route}");
        let message = RouteNetlinkMessage::NewRoute(route_message(index, route));
        match netlink.change(&action, message, Existing::Replace) {
            Err(NetError::Netlink { source, .. }) => log::warn!("cannot {action}: {source}"),
            added => added?,
        }
    }
    Ok(())
}

/// Returns the IPv6 addresses of interface `index` that others can reach and that are no
/// duplicates, as the kernel makes them by itself from the advertisements of routers (RFC 4862).
///
/// # Errors
/// When the kernel does not answer.
pub fn advertised(netlink: &mut Netlink, index: u32) -> Result<Vec<InterfaceAddress>, NetError> {
    let addresses = netlink.addresses(index)?;
    let is_of_others = |kept: &InterfaceAddress| match kept.address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    let kept = addresses.iter().filter_map(keep_address);
    Ok(kept.filter(is_of_others).take(ADDRESSES_MAX).collect())
}

/// Takes an address away, with the routes that came with it.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_address(
    netlink: &mut Netlink,
    index: u32,
    address: &InterfaceAddress,
) -> Result<(), NetError> {
    let action = format!("remove the address {address}");
    netlink.modify(&action, RouteNetlinkMessage::DelAddress(address_message(index, address)))
}

fn address_message(index: u32, address: &InterfaceAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len;
    message.header.family = family_of(address.address);
    message.attributes = vec![AddressAttribute::Local(address.address)];
    message.attributes.push(AddressAttribute::Address(address.address));
    if address.address.is_ipv6() {
        // The host has had this address until a moment ago: no need to wait for a duplicate to
        // answer.
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

fn route_message(index: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family_of(route.destination);
    header.destination_prefix_length = route.prefix_len;
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::Boot;
    header.kind = RouteType::Unicast;
    header.scope = match (route.gateway, route.destination) {
        (None, IpAddr::V4(_)) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    if route.on_link {
        header.flags = RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Oif(index));
    if route.prefix_len > 0 {
        attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination)));
    }
    attributes.extend(route.gateway.map(|gateway| match (gateway, route.destination) {
        (IpAddr::V6(gateway), IpAddr::V4(_)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        (gateway, _) => RouteAttribute::Gateway(RouteAddress::from(gateway)),
    }));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    message
}

fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
