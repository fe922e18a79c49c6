//! Sessions between one manager and one host over datagrams: Noise IK, as WireGuard uses it, and discovery.
//!
//! A message is handed on only from an established session, i.e. after the handshake proved freshness both ways. To a
//! datagram that does not authenticate nothing is answered and nothing is kept.
//!
//! - [`endpoint`]: all sessions of one socket; the only thing a driver talks to.
//! - [`discovery`]: the broadcast question who is there, and the sealed answers.
//! - `noise`: the two handshakes on crate `snow`; `window`: replay protection; `limit`: rate limit.

pub mod discovery;
pub mod endpoint;
mod limit;
mod mac;
mod noise;
mod window;

pub use endpoint::{Endpoint, Event, PeerKey, Transmit};
pub use limit::RateLimit;
