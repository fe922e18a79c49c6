//! DHCPv4 client (RFC 2131) as a state machine: datagrams and time in, datagrams and leases out.
//!
//! ```text
//!            +-------- nak, no answer --------+
//!            v                                |
//!   Selecting --offer--> Requesting --ack--> Bound --T1--> Renewing --T2--> Rebinding
//!       ^                                     ^               |                 |
//!       |                                     +------ack------+-------ack-------+
//!       +---------------------- lease over, nak --------------------------------+
//! ```
//!
//! Every request asks for a broadcast answer, so that a plain UDP socket without an address receives it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dhcproto::v4::{
    DhcpOption, DhcpOptions, Flags, HType, Message, MessageType, Opcode, OptionCode,
};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::config::{InterfaceAddress, MacAddress, Route};
use crate::time::Time;

/// The port that servers listen on.
pub const SERVER_PORT: u16 = 67;
/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 68;
/// Largest datagram that is looked at.
pub const DATAGRAM_SIZE_MAX: usize = 1500;

/// First wait for an answer. RFC 2131 section 4.1 starts at 4 s; a rack that has just lost its operating system starts
/// sooner, because many switches drop the first datagram.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait for an answer. Discovery goes on with this for as long as its owner wants.
const RETRY_MAX: Duration = Duration::from_secs(16);
/// Requests for an offered address before discovery starts anew.
const REQUESTS_MAX: u32 = 4;
/// Shortest wait between two renewals (RFC 2131 section 4.4.5).
const RENEW_RETRY_MIN: Duration = Duration::from_secs(60);
/// Leases below this are taken as this long: a client that renews without pause serves nobody.
const LEASE_MIN: Duration = Duration::from_secs(60);
/// Most routes taken from a lease.
const ROUTES_MAX: usize = 32;

/// Length of the fixed part, up to and with the magic cookie (RFC 2131 section 2).
const FIXED_LEN: usize = 240;
/// The magic cookie before the options.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address and its network.
    pub address: InterfaceAddress,
    /// The routes: the classless ones (RFC 3442) when the server gave any, else the default one.
    pub routes: Vec<Route>,
    /// The MTU that the server asks for.
    pub mtu: Option<u16>,
    /// The domain's name.
    pub domain: Option<String>,
    /// The server's address.
    pub server: Ipv4Addr,
    /// How long the lease holds from the ack on.
    pub lifetime: Duration,
    /// T1: when to ask the same server again.
    pub renew_after: Duration,
    /// T2: when to ask any server.
    pub rebind_after: Duration,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddrV4,
    /// What.
    pub bytes: Vec<u8>,
}

/// Something the owner has to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A lease has been got or prolonged: configure the interface so, unless it is.
    Bound(Lease),
    /// The lease is over: take its address away.
    Lost,
}

#[derive(Clone, Debug)]
enum State {
    /// Asks everybody for an offer.
    Selecting { tries: u32 },
    /// Asks one server for what it offered.
    Requesting { offer: Offer, tries: u32 },
    /// Has a lease.
    Bound { lease: Lease, since: Time },
    /// Asks the lease's server to prolong it.
    Renewing { lease: Lease, since: Time },
    /// Asks any server to prolong the lease.
    Rebinding { lease: Lease, since: Time },
}

#[derive(Clone, Copy, Debug)]
struct Offer {
    address: Ipv4Addr,
    server: Ipv4Addr,
}

/// The client of one interface.
#[derive(Debug)]
pub struct DhcpClient {
    mac: MacAddress,
    rng: ChaCha20Rng,
    transaction: u32,
    started: Time,
    state: State,
    deadline: Time,
    transmit: Option<Transmit>,
    event: Option<Event>,
}

impl DhcpClient {
    /// A client that begins to ask at once. Clients with different seeds spread their retries.
    pub fn new(mac: MacAddress, seed: u64, now: Time) -> Self {
        let mut client = DhcpClient {
            mac,
            rng: ChaCha20Rng::seed_from_u64(seed),
            transaction: 0,
            started: now,
            state: State::Selecting { tries: 0 },
            deadline: now,
            transmit: None,
            event: None,
        };
        client.select(now);
        client
    }

