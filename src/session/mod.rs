//! Sessions between one manager and one host over datagrams: Noise IK, as WireGuard uses it, and
//! discovery.
//!
//! A message is handed on only from an established session: the handshake proved that both sides
//! are there now. Unauthenticated datagrams get no reply and leave no state.
//!
//! # A session pair
//!
//! A manager calls a host that trusts its key. Endpoints neither have a socket nor ask for the
//! time: here the "network" moves datagrams from one to the other.
//!
//! ```
//! use std::net::SocketAddr;
//!
//! use firmcast::keys::{HostSecretKey, ManagerSecretKey, SecretKey};
//! use firmcast::session::{Endpoint, SessionEvent};
//! use firmcast::time::Time;
//! use rand_chacha::ChaCha20Rng;
//! use rand_chacha::rand_core::SeedableRng;
//!
//! // Seeds and keys come from the system's random source everywhere but in examples and tests.
//! let mut rng = ChaCha20Rng::from_seed([1; 32]);
//! let manager_key = ManagerSecretKey::generate(&mut rng);
//! let host_key = HostSecretKey::generate(&mut rng);
//! let at_manager: SocketAddr = "192.0.2.1:9848".parse()?;
//! let at_host: SocketAddr = "192.0.2.10:9847".parse()?;
//! let mut manager = Endpoint::new(*manager_key.exchange(), [2; 32]);
//! let mut host = Endpoint::new(*host_key.exchange(), [3; 32]);
//!
//! host.allow(*manager_key.public().exchange()); // whom the host lets call
//! let host_id = *host_key.public().exchange(); // whom the manager calls
//! let now = Time::ZERO;
//! manager.set_stamp(1_700_000_000_000_000); // grows with each call, against replays
//! manager.connect(now, host_id, at_host);
//!
//! let mut heard = Vec::new();
//! let mut has_asked = false;
//! for _round in 0..4 {
//!     while let Some(transmit) = manager.poll_transmit() {
//!         if let Some(SessionEvent::Message { peer, bytes, .. }) =
//!             host.handle_datagram(now, at_manager, &transmit.bytes)
//!         {
//!             assert_eq!(bytes, b"who are you?");
//!             host.send(now, &peer, b"a host");
//!         }
//!     }
//!     while let Some(transmit) = host.poll_transmit() {
//!         if let Some(SessionEvent::Message { bytes, .. }) =
//!             manager.handle_datagram(now, at_host, &transmit.bytes)
//!         {
//!             heard.push(bytes);
//!         }
//!     }
//!     if manager.is_connected(&host_id) && !has_asked {
//!         has_asked = manager.send(now, &host_id, b"who are you?");
//!     }
//! }
//! assert_eq!(heard, [b"a host"]);
//!
//! // A stranger learns nothing, not even that somebody is there.
//! assert_eq!(host.handle_datagram(now, at_manager, &[1; 128]), None);
//! assert_eq!(host.poll_transmit(), None);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! # Files
//!
//! - [`endpoint`]: all sessions of one socket; the only thing a driver talks to.
//! - [`discovery`]: the broadcast question who is there, and the sealed answers.
//! - `peers`: who is known and may call, and whose sessions are; `call`: a call until it is
//!   answered; `sealing`: one session, which seals and opens messages.
//! - `guard`: who gets past before public-key work; `cookie`: proof of an address; `limit`: rate
//!   limit.
//! - `noise`: the two handshakes on crate `snow`; `window`: replay protection.

mod call;
mod cookie;
pub mod discovery;
pub mod endpoint;
mod guard;
mod limit;
mod mac;
mod noise;
mod peers;
mod sealing;
mod window;

pub use endpoint::{Endpoint, SessionEvent, Transmit};
pub use limit::RateLimit;
pub use peers::{PEERS_MAX, PeerKey};
