//! Finds the manager by DNS, as a state machine: the service `_firmcast._udp` of a domain (RFC
//! 2782), or a host by name.
//!
//! ```text
//!            +--- silence, refusal: next server ---+
//!            v                                     |
//!   SRV? --> Asked --answer--> addresses of the first target? --> Asked --> ... --> result
//! ```
//!
//! One question is asked at a time, each with an id of its own, and each datagram has to leave from
//! a socket of its own, whose port the kernel chooses: somebody who cannot see the question has 32
//! bits to guess. What is found is a hint where to ask and never a reason to trust.
//!
//! The drive rule: send what [`Resolver::poll_transmit`] gives, hand in what comes back, call
//! [`Resolver::handle_timeout`] when [`Resolver::poll_timeout`] has come, until
//! [`Resolver::poll_result`] gives the result.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RecordType};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use crate::order::sort_by_rank;
use crate::time::Time;

mod message;

pub use message::is_host_name;
use message::{Answer, Question, name_of};

/// The port that name servers listen on.
pub const SERVER_PORT: u16 = 53;
/// Largest datagram that is looked at. Nothing larger than 512 bytes is asked for (RFC 1035 section
/// 4.2.1).
pub const DATAGRAM_SIZE_MAX: usize = 1500;
/// Most addresses in a result.
pub const ADDRESSES_MAX: usize = 16;

/// Most name servers asked.
const SERVERS_MAX: usize = 4;
/// How often all servers are asked the same question.
const ROUNDS_MAX: u32 = 2;
/// How long an answer is waited for in the first round; twice as long in each later one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// After this long the result is what has been found.
const TOTAL_MAX: Duration = Duration::from_secs(20);
/// Most targets of a service whose addresses are looked up.
const TARGETS_MAX: usize = 8;
/// Most addresses taken of one host.
const ADDRESSES_PER_HOST_MAX: usize = 4;

/// RCODE (RFC 1035 section 4.1.1).
const CODE_OK: u8 = 0;
const CODE_NO_SUCH_NAME: u8 = 3;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The managers of a domain: `_firmcast._udp.DOMAIN`.
    Service {
        /// The domain's name.
        domain: String,
    },
    /// A host.
    Host {
        /// Its name.
        name: String,
        /// The UDP port at which it is to be asked.
        port: u16,
    },
}

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// No server is known.
    #[error("no name server is known; give one by DHCP or in ip=")]
    NoServer,
    /// A name that no host can have.
    #[error("{0:?} is no name that can be looked up, expected the form rescue.example.org")]
    Name(String),
    /// Nobody answered.
    #[error("no name server has answered the question for {name}; check that UDP port 53 is open")]
    NoAnswer {
        /// The name asked for.
        name: String,
    },
    /// A server could not or would not answer.
    #[error(
        "the name servers cannot answer the question for {name} (response code {code}); see their \
        log"
    )]
    Refused {
        /// The name asked for.
        name: String,
        /// RFC 1035 section 4.1.1.
        code: u8,
    },
    /// There is no such record.
    #[error("there is no {kind} record of {name}; add it to the zone")]
    NoRecord {
        /// The name asked for.
        name: String,
        /// What was asked for.
        kind: &'static str,
    },
}

/// A datagram to send, from a socket that has sent nothing before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// The next piece of the result.
#[derive(Clone, Debug)]
enum Step {
    /// An address that is known already.
    Known(SocketAddr),
    /// The addresses of a host.
    Ask { question: Question, port: u16 },
}

/// The question that is out.
#[derive(Clone, Debug)]
struct Asked {
    question: Question,
    /// Port of the addresses that are found; nothing for a service, which names it.
    port: Option<u16>,
    id: u16,
    /// How many datagrams have been sent for it.
    tries: u32,
    deadline: Time,
}