    /// Takes a datagram that came to the client port.
    pub fn handle_datagram(&mut self, now: Time, bytes: &[u8]) {
        let Some(answer) = Answer::parse(bytes, self.mac, self.transaction) else { return };
        match (answer.kind, self.state.clone()) {
            (MessageType::Offer, State::Selecting { .. }) => {
                if let Some(lease) = answer.lease() {
                    let IpAddrV4(address) = IpAddrV4::of(&lease);
                    let offer = Offer { address, server: lease.server };
                    self.state = State::Requesting { offer, tries: 0 };
                    self.request(now);
                }
            }
            (MessageType::Ack, State::Requesting { offer, .. }) => {
                let lease = answer.lease().filter(|lease| lease.server == offer.server);
                self.bind(now, lease);
            }
            (
                MessageType::Ack,
                State::Renewing { lease: old, .. } | State::Rebinding { lease: old, .. },
            ) => {
                let lease = answer.lease().filter(|lease| lease.address == old.address);
                self.bind(now, lease);
            }
            (MessageType::Nak, State::Requesting { .. }) => self.select(now),
            (MessageType::Nak, State::Renewing { .. } | State::Rebinding { .. }) => self.lose(now),
            _ => {}
        }
    }

    /// Acts when [`DhcpClient::poll_timeout`] has come. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        if now < self.deadline {
            return;
        }
        match self.state.clone() {
            State::Selecting { tries } => self.discover(now, tries),
            State::Requesting { tries, .. } if tries >= REQUESTS_MAX => self.select(now),
            State::Requesting { .. } => self.request(now),
            State::Bound { lease, since }
            | State::Renewing { lease, since }
            | State::Rebinding { lease, since } => {
                self.prolong(now, lease, since);
            }
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmit.take()
    }

    /// What has happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// When [`DhcpClient::handle_timeout`] has to be called next.
    pub fn poll_timeout(&self) -> Time {
        self.deadline
    }

    fn select(&mut self, now: Time) {
        self.transaction = self.rng.next_u32();
        self.discover(now, 0);
    }

    fn discover(&mut self, now: Time, tries: u32) {
        self.state = State::Selecting { tries: tries.saturating_add(1) };
        self.deadline = now + self.retry_after(tries);
        let options = [DhcpOption::MessageType(MessageType::Discover)];
        self.send(now, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &options);
    }

    fn request(&mut self, now: Time) {
        let State::Requesting { offer, tries } = self.state else { return };
        self.state = State::Requesting { offer, tries: tries + 1 };
        self.deadline = now + self.retry_after(tries);
        let options = [
            DhcpOption::MessageType(MessageType::Request),
            DhcpOption::RequestedIpAddress(offer.address),
            DhcpOption::ServerIdentifier(offer.server),
        ];
        self.send(now, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &options);
    }

    /// Growing, and different for each client: 1, 2, 4, 8, 16, 16 ... seconds, each between 3/4 and 5/4 of that.
    fn retry_after(&mut self, tries: u32) -> Duration {
        let base = FIRST_RETRY.saturating_mul(1 << tries.min(16)).min(RETRY_MAX);
        let permille = 750 + self.rng.next_u32() % 501;
        base * permille / 1000
    }

    fn bind(&mut self, now: Time, lease: Option<Lease>) {
        let Some(lease) = lease else { return };
        self.deadline = now + lease.renew_after;
        self.state = State::Bound { lease: lease.clone(), since: now };
        self.event = Some(Event::Bound(lease));
    }

    /// Asks the lease's server, then any; gives the lease up when its time is over.
    fn prolong(&mut self, now: Time, lease: Lease, since: Time) {
        let age = now.since(since);
        if age >= lease.lifetime {
            return self.lose(now);
        }
        self.transaction = self.rng.next_u32();
        let IpAddrV4(address) = IpAddrV4::of(&lease);
        let (destination, phase_end) = if age < lease.rebind_after {
            (lease.server, lease.rebind_after)
        } else {
            (Ipv4Addr::BROADCAST, lease.lifetime)
        };
        let left = phase_end - age;
        // Half of what is left (RFC 2131 section 4.4.5), never past the end of the phase.
        self.deadline = now + (left / 2).max(RENEW_RETRY_MIN).min(left);
        self.state = if destination == Ipv4Addr::BROADCAST {
            State::Rebinding { lease, since }
        } else {
            State::Renewing { lease, since }
        };
        self.send(now, address, destination, &[DhcpOption::MessageType(MessageType::Request)]);
    }

    fn lose(&mut self, now: Time) {
        self.event = Some(Event::Lost);
        self.started = now;
        self.select(now);
    }

    fn send(&mut self, now: Time, own: Ipv4Addr, destination: Ipv4Addr, options: &[DhcpOption]) {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message =
            Message::new_with_id(self.transaction, own, none, none, none, &self.mac.0);
        message.set_opcode(Opcode::BootRequest).set_htype(HType::Eth);
        message.set_secs(now.since(self.started).as_secs().min(u64::from(u16::MAX)) as u16);
        // A host that has its address receives unicast.
        if own == none {
            message.set_flags(Flags::default().set_broadcast());
        }
        let mut all = DhcpOptions::new();
        for option in options {
            all.insert(option.clone());
        }
        all.insert(DhcpOption::MaxMessageSize(DATAGRAM_SIZE_MAX as u16));
        all.insert(DhcpOption::ParameterRequestList(WANTED.to_vec()));
        message.set_opts(all);
        let mut bytes = Vec::with_capacity(FIXED_LEN + 64);
        if message.encode(&mut Encoder::new(&mut bytes)).is_ok() {
            let destination = SocketAddrV4::new(destination, SERVER_PORT);
            self.transmit = Some(Transmit { destination, bytes });
        }
    }
}

