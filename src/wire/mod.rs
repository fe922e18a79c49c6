//! Bytes to messages and back; docs/PROTOCOL.md describes the same from outside.
//!
//! - [`datagram`]: what lies in a UDP datagram before anything is decrypted.
//! - [`broadcast`]: the two sealed datagrams that go to many hosts: fragment and status request;
//!   `transfer_parameters`: what a host must know to open them.
//! - [`command`]: what a manager says inside a session.
//! - [`answer`]: what a host says inside a session; [`escrow`]: what it says of its backup;
//!   [`help`]: what it says when its firmware is invalid.
//! - [`finding`]: what a host finds of the preconditions of an update, and what may be accepted.
//! - [`excerpt`]: which pieces of an image travel, and which a chip lacks.
//! - [`versions`]: what each side understands.
//!
//! Parsing takes any bytes, never panics, and accepts nothing that [`emit`](codec::Writer) would
//! not produce.

pub mod answer;
pub mod broadcast;
pub mod codec;
pub mod command;
pub mod datagram;
pub mod escrow;
pub mod excerpt;
pub mod finding;
pub mod foresight;
pub mod fragment_status;
pub mod help;
mod identity;
#[doc(hidden)]
pub mod samples;
mod status_request;
mod transfer_parameters;
pub mod versions;

/// Form of the datagrams, their second byte. What is said in sessions has versions of its own
/// ([`versions::Versions`]); docs/PROTOCOL.md, section "Versions", says when which rises.
pub const PROTOCOL_VERSION: u8 = 2;

/// The UDP port of agents and recovery environments, when none is configured.
pub const DEFAULT_PORT: u16 = 9847;

/// The UDP port of managers, when none is configured.
pub const MANAGER_PORT: u16 = 9848;

/// Maximum number of bytes of a message inside a session, so that its datagram fits every path of
/// 1280 bytes MTU.
pub const MESSAGE_SIZE_MAX: usize = 1152;

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod tests;
