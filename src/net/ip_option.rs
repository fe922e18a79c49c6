//! The network as the kernel command line wants it: `ip=` as the kernel has it
//! (Documentation/admin-guide/nfs/nfsroot.rst) and as dracut.cmdline(7) has it, `vlan=`,
//! `nameserver=` and `BOOTIF=`.
//!
//! ```text
//! ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:METHOD:DNS0:DNS1:NTP0
//! ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:METHOD:MTU
//! ip=DEVICE:METHOD[:MTU]
//! ip=METHOD
//! vlan=NAME.ID:DEVICE, vlan=NAMEID:DEVICE     "ip=NAME.ID:METHOD" then means the VLAN
//! nameserver=ADDRESS
//! BOOTIF=01-MAC
//! ```
//!
//! SERVER and NTP0 are not used. BOOTIF, which PXE loaders write, is the NIC of every `ip=` that
//! names no DEVICE. METHOD is `dhcp`, `on`, `any`, `both` (DHCP), `auto6`, `either6` (IPv6 router
//! advertisements), `none` or `off` (the addresses that are given, and nothing without them).
//! DEVICE is the kernel's name of the NIC, empty for any NIC, or the NIC's Ethernet address with
//! dashes (52-54-00-12-34-56), which stays true when names change. NETMASK is one, or a prefix
//! length. IPv6 addresses stand in brackets. What follows the first dot of HOSTNAME is the domain
//! in which the manager is looked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::config::{ADDRESSES_MAX, InterfaceAddress, InterfaceConfig, MacAddress, Method, Route};
use super::dns::is_host_name;

/// Most interfaces, VLANs and name servers that are read; what is beyond is an error.
pub const OPTIONS_MAX: usize = 16;

/// Longest name of a device (`IFNAMSIZ` of `linux/if.h`, without the NUL).
const DEVICE_NAME_MAX: usize = 15;

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The interfaces, the first ones first. None: the command line says nothing of the network.
    pub interfaces: Vec<InterfaceConfig>,
    /// The options that make no sense. The others count nevertheless: a dead computer needs what it
    /// can get.
    pub errors: Vec<IpOptionError>,
}

/// An option makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpOptionError {
    /// A field is wrong.
    #[error("{option} on the kernel command line: {field} is {got:?}, expected {expected}")]
    Field {
        /// `ip=`, `vlan=`, `nameserver=` or `BOOTIF=`.
        option: &'static str,
        /// Which field.
        field: &'static str,
        /// What it holds.
        got: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// Too many options.
    #[error("more than {OPTIONS_MAX} {option} on the kernel command line; the first ones count")]
    TooMany {
        /// Which.
        option: &'static str,
    },
}

/// Reads the text of `/proc/cmdline`. Never fails as a whole: see [`Wishes::errors`].
pub fn parse(cmdline: &str) -> Wishes {
    let mut errors = Vec::new();
    let mut interfaces = values(cmdline, "ip=", interface, &mut errors);
    let vlans = values(cmdline, "vlan=", vlan, &mut errors);
    let dns = values(cmdline, "nameserver=", |text| name_server(text).map(Some), &mut errors);
    let boot_nic = values(cmdline, "BOOTIF=", boot_interface, &mut errors).pop();
    for vlan in vlans {
        vlan.apply(&mut interfaces);
    }
    for interface in &mut interfaces {
        let is_any = interface.device.is_none() && interface.nics.is_empty();
        interface.nics.extend(boot_nic.filter(|_| is_any));
        interface.dns.extend(&dns);
    }
    Wishes { interfaces: merge(interfaces), errors }
}

/// Returns what `read` makes of all values of the option `name` (with its "=").
fn values<T>(
    cmdline: &str,
    name: &'static str,
    read: impl Fn(&str) -> Result<Option<T>, IpOptionError>,
    errors: &mut Vec<IpOptionError>,
) -> Vec<T> {
    let words = cmdline.split_ascii_whitespace().take_while(|word| *word != "--");
    let mut texts = words.filter_map(|word| word.trim_matches('"').strip_prefix(name));
    let mut values = Vec::new();
    for text in texts.by_ref().take(OPTIONS_MAX) {
        match read(text) {
            Ok(value) => values.extend(value),
            Err(error) => errors.push(error),
        }
    }
    if texts.next().is_some() {
        errors.push(IpOptionError::TooMany { option: name });
    }
    values
}

/// One `ip=`; none when it asks for nothing.
fn interface(text: &str) -> Result<Option<InterfaceConfig>, IpOptionError> {
    let fields = split(text)?;
    match fields.as_slice() {
        [method] => automatic("", method, ""),
        [device, method] if !device.is_empty() && !is_address(device) => {
            automatic(device, method, "")
        }
        [device, method, mtu] if !device.is_empty() && !is_address(device) => {
            automatic(device, method, mtu)
        }
        fields => complete(fields),
    }
}

