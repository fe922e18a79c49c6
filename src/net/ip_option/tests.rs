#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

/// Returns an interface in one line: name, NIC, VLAN, MTU, addresses or method, routes, name
/// servers, domain.
fn line(config: &InterfaceConfig) -> String {
    let mut text = match (&config.device, config.nics.first()) {
        (Some(device), None) => device.clone(),
        (None, Some(mac)) => mac.to_string(),
        _ => "any".into(),
    };
    if let Some(id) = config.vlan {
        text += &format!(" vlan {id}");
    }
    if config.mtu > 0 {
        text += &format!(" mtu {}", config.mtu);
    }
    if config.addresses.is_empty() {
        text += &format!(" {:?}", config.method);
    }
    config.addresses.iter().for_each(|address| text += &format!(" {address}"));
    config.routes.iter().for_each(|route| text += &format!(" {route}"));
    config.dns.iter().for_each(|server| text += &format!(" dns {server}"));
    config.domain.iter().for_each(|domain| text += &format!(" in {domain}"));
    text
}

#[test]
fn what_kernel_and_dracut_take_is_taken() {
    for (cmdline, expected) in [
        ("quiet ro", ""),
        ("ip=dhcp", "any Dhcp"),
        ("ip=on", "any Dhcp"),
        ("ip=auto6", "any Advertised"),
        ("ip=off", ""),
        ("ip=none", ""),
        ("ip=", "any Dhcp"),
        ("ip=::::::none", ""),
        ("ip=eth0:dhcp", "eth0 Dhcp"),
        ("ip=enp3s0f1:auto6:9000", "enp3s0f1 mtu 9000 Advertised"),
        ("ip=52-54-00-12-34-56:dhcp", "52:54:00:12:34:56 Dhcp"),
        ("ip=:::::eth1:dhcp", "eth1 Dhcp"),
        ("ip=::::node7.Rack.example:eth1:dhcp", "eth1 Dhcp in rack.example"),
        (
            "ip=192.0.2.7::192.0.2.1:255.255.255.0:node:eth0:off:192.0.2.2:192.0.2.3:192.0.2.4",
            "eth0 192.0.2.7/24 0.0.0.0/0 via 192.0.2.1 dns 192.0.2.2 dns 192.0.2.3",
        ),
        ("ip=192.0.2.7:192.0.2.9::25", "any 192.0.2.7/25"),
        ("ip=192.0.2.7:::24::eth0:none:9000", "eth0 mtu 9000 192.0.2.7/24"),
        (
            "ip=[2001:db8::7]::[fe80::1]:64::eth0:none:[2001:db8::53]",
            "eth0 2001:db8::7/64 ::/0 via fe80::1 dns 2001:db8::53",
        ),
        (
            "ip=192.0.2.7:::24::eth0:none ip=[2001:db8::7]:::64::eth0:none",
            "eth0 192.0.2.7/24 2001:db8::7/64",
        ),
        ("ip=eth1:dhcp ip=eth0:auto6", "eth1 Dhcp; eth0 Advertised"),
        ("vlan=vlan0007:eth0 ip=vlan0007:dhcp", "eth0 vlan 7 Dhcp"),
        ("ip=192.0.2.7:::24::eth0.12:off vlan=eth0.12:eth0", "eth0 vlan 12 192.0.2.7/24"),
        ("vlan=eth0.12:eth0", "eth0 vlan 12 Dhcp"),
        ("ip=dhcp BOOTIF=01-52-54-00-12-34-56", "52:54:00:12:34:56 Dhcp"),
        ("BOOTIF=01-52-54-00-12-34-56", ""),
        (
            "ip=auto6 nameserver=[2001:db8::53] nameserver=192.0.2.2",
            "any Advertised dns 2001:db8::53 dns 192.0.2.2",
        ),
        ("init=/x -- ip=dhcp", ""),
        ("myip=dhcp \"ip=dhcp\"", "any Dhcp"),
    ] {
        let wishes = parse(cmdline);
        assert_eq!(wishes.errors, [], "{cmdline}");
        let lines: Vec<String> = wishes.interfaces.iter().map(line).collect();
        assert_eq!(lines.join("; "), expected, "{cmdline}");
    }
}

