//! How the program does its I/O: sockets, waiting, screens. Imports the library, never `commands`.
//!
//! - [`socket`]: the UDP socket, opened and read; [`sender`]: its outgoing datagrams.
//! - [`network`]: interfaces, addresses, and where a stream for many hosts goes.
//! - [`wait`]: waiting for sockets and signals; the clock.
//! - [`interview`]: asking hosts who they are; [`stamper`]: the stamps of calls and questions.
//! - [`status_socket`]: the local socket between `firmcast serve` and `firmcast status`.
//! - [`mouth`]: tells what happens: on the [`display`] (terminal, lines or JSON), and in the
//!   records of the [`ledger`]. [`output`]: standard output; [`printer`]: the same from a thread of
//!   its own, while hosts wait; [`stderr`]: standard error, from such a thread too.

pub(crate) mod display;
pub(crate) mod interview;
pub(crate) mod ledger;
pub(crate) mod mouth;
pub(crate) mod network;
pub(crate) mod output;
pub(crate) mod printer;
pub(crate) mod sender;
pub(crate) mod socket;
pub(crate) mod stamper;
pub(crate) mod status_socket;
pub(crate) mod stderr;
pub(crate) mod wait;