/// `METHOD` and `DEVICE:METHOD:MTU`.
fn automatic(
    device: &str,
    method: &str,
    mtu: &str,
) -> Result<Option<InterfaceConfig>, IpOptionError> {
    let Some(method) = method_of(method)? else { return Ok(None) };
    let mut config = InterfaceConfig { method, ..InterfaceConfig::default() };
    set_device(&mut config, device)?;
    if !mtu.is_empty() {
        config.mtu = mtu_of(mtu)?;
    }
    Ok(Some(config))
}

/// The kernel's form: all fields by their place, those at the end left out at will.
fn complete(fields: &[&str]) -> Result<Option<InterfaceConfig>, IpOptionError> {
    let field = |number: usize| fields.get(number).copied().unwrap_or_default();
    let mut config = InterfaceConfig::default();
    if !field(0).is_empty() {
        let address = address_in("client address", field(0))?;
        let prefix_len = prefix_len_of(field(3), address)?;
        config.addresses.push(InterfaceAddress { address, prefix_len });
        if !field(2).is_empty() {
            config.routes.push(default_route(field(2), address)?);
        }
    }
    config.domain = domain_of(field(4))?;
    set_device(&mut config, field(5))?;
    match method_of(field(6))? {
        Some(method) if config.addresses.is_empty() => config.method = method,
        None if config.addresses.is_empty() => return Ok(None),
        _ => {}
    }
    match field(7) {
        // dracut's MTU, where the kernel has a name server.
        mtu if !mtu.is_empty() && mtu.bytes().all(|b| b.is_ascii_digit()) => {
            config.mtu = mtu_of(mtu)?;
        }
        _ => {
            for server in [field(7), field(8)].into_iter().filter(|server| !server.is_empty()) {
                config.dns.push(address_in("name server", server)?);
            }
        }
    }
    Ok(Some(config))
}

