//! The options that say how images are sent, which `firmcast update` and `firmcast serve` have in
//! common.

use std::net::IpAddr;

use clap::Args;
use firmcast::wire::DEFAULT_PORT;
use firmcast_manager::campaign::Delivery;

/// How images are sent, and to which port.
#[derive(Debug, Args)]
pub(super) struct SendingArgs {
    /// Send images to this multicast group instead of broadcasting them
    #[arg(long, value_name = "ADDRESS", conflicts_with = "unicast")]
    group: Option<IpAddr>,
    /// Send images to each host's own address
    #[arg(long)]
    unicast: bool,
    /// Maximum megabits per second on the wire, for all images together
    #[arg(
        long = "rate",
        value_name = "MBIT",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(super) rate_mbit: u32,
    /// Leave at least half of a busy link to others: begin slowly, and make room as soon as answers
    /// come late or more is lost
    #[arg(long)]
    pub(super) polite: bool,
    /// UDP port of the hosts
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    pub(super) agent_port: u16,
}

impl SendingArgs {
    pub(super) fn delivery(&self) -> Delivery {
        match self.group {
            Some(group) => Delivery::Group(group),
            None if self.unicast => Delivery::Unicast,
            None => Delivery::Broadcast,
        }
    }
}