/// What the client asks servers for.
const WANTED: &[OptionCode] = &[
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainName,
    OptionCode::InterfaceMtu,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// What the client reads besides: the frame of the conversation.
const FRAME: &[OptionCode] =
    &[OptionCode::MessageType, OptionCode::ServerIdentifier, OptionCode::AddressLeaseTime];

/// The IPv4 address of a lease; there are no others.
struct IpAddrV4(Ipv4Addr);

impl IpAddrV4 {
    fn of(lease: &Lease) -> Self {
        match lease.address.address {
            std::net::IpAddr::V4(address) => IpAddrV4(address),
            std::net::IpAddr::V6(_) => IpAddrV4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

/// A server's message to this client.
struct Answer {
    kind: MessageType,
    message: Message,
}

impl Answer {
    /// None for everything that is not a server's well-formed answer to `transaction` of `mac`.
    fn parse(bytes: &[u8], mac: MacAddress, transaction: u32) -> Option<Self> {
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

    /// The lease that an offer or ack describes; none when it lacks what a host cannot do without.
    fn lease(&self) -> Option<Lease> {
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
            domain: match options.get(OptionCode::DomainName) {
                Some(DhcpOption::DomainName(name)) => Some(name.trim_end_matches('\0').to_owned()),
                _ => None,
            },
            server,
            lifetime,
            renew_after,
            rebind_after,
        })
    }
}

/// Copies the options that this client reads, and only those: what nobody needs is not parsed. None when a length points
/// past the end.
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
                if WANTED.iter().chain(FRAME).any(|&known| u8::from(known) == code) {
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

/// T1 and T2, half and 7/8 of the lease where the server does not say (RFC 2131 section 4.4.5), always in order.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

    fn seconds(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    /// What a server answers to `query`.
    fn answer(query: &[u8], kind: MessageType, more: &[DhcpOption]) -> Vec<u8> {
        let query = Message::decode(&mut Decoder::new(query)).unwrap();
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message =
            Message::new_with_id(query.xid(), none, OWN, SERVER, none, query.chaddr());
        message.set_opcode(Opcode::BootReply);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(SERVER));
        options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
        options.insert(DhcpOption::AddressLeaseTime(3600));
        options.insert(DhcpOption::Router(vec![SERVER]));
        for option in more {
            options.insert(option.clone());
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        bytes
    }

    fn kind_of(transmit: &Transmit) -> MessageType {
        Message::decode(&mut Decoder::new(&transmit.bytes)).unwrap().opts().msg_type().unwrap()
    }

    fn bound_client() -> (DhcpClient, Lease) {
        let mut client = DhcpClient::new(MAC, 1, seconds(0));
        let discover = client.poll_transmit().unwrap();
        client.handle_datagram(seconds(1), &answer(&discover.bytes, MessageType::Offer, &[]));
        let request = client.poll_transmit().unwrap();
        assert_eq!(kind_of(&request), MessageType::Request);
        client.handle_datagram(seconds(2), &answer(&request.bytes, MessageType::Ack, &[]));
        let Some(Event::Bound(lease)) = client.poll_event() else { panic!("not bound") };
        (client, lease)
    }

    #[test]
    fn gets_a_lease() {
        let (client, lease) = bound_client();
        assert_eq!(lease.address.to_string(), "192.0.2.77/24");
        assert_eq!(lease.routes[0].to_string(), "0.0.0.0/0 via 192.0.2.1");
        assert_eq!(client.poll_timeout(), seconds(2 + 1800));
    }

    #[test]
    fn asks_for_ever_with_growing_pauses_that_differ_by_seed() {
        let pauses = |seed| {
            let mut client = DhcpClient::new(MAC, seed, seconds(0));
            let mut now = seconds(0);
            let mut pauses = Vec::new();
            for _ in 0..50 {
                let sent = client.poll_transmit().unwrap();
                assert_eq!(kind_of(&sent), MessageType::Discover);
                assert_eq!(sent.destination.to_string(), "255.255.255.255:67");
                let next = client.poll_timeout();
                pauses.push(next.since(now).as_millis());
                now = next;
                client.handle_timeout(now);
            }
            pauses
        };
        let (one, two) = (pauses(1), pauses(2));
        assert!((750..=1250).contains(&one[0]) && (12_000..=20_000).contains(&one[49]));
        assert_ne!(one, two);
        assert_eq!(one, pauses(1));
    }

    #[test]
    fn starts_anew_after_a_nak_and_after_silence() {
        let mut client = DhcpClient::new(MAC, 1, seconds(0));
        let discover = client.poll_transmit().unwrap();
        client.handle_datagram(seconds(0), &answer(&discover.bytes, MessageType::Offer, &[]));
        let request = client.poll_transmit().unwrap();
        client.handle_datagram(seconds(0), &answer(&request.bytes, MessageType::Nak, &[]));
        let discover = client.poll_transmit().unwrap();
        assert_eq!(kind_of(&discover), MessageType::Discover);

        client.handle_datagram(seconds(0), &answer(&discover.bytes, MessageType::Offer, &[]));
        let mut kinds = Vec::new();
        for _ in 0..=REQUESTS_MAX {
            kinds.push(kind_of(&client.poll_transmit().unwrap()));
            client.handle_timeout(client.poll_timeout());
        }
        assert_eq!(kinds[..REQUESTS_MAX as usize], [MessageType::Request; REQUESTS_MAX as usize]);
        assert_eq!(kinds[REQUESTS_MAX as usize], MessageType::Discover);
    }

    #[test]
    fn prolongs_the_lease_and_gives_it_up_in_time() {
        let (mut client, lease) = bound_client();
        let start = seconds(2);
        client.handle_timeout(client.poll_timeout());
        let renew = client.poll_transmit().unwrap();
        assert_eq!(renew.destination, SocketAddrV4::new(SERVER, SERVER_PORT));
        let mut clone_of_answer = answer(&renew.bytes, MessageType::Ack, &[]);
        // An ack for another address prolongs nothing.
        clone_of_answer[19] ^= 1;
        client.handle_datagram(client.poll_timeout(), &clone_of_answer);
        assert!(client.poll_event().is_none());

        let mut saw_broadcast = false;
        let mut steps = 0;
        while client.poll_event() != Some(Event::Lost) {
            let now = client.poll_timeout();
            assert!(now.since(start) <= lease.lifetime, "asked on after the lease was over");
            client.handle_timeout(now);
            let sent = client.poll_transmit().unwrap();
            saw_broadcast |= sent.destination.ip().is_broadcast();
            steps += 1;
            assert!(steps < 100);
        }
        assert!(saw_broadcast);

        let (mut client, _) = bound_client();
        let now = client.poll_timeout();
        client.handle_timeout(now);
        let renew = client.poll_transmit().unwrap();
        client.handle_datagram(now, &answer(&renew.bytes, MessageType::Ack, &[]));
        assert!(matches!(client.poll_event(), Some(Event::Bound(_))));
        assert_eq!(client.poll_timeout(), now + Duration::from_secs(1800));
    }

    #[test]
    fn classless_routes_stand_above_the_router() {
        let mut client = DhcpClient::new(MAC, 1, seconds(0));
        let discover = client.poll_transmit().unwrap();
        let mut offer = answer(&discover.bytes, MessageType::Offer, &[]);
        let end = offer.iter().rposition(|&byte| byte == 255).unwrap();
        // 198.51.100.0/24 via 192.0.2.9, and 203.0.113.0/24 on the link (RFC 3442).
        let option = [121, 16, 24, 198, 51, 100, 192, 0, 2, 9, 24, 203, 0, 113, 0, 0, 0, 0, 255];
        offer.splice(end.., option);
        let parsed = Answer::parse(&offer, MAC, client.transaction).unwrap();
        let routes: Vec<String> =
            parsed.lease().unwrap().routes.iter().map(Route::to_string).collect();
        assert_eq!(routes, ["198.51.100.0/24 via 192.0.2.9", "203.0.113.0/24"]);
        client.handle_datagram(seconds(0), &offer);
        assert_eq!(kind_of(&client.poll_transmit().unwrap()), MessageType::Request);
    }

    #[test]
    fn refuses_what_is_not_for_it() {
        let mut client = DhcpClient::new(MAC, 1, seconds(0));
        let discover = client.poll_transmit().unwrap();
        let good = answer(&discover.bytes, MessageType::Offer, &[]);
        for (offset, what) in [(0, "op"), (2, "hlen"), (4, "xid"), (30, "chaddr"), (236, "cookie")]
        {
            let mut bad = good.clone();
            bad[offset] ^= 0x40;
            assert!(Answer::parse(&bad, MAC, client.transaction).is_none(), "{what}");
        }
        for mask in [[255, 0, 255, 0], [0, 0, 0, 0]] {
            let odd =
                answer(&discover.bytes, MessageType::Offer, &[DhcpOption::SubnetMask(mask.into())]);
            client.handle_datagram(seconds(0), &odd);
            assert!(client.poll_transmit().is_none());
        }
        for end in 0..good.len() {
            let _ =
                Answer::parse(&good[..end], MAC, client.transaction).map(|answer| answer.lease());
        }
    }

    proptest! {
        /// Options of any bytes behind a head that passes: never a panic, never a lease that makes no sense.
        #[test]
        fn any_options_are_survived(options in proptest::collection::vec(any::<u8>(), 0..400)) {
            let client = DhcpClient::new(MAC, 1, seconds(0));
            let mut bytes = vec![0; FIXED_LEN];
            bytes[..3].copy_from_slice(&[2, 1, 6]);
            bytes[4..8].copy_from_slice(&client.transaction.to_be_bytes());
            bytes[28..34].copy_from_slice(&MAC.0);
            bytes[236..].copy_from_slice(&COOKIE);
            bytes.extend_from_slice(&options);
            if let Some(lease) = Answer::parse(&bytes, MAC, client.transaction).and_then(|a| a.lease()) {
                prop_assert!(lease.renew_after <= lease.rebind_after && lease.rebind_after <= lease.lifetime);
            }
        }

        /// Known codes with wrong lengths are where a parser that trusts lengths falls.
        #[test]
        fn known_options_of_any_length_are_survived(
            options in proptest::collection::vec((0usize..10, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
        ) {
            let mut client = DhcpClient::new(MAC, 1, seconds(0));
            let discover = client.poll_transmit().unwrap();
            let mut bytes = answer(&discover.bytes, MessageType::Offer, &[]);
            bytes.truncate(FIXED_LEN);
            for (which, value) in &options {
                let code = WANTED.iter().chain(FRAME).nth(*which).unwrap();
                bytes.extend_from_slice(&[u8::from(*code), value.len() as u8]);
                bytes.extend_from_slice(value);
            }
            client.handle_datagram(seconds(0), &bytes);
        }
    }
}
