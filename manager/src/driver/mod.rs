//! How the program does its I/O: sockets, waiting, screens. Imports the library, never `commands`.
//!
//! - [`socket`]: the UDP socket, opened and read; [`sender`]: its outgoing datagrams.
//! - [`network`]: interfaces, addresses, and where a stream for many hosts goes.
//! - [`wait`]: waiting for sockets and signals; the clock.
//! - [`interview`]: asking hosts who they are.
//! - [`status_socket`]: the local socket between `firmcast serve` and `firmcast status`.
//! - [`display`]: a campaign on a terminal, as lines or as JSON; [`output`]: standard output.

pub(crate) mod display;
pub(crate) mod interview;
pub(crate) mod network;
pub(crate) mod output;
pub(crate) mod sender;
pub(crate) mod socket;
pub(crate) mod status_socket;
pub(crate) mod wait;
