//! Reads in the normal OS how the manager is reached, so that recovery can reach it the same way.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBond, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags,
    RouteProtocol, RouteType, RouteVia,
};

use super::config::{
    ADDRESSES_MAX, InterfaceAddress, InterfaceConfig, MacAddress, NICS_MAX, ROUTES_MAX, Route,
};
use super::{NetError, Netlink};

/// How many interfaces may stand on each other (bridge on VLAN on bond on NIC is four).
const STACK_DEPTH_MAX: usize = 8;

/// Returns the configuration of the interface through which `manager` is reached.
///
/// # Errors
/// [`NetError::NoRoute`]; [`NetError::Unsuitable`] when the way leads through something that
/// recovery does not build (tunnels, the loopback interface, VLAN in VLAN); the others when the
/// kernel does not answer.
pub fn survey(netlink: &mut Netlink, manager: IpAddr) -> Result<InterfaceConfig, NetError> {
    let route = netlink.route_to(manager)?.ok_or(NetError::NoRoute(manager))?;
    let index = out_interface(&route).ok_or(NetError::NoRoute(manager))?;
    let links = netlink.links()?;
    let addresses = netlink.addresses(index)?;
    let mut routes = netlink.routes(AddressFamily::Inet, index)?;
    routes.extend(netlink.routes(AddressFamily::Inet6, index)?);
    describe(&links, &addresses, &routes, index)
}

fn out_interface(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// Returns the configuration of interface `index`, from what the kernel listed.
fn describe(
    links: &[LinkMessage],
    addresses: &[AddressMessage],
    routes: &[RouteMessage],
    index: u32,
) -> Result<InterfaceConfig, NetError> {
    let foundation = Foundation::find(links, index)?;
    let top = View::find(links, index).ok_or_else(|| gone(index))?;
    let mut kept: Vec<Route> = routes.iter().filter_map(|route| keep_route(route, index)).collect();
    kept.sort_by_key(|route| (route.prefix_len, route.metric));
    kept.truncate(ROUTES_MAX);
    Ok(InterfaceConfig {
        name: top.name().to_owned(),
        nics: foundation.nics,
        note: foundation.note,
        vlan: foundation.vlan,
        mtu: top.mtu(),
        addresses: addresses.iter().filter_map(keep_address).take(ADDRESSES_MAX).collect(),
        routes: kept,
        ..InterfaceConfig::default()
    })
}

fn gone(index: u32) -> NetError {
    NetError::Unsuitable { interface: format!("interface {index}"), reason: "which is gone".into() }
}

/// What an interface stands on.
#[derive(Debug, Default)]
struct Foundation {
    nics: Vec<MacAddress>,
    vlan: Option<u16>,
    note: Option<String>,
}

impl Foundation {
    /// Walks down from interface `index` to its NICs.
    fn find(links: &[LinkMessage], index: u32) -> Result<Self, NetError> {
        let mut foundation = Foundation::default();
        let mut level = vec![index];
        for _ in 0..STACK_DEPTH_MAX {
            let mut lower = Vec::new();
            for &index in &level {
                let view = View::find(links, index).ok_or_else(|| gone(index))?;
                lower.extend(foundation.step(links, &view)?);
            }
            if lower.is_empty() {
                break;
            }
            level = lower;
        }
        if foundation.nics.is_empty() {
            let top = View::find(links, index).ok_or_else(|| gone(index))?;
            return Err(top.unsuitable("which stands on no Ethernet NIC".into()));
        }
        foundation.nics.truncate(NICS_MAX);
        Ok(foundation)
    }

    /// Takes in one interface; gives the ones that it stands on.
    fn step(&mut self, links: &[LinkMessage], view: &View<'_>) -> Result<Vec<u32>, NetError> {
        match view.kind() {
            Some(InfoKind::Vlan) => {
                let id =
                    view.vlan_id().ok_or_else(|| view.unsuitable("a VLAN without an id".into()))?;
                if self.vlan.is_some_and(|earlier| earlier != id) {
                    return Err(view.unsuitable("a VLAN inside another".into()));
                }
                self.vlan = Some(id);
                Ok(view.lower().into_iter().collect())
            }
            Some(kind @ (InfoKind::Bond | InfoKind::Bridge)) => {
                self.note_kind(&kind, view);
                Ok(ports_of(links, view))
            }
            Some(InfoKind::Other(kind)) if kind == "team" => {
                self.note_kind(&InfoKind::Other(kind), view);
                Ok(ports_of(links, view))
            }
            Some(kind @ (InfoKind::MacVlan | InfoKind::IpVlan)) => {
                self.note_kind(&kind, view);
                Ok(view.lower().into_iter().collect())
            }
            Some(InfoKind::Tun | InfoKind::Dummy) => Ok(Vec::new()),
            _ => {
                self.nics.extend(view.nic_address().filter(|mac| !self.nics.contains(mac)));
                Ok(Vec::new())
            }
        }
    }

    fn note_kind(&mut self, kind: &InfoKind, view: &View<'_>) {
        let words = format!("{kind} {}", view.name());
        self.note = Some(match self.note.take() {
            Some(earlier) => format!("{earlier} on {words}"),
            None => words,
        });
    }
}

/// Returns the ports of a bond or bridge: the one in use first, then those with a carrier.
fn ports_of(links: &[LinkMessage], upper: &View<'_>) -> Vec<u32> {
    let active = upper.active_port();
    let is_port = |link: &&LinkMessage| {
        link.attributes.contains(&LinkAttribute::Controller(upper.0.header.index))
    };
    let mut ports: Vec<&LinkMessage> = links.iter().filter(is_port).collect();
    ports.sort_by_key(|link| {
        (Some(link.header.index) != active, !link.header.flags.contains(LinkFlags::LowerUp))
    });
    ports.iter().map(|link| link.header.index).collect()
}

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

    fn vlan_id(&self) -> Option<u16> {
        self.infos().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vlan(attributes)) => {
                attributes.iter().find_map(|attribute| match attribute {
                    InfoVlan::Id(id) => Some(*id),
                    _ => None,
                })
            }
            _ => None,
        })
    }

    fn active_port(&self) -> Option<u32> {
        self.infos().find_map(|info| match info {
            LinkInfo::Data(InfoData::Bond(attributes)) => {
                attributes.iter().find_map(|attribute| match attribute {
                    InfoBond::ActivePort(index) => Some(*index),
                    _ => None,
                })
            }
            _ => None,
        })
    }

    fn lower(&self) -> Option<u32> {
        self.0.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Link(index) => Some(*index),
            _ => None,
        })
    }

    /// Returns the permanent Ethernet address, else the current one (virtual NICs may have no
    /// permanent one); none for what is no Ethernet.
    pub(super) fn nic_address(&self) -> Option<MacAddress> {
        if self.0.header.link_layer_type != LinkLayerType::Ether {
            return None;
        }
        let find = |wanted: fn(&LinkAttribute) -> Option<&Vec<u8>>| {
            let bytes = self.0.attributes.iter().find_map(wanted)?;
            <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress)
        };
        let permanent = find(|attribute| match attribute {
            LinkAttribute::PermAddress(bytes) => Some(bytes),
            _ => None,
        });
        permanent.or_else(|| {
            find(|attribute| match attribute {
                LinkAttribute::Address(bytes) => Some(bytes),
                _ => None,
            })
        })
    }

    /// There is a cable with something at its other end, and the interface is up.
    pub(super) fn has_carrier(&self) -> bool {
        self.0.header.flags.contains(LinkFlags::LowerUp)
    }

    fn unsuitable(&self, reason: String) -> NetError {
        NetError::Unsuitable { interface: self.name().to_owned(), reason }
    }
}

