#![allow(clippy::unwrap_used)]
use super::*;
use crate::net::MacAddress;
use crate::net::config::BondMode;
use netlink_packet_route::link::{
    InfoBond, InfoBondPort, InfoBridge, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, VlanProtocol,
};
use proptest::prelude::*;

fn link(index: u32, name: &str, mac_end: u8, more: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(mac(mac_end).0.to_vec()),
    ];
    message.attributes.extend(more);
    message
}

fn with_carrier(mut link: LinkMessage) -> LinkMessage {
    link.header.flags |= LinkFlags::LowerUp;
    link
}

fn mac(end: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, end])
}

fn kind(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    let mut infos = vec![LinkInfo::Kind(kind)];
    infos.extend(data.map(LinkInfo::Data));
    LinkAttribute::LinkInfo(infos)
}

fn vlan(id: u16) -> LinkAttribute {
    kind(InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(id)])))
}

fn bond(mode: u8, more: Vec<InfoBond>) -> LinkAttribute {
    let mut data = vec![InfoBond::Mode(mode.into()), InfoBond::MiiMon(100)];
    data.extend(more);
    kind(InfoKind::Bond, Some(InfoData::Bond(data)))
}

fn bridge(data: Vec<InfoBridge>) -> LinkAttribute {
    kind(InfoKind::Bridge, Some(InfoData::Bridge(data)))
}

fn port_of(index: u32) -> LinkAttribute {
    LinkAttribute::Controller(index)
}

fn found(links: &[LinkMessage], index: u32) -> Surveyed {
    describe(links, &[], &[], index, None).unwrap()
}

#[test]
fn a_bridge_on_a_vlan_on_a_bond_comes_down_to_the_bond_and_its_members() {
    let mut standby = link(3, "eth1", 9, vec![port_of(4)]);
    standby.attributes.push(LinkAttribute::PermAddress(mac(3).0.to_vec()));
    // A kernel that tells the permanent address of members alone.
    let active = LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bond),
        LinkInfo::PortData(InfoPortData::BondPort(vec![InfoBondPort::PermHwaddr(
            mac(2).0.to_vec(),
        )])),
    ]);
    let data = vec![InfoBond::ActivePort(2), InfoBond::AdLacpRate(1), InfoBond::MinLinks(1)];
    let links = [
        standby,
        link(2, "eth0", 9, vec![port_of(4), active]),
        link(4, "bond0", 9, vec![bond(4, data)]),
        link(5, "bond0.7", 9, vec![vlan(7), LinkAttribute::Link(4), port_of(6)]),
        link(6, "br0", 9, vec![bridge(vec![])]),
        link(7, "vnet0", 8, vec![kind(InfoKind::Tun, None), port_of(6)]),
    ];
    let surveyed = found(&links, 6);
    let config = &surveyed.interface;
    assert_eq!((config.name.as_str(), config.vlan), ("br0", Some(7)));
    assert_eq!(config.nics, [mac(2), mac(3)], "the active one comes first");
    let bond = config.bond.as_ref().unwrap();
    assert_eq!((bond.mode, bond.mac, bond.lacp_is_fast), (BondMode::Lacp, mac(9), true));
    assert_eq!((bond.miimon_ms, bond.min_links), (100, 1));
    assert_eq!(config.note.as_deref(), Some("bridge br0"));
    assert_eq!((surveyed.remarks.len(), surveyed.doubts.len()), (1, 0));
    assert_eq!(
        surveyed.to_string(),
        "br0, VLAN 7, bond of 2 (802.3ad), address by DHCP; recovery uses what is below bridge \
         br0, with its addresses"
    );
    assert_eq!(found(&links, 5).remarks, [""; 0]);
    assert!(found(&links, 4).interface.note.is_none());
}