#[test]
fn errors_name_the_field_and_spoil_nothing_else() {
    for (cmdline, expected) in [
        ("ip=dhpc", "method is \"dhpc\""),
        ("ip=eth0:bootp", "method is \"bootp\""),
        ("ip=192.0.2.7", "method is \"192.0.2.7\""),
        ("ip=192.0.2.7::::", "netmask is \"\""),
        ("ip=192.0.2.7:::255.0.255.0", "netmask is \"255.0.255.0\""),
        ("ip=192.0.2.7:::33", "netmask is \"33\""),
        ("ip=192.0.2.7:::0", "netmask is \"0\""),
        ("ip=[2001:db8::7]:::255.255.255.0", "netmask is"),
        ("ip=192.0.2.300:::24", "client address is \"192.0.2.300\""),
        ("ip=224.0.0.1:::24", "expected the address of one host"),
        ("ip=192.0.2.7::[fe80::1]:24", "gateway is \"fe80::1\""),
        ("ip=192.0.2.7:::24:::none:name", "name server is \"name\""),
        ("ip=2001:db8::7:::64:::none", "client address is \"2001\""),
        ("ip=[2001:db8::7:::64", "closing bracket"),
        ("ip=[2001:db8::7]x:::64", "what is left is \"x:::64\""),
        ("ip=::::::::::::", "at most ten fields"),
        ("ip=eth0:dhcp:70000", "MTU is \"70000\""),
        ("ip=a/b:dhcp", "device is \"a/b\""),
        ("ip=averyverylongname0:dhcp", "device is"),
        ("ip=::::a..b:eth0:dhcp", "domain of the host name is \".b\""),
        ("vlan=vlan:eth0", "vlan= on the kernel command line: name is \"vlan\""),
        ("vlan=vlan4095:eth0", "name is \"vlan4095\""),
        ("vlan=vlan7", "device is \"\""),
        ("nameserver=ns1", "value is \"ns1\""),
        ("BOOTIF=52-54-00-12-34-56", "BOOTIF="),
    ] {
        let wishes = parse(&format!("{cmdline} ip=eth9:dhcp"));
        let text: Vec<String> = wishes.errors.iter().map(ToString::to_string).collect();
        assert!(text.len() == 1 && text[0].contains(expected), "{cmdline}: {text:?}");
        let lines: Vec<String> = wishes.interfaces.iter().map(line).collect();
        assert_eq!(lines, ["eth9 Dhcp"], "{cmdline}");
    }
    let many = "ip=dhcp ".repeat(OPTIONS_MAX + 1);
    assert_eq!(parse(&many).errors, [IpOptionError::TooMany { option: "ip=" }]);
    assert_eq!(parse(&many).interfaces.len(), OPTIONS_MAX);
}

proptest! {
    #[test]
    fn any_text_is_survived(
        text in "((ip|vlan|nameserver)=([a-z0-9.:\\[\\]-]{0,40}|\\PC{0,40}) ?){0,6}|\\PC{0,200}",
    ) {
        let wishes = parse(&text);
        for config in &wishes.interfaces {
            prop_assert!(config.addresses.len() <= ADDRESSES_MAX);
            let json = serde_json::to_string(config).unwrap();
            prop_assert_eq!(&serde_json::from_str::<InterfaceConfig>(&json).unwrap(), config);
        }
        for error in wishes.errors {
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }

    /// What is written by the rules is read as it was meant.
    #[test]
    fn complete_options_come_back(
        client: [u8; 4], prefix_len in 1u8..=32, mtu in 576u32..=65_535, id in 1u16..=4094,
    ) {
        let address = Ipv4Addr::from(client);
        prop_assume!(!address.is_unspecified());
        prop_assume!(!address.is_multicast() && !address.is_broadcast());
        let text = format!("vlan=v{id}:eth0 ip={address}:::{prefix_len}::v{id}:none:{mtu}");
        let expected = InterfaceConfig {
            name: format!("v{id}"),
            device: Some("eth0".into()),
            vlan: Some(id),
            mtu,
            addresses: vec![InterfaceAddress { address: address.into(), prefix_len }],
            ..InterfaceConfig::default()
        };
        prop_assert_eq!(parse(&text), Wishes { interfaces: vec![expected], errors: Vec::new() });
    }
}
