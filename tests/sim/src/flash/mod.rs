//! The flash engine against chips that break: every operation of many plans, in every way.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`subject`], [`image`] | a seed's chip, bundles, and the result, without the engine |
//! | [`preview`] | a preview has the right plan and changes nothing |
//! | [`every`] | each operation is cut or goes wrong once; a new start must finish or restore |
//! | [`foreign`] | somebody else writes to the chip, in blocks of each kind |
//! | [`storm`] | many faults at once, job after job |
//! | [`trial`] | one job, and whether what it says in the end is true |
//! | [`watch`] | the invariants after each single operation |

mod every;
mod foreign;
mod image;
mod log;
mod preview;
mod storm;
mod subject;
mod totals;
mod trial;
mod watch;

use every::Every;
use log::Log;
use subject::Subject;
use totals::Totals;

use crate::engine::Violation;
use crate::runner::Kind;

/// Chips, each of which is broken at every operation of its plan. Jobs have steps and no clock.
pub(crate) struct Chips;

impl Kind for Chips {
    const NAME: &'static str = "flash";
    const VARIABLE: &'static str = "FLASH_SEED";
    type Summary = Totals;

    fn describe(seed: u64) -> String {
        Subject::of(seed).describe()
    }

    fn run(seed: u64, verbose: bool) -> Result<Totals, Violation> {
        let (subject, mut log) = (Subject::of(seed), Log::new(verbose));
        let mut totals = Totals::default();
        let result = break_everything(&subject, &mut log, &mut totals);
        result.map(|()| totals).map_err(|violation| format!("{}: {violation}", log.trial()))
    }

    fn add(all: &mut Totals, one: Totals) {
        all.add(one);
    }
}

fn break_everything(
    subject: &Subject,
    log: &mut Log,
    totals: &mut Totals,
) -> Result<(), Violation> {
    Every { subject, log, totals }.run()?;
    match subject.refusal {
        None => storm::storms(subject, log, totals),
        Some(_) => Ok(()),
    }
}
