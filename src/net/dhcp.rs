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
//! Every request asks for a broadcast answer, so that a plain UDP socket without an address
//! receives it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dhcproto::v4::{DhcpOption, DhcpOptions, Flags, HType, Message, MessageType, Opcode};
use dhcproto::{Encodable, Encoder};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::config::MacAddress;
use crate::random::jitter;
use crate::time::Time;

mod answer;

use answer::{Answer, FIXED_LEN, WANTED};
pub use answer::{DNS_SERVERS_MAX, Lease, MANAGER_OPTION};

/// The port that servers listen on.
pub const SERVER_PORT: u16 = 67;
/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 68;
/// Largest datagram that is looked at.
pub const DATAGRAM_SIZE_MAX: usize = 1500;

/// First wait for an answer. RFC 2131 section 4.1 starts at 4 s; a rack that has just lost its
/// operating system starts sooner, because many switches drop the first datagram.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// By how much each pause is longer or shorter than that.
const RETRY_SPREAD_PERMILLE: u32 = 250;
/// Longest wait for an answer. Discovery goes on with this for as long as its owner wants.
const RETRY_MAX: Duration = Duration::from_secs(16);
/// Requests for an offered address before discovery starts anew.
const REQUESTS_MAX: u32 = 4;
/// Shortest wait between two renewals (RFC 2131 section 4.4.5).
const RENEW_RETRY_MIN: Duration = Duration::from_secs(60);

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
pub enum LeaseEvent {
    /// A lease has been got or prolonged: configure the interface so, unless it is.
    Bound(Box<Lease>),
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
    event: Option<LeaseEvent>,
}

impl DhcpClient {
    /// Returns a client that begins to ask at once. Clients with different seeds spread their
    /// retries.
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
                    let offer = Offer { address: lease.own_address(), server: lease.server };
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

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmit.take()
    }

    /// Returns what has happened since the last call.
    pub fn poll_event(&mut self) -> Option<LeaseEvent> {
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

    /// Growing, and different for each client: 1, 2, 4, 8, 16, 16 ... seconds, each between 3/4 and
    /// 5/4 of that.
    fn retry_after(&mut self, tries: u32) -> Duration {
        let base = FIRST_RETRY.saturating_mul(1 << tries.min(16)).min(RETRY_MAX);
        jitter(base, RETRY_SPREAD_PERMILLE, &mut self.rng)
    }

    fn bind(&mut self, now: Time, lease: Option<Lease>) {
        let Some(lease) = lease else { return };
        self.deadline = now + lease.renew_after;
        self.state = State::Bound { lease: lease.clone(), since: now };
        self.event = Some(LeaseEvent::Bound(Box::new(lease)));
    }

    /// Asks the lease's server, then any; gives the lease up when its time is over.
    fn prolong(&mut self, now: Time, lease: Lease, since: Time) {
        let age = now.since(since);
        if age >= lease.lifetime {
            return self.lose(now);
        }
        self.transaction = self.rng.next_u32();
        let address = lease.own_address();
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
        self.event = Some(LeaseEvent::Lost);
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

#[cfg(test)]
mod tests;
