//! What DHCP servers answer, reduced to what a host in recovery needs.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{DhcpOption, DhcpOptions, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};

use super::DATAGRAM_SIZE_MAX;
use crate::manager_url::ManagerUrl;
use crate::net::config::{InterfaceAddress, MacAddress, Route};
use crate::net::dns::is_host_name;

/// The option that says where the manager is: a text `firmcast://HOST[:PORT][/?key=KEY]`. It is one
/// of those that every site may use as it likes (RFC 3942 section 3.1: 224 to 254).
pub const MANAGER_OPTION: u8 = 224;
/// Most name servers taken from a lease, as in resolv.conf(5).
pub const DNS_SERVERS_MAX: usize = 3;
/// Leases below this are taken as this long: a client that renews without pause serves nobody.
const LEASE_MIN: Duration = Duration::from_secs(60);
/// Most routes taken from a lease.
const ROUTES_MAX: usize = 32;

/// Length of the fixed part, up to and with the magic cookie (RFC 2131 section 2).
pub(super) const FIXED_LEN: usize = 240;
/// The magic cookie before the options.
pub(super) const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address and its network.
    pub address: InterfaceAddress,
    /// The routes: the classless ones (RFC 3442) when the server gave any, else the default one.
    pub routes: Vec<Route>,
    /// The MTU that the server asks for.
    pub mtu: Option<u16>,
    /// The domain's name, which can be looked up.
    pub domain: Option<String>,
    /// The name servers, best first; at most [`DNS_SERVERS_MAX`].
    pub dns: Vec<Ipv4Addr>,
    /// Where the manager is, by [`MANAGER_OPTION`].
    pub manager: Option<ManagerUrl>,
    /// The server's address.
    pub server: Ipv4Addr,
    /// How long the lease holds from the ack on.
    pub lifetime: Duration,
    /// T1: when to ask the same server again.
    pub renew_after: Duration,
    /// T2: when to ask any server.
    pub rebind_after: Duration,
}

