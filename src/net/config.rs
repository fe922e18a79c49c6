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
/// What is seldom said is left out of the JSON when it is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceConfig {
    /// The interface's name in the normal OS, for log lines; recovery may see another.
    pub name: String,
    /// The NICs that the interface stands on, by permanent address, best first. More than one: the
    /// members of `bond`, or ports of a bridge, of which recovery takes the first that has a
    /// carrier. None: see `device`.
    pub nics: Vec<MacAddress>,
    /// The bond that `nics` are the members of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<BondConfig>,
    /// The NIC's name in recovery, when `nics` is empty; none: any NIC will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// What of the interface recovery does not make again ("bridge br0"), for the operator.
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

/// How a bond is made again (Linux `Documentation/networking/bonding.rst`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BondConfig {
    /// How its members share the work.
    pub mode: BondMode,
    /// The bond's own Ethernet address, by which switches and DHCP servers know it.
    pub mac: MacAddress,
    /// How often the links of the members are looked at.
    pub miimon_ms: u32,
    /// The kernel's number of `xmit_hash_policy`.
    pub xmit_hash_policy: u8,
    /// The kernel's number of `fail_over_mac`.
    pub fail_over_mac: u8,
    /// Members that must have a carrier for the bond to have one.
    pub min_links: u32,
    /// The partner is asked for an LACPDU every second, not every 30 s.
    pub lacp_is_fast: bool,
    /// The kernel's number of `ad_select`.
    pub ad_select: u8,
}

/// The mode of a bond, as the kernel names and numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum BondMode {
    /// One frame after the other.
    BalanceRr = 0,
    /// One member at a time.
    ActiveBackup = 1,
    /// By a hash.
    BalanceXor = 2,
    /// Every frame through every member.
    Broadcast = 3,
    /// Link aggregation by LACP.
    #[serde(rename = "802.3ad")]
    Lacp = 4,
    /// By load.
    BalanceTlb = 5,
    /// By load, both ways.
    BalanceAlb = 6,
}

impl BondMode {
    const ALL: [Self; 7] = [
        Self::BalanceRr,
        Self::ActiveBackup,
        Self::BalanceXor,
        Self::Broadcast,
        Self::Lacp,
        Self::BalanceTlb,
        Self::BalanceAlb,
    ];

    /// The mode with the kernel's number `code`.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// One member has a role of its own.
    pub fn has_primary(self) -> bool {
        matches!(self, Self::ActiveBackup | Self::BalanceTlb | Self::BalanceAlb)
    }
}

impl fmt::Display for BondMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
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
            bond: Some(BondConfig {
                mode: BondMode::Lacp,
                mac: MacAddress([2, 0, 0, 0, 0, 9]),
                miimon_ms: 100,
                xmit_hash_policy: 1,
                fail_over_mac: 0,
                min_links: 0,
                lacp_is_fast: true,
                ad_select: 0,
            }),
            note: Some("bridge br0".into()),
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
        assert!(json.contains(r#""mode":"802.3ad""#), "{json}");
        for unsaid in ["device", "method", "dns", "domain"] {
            assert!(!json.contains(unsaid), "{json}");
        }
        assert_eq!(serde_json::from_str::<InterfaceConfig>(&json).unwrap(), config);
        assert_eq!(config.routes[0].to_string(), "0.0.0.0/0 via 192.0.2.1");
    }

    #[test]
    fn modes_of_bonds_have_the_kernels_numbers_and_names() {
        for mode in BondMode::ALL {
            assert_eq!(BondMode::from_code(mode as u8), Some(mode));
        }
        assert_eq!(BondMode::from_code(7), None);
        let names = BondMode::ALL.map(|mode| mode.to_string());
        assert_eq!((&*names[1], &*names[4]), ("active-backup", "802.3ad"));
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