/// Splits at the colons that are not within brackets; the brackets go.
fn split(text: &str) -> Result<Vec<&str>, IpOptionError> {
    /// The kernel's form has ten.
    const FIELDS_MAX: usize = 10;
    let mut fields = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let end = match text.strip_prefix('[') {
            Some(inner) => inner.find(']').map(|end| end + 2).ok_or_else(|| {
                wrong("ip=", "address", text, "a closing bracket after an IPv6 address")
            })?,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (field, behind) = text.split_at(end);
        fields.push(field.trim_start_matches('[').trim_end_matches(']'));
        rest = behind.strip_prefix(':');
        if (rest.is_none() && !behind.is_empty()) || fields.len() > FIELDS_MAX {
            return Err(wrong("ip=", "what is left", behind, "a colon, and at most ten fields"));
        }
    }
    Ok(fields)
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// None: no addresses but those that are given.
fn method_of(text: &str) -> Result<Option<Method>, IpOptionError> {
    match text {
        "" | "dhcp" | "on" | "any" | "both" | "single-dhcp" => Ok(Some(Method::Dhcp)),
        "auto6" | "either6" => Ok(Some(Method::Advertised)),
        "none" | "off" => Ok(None),
        other => {
            Err(wrong("ip=", "method", other, "dhcp, auto6, none, or all fields as for an address"))
        }
    }
}

fn set_device(config: &mut InterfaceConfig, text: &str) -> Result<(), IpOptionError> {
    if let Ok(mac) = text.replace('-', ":").parse::<MacAddress>() {
        config.nics.push(mac);
    } else if !text.is_empty() {
        config.device = Some(device_in("ip=", text)?);
    }
    config.name = if text.is_empty() { "any NIC".into() } else { text.to_owned() };
    Ok(())
}

fn device_in(option: &'static str, text: &str) -> Result<String, IpOptionError> {
    // What the kernel takes for a name (dev_valid_name of net/core/dev.c), and what a log line can
    // show.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
    if text.is_empty() || text.len() > DEVICE_NAME_MAX || !is_plain || matches!(text, "." | "..") {
        let expected = "a NIC's name like eth0, or its address like 52-54-00-12-34-56";
        return Err(wrong(option, "device", text, expected));
    }
    Ok(text.to_owned())
}

fn domain_of(hostname: &str) -> Result<Option<String>, IpOptionError> {
    let Some((_, domain)) = hostname.split_once('.') else { return Ok(None) };
    let domain = domain.trim_end_matches('.');
    if !is_host_name(domain) {
        return Err(wrong("ip=", "domain of the host name", domain, "a name like example.org"));
    }
    Ok(Some(domain.to_ascii_lowercase()))
}

fn address_in(field: &'static str, text: &str) -> Result<IpAddr, IpOptionError> {
    let expected = "an IPv4 address, or an IPv6 address in brackets";
    let address = text.parse::<IpAddr>().map_err(|_| wrong("ip=", field, text, expected))?;
    if address.is_unspecified() || address.is_multicast() || address == Ipv4Addr::BROADCAST {
        return Err(wrong("ip=", field, text, "the address of one host"));
    }
    Ok(address)
}

fn prefix_len_of(text: &str, address: IpAddr) -> Result<u8, IpOptionError> {
    let wrong = || wrong("ip=", "netmask", text, "one like 255.255.255.0, or a length like 24");
    if let (Ok(mask), IpAddr::V4(_)) = (text.parse::<Ipv4Addr>(), address) {
        let mask = u32::from(mask);
        let length = mask.leading_ones();
        return if mask.count_ones() == length && length > 0 {
            Ok(length as u8)
        } else {
            Err(wrong())
        };
    }
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = text.parse::<u8>().map_err(|_| wrong())?;
    if (1..=longest).contains(&length) { Ok(length) } else { Err(wrong()) }
}

fn default_route(text: &str, client: IpAddr) -> Result<Route, IpOptionError> {
    let gateway = address_in("gateway", text)?;
    if gateway.is_ipv4() != client.is_ipv4() {
        return Err(wrong("ip=", "gateway", text, "an address of the client's kind"));
    }
    let destination: IpAddr = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let gateway = Some(gateway);
    Ok(Route { destination, prefix_len: 0, gateway, on_link: false, metric: None })
}

fn mtu_of(text: &str) -> Result<u32, IpOptionError> {
    // From what every IPv4 host must take (RFC 791) to what an IP packet can hold.
    let mtu = text.parse().ok().filter(|mtu| (576..=65_535).contains(mtu));
    mtu.ok_or_else(|| wrong("ip=", "MTU", text, "576 to 65535 bytes"))
}

/// One `vlan=`.
#[derive(Debug)]
struct Vlan {
    name: String,
    id: u16,
    device: String,
}

fn vlan(text: &str) -> Result<Option<Vlan>, IpOptionError> {
    let (name, device) = text.split_once(':').unwrap_or((text, ""));
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let id = name[name.len() - digits..].parse().ok().filter(|id| (1..=4094).contains(id));
    let id = id.ok_or_else(|| {
        wrong("vlan=", "name", name, "one that ends in the id, 1 to 4094, like vlan7 or eth0.7")
    })?;
    let (name, device) = (device_in("vlan=", name)?, device_in("vlan=", device)?);
    Ok(Some(Vlan { name, id, device }))
}

impl Vlan {
    /// Interfaces with the VLAN's name stand on it; when there is none, DHCP is asked on it.
    fn apply(self, interfaces: &mut Vec<InterfaceConfig>) {
        let is_own = |config: &InterfaceConfig| config.device.as_ref() == Some(&self.name);
        if !interfaces.iter().any(is_own) {
            let (name, device) = (self.name.clone(), Some(self.name.clone()));
            interfaces.push(InterfaceConfig { name, device, ..InterfaceConfig::default() });
        }
        for config in interfaces.iter_mut().filter(|config| is_own(config)) {
            config.device = Some(self.device.clone());
            config.vlan = Some(self.id);
        }
    }
}

fn name_server(text: &str) -> Result<IpAddr, IpOptionError> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = inner.parse::<IpAddr>().ok();
    address.ok_or_else(|| wrong("nameserver=", "value", text, "an address"))
}

/// `01-52-54-00-12-34-56`: the hardware type of Ethernet, and the address.
fn boot_interface(text: &str) -> Result<Option<MacAddress>, IpOptionError> {
    let mac = text.strip_prefix("01-").and_then(|mac| mac.replace('-', ":").parse().ok());
    let expected = "01- and an address, like 01-52-54-00-12-34-56";
    mac.map(Some).ok_or_else(|| wrong("BOOTIF=", "value", text, expected))
}

/// Interfaces with addresses of their own that are the same one (as for IPv4 and IPv6) become one.
fn merge(interfaces: Vec<InterfaceConfig>) -> Vec<InterfaceConfig> {
    let mut merged: Vec<InterfaceConfig> = Vec::new();
    for next in interfaces {
        let place = |config: &InterfaceConfig| {
            (config.device.clone(), config.nics.clone(), config.vlan, config.addresses.is_empty())
        };
        match merged.iter_mut().find(|config| place(config) == place(&next)) {
            Some(config) if !next.addresses.is_empty() => {
                config.addresses.extend(next.addresses);
                config.addresses.truncate(ADDRESSES_MAX);
                config.routes.extend(next.routes);
                let new = next.dns.into_iter().filter(|server| !config.dns.contains(server));
                let new: Vec<IpAddr> = new.collect();
                config.dns.extend(new);
                config.mtu = config.mtu.max(next.mtu);
                config.domain = config.domain.take().or(next.domain);
            }
            _ => merged.push(next),
        }
    }
    merged
}

fn wrong(
    option: &'static str,
    field: &'static str,
    got: &str,
    expected: &'static str,
) -> IpOptionError {
    IpOptionError::Field { option, field, got: got.to_owned(), expected }
}

#[cfg(test)]
mod tests;
