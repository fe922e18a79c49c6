//! How much is said: managers answer, they do not talk, and hosts ask with patience. Images on
//! their way do not count.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use firmcast::time::Time;
use firmcast::wire::broadcast::Broadcast;

use crate::engine::Violation;

/// Most datagrams to one host in a second, from all managers together.
pub(crate) const ANSWERS_PER_SECOND_MAX: u64 = 40;
/// Most bytes to one host in a second.
pub(crate) const ANSWER_BYTES_PER_SECOND_MAX: u64 = 40_000;
/// Most datagrams of one host in a second.
pub(crate) const REQUESTS_PER_SECOND_MAX: u64 = 40;
/// Most bytes of one host in a second.
pub(crate) const REQUEST_BYTES_PER_SECOND_MAX: u64 = 40_000;

/// Who hands a host's datagram to its manager before the host's own arrives, is taken for the host
/// until that is heard again. So many bytes more than it sent such an address may get in all.
const RELAYED_BYTES_MAX: i64 = 16 * 1024;

/// Datagrams and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64;
    }

    pub(crate) fn add_all(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
    }

    pub(crate) fn raise_to(&mut self, other: Self) {
        self.datagrams = self.datagrams.max(other.datagrams);
        self.bytes = self.bytes.max(other.bytes);
    }
}

/// What was said within a second of virtual time.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    amount: Amount,
}

impl Second {
    fn add(&mut self, now: Time, bytes: usize) -> Amount {
        let number = now.as_micros() / 1_000_000;
        if number != self.number {
            *self = Self { number, amount: Amount::default() };
        }
        self.amount.add(bytes);
        self.amount
    }
}

#[derive(Debug, Default)]
pub(crate) struct Traffic {
    answers: Vec<Second>,
    requests: Vec<Second>,
    /// The busiest second of a host.
    pub(crate) answers_max: Amount,
    pub(crate) requests_max: Amount,
    pub(crate) answers_total: Amount,
    pub(crate) requests_total: Amount,
    /// Fragments and status requests of managers, once for each datagram that leaves one.
    pub(crate) stream_total: Amount,
    /// Bytes that came from addresses that are no host's, less those that were said to them.
    balance: BTreeMap<SocketAddr, i64>,
}

impl Traffic {
    pub(crate) fn new(hosts: usize) -> Self {
        let seconds = vec![Second::default(); hosts];
        Self { answers: seconds.clone(), requests: seconds, ..Self::default() }
    }

    /// A host sends this. True when it is part of its dialogue.
    pub(crate) fn host_says(
        &mut self,
        now: Time,
        host: usize,
        bytes: &[u8],
    ) -> Result<bool, Violation> {
        if Broadcast::parse(bytes).is_ok() {
            return Ok(false);
        }
        let amount = self.requests[host].add(now, bytes.len());
        self.requests_max.raise_to(amount);
        self.requests_total.add(bytes.len());
        let is_much = amount.datagrams > REQUESTS_PER_SECOND_MAX
            || amount.bytes > REQUEST_BYTES_PER_SECOND_MAX;
        if is_much { Err(format!("host{host} sends {amount:?} in a second")) } else { Ok(true) }
    }

    /// A manager sends this to all, or to one host as a part of the image.
    pub(crate) fn stream(&mut self, bytes: &[u8]) {
        self.stream_total.add(bytes.len());
    }

    /// A manager sends this to a host.
    pub(crate) fn manager_says(
        &mut self,
        now: Time,
        host: usize,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let amount = self.answers[host].add(now, bytes.len());
        self.answers_max.raise_to(amount);
        self.answers_total.add(bytes.len());
        let is_much =
            amount.datagrams > ANSWERS_PER_SECOND_MAX || amount.bytes > ANSWER_BYTES_PER_SECOND_MAX;
        if is_much { Err(format!("host{host} is told {amount:?} in a second")) } else { Ok(()) }
    }

    /// Somebody sends this from an address that is no host's.
    pub(crate) fn stranger_says(&mut self, from: SocketAddr, bytes: &[u8]) {
        *self.balance.entry(from).or_default() += bytes.len() as i64;
    }

    /// A manager answers there: never more than what came.
    pub(crate) fn manager_says_to_stranger(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let balance = self.balance.entry(to).or_default();
        *balance -= bytes.len() as i64;
        match *balance < -RELAYED_BYTES_MAX {
            true => {
                Err(format!("{to}, who is no host, is told {} bytes more than it said", -*balance))
            }
            false => Ok(()),
        }
    }
}
