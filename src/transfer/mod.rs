//! One payload to many receivers, by numbered fragments over datagrams that may be lost.
//!
//! The payload is cut into source fragments. A systematic erasure code adds repair fragments, each
//! of which is worth as much as any other to every host that lacks one. [`Sender`] sends all source
//! fragments once, block by block, and asks on the way how many everyone lacks. Behind each block
//! it goes on with repair fragments while more are expected to be lacking than are under way. At
//! the end it waits for the answers, sends what still lacks (when few are named, exactly those),
//! and asks again. [`Receiver`] keeps what arrives, answers, and decodes.
//!
//! Both are sans-IO: time and datagrams are handed in. How to drive a `Sender`: whenever it was
//! told something, or its `poll_timeout` has passed, call `poll_transmit` until it returns nothing,
//! then `poll_event` until it returns nothing. A `Receiver`: hand it each datagram, and call
//! `poll_status` when `poll_timeout` has passed. While nothing else waits, `work` spares time at
//! the end. Early and repeated calls are harmless.
//!
//! # A transfer over a lossy loop
//!
//! One sender and one receiver in one thread, with a network that loses every third datagram.
//! `now` is a virtual clock, so the example takes no time and goes the same way each time.
//!
//! ```
//! use firmcast::time::Time;
//! use firmcast::transfer::{TransferEvent, HostId, Receiver, Sender, SenderConfig};
//! use firmcast::wire::broadcast::{GroupKey, FecScheme, TransferParameters};
//!
//! let payload: Vec<u8> = (0..100_000u32).map(|index| (index * 7) as u8).collect();
//! // What the manager tells each host in its session before it sends the first fragment.
//! let parameters = TransferParameters {
//!     campaign: 1,
//!     group_key: GroupKey::new([7; 32]),
//!     payload_size_bytes: payload.len() as u32,
//!     fragment_size_bytes: 1440,
//!     fec: FecScheme::Doubled,
//! };
//! let mut now = Time::ZERO;
//! let config = SenderConfig { rate_cap_bits_per_s: 100_000_000, is_polite: false };
//! let mut sender = Sender::new(payload.clone(), &parameters, config)?;
//! let mut receiver = Receiver::new(&parameters, 42)?;
//! sender.add_host(now, HostId(0))?;
//! sender.start(now);
//!
//! let mut sent = 0;
//! while !sender.is_done() {
//!     while let Some(datagram) = sender.poll_transmit(now) {
//!         sent += 1;
//!         if sent % 3 != 0 {
//!             receiver.handle_datagram(now, &datagram);
//!         }
//!     }
//!     // The answer to a status request is due a moment after the request.
//!     if let Some(status) = receiver.poll_status(now) {
//!         sender.handle_status(now, HostId(0), &status)?;
//!     }
//!     while let Some(TransferEvent::Complete(host)) = sender.poll_event() {
//!         assert_eq!(host, HostId(0));
//!     }
//!     // Sleep until one of the two has something to do.
//!     let timeouts = [sender.poll_timeout(), receiver.poll_timeout()];
//!     now = timeouts.into_iter().flatten().min().map_or(now, |timeout| timeout.max(now));
//! }
//! assert_eq!(receiver.take_payload()?.bytes, payload);
//! # Ok::<(), firmcast::transfer::TransferError>(())
//! ```
//!
//! # Files
//!
//! - `geometry`: which fragments a payload has, and where they lie in it.
//! - `code`: the erasure code of one block.
//! - `shards`: the fragments that a receiver holds.
//! - `receiver`: datagrams in, status out, payload at the end.
//! - `pacing`: the operator's rate cap, and the rate below it.
//! - `audience`: what the sender knows of each host; `answers`: how long it waits for them.
//! - `repair`: which fragments the next repair pass sends; `pass`: one pass on its way.
//! - `sent`: what a sender has sent.
//! - `sender`: passes and rounds.

use thiserror::Error;

use crate::wire::codec::DecodeError;

mod answers;
mod audience;
mod code;
mod congestion;
mod geometry;
mod pacing;
mod pass;
mod payload;
mod receiver;
mod repair;
mod sender;
mod sent;
mod shards;

pub use audience::{HOSTS_MAX, HostId, HostProgress, Stall};
pub use geometry::Geometry;
pub use receiver::{RESTARTS_MAX, Received, ReceivedPayload, Receiver};
pub use sender::{Sender, SenderConfig, SenderStats, TransferEvent};

/// Why a step of a transfer was not possible.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum TransferError {
    /// The sizes are out of bounds.
    #[error("the transfer parameters are not usable")]
    Parameters(#[from] DecodeError),
    /// The payload does not have the size that the parameters name.
    #[error("the payload has {got} bytes, its transfer parameters name {expected}")]
    PayloadSize {
        /// Bytes as in the parameters.
        expected: usize,
        /// Bytes of the payload.
        got: usize,
    },
    /// The payload was asked for too early.
    #[error("the payload is not complete: {have} of {need} fragments received")]
    Incomplete {
        /// Useful fragments held.
        have: u32,
        /// Fragments that make the payload complete.
        need: u32,
    },
    /// The payload was handed out already.
    #[error("the payload was taken already; restart the receiver to receive it again")]
    Taken,
    /// The payload was received too often without being what the manifest names.
    #[error(
        "the payload was wrong {0} times, a host that holds the group key may forge fragments; \
         find that host or update this one alone"
    )]
    RestartsExhausted(u32),
    /// The erasure code refused; a bug, since all its inputs were checked.
    #[error("the erasure code failed: {0}")]
    Code(#[from] reed_solomon_simd::Error),
    /// A status from a host that the sender was not told of.
    #[error("host {0} does not take part in the transfer")]
    UnknownHost(u32),
    /// A status of another transfer.
    #[error("status of campaign {got:#x}, expected {expected:#x}")]
    ForeignStatus {
        /// Campaign of the sender.
        expected: u64,
        /// Campaign of the status.
        got: u64,
    },
    /// A status that no host of this transfer can have.
    #[error("status names {0} outside the transfer")]
    ImpossibleStatus(&'static str),
    /// More hosts than one transfer serves.
    #[error("one transfer serves at most {HOSTS_MAX} hosts; run several campaigns")]
    TooManyHosts,
}