/// Addresses that would not come by themselves and do not go by themselves.
pub(super) fn keep_address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let unwanted = AddressHeaderFlags::Tentative
        | AddressHeaderFlags::Dadfailed
        | AddressHeaderFlags::Deprecated;
    let is_ipv6 = message.header.family == AddressFamily::Inet6;
    // An IPv4 address with a lifetime is leased: recovery asks for a lease of its own, which it
    // renews. For IPv6 the flag "secondary" means "temporary".
    let is_leased = !is_ipv6 && !message.header.flags.contains(AddressHeaderFlags::Permanent);
    let is_temporary = is_ipv6 && message.header.flags.contains(AddressHeaderFlags::Secondary);
    if message.header.flags.intersects(unwanted) || is_leased || is_temporary {
        return None;
    }
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // The local address is the host's own; "address" is the other end's on a point-to-point
            // link.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            _ => {}
        }
    }
    let address = address.filter(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    })?;
    Some(InterfaceAddress { address, prefix_len: message.header.prefix_len })
}

/// Routes that somebody has set, as opposed to those that the kernel makes from addresses.
fn keep_route(message: &RouteMessage, index: u32) -> Option<Route> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN
        || header.kind != RouteType::Unicast
        || header.protocol == RouteProtocol::Kernel
    {
        return None;
    }
    let (gateway, on_link) = hop_through(message, index)?;
    let mut route = Route {
        destination: match header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => return None,
        },
        prefix_len: header.destination_prefix_length,
        gateway,
        on_link,
        metric: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination = ip_of(address)?,
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            _ => {}
        }
    }
    Some(route)
}

/// Returns the gateway of the hop through interface `index`, and whether it is on the link whatever
/// the prefixes say. None when the route does not go through that interface.
fn hop_through(message: &RouteMessage, index: u32) -> Option<(Option<IpAddr>, bool)> {
    if out_interface(message) == Some(index) {
        let on_link = message.header.flags.contains(RouteFlags::Onlink);
        return Some((gateway_in(&message.attributes), on_link));
    }
    let hops = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    })?;
    let hop = hops.iter().find(|hop| hop.interface_index == index)?;
    Some((gateway_in(&hop.attributes), hop.flags.contains(RouteNextHopFlags::Onlink)))
}

