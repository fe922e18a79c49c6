//! The network around firmcast: the one UDP socket, the configuration of interfaces by netlink, and
//! DHCP.
//!
//! - [`udp`]: the socket of agent, recovery and manager; [`batch_sender`] and [`batch_receiver`]:
//!   many of its datagrams by one call;
//! - [`one_address`]: a host's socket at one address, which hears broadcasts too;
//! - [`bound`]: where this machine hears a port;
//! - [`config`]: what the agent hands over, read by [`survey`], which looks with `view` and
//!   `foundation` at what an interface stands on;
//! - [`ip_option`]: what the kernel command line asks for instead;
//! - [`link`]: bringing interfaces up in recovery, with `bond`; [`dhcp`]: the client state
//!   machine for when nothing was handed over;
//! - [`dns`]: finding the manager by name;
//! - `netlink`: requests to and events from the kernel.

use std::io;
use std::net::IpAddr;

pub mod batch_receiver;
pub mod batch_sender;
mod bond;
pub mod bound;
pub mod config;
pub mod dhcp;
pub mod dns;
mod foundation;
pub mod ip_option;
pub mod link;
mod link_message;
mod netlink;
pub mod one_address;
mod rtnetlink;
pub mod survey;
mod syscall;
pub mod udp;
mod view;

pub use config::{BondConfig, InterfaceAddress, InterfaceConfig, MacAddress, Method, Route};
pub use netlink::{Events, Netlink, Uevents};

/// Why the network is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A socket call failed.
    #[error("cannot {action}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A netlink request failed.
    #[error("the kernel refused to {action}")]
    Netlink {
        /// What was asked for.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's answer is not one that netlink has.
    #[error("cannot understand the kernel's answer to \"{action}\": {reason}")]
    NetlinkForm {
        /// What was asked for.
        action: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no way to the manager.
    #[error("no route to the manager {0}; check the routing table")]
    NoRoute(IpAddr),
    /// The way to the manager is one that recovery cannot take.
    #[error("the manager is reached through {interface}, {reason}")]
    Unsuitable {
        /// The interface's name.
        interface: String,
        /// Why not.
        reason: String,
    },
    /// The socket that systemd handed over is not what the agent needs.
    #[error("systemd handed over {got}, expected one bound UDP socket; check the socket unit")]
    Inherited {
        /// What it was.
        got: String,
    },
}
