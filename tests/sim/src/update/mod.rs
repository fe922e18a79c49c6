//! Updates that a person starts, on hosts that run.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`scenario`] | what a seed stands for |
//! | [`truth`] | board, images, keys and bundles of a world |
//! | [`computer`], [`host`], [`stay`] | a host, and what must hold after each of its steps |
//! | [`operator`] | managers good and bad, and whether what they say is true |
//! | [`world`] | the clock, the network, and what goes wrong |

pub(crate) mod computer;
pub(crate) mod host;
mod operator;
pub(crate) mod scenario;
pub(crate) mod stay;
mod summary;
pub(crate) mod truth;
mod world;

use scenario::Scenario;
use summary::Summary;
use world::World;

use crate::engine::Violation;
use crate::runner::Kind;

/// Hosts that run, and managers that give them another image.
pub(crate) struct Update;

impl Kind for Update {
    const NAME: &'static str = "update";
    const VARIABLE: &'static str = "SEED";
    type Summary = Summary;

    fn describe(seed: u64) -> String {
        format!("{:#?}", Scenario::of(seed))
    }

    fn run(seed: u64, verbose: bool) -> Result<Summary, Violation> {
        World::new(Scenario::of(seed), verbose).run()
    }

    fn add(all: &mut Summary, one: Summary) {
        all.add(one);
    }
}
