//! The manager's place in the network: its interfaces, the addresses of hosts, and where a stream
//! for many of them goes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};

use anyhow::{Context as _, bail, ensure};
use firmcast::wire::broadcast::fragment_size_for_mtu;
use firmcast_manager::campaign::Delivery;
use mio::net::UdpSocket;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;
use socket2::SockRef;

/// Routers that a stream to a multicast group may pass.
const MULTICAST_HOPS: u32 = 16;

/// Larger frames are not assumed to pass every switch between here and the hosts.
const MTU_MAX: u16 = 1500;

/// An IPv4 address of an interface on which broadcasts are possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) mask: Ipv4Addr,
    /// Where everybody in its network is reached; none where the network is too small for that.
    pub(crate) broadcast: Option<Ipv4Addr>,
}

impl Interface {
    fn holds(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        address.to_bits() & self.mask.to_bits() == self.address.to_bits() & self.mask.to_bits()
    }
}

/// The interfaces that are up and can broadcast, one entry for each IPv4 address; only that named
/// `only`, if given.
pub(crate) fn interfaces(only: Option<&str>) -> anyhow::Result<Vec<Interface>> {
    let ipv4 = |address: Option<SockaddrStorage>| Some(address?.as_sockaddr_in()?.ip());
    let entries: Vec<InterfaceAddress> =
        getifaddrs().context("cannot list the network interfaces")?.collect();
    let own: BTreeSet<Ipv4Addr> = entries.iter().filter_map(|entry| ipv4(entry.address)).collect();
    let is_meant = |entry: &&InterfaceAddress| only.is_none_or(|only| only == entry.interface_name);
    if let Some(only) = only.filter(|_| !entries.iter().any(|entry| is_meant(&entry))) {
        bail!("there is no network interface {only}; ip link lists them");
    }
    let needed = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_BROADCAST;
    let interface = |entry: &InterfaceAddress| {
        let (address, mask) = (ipv4(entry.address)?, ipv4(entry.netmask)?);
        let broadcast = broadcast_of(address, mask, ipv4(entry.broadcast), &own);
        let name = entry.interface_name.clone();
        entry.flags.contains(needed).then_some(Interface { name, address, mask, broadcast })
    };
    Ok(entries.iter().filter(is_meant).filter_map(interface).collect())
}

/// Returns the broadcast address of the network in which `address` is: as it is `set`, else as the
/// prefix has it, as the kernel's own routes do. An address without one (`ip addr add 10.0.0.1/24`
/// without `brd`) is listed with itself in that place, and what was sent there would reach nobody
/// but this machine; so it is none of its `own` addresses.
fn broadcast_of(
    address: Ipv4Addr,
    mask: Ipv4Addr,
    set: Option<Ipv4Addr>,
    own: &BTreeSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let is_usable = |to: &Ipv4Addr| !to.is_unspecified() && !own.contains(to);
    // RFC 3021: networks of two addresses have no broadcast address.
    let has_room = mask.to_bits().trailing_zeros() >= 2;
    let of_prefix = || Ipv4Addr::from_bits(address.to_bits() | !mask.to_bits());
    set.filter(is_usable).or_else(|| has_room.then(of_prefix).filter(is_usable))
}

/// The interface to broadcast on when nobody has called yet: the only one, or that with the address
/// `listen`; of several the one whose network holds some of `hosts`.
pub(crate) fn only_interface(
    listen: IpAddr,
    hosts: impl Iterator<Item = IpAddr>,
) -> anyhow::Result<String> {
    let own = interfaces(None)?;
    let fits = |own: &&Interface| {
        own.broadcast.is_some() && (listen.is_unspecified() || listen == own.address)
    };
    let own: Vec<&Interface> = own.iter().filter(fits).collect();
    let mut names: BTreeSet<&str> = own.iter().map(|own| own.name.as_str()).collect();
    if names.len() > 1 {
        let holder = |host| own.iter().find(|own| own.holds(host)).map(|own| own.name.as_str());
        let holders: BTreeSet<&str> = hosts.filter_map(holder).collect();
        names = if holders.is_empty() { names } else { holders };
    }
    match names.len() {
        1 => Ok(names.into_iter().collect()),
        0 => bail!("no interface at {listen} can broadcast; use --interface, --group or --unicast"),
        _ => {
            let names: Vec<&str> = names.into_iter().collect();
            bail!("hosts may be behind {}; name one with --interface", names.join(", "))
        }
    }
}