/// One search.
#[derive(Debug)]
pub struct Resolver {
    servers: Vec<IpAddr>,
    rng: ChaCha20Rng,
    give_up: Time,
    asked: Option<Asked>,
    steps: VecDeque<Step>,
    found: Vec<SocketAddr>,
    problem: Option<DnsError>,
    transmit: Option<Transmit>,
    result: Option<Result<Vec<SocketAddr>, DnsError>>,
}

impl Resolver {
    /// Returns a search that begins at once, at `servers`, best first.
    pub fn new(wanted: &Wanted, servers: &[IpAddr], seed: u64, now: Time) -> Self {
        let mut resolver = Resolver {
            servers: servers.iter().copied().take(SERVERS_MAX).collect(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            give_up: now + TOTAL_MAX,
            asked: None,
            steps: VecDeque::new(),
            found: Vec::new(),
            problem: None,
            transmit: None,
            result: None,
        };
        match resolver.start(wanted, now) {
            Ok(()) => {}
            Err(error) => resolver.result = Some(Err(error)),
        }
        resolver
    }

    fn start(&mut self, wanted: &Wanted, now: Time) -> Result<(), DnsError> {
        if self.servers.is_empty() {
            return Err(DnsError::NoServer);
        }
        let named = |text: &str| name_of(text).ok_or_else(|| DnsError::Name(text.to_owned()));
        match wanted {
            Wanted::Service { domain } => {
                let name = named(&format!("_firmcast._udp.{domain}"))?;
                self.ask(now, Question { name, kind: RecordType::SRV }, None);
            }
            Wanted::Host { name, port } => {
                self.look_up_later(&named(name)?, *port);
                self.advance(now);
            }
        }
        Ok(())
    }

    /// Takes a datagram that came to the socket of the last [`Transmit`].
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8]) {
        let Some(asked) = &self.asked else { return };
        if from != self.server_of(asked.tries - 1) || bytes.len() > DATAGRAM_SIZE_MAX {
            return;
        }
        let Some(answer) = Answer::parse(bytes, asked.id, &asked.question) else { return };
        if !matches!(answer.code, CODE_OK | CODE_NO_SUCH_NAME) {
            let name = plain(&asked.question.name);
            self.problem = Some(DnsError::Refused { name, code: answer.code });
            return self.retry(now);
        }
        let Some(Asked { question, port, .. }) = self.asked.take() else { return };
        let has_found = match port {
            Some(port) => self.take_addresses(&answer, &question.name, port),
            None => self.take_services(&answer, &question.name),
        };
        if !has_found {
            let name = plain(&question.name);
            let kind = if port.is_some() { "A or AAAA" } else { "SRV" };
            self.problem = Some(DnsError::NoRecord { name, kind });
        }
        self.advance(now);
    }

    /// Acts when [`Resolver::poll_timeout`] has come. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        let Some(asked) = &self.asked else { return };
        if now < asked.deadline {
            return;
        }
        let name = plain(&asked.question.name);
        self.problem.get_or_insert(DnsError::NoAnswer { name });
        self.retry(now);
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmit.take()
    }

    /// When [`Resolver::handle_timeout`] has to be called next; none when the search is over.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.asked.as_ref().map(|asked| asked.deadline)
    }

    /// Returns the result, once: at least one and at most [`ADDRESSES_MAX`] addresses, best first.
    pub fn poll_result(&mut self) -> Option<Result<Vec<SocketAddr>, DnsError>> {
        self.result.take()
    }

    fn ask(&mut self, now: Time, question: Question, port: Option<u16>) {
        self.asked = Some(Asked { question, port, id: 0, tries: 0, deadline: now });
        self.retry(now);
    }

    /// Asks the next server, or goes on without an answer when all were asked often enough.
    fn retry(&mut self, now: Time) {
        let servers = self.servers.len() as u32;
        let id = self.rng.next_u32() as u16;
        let give_up = self.give_up;
        let Some(asked) = &mut self.asked else { return };
        if asked.tries >= servers * ROUNDS_MAX || now >= give_up {
            self.asked = None;
            return self.advance(now);
        }
        let wait = FIRST_WAIT * (1 << (asked.tries / servers));
        (asked.id, asked.deadline) = (id, (now + wait).min(give_up));
        asked.tries += 1;
        let (tries, bytes) = (asked.tries, asked.question.emit(id));
        let destination = self.server_of(tries - 1);
        self.transmit = bytes.map(|bytes| Transmit { destination, bytes });
    }

    fn server_of(&self, try_number: u32) -> SocketAddr {
        let server = self.servers[try_number as usize % self.servers.len()];
        SocketAddr::new(server, SERVER_PORT)
    }

    /// Takes the next step, and ends when there is none.
    fn advance(&mut self, now: Time) {
        if now >= self.give_up {
            self.drop_questions();
        }
        while self.found.len() < ADDRESSES_MAX {
            match self.steps.pop_front() {
                Some(Step::Known(address)) if self.found.contains(&address) => {}
                Some(Step::Known(address)) => self.found.push(address),
                Some(Step::Ask { question, port }) => return self.ask(now, question, Some(port)),
                None => break,
            }
        }
        self.transmit = None;
        self.result = Some(match self.problem.take() {
            Some(problem) if self.found.is_empty() => Err(problem),
            _ => Ok(std::mem::take(&mut self.found)),
        });
    }

    fn drop_questions(&mut self) {
        let problem = &mut self.problem;
        self.steps.retain(|step| match step {
            Step::Known(_) => true,
            Step::Ask { question, .. } => {
                problem.get_or_insert(DnsError::NoAnswer { name: plain(&question.name) });
                false
            }
        });
    }

    fn look_up_later(&mut self, name: &Name, port: u16) {
        for kind in [RecordType::A, RecordType::AAAA] {
            let question = Question { name: name.clone(), kind };
            self.steps.push_back(Step::Ask { question, port });
        }
    }

    /// Addresses that are found come next, before those of the targets behind.
    fn take_addresses(&mut self, answer: &Answer, name: &Name, port: u16) -> bool {
        let addresses = usable(answer.addresses(name), port);
        for address in addresses.iter().rev() {
            self.steps.push_front(Step::Known(*address));
        }
        !addresses.is_empty() || !self.found.is_empty()
    }

    fn take_services(&mut self, answer: &Answer, name: &Name) -> bool {
        let mut services = answer.services(name);
        // The root as the target means that the service is not there (RFC 2782).
        services.retain(|service| !service.target.is_root() && service.port != 0);
        for service in in_order(services, &mut self.rng).into_iter().take(TARGETS_MAX) {
            // Servers often put the addresses of the targets into the same message.
            let addresses = usable(answer.addresses(&service.target), service.port);
            if addresses.is_empty() {
                self.look_up_later(&service.target, service.port);
            }
            self.steps.extend(addresses.into_iter().map(Step::Known));
        }
        !self.steps.is_empty()
    }
}

/// Returns a name for a message to the operator.
fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

fn usable(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    let usable = addresses.into_iter().filter(|a| !a.is_unspecified() && !a.is_multicast());
    usable.take(ADDRESSES_PER_HOST_MAX).map(|address| SocketAddr::new(address, port)).collect()
}

/// Returns the order in which to try services: by priority, and by chance within one, the heavier
/// the sooner (RFC 2782).
fn in_order(mut services: Vec<SRV>, rng: &mut ChaCha20Rng) -> Vec<SRV> {
    sort_by_rank(&mut services, |service| [service.priority.into(), service.weight.into()]);
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let priority = first.priority;
        let equal = services.iter().take_while(|service| service.priority == priority);
        let sum: u32 = equal.map(|service| u32::from(service.weight)).sum();
        let mut mark = rng.next_u32() % (sum + 1);
        // Those without weight stand first, and are chosen only when the mark is zero.
        let chosen = services.iter().position(|service| {
            let weight = u32::from(service.weight);
            let is_here = mark <= weight;
            mark = mark.saturating_sub(weight);
            is_here
        });
        ordered.push(services.remove(chosen.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests;