#[test]
fn of_a_bridge_the_port_that_leads_out_is_taken_and_two_of_them_are_doubtful() {
    let tap = link(4, "tap0", 7, vec![kind(InfoKind::Tun, None), port_of(9)]);
    let veth = link(5, "veth0", 8, vec![kind(InfoKind::Veth, None), port_of(9)]);
    let mut links = vec![
        tap,
        with_carrier(veth),
        link(2, "eth0", 2, vec![port_of(9)]),
        link(9, "br0", 2, vec![bridge(vec![InfoBridge::VlanFiltering(false)])]),
    ];
    let surveyed = found(&links, 9);
    assert_eq!((surveyed.interface.nics, surveyed.doubts.len()), (vec![mac(2)], 0));
    links.push(with_carrier(link(3, "eth1", 3, vec![port_of(9)])));
    let surveyed = found(&links, 9);
    assert_eq!(surveyed.interface.nics, [mac(3), mac(2)], "the one with a carrier comes first");
    assert!(surveyed.doubts[0].contains("eth1, eth0"), "{:?}", surveyed.doubts);

    let filtering = [
        link(2, "eth0", 2, vec![port_of(9)]),
        link(9, "br0", 2, vec![bridge(vec![InfoBridge::VlanFiltering(true)])]),
    ];
    assert_eq!(found(&filtering, 9).doubts.len(), 1);
    let in_a_container = [
        with_carrier(link(5, "veth0", 8, vec![kind(InfoKind::Veth, None), port_of(9)])),
        link(9, "br0", 2, vec![bridge(vec![])]),
    ];
    assert_eq!(found(&in_a_container, 9).interface.nics, [mac(8)]);
}

#[test]
fn ways_that_recovery_cannot_take_are_told() {
    let ad = InfoData::Vlan(vec![InfoVlan::Id(5), InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)]);
    let team = InfoKind::Other("team".into());
    let mut infiniband = link(15, "ib0", 2, vec![]);
    infiniband.header.link_layer_type = LinkLayerType::Infiniband;
    let links = [
        link(2, "eth0", 2, vec![port_of(10)]),
        link(3, "eth0.7", 2, vec![vlan(7), LinkAttribute::Link(2)]),
        link(4, "eth0.7.8", 2, vec![vlan(8), LinkAttribute::Link(3)]),
        link(5, "tun0", 2, vec![kind(InfoKind::Tun, None)]),
        link(6, "loop.9", 2, vec![vlan(9), LinkAttribute::Link(6)]),
        link(8, "eth0.5", 2, vec![kind(InfoKind::Vlan, Some(ad)), LinkAttribute::Link(2)]),
        link(9, "vlan0", 2, vec![vlan(9)]),
        link(10, "team0", 2, vec![kind(team, None)]),
        link(11, "bond0", 2, vec![bond(1, vec![])]),
        link(12, "bond1", 2, vec![bond(7, vec![])]),
        link(13, "vxlan0", 2, vec![kind(InfoKind::Vxlan, None)]),
        link(14, "br0", 2, vec![bridge(vec![])]),
        infiniband,
        link(16, "bond2", 2, vec![bond(1, vec![])]),
        link(17, "eth0.6", 2, vec![vlan(6), LinkAttribute::Link(2), port_of(16)]),
        link(18, "tap0", 2, vec![kind(InfoKind::Tun, None), port_of(14)]),
    ];
    for (index, says) in [
        (4, "VLAN inside another"),
        (5, "(tun)"),
        (6, "VLAN inside another"),
        (7, "gone"),
        (8, "802.1ad"),
        (9, "not to be seen"),
        (10, "make it a bond"),
        (11, "without members"),
        (12, "mode"),
        (13, "(vxlan)"),
        (14, "leads out"),
        (15, "no Ethernet NIC"),
        (16, "no NIC"),
    ] {
        match describe(&links, &[], &[], index, None) {
            Err(NetError::Unsuitable { reason, .. }) => {
                assert!(reason.contains(says), "{index}: {reason}");
            }
            other => panic!("{index}: {other:?}"),
        }
    }
}

#[test]
fn a_bond_that_asks_by_arp_looks_at_links_in_recovery() {
    let links = [
        link(2, "eth0", 2, vec![port_of(4)]),
        link(4, "bond0", 2, vec![bond(1, vec![InfoBond::ArpInterval(500)])]),
    ];
    assert!(found(&links, 4).remarks[0].contains("not by ARP"));
}

