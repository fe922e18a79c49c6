//! Reads in the normal OS how the manager is reached, so that recovery can reach it the same way.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags,
    RouteProtocol, RouteType, RouteVia,
};

use super::config::{ADDRESSES_MAX, InterfaceAddress, InterfaceConfig, Method, ROUTES_MAX, Route};
use super::foundation::Foundation;
use super::netlink::parse_all;
use super::view::View;
use super::{NetError, Netlink};
use crate::order::sort_by_rank;

/// Ethernet's largest packet, in bytes.
const ETHERNET_MTU: u32 = 1500;

/// An interface, and how much of it recovery makes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// What is handed over.
    pub interface: InterfaceConfig,
    /// What is different in recovery.
    pub remarks: Vec<String>,
    /// Why recovery may not reach what this interface reaches.
    pub doubts: Vec<String>,
}

impl fmt::Display for Surveyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InterfaceConfig { name, nics, bond, vlan, mtu, addresses, method, .. } =
            &self.interface;
        write!(f, "{name}")?;
        if let Some(id) = vlan {
            write!(f, ", VLAN {id}")?;
        }
        if let Some(bond) = bond {
            write!(f, ", bond of {} ({})", nics.len(), bond.mode)?;
        }
        if *mtu != ETHERNET_MTU {
            write!(f, ", MTU {mtu}")?;
        }
        match (addresses.as_slice(), method) {
            ([first, ..], _) => write!(f, ", {first}")?,
            ([], Method::Dhcp) => write!(f, ", address by DHCP")?,
            ([], Method::Advertised) => write!(f, ", address by router advertisement")?,
        }
        for said in self.doubts.iter().chain(&self.remarks) {
            write!(f, "; {said}")?;
        }
        Ok(())
    }
}

/// Whom the interface leads to, and the router on the way.
#[derive(Clone, Copy, Debug)]
struct Way {
    manager: IpAddr,
    gateway: Option<IpAddr>,
}

/// Returns the configuration of the interface through which `manager` is reached. An address of the
/// link alone is looked for on the interface of its scope.
///
/// # Errors
/// [`NetError::NoRoute`]; [`NetError::Unsuitable`] when the way leads through something that
/// recovery does not build (tunnels, the loopback interface, VLAN in VLAN); the others when the
/// kernel does not answer.
pub fn survey(netlink: &mut Netlink, manager: SocketAddr) -> Result<Surveyed, NetError> {
    let scope = match manager {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
        _ => 0,
    };
    let manager = manager.ip().to_canonical();
    let route = netlink.route_to(manager, scope)?.ok_or(NetError::NoRoute(manager))?;
    let index = out_interface(&route).ok_or(NetError::NoRoute(manager))?;
    let way = Way { manager, gateway: gateway_in(&route.attributes) };
    survey_index(netlink, index, Some(&way))
}

/// Returns the configuration of the interface `name`.
///
/// # Errors
/// As [`survey`].
pub fn survey_interface(netlink: &mut Netlink, name: &str) -> Result<Surveyed, NetError> {
    let links = netlink.links()?;
    let view = links.iter().map(View).find(|view| view.name() == name);
    let index = view.map(|view| view.0.header.index).ok_or_else(|| NetError::Unsuitable {
        interface: name.to_owned(),
        reason: "which is gone".to_owned(),
    })?;
    survey_index(netlink, index, None)
}

/// Returns what is made of dumps of the kernel: for tests with any bytes.
///
/// # Errors
/// As [`survey`].
#[doc(hidden)]
pub fn survey_of_dump(dump: &[u8], index: u32, manager: IpAddr) -> Result<Surveyed, NetError> {
    let (links, addresses, routes) = parse_all(dump);
    let way = Way { manager, gateway: routes.first().and_then(|r| gateway_in(&r.attributes)) };
    describe(&links, &addresses, &routes, index, Some(&way))
}

fn survey_index(
    netlink: &mut Netlink,
    index: u32,
    way: Option<&Way>,
) -> Result<Surveyed, NetError> {
    let links = netlink.links()?;
    let addresses = netlink.addresses(index)?;
    let mut routes = netlink.routes(AddressFamily::Inet, index)?;
    routes.extend(netlink.routes(AddressFamily::Inet6, index)?);
    describe(&links, &addresses, &routes, index, way)
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
    way: Option<&Way>,
) -> Result<Surveyed, NetError> {
    let Foundation { nics, bond, vlan, left_out, mut remarks, doubts } =
        Foundation::find(links, index)?;
    let (name, mtu) = match View::find(links, index) {
        Some(top) => (top.name().to_owned(), top.mtu()),
        None => Default::default(),
    };
    if !left_out.is_empty() {
        let left_out = left_out.join(" on ");
        remarks.push(format!("recovery uses what is below {left_out}, with its addresses"));
    }
    let note = (!left_out.is_empty()).then(|| left_out.join(" on "));
    let (addresses, method) = addresses_towards(addresses, way);
    let routes = routes_towards(routes, index, &addresses, way);
    let interface = InterfaceConfig {
        name,
        nics,
        bond,
        note,
        vlan,
        mtu,
        addresses,
        routes,
        method,
        ..InterfaceConfig::default()
    };
    Ok(Surveyed { interface, remarks, doubts })
}