/// What the client asks servers for.
pub(super) const WANTED: &[OptionCode] = &[
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::Unknown(MANAGER_OPTION),
    OptionCode::InterfaceMtu,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// What the client reads besides: the frame of the conversation.
pub(super) const FRAME: &[OptionCode] =
    &[OptionCode::MessageType, OptionCode::ServerIdentifier, OptionCode::AddressLeaseTime];

impl Lease {
    /// Its address, which is never an IPv6 one.
    pub(super) fn own_address(&self) -> Ipv4Addr {
        match self.address.address {
            std::net::IpAddr::V4(address) => address,
            std::net::IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }
}

/// A server's message to this client.
pub(super) struct Answer {
    pub(super) kind: MessageType,
    message: Message,
}

impl Answer {
    /// None for everything that is not a server's well-formed answer to `transaction` of `mac`.
    pub(super) fn parse(bytes: &[u8], mac: MacAddress, transaction: u32) -> Option<Self> {
        /// op BOOTREPLY, htype Ethernet, hlen 6.
        const REPLY_HEAD: [u8; 3] = [2, 1, 6];
        let fixed = bytes.get(..FIXED_LEN)?;
        if bytes.len() > DATAGRAM_SIZE_MAX
            || fixed[..3] != REPLY_HEAD
            || fixed[4..8] != transaction.to_be_bytes()
            || fixed[28..34] != mac.0
            || fixed[236..240] != COOKIE
        {
            return None;
        }
        let mut plain = fixed.to_vec();
        keep_known_options(&bytes[FIXED_LEN..], &mut plain)?;
        let message = Message::decode(&mut Decoder::new(&plain)).ok()?;
        let kind = message.opts().msg_type()?;
        Some(Answer { kind, message })
    }

    /// Returns the lease that an offer or ack describes; none when it lacks what a host cannot do
    /// without.
    pub(super) fn lease(&self) -> Option<Lease> {
        let options = self.message.opts();
        let address = self.message.yiaddr();
        if address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_broadcast()
        {
            return None;
        }
        let mask = match options.get(OptionCode::SubnetMask)? {
            DhcpOption::SubnetMask(mask) => u32::from(*mask),
            _ => return None,
        };
        let prefix_len = mask.leading_ones();
        if prefix_len == 0 || mask.count_ones() != prefix_len {
            return None;
        }
        let server = match options.get(OptionCode::ServerIdentifier)? {
            DhcpOption::ServerIdentifier(server) => *server,
            _ => return None,
        };
        let lifetime = match options.get(OptionCode::AddressLeaseTime)? {
            DhcpOption::AddressLeaseTime(seconds) => {
                Duration::from_secs((*seconds).into()).max(LEASE_MIN)
            }
            _ => return None,
        };
        let (renew_after, rebind_after) = renewal_times(options, lifetime);
        Some(Lease {
            address: InterfaceAddress { address: address.into(), prefix_len: prefix_len as u8 },
            routes: routes_in(options),
            mtu: match options.get(OptionCode::InterfaceMtu) {
                // 576 is what every IPv4 host must take (RFC 791).
                Some(DhcpOption::InterfaceMtu(mtu)) if *mtu >= 576 => Some(*mtu),
                _ => None,
            },
            domain: domain_in(options),
            dns: dns_in(options),
            manager: manager_in(options),
            server,
            lifetime,
            renew_after,
            rebind_after,
        })
    }
}

/// Copies the options that this client reads, and only those: what nobody needs is not parsed. None
/// when a length points past the end.
fn keep_known_options(mut options: &[u8], plain: &mut Vec<u8>) -> Option<()> {
    const PAD: u8 = 0;
    const END: u8 = 255;
    while let Some((&code, rest)) = options.split_first() {
        match code {
            PAD => options = rest,
            END => break,
            _ => {
                let length = usize::from(*rest.first()?);
                let value = rest.get(1..1 + length)?;
                let is_known = WANTED.iter().chain(FRAME).any(|&known| u8::from(known) == code);
                if is_known && is_readable(code, value) {
                    plain.extend_from_slice(&[code, length as u8]);
                    plain.extend_from_slice(value);
                }
                options = &rest[1 + length..];
            }
        }
    }
    plain.push(END);
    Some(())
}

/// A name or name server that cannot be read is left out here, so that it does not cost the host
/// its lease.
fn is_readable(code: u8, value: &[u8]) -> bool {
    match OptionCode::from(code) {
        OptionCode::DomainName => value.is_ascii(),
        OptionCode::DomainNameServer => value.len().is_multiple_of(4),
        _ => true,
    }
}

fn domain_in(options: &DhcpOptions) -> Option<String> {
    let Some(DhcpOption::DomainName(name)) = options.get(OptionCode::DomainName) else {
        return None;
    };
    let name = name.trim_end_matches('\0').trim_end_matches('.');
    is_host_name(name).then(|| name.to_ascii_lowercase())
}

fn dns_in(options: &DhcpOptions) -> Vec<Ipv4Addr> {
    let Some(DhcpOption::DomainNameServer(servers)) = options.get(OptionCode::DomainNameServer)
    else {
        return Vec::new();
    };
    let usable = |server: &&Ipv4Addr| {
        !server.is_unspecified() && !server.is_multicast() && !server.is_broadcast()
    };
    servers.iter().filter(usable).take(DNS_SERVERS_MAX).copied().collect()
}

fn manager_in(options: &DhcpOptions) -> Option<ManagerUrl> {
    let DhcpOption::Unknown(option) = options.get(OptionCode::Unknown(MANAGER_OPTION))? else {
        return None;
    };
    let text = String::from_utf8_lossy(option.data());
    // Some servers end texts with a NUL (RFC 2132 section 2).
    match text.trim_end_matches('\0').parse() {
        Ok(url) => Some(url),
        Err(error) => {
            log::warn!("DHCP option {MANAGER_OPTION} is not where a manager is: {error}");
            None
        }
    }
}

/// T1 and T2, half and 7/8 of the lease where the server does not say (RFC 2131 section 4.4.5),
/// always in order.
fn renewal_times(options: &DhcpOptions, lifetime: Duration) -> (Duration, Duration) {
    let rebind_after = match options.get(OptionCode::Rebinding) {
        Some(DhcpOption::Rebinding(seconds)) => Duration::from_secs((*seconds).into()),
        _ => lifetime * 7 / 8,
    };
    let rebind_after = rebind_after.clamp(LEASE_MIN / 2, lifetime);
    let renew_after = match options.get(OptionCode::Renewal) {
        Some(DhcpOption::Renewal(seconds)) => Duration::from_secs((*seconds).into()),
        _ => lifetime / 2,
    };
    (renew_after.clamp(LEASE_MIN / 4, rebind_after), rebind_after)
}

fn routes_in(options: &DhcpOptions) -> Vec<Route> {
    let route = |destination: Ipv4Addr, prefix_len: u8, gateway: Ipv4Addr| Route {
        destination: destination.into(),
        prefix_len,
        gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
        on_link: false,
        metric: None,
    };
    if let Some(DhcpOption::ClasslessStaticRoute(routes)) =
        options.get(OptionCode::ClasslessStaticRoute)
    {
        let routes = routes.iter().take(ROUTES_MAX);
        return routes
            .map(|(net, gateway)| route(net.network(), net.prefix_len(), *gateway))
            .collect();
    }
    match options.get(OptionCode::Router) {
        Some(DhcpOption::Router(routers)) => routers
            .first()
            .map(|&gateway| route(Ipv4Addr::UNSPECIFIED, 0, gateway))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}
