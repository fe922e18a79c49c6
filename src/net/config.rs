//! What recovery has to know to be on the network again: plain data that travels in the handoff.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most NICs that one interface may stand on (bond or bridge).
pub const NICS_MAX: usize = 16;
/// Most addresses kept of one interface.
pub const ADDRESSES_MAX: usize = 16;
/// Most routes kept of one interface. The ones towards everything (default) come first.
pub const ROUTES_MAX: usize = 64;

/// One interface as it is to be: one of the normal OS, reduced to what brings it up again without
/// the distribution's tools, or one that the kernel command line asks for ([`super::ip_option`]).
///
/// What only the command line can say is left out of the JSON when it is not said, so that recovery
/// environments that know nothing of it read the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceConfig {
    /// The interface's name in the normal OS, for log lines; recovery may see another.
    pub name: String,
    /// The NICs that the interface stands on, by permanent address, best first. More than one when
    /// it is a bond or a bridge: recovery takes the first that has a carrier, without bonding.
    /// None: see `device`.
    pub nics: Vec<MacAddress>,
    /// The NIC's name in recovery, when `nics` is empty; none: any NIC will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How the interface stands on its NICs, where that is not plain ("bond bond0"), for the
    /// operator.
    pub note: Option<String>,
    /// The VLAN id, when the interface is one.
    pub vlan: Option<u16>,
    /// Largest packet in bytes; 0: what the NIC has by itself.
    pub mtu: u32,
    /// The addresses; none means: as `method` says.
    pub addresses: Vec<InterfaceAddress>,
    /// The routes through the interface, apart from those that come with its addresses.
    pub routes: Vec<Route>,
    /// How an interface without `addresses` gets some.
    #[serde(default, skip_serializing_if = "Method::is_dhcp")]
    pub method: Method,
    /// Name servers, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// The domain in which to look for the manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// How an interface gets addresses that nobody has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// From a DHCP server, by IPv4.
    #[default]
    Dhcp,
    /// From the advertisements of IPv6 routers (RFC 4862).
    Advertised,
}

impl Method {
    fn is_dhcp(&self) -> bool {
        *self == Method::Dhcp
    }
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub prefix_len: u8,
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// A route through one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where to.
    pub destination: IpAddr,
    /// 0 (default route) to 32 or 128.
    pub prefix_len: u8,
    /// The router; none when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The router is reached on this link though no prefix says so.
    pub on_link: bool,
    /// The lower, the better; none: the kernel's default.
    pub metric: Option<u32>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.destination, self.prefix_len)?;
        match self.gateway {
            Some(gateway) => write!(f, " via {gateway}"),
            None => Ok(()),
        }
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddress(pub [u8; 6]);

/// A text is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no Ethernet address, expected the form 02:00:5e:00:53:01")]
pub struct MacAddressError(String);

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| {
                part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit())
            });
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| MacAddressError(text.to_owned()))?;
        }
        match parts.next() {
            None => Ok(MacAddress(bytes)),
            Some(_) => Err(MacAddressError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, MacAddressError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn configuration_as_json_is_readable_and_comes_back() {
        let config = InterfaceConfig {
            name: "bond0.7".into(),
            nics: vec![MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56])],
            note: Some("bond bond0".into()),
            vlan: Some(7),
            mtu: 9000,
            addresses: vec![InterfaceAddress {
                address: "192.0.2.7".parse().unwrap(),
                prefix_len: 24,
            }],
            routes: vec![Route {
                destination: "0.0.0.0".parse().unwrap(),
                prefix_len: 0,
                gateway: Some("192.0.2.1".parse().unwrap()),
                on_link: false,
                metric: Some(100),
            }],
            ..InterfaceConfig::default()
        };
        let json = serde_json::to_string(&config).unwrap();
        assert!(json.contains(r#""nics":["52:54:00:12:34:56"]"#), "{json}");
        for unknown_to_older in ["device", "method", "dns", "domain"] {
            assert!(!json.contains(unknown_to_older), "{json}");
        }
        assert_eq!(serde_json::from_str::<InterfaceConfig>(&json).unwrap(), config);
        assert_eq!(config.routes[0].to_string(), "0.0.0.0/0 via 192.0.2.1");
    }

    proptest! {
        #[test]
        fn addresses_come_back(bytes: [u8; 6], text in "[0-9a-f:+ ]{0,20}") {
            let address = MacAddress(bytes);
            prop_assert_eq!(address.to_string().parse(), Ok(address));
            if let Ok(parsed) = text.parse::<MacAddress>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }
    }
}
