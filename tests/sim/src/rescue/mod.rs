//! Dead hosts that nobody instructed, and the managers that answer them.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`scenario`] | what a seed stands for |
//! | [`truth`] | boards, images, keys and bundles of a world |
//! | [`computer`], [`host`], [`stay`] | a dead host, and what must hold after each of its steps |
//! | [`claims`] | whether what hosts and managers say of a chip is true |
//! | [`manager`], [`memory`] | managers good and bad, and how much memory they hold |
//! | [`places`] | what stored address, BMC, DHCP and DNS say |
//! | [`traffic`] | how much is said, and the bounds of it |
//! | [`world`] | the clock, the network, and what goes wrong |

mod claims;
mod computer;
mod host;
mod manager;
pub(crate) mod memory;
mod places;
mod scenario;
mod stay;
mod summary;
mod traffic;
mod truth;
mod world;

use std::time::Instant;

pub(crate) use scenario::POWER_FAILURE_HOSTS;
use scenario::Scenario;
use summary::Summary;
use world::World;

use crate::engine::Violation;
use crate::runner::{Kind, caught};

/// Goal for the memory of a manager, for each of a thousand hosts that are dead at once.
const MEMORY_PER_HOST_MAX: i64 = 64 * 1024;

/// Dead hosts, and managers that answer them.
pub(crate) struct Rescue;

impl Kind for Rescue {
    const NAME: &'static str = "rescue";
    const VARIABLE: &'static str = "RESCUE_SEED";
    type Summary = Summary;

    fn describe(seed: u64) -> String {
        format!("{:#?}", Scenario::of(seed))
    }

    fn run(seed: u64, verbose: bool) -> Result<Summary, Violation> {
        run(Scenario::of(seed), verbose)
    }

    fn add(all: &mut Summary, one: Summary) {
        all.add(one);
    }
}

/// Kills so many hosts with chips of this size at once, on a network that loses this share of all
/// datagrams, and prints what it cost to rescue them as one line of JSON.
pub(crate) fn power_failure(hosts: usize, chip_bytes: usize, loss: f64) -> bool {
    let started = Instant::now();
    match caught(|| run(Scenario::power_failure(0, hosts, chip_bytes, loss), false)) {
        Ok(summary) => {
            println!("{}", summary.to_json(started.elapsed()));
            true
        }
        Err(violation) => {
            eprintln!("FAILED: {violation}");
            false
        }
    }
}

fn run(scenario: Scenario, verbose: bool) -> Result<Summary, Violation> {
    let is_power_failure = scenario.hosts == POWER_FAILURE_HOSTS;
    let summary = World::new(scenario, verbose).run()?;
    let per_host = summary.held_bytes_max / summary.hosts as i64;
    match is_power_failure && per_host > MEMORY_PER_HOST_MAX {
        true => Err(format!("the manager held {per_host} bytes for each host")),
        false => Ok(summary),
    }
}