/// Where a stream for all hosts goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Broadcast address or multicast group with the agents' port; none by unicast.
    pub(crate) group: Option<SocketAddr>,
    /// Data bytes in each fragment.
    pub(crate) fragment_size_bytes: u16,
}

/// Finds the way to `hosts`, and prepares the socket for it.
pub(crate) fn route(
    socket: &UdpSocket,
    delivery: Delivery,
    interface: Option<&str>,
    hosts: &[SocketAddr],
    port: u16,
) -> anyhow::Result<Route> {
    let own = interfaces(interface)?;
    let through = match interface {
        // Of several addresses one that reaches everybody, if there is one.
        Some(_) => own.iter().find(|own| own.broadcast.is_some()).or(own.first()),
        None => own.iter().find(|own| hosts.first().is_some_and(|host| own.holds(host.ip()))),
    };
    let group = match delivery {
        Delivery::Unicast => None,
        Delivery::Broadcast => Some(broadcast_address(through, interface, hosts, port)?),
        Delivery::Group(group) => Some(multicast_address(socket, group, through, interface, port)?),
    };
    let name = interface.or(through.map(|through| through.name.as_str()));
    let ip_header_size = if hosts.iter().any(SocketAddr::is_ipv6) { 40 } else { 20 };
    let mtu = name.and_then(interface_mtu).unwrap_or(MTU_MAX).min(MTU_MAX);
    let fragment_size_bytes = fragment_size_for_mtu(mtu, ip_header_size)
        .with_context(|| format!("an MTU of {mtu} bytes is too small for fragments"))?;
    Ok(Route { group, fragment_size_bytes })
}

fn broadcast_address(
    through: Option<&Interface>,
    interface: Option<&str>,
    hosts: &[SocketAddr],
    port: u16,
) -> anyhow::Result<SocketAddr> {
    let Some(through) = through else {
        bail!(
            "no interface that can broadcast reaches the hosts' network; name one with \
             --interface, \
             or use --group or --unicast"
        );
    };
    // Whoever names an interface knows where the hosts are.
    let elsewhere = hosts.iter().find(|host| interface.is_none() && !through.holds(host.ip()));
    if let Some(host) = elsewhere {
        bail!(
            "a broadcast on {} does not reach {host}; use --group or --unicast, or update it apart",
            through.name
        );
    }
    let Interface { name, address, .. } = through;
    let broadcast = through.broadcast.with_context(|| {
        format!(
            "{name} has no broadcast address for {address}: give it one (ip addr, brd), or use \
             --group or --unicast"
        )
    })?;
    Ok(SocketAddr::new(broadcast.into(), port))
}

fn multicast_address(
    socket: &UdpSocket,
    group: IpAddr,
    through: Option<&Interface>,
    interface: Option<&str>,
    port: u16,
) -> anyhow::Result<SocketAddr> {
    ensure!(group.is_multicast(), "{group} is not a multicast group");
    let socket = SockRef::from(socket);
    let local = socket.local_addr()?.as_socket().context("the socket has no address")?;
    ensure!(local.is_ipv6() == group.is_ipv6(), "{group} is of another family than the hosts");
    match group {
        IpAddr::V4(_) => {
            if let Some(through) = through {
                socket.set_multicast_if_v4(&through.address)?;
            }
            socket.set_multicast_ttl_v4(MULTICAST_HOPS)?;
            Ok(SocketAddr::new(group, port))
        }
        IpAddr::V6(group) => {
            let index = match interface {
                Some(name) => if_nametoindex(name).with_context(|| format!("interface {name}"))?,
                None => 0,
            };
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_hops_v6(MULTICAST_HOPS)?;
            Ok(SocketAddrV6::new(group, port, 0, index).into())
        }
    }
}

