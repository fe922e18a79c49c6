//! The manager's place in the network: its interfaces, the addresses of hosts, and where a stream
//! for many of them goes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};

use anyhow::{Context as _, bail, ensure};
use firmcast::wire::broadcast::fragment_size_for_mtu;
use firmcast_manager::campaign::Delivery;
use mio::net::UdpSocket;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use socket2::SockRef;

/// Routers that a stream to a multicast group may pass.
const MULTICAST_HOPS: u32 = 16;

/// Larger frames are not assumed to pass every switch between here and the hosts.
const MTU_MAX: u16 = 1500;

/// An IPv4 address of an interface that can broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) mask: Ipv4Addr,
    pub(crate) broadcast: Ipv4Addr,
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
    let mut found = Vec::new();
    let mut exists = false;
    for entry in getifaddrs().context("cannot list the network interfaces")? {
        if only.is_some_and(|only| only != entry.interface_name) {
            continue;
        }
        exists = true;
        let ipv4 = |address: Option<nix::sys::socket::SockaddrStorage>| {
            Some(address?.as_sockaddr_in()?.ip())
        };
        let addresses = (ipv4(entry.address), ipv4(entry.netmask), ipv4(entry.broadcast));
        let (Some(address), Some(mask), Some(broadcast)) = addresses else { continue };
        if entry.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_BROADCAST) {
            found.push(Interface { name: entry.interface_name, address, mask, broadcast });
        }
    }
    if let Some(only) = only.filter(|_| !exists) {
        bail!("there is no network interface {only}; ip link lists them");
    }
    Ok(found)
}

/// The interface to broadcast on when the hosts are not known yet: the only one, or that with the
/// address `listen`.
pub(crate) fn only_interface(listen: IpAddr) -> anyhow::Result<String> {
    let own = interfaces(None)?;
    let fits = |own: &&Interface| listen.is_unspecified() || listen == own.address;
    let names: BTreeSet<&str> = own.iter().filter(fits).map(|own| own.name.as_str()).collect();
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
        Some(_) => own.first(),
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
    Ok(SocketAddr::new(through.broadcast.into(), port))
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
            broadcast: Ipv4Addr::new(10, 1, 255, 255),
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