fn gateway_in(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip_of(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn link(index: u32, name: &str, mac_end: u8, more: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, mac_end]),
        ];
        message.attributes.extend(more);
        message
    }

    fn kind(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
        let mut infos = vec![LinkInfo::Kind(kind)];
        infos.extend(data.map(LinkInfo::Data));
        LinkAttribute::LinkInfo(infos)
    }

    fn vlan(id: u16) -> LinkAttribute {
        kind(InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(id)])))
    }

    #[test]
    fn a_bridge_on_a_vlan_on_a_bond_comes_down_to_its_nics() {
        let mut standby = link(3, "eth1", 9, vec![LinkAttribute::Controller(4)]);
        standby.attributes.push(LinkAttribute::PermAddress(vec![2, 0, 0, 0, 0, 3]));
        let links = [
            link(2, "eth0", 2, vec![LinkAttribute::Controller(4)]),
            standby,
            link(
                4,
                "bond0",
                9,
                vec![kind(InfoKind::Bond, Some(InfoData::Bond(vec![InfoBond::ActivePort(3)])))],
            ),
            link(
                5,
                "bond0.7",
                9,
                vec![vlan(7), LinkAttribute::Link(4), LinkAttribute::Controller(6)],
            ),
            link(6, "br0", 9, vec![kind(InfoKind::Bridge, None)]),
        ];
        let config = describe(&links, &[], &[], 6).unwrap();
        assert_eq!(config.name, "br0");
        assert_eq!(config.nics, [MacAddress([2, 0, 0, 0, 0, 3]), MacAddress([2, 0, 0, 0, 0, 2])]);
        assert_eq!(config.vlan, Some(7));
        assert_eq!(config.note.as_deref(), Some("bridge br0 on bond bond0"));
    }

    #[test]
    fn ways_that_recovery_cannot_take_are_told() {
        let links = [
            link(2, "eth0", 2, vec![]),
            link(3, "eth0.7", 2, vec![vlan(7), LinkAttribute::Link(2)]),
            link(4, "eth0.7.8", 2, vec![vlan(8), LinkAttribute::Link(3)]),
            link(5, "tun0", 2, vec![kind(InfoKind::Tun, None)]),
            link(6, "loop.9", 2, vec![vlan(9), LinkAttribute::Link(6)]),
        ];
        for index in [4, 5, 6, 7] {
            assert!(matches!(describe(&links, &[], &[], index), Err(NetError::Unsuitable { .. })));
        }
    }

    #[test]
    fn keeps_what_was_set_and_leaves_what_comes_by_itself() {
        let address = |ip: &str, flags| {
            let mut message = AddressMessage::default();
            let ip: IpAddr = ip.parse().unwrap();
            message.header.family =
                if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            message.header.prefix_len = 24;
            message.header.flags = flags;
            message.attributes = vec![AddressAttribute::Address(ip)];
            message
        };
        let none = AddressHeaderFlags::empty();
        let addresses = [
            address("192.0.2.6", none),
            address("192.0.2.7", AddressHeaderFlags::Permanent),
            address("192.0.2.8", AddressHeaderFlags::Permanent | AddressHeaderFlags::Secondary),
            address("fe80::1", none),
            address("2001:db8::7", none),
            address("2001:db8::8", AddressHeaderFlags::Secondary),
        ];
        let route = |protocol, kind| {
            let mut message = RouteMessage::default();
            message.header.address_family = AddressFamily::Inet;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.header.protocol = protocol;
            message.header.kind = kind;
            message.attributes = vec![
                RouteAttribute::Gateway(RouteAddress::Inet([192, 0, 2, 1].into())),
                RouteAttribute::Priority(100),
                RouteAttribute::Oif(2),
            ];
            message
        };
        let routes = [
            route(RouteProtocol::Dhcp, RouteType::Unicast),
            route(RouteProtocol::Kernel, RouteType::Unicast),
            route(RouteProtocol::Static, RouteType::BlackHole),
        ];
        let config = describe(&[link(2, "eth0", 2, vec![])], &addresses, &routes, 2).unwrap();
        let texts: Vec<String> =
            config.addresses.iter().map(|address| address.to_string()).collect();
        assert_eq!(texts, ["192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/24"]);
        assert_eq!(config.routes.len(), 1);
        assert_eq!(config.routes[0].to_string(), "0.0.0.0/0 via 192.0.2.1");
        assert_eq!((config.routes[0].metric, config.vlan), (Some(100), None));
    }

    #[test]
    fn the_loopback_interface_is_no_way() {
        let mut netlink = Netlink::open().unwrap();
        let error = survey(&mut netlink, "127.0.0.1".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("no Ethernet NIC"), "{error}");
    }
}