fn interface_mtu(name: &str) -> Option<u16> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?;
    Some(text.trim().parse::<u32>().ok()?.min(u32::from(u16::MAX)) as u16)
}

/// The address that an operator wrote: with or without port, a number or a name of the network's
/// name service.
pub(crate) fn resolve(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let mut addresses = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("{host} is neither in the inventory nor a known address"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_broadcast_goes_to_the_network_of_all_hosts_or_nowhere() {
        let through = Interface {
            name: "eth0".into(),
            address: Ipv4Addr::new(10, 1, 2, 3),
            mask: Ipv4Addr::new(255, 255, 0, 0),
            broadcast: Some(Ipv4Addr::new(10, 1, 255, 255)),
        };
        let near: SocketAddr = "10.1.9.9:9847".parse().unwrap();
        let far: SocketAddr = "10.2.9.9:9847".parse().unwrap();
        let to = |interface, hosts: &[SocketAddr]| {
            broadcast_address(Some(&through), interface, hosts, 9847)
        };
        assert_eq!(to(None, &[near]).unwrap(), "10.1.255.255:9847".parse().unwrap());
        assert!(to(None, &[near, far]).unwrap_err().to_string().contains("10.2.9.9"));
        assert!(to(Some("eth0"), &[near, far]).is_ok());
        let nowhere = broadcast_address(None, None, &[near], 9847).unwrap_err().to_string();
        assert!(nowhere.contains("--interface"), "{nowhere}");
    }

    #[test]
    fn no_broadcast_goes_to_an_own_address() {
        let own = Ipv4Addr::new(10, 1, 2, 3);
        let of = |prefix: u32, set: Option<Ipv4Addr>, more: &[Ipv4Addr]| {
            let mask = Ipv4Addr::from_bits(u32::MAX << (32 - prefix));
            broadcast_of(own, mask, set, &[&[own], more].concat().into_iter().collect())
        };
        let everybody = Ipv4Addr::new(10, 1, 2, 255);
        assert_eq!(of(24, Some(everybody), &[]), Some(everybody));
        let other = Ipv4Addr::new(10, 1, 255, 255);
        assert_eq!(of(24, Some(other), &[]), Some(other), "as the operator has set it");
        // Without `brd` the list names the address itself.
        assert_eq!(of(24, Some(own), &[]), Some(everybody));
        assert_eq!(of(24, Some(Ipv4Addr::UNSPECIFIED), &[]), Some(everybody));
        assert_eq!(of(24, None, &[]), Some(everybody));
        assert_eq!(of(30, None, &[]), None, "10.1.2.3/30 is the broadcast address itself");
        assert_eq!(of(31, None, &[]), None);
        assert_eq!(of(32, Some(own), &[]), None);
        assert_eq!(of(24, Some(own), &[everybody]), None);
    }

    #[test]
    fn a_wrong_interface_is_told() {
        assert!(interfaces(Some("nosuch0")).unwrap_err().to_string().contains("nosuch0"));
    }

    #[test]
    fn addresses_are_understood_with_and_without_port() {
        let at = |host| resolve(host, 9847).unwrap().to_string();
        assert_eq!(at("10.0.0.1"), "10.0.0.1:9847");
        assert_eq!(at("10.0.0.1:77"), "10.0.0.1:77");
        assert_eq!(at("fe80::1"), "[fe80::1]:9847");
        assert_eq!(at("[fe80::1]:77"), "[fe80::1]:77");
    }
}