fn address(ip: &str, prefix_len: u8, flags: AddressHeaderFlags) -> AddressMessage {
    let mut message = AddressMessage::default();
    let ip: IpAddr = ip.parse().unwrap();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix_len;
    message.header.flags = flags;
    message.attributes = vec![AddressAttribute::Address(ip)];
    message
}

fn route(protocol: RouteProtocol, kind: RouteType) -> RouteMessage {
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
}

fn towards(
    addresses: &[AddressMessage],
    routes: &[RouteMessage],
    manager: &str,
    gateway: Option<&str>,
) -> InterfaceConfig {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    let way = Way { manager: manager.parse().unwrap(), gateway };
    let links = [link(2, "eth0", 2, vec![])];
    describe(&links, addresses, routes, 2, Some(&way)).unwrap().interface
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

const NONE: AddressHeaderFlags = AddressHeaderFlags::empty();

#[test]
fn keeps_what_was_set_and_leaves_what_comes_by_itself() {
    let addresses = [
        address("192.0.2.6", 24, NONE),
        address("192.0.2.7", 24, AddressHeaderFlags::Permanent),
        address("192.0.2.8", 24, AddressHeaderFlags::Permanent | AddressHeaderFlags::Secondary),
        address("fe80::1", 64, NONE),
        address("2001:db8::7", 24, NONE),
        address("2001:db8::8", 24, AddressHeaderFlags::Secondary),
    ];
    let routes = [
        route(RouteProtocol::Dhcp, RouteType::Unicast),
        route(RouteProtocol::Kernel, RouteType::Unicast),
        route(RouteProtocol::Static, RouteType::BlackHole),
    ];
    let config = towards(&addresses, &routes, "198.51.100.1", Some("192.0.2.1"));
    let kept = ["192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/24"];
    assert_eq!(texts(&config.addresses), kept);
    assert_eq!(texts(&config.routes), ["0.0.0.0/0 via 192.0.2.1"]);
    assert_eq!((config.routes[0].metric, config.vlan), (Some(100), None));
}

#[test]
fn an_address_of_the_link_is_kept_for_a_manager_that_has_nothing_else() {
    let addresses = [
        address("192.0.2.7", 24, AddressHeaderFlags::Permanent),
        address("fe80::7", 64, AddressHeaderFlags::Permanent),
    ];
    let config = towards(&addresses, &[], "fe80::1", None);
    assert_eq!(texts(&config.addresses), ["fe80::7/64", "192.0.2.7/24"]);
    assert_eq!(texts(&config.routes), [""; 0]);
}

#[test]
fn without_an_address_of_the_managers_family_recovery_gets_one() {
    let leased = address("192.0.2.6", 24, NONE);
    let global = address("2001:db8::7", 64, NONE);
    let (dhcp, set) = (RouteProtocol::Dhcp, RouteProtocol::Static);
    let routes = [route(dhcp, RouteType::Unicast), route(set, RouteType::Unicast)];
    let both = [leased, global];
    let config = towards(&both, &routes, "198.51.100.1", Some("192.0.2.1"));
    assert_eq!((config.addresses.len(), config.method), (0, Method::Dhcp));
    assert_eq!(texts(&config.routes), ["0.0.0.0/0 via 192.0.2.1"], "what was set beside the lease");
    let config = towards(&both, &[], "2001:db8::1", None);
    assert_eq!(texts(&config.addresses), ["2001:db8::7/64"]);
    let temporary = [address("2001:db8::8", 64, AddressHeaderFlags::Secondary)];
    let config = towards(&temporary, &[], "2001:db8::1", None);
    assert_eq!((config.addresses.len(), config.method), (0, Method::Advertised));
}

#[test]
fn a_manager_behind_a_router_that_the_main_table_does_not_name_gets_a_route() {
    let own = [address("192.0.2.7", 24, AddressHeaderFlags::Permanent)];
    let default = [route(RouteProtocol::Static, RouteType::Unicast)];
    let routes = |manager, gateway| {
        let config = towards(&own, &default, manager, gateway);
        config
            .routes
            .into_iter()
            .map(|route| (route.to_string(), route.on_link))
            .collect::<Vec<_>>()
    };
    let default_alone = [("0.0.0.0/0 via 192.0.2.1".to_owned(), false)];
    assert_eq!(routes("198.51.100.1", Some("192.0.2.1")), default_alone);
    assert_eq!(routes("192.0.2.9", None), default_alone, "on the link");
    for (manager, gateway, says, on_link) in [
        ("198.51.100.1", Some("192.0.2.2"), "198.51.100.1/32 via 192.0.2.2", false),
        ("198.51.100.1", Some("203.0.113.1"), "198.51.100.1/32 via 203.0.113.1", true),
        ("198.51.100.1", None, "198.51.100.1/32", false),
        ("192.0.2.9", Some("192.0.2.1"), "192.0.2.9/32 via 192.0.2.1", false),
    ] {
        assert_eq!(routes(manager, gateway)[1..], [(says.to_owned(), on_link)], "{manager}");
    }
}

#[test]
fn the_manager_is_reached_however_many_addresses_and_routes_there_are() {
    let mut addresses: Vec<AddressMessage> = (0..40)
        .map(|n| address(&format!("10.0.{n}.1"), 24, AddressHeaderFlags::Permanent))
        .collect();
    addresses.push(address("192.0.2.7", 24, AddressHeaderFlags::Permanent));
    let mut routes = Vec::new();
    for n in 0..=ROUTES_MAX as u8 {
        let mut other = route(RouteProtocol::Bgp, RouteType::Unicast);
        other.header.destination_prefix_length = 24;
        let to = RouteAddress::Inet([10, 9, n, 0].into());
        other.attributes.push(RouteAttribute::Destination(to));
        routes.push(other);
    }
    let config = towards(&addresses, &routes, "198.51.100.1", Some("192.0.2.1"));
    assert_eq!((config.addresses.len(), config.routes.len()), (ADDRESSES_MAX, ROUTES_MAX));
    assert_eq!(config.addresses[0].to_string(), "192.0.2.7/24");
    assert_eq!(config.routes.last().unwrap().to_string(), "198.51.100.1/32 via 192.0.2.1");
}

#[test]
fn networks_cover_their_addresses() {
    let of = |network: &str, prefix_len, address: &str| {
        covers(network.parse().unwrap(), prefix_len, address.parse().unwrap())
    };
    assert!(of("192.0.2.0", 24, "192.0.2.255") && !of("192.0.2.0", 25, "192.0.2.128"));
    assert!(of("0.0.0.0", 0, "255.1.2.3") && of("::", 0, "2001:db8::1") && !of("::", 0, "1.2.3.4"));
    assert!(of("2001:db8::", 64, "2001:db8::9") && !of("2001:db8::1", 128, "2001:db8::"));
    assert!(of("192.0.2.1", 255, "192.0.2.1"), "a prefix that cannot be is the longest");
}

#[test]
fn the_loopback_interface_is_no_way() {
    let mut netlink = Netlink::open().unwrap();
    let error = survey(&mut netlink, "127.0.0.1:9".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("no Ethernet NIC"), "{error}");
}

/// What a kernel says of a machine with one NIC; the first five bytes are its index and a manager.
const DUMP: &[u8] = include_bytes!("../../../fuzz/corpus/network/nic");

fn survey_of_input(input: &[u8]) -> Result<Surveyed, NetError> {
    let (head, dump) = input.split_at(5);
    survey_of_dump(dump, head[0].into(), [head[1], head[2], head[3], head[4]].into())
}

#[test]
fn the_dump_of_a_kernel_is_understood() {
    let surveyed = survey_of_input(DUMP).unwrap();
    assert_eq!((surveyed.interface.name.as_str(), surveyed.interface.nics.len()), ("eth0", 1));
}

proptest::proptest! {
    #[test]
    fn a_dump_with_wrong_bytes_ends(
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..40),
    ) {
        let mut dump = DUMP.to_vec();
        for (at, byte) in changes {
            let at = 5 + at % (DUMP.len() - 5);
            dump[at] = byte;
        }
        if let Ok(surveyed) = survey_of_input(&dump) {
            assert!(!surveyed.interface.nics.is_empty());
        }
    }

    #[test]
    fn any_dump_ends(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = survey_of_dump(&bytes, 2, [192, 0, 2, 1].into());
    }
}