/// Returns the addresses to set, those that reach the manager first. Without one of the manager's
/// family recovery has to get one: then none is set.
fn addresses_towards(
    messages: &[AddressMessage],
    way: Option<&Way>,
) -> (Vec<InterfaceAddress>, Method) {
    let is_local =
        |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let keeps_local = way.is_some_and(|way| is_local(way.manager));
    let mut kept: Vec<InterfaceAddress> = messages
        .iter()
        .filter_map(keep_address)
        .filter(|kept| keeps_local || !is_local(kept.address))
        .collect();
    let Some(way) = way else {
        kept.truncate(ADDRESSES_MAX);
        return (kept, Method::Dhcp);
    };
    let next = way.gateway.unwrap_or(way.manager);
    sort_by_rank(&mut kept, |kept| {
        let is_other = kept.address.is_ipv4() != way.manager.is_ipv4();
        let is_beside = !covers(kept.address, kept.prefix_len, next);
        [is_other.into(), is_beside.into()]
    });
    kept.truncate(ADDRESSES_MAX);
    match kept.first() {
        Some(first) if first.address.is_ipv4() == way.manager.is_ipv4() => (kept, Method::Dhcp),
        _ if way.manager.is_ipv4() => (Vec::new(), Method::Dhcp),
        _ => (Vec::new(), Method::Advertised),
    }
}

/// Returns the routes that somebody has set; with `addresses` also one to the manager, where those
/// that are kept do not lead there as the kernel does (it may do so by another table).
fn routes_towards(
    messages: &[RouteMessage],
    index: u32,
    addresses: &[InterfaceAddress],
    way: Option<&Way>,
) -> Vec<Route> {
    let is_leased = addresses.is_empty();
    // What a lease or an advertisement brings, recovery gets by itself.
    let comes_with_it = |message: &&RouteMessage| match message.header.protocol {
        RouteProtocol::Dhcp | RouteProtocol::Ra => is_leased,
        _ => false,
    };
    let mut kept: Vec<Route> = messages
        .iter()
        .filter(|message| !comes_with_it(message))
        .filter_map(|message| keep_route(message, index))
        .collect();
    // Without a metric is before all metrics.
    let metric = |route: &Route| route.metric.map_or(0, |metric| u64::from(metric) + 1);
    sort_by_rank(&mut kept, |route| [route.prefix_len.into(), metric(route)]);
    let missing = way.filter(|_| !is_leased).and_then(|way| missing_route(way, &kept, addresses));
    kept.truncate(ROUTES_MAX - 1);
    kept.extend(missing);
    kept
}

/// Returns the route to the manager, unless `routes` and `addresses` lead there by the same router.
fn missing_route(way: &Way, routes: &[Route], addresses: &[InterfaceAddress]) -> Option<Route> {
    let is_on_link = |to: IpAddr| {
        addresses.iter().any(|near| covers(near.address, near.prefix_len, to))
            || matches!(to, IpAddr::V6(v6) if v6.is_unicast_link_local())
    };
    let connected = addresses
        .iter()
        .filter(|near| covers(near.address, near.prefix_len, way.manager))
        .map(|near| (near.prefix_len, std::cmp::Reverse(0), None));
    let routed = routes
        .iter()
        .filter(|route| covers(route.destination, route.prefix_len, way.manager))
        .map(|route| {
            let metric = std::cmp::Reverse(route.metric.unwrap_or_default());
            (route.prefix_len, metric, route.gateway)
        });
    let best = connected.chain(routed).max_by_key(|(prefix_len, metric, _)| (*prefix_len, *metric));
    if best.is_some_and(|(_, _, gateway)| gateway == way.gateway) {
        return None;
    }
    Some(Route {
        destination: way.manager,
        prefix_len: if way.manager.is_ipv4() { 32 } else { 128 },
        gateway: way.gateway,
        on_link: way.gateway.is_some_and(|gateway| !is_on_link(gateway)),
        metric: None,
    })
}

/// Whether `address` is in the network of `network` with this prefix.
fn covers(network: IpAddr, prefix_len: u8, address: IpAddr) -> bool {
    let (one, other, bits) = match (network, address) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let differing: u128 = one ^ other;
    let host_bits = u32::from(bits - prefix_len.min(bits));
    differing.checked_shr(host_bits).unwrap_or(0) == 0
}

/// Addresses that do not go by themselves.
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
    Some(InterfaceAddress { address: address?, prefix_len: message.header.prefix_len })
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
mod tests;
