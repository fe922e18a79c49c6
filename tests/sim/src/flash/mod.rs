//! The flash engine against chips that break: every operation of many plans, in every way.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`subject`], [`image`] | a seed's chip, its contents, its bundles, and the right result, worked out without the engine |
//! | [`preview`] | a preview has the right plan and changes nothing |
//! | [`every`] | each operation of the plan is cut or goes wrong once; then a new start must finish or restore |
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

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use every::Every;
use log::Log;
use subject::Subject;
use totals::Totals;

/// Runs the seeds and prints what was found; says whether all is well.
pub(crate) fn run_all(seeds: Range<u64>) -> bool {
    println!("flash: seeds {} to {}", seeds.start, seeds.end - 1);
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    let (results, inbox) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (next, results, end) = (&next, results.clone(), seeds.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || results.send((seed, run(seed, &mut Log::new(false)))).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(results);
        report(inbox, started)
    })
}

fn report(inbox: mpsc::Receiver<(u64, Result<Totals, String>)>, started: Instant) -> bool {
    let (mut totals, mut failed) = (Totals::default(), 0);
    for (seed, result) in inbox {
        match result {
            Ok(of_seed) => totals.add(of_seed),
            Err(violation) => {
                failed += 1;
                println!(
                    "FAILED flash seed {seed}: {violation}\n  again: make test-sim FLASH_SEED={seed}"
                );
            }
        }
    }
    println!("{totals}");
    println!("{} s, {} passed, {failed} failed", started.elapsed().as_secs(), totals.plans);
    failed == 0
}

/// Runs one seed, and prints all that happened in the trial that failed, or in the last one.
pub(crate) fn look_into(seed: u64) -> bool {
    println!("flash seed {seed}: {}", Subject::of(seed).describe());
    let mut log = Log::new(true);
    let result = run(seed, &mut log);
    println!("{}", log.trial());
    log.lines().iter().for_each(|line| println!("{line}"));
    match &result {
        Ok(totals) => println!("{totals}\nflash seed {seed} passed"),
        Err(violation) => println!("FAILED flash seed {seed}: {violation}"),
    }
    result.is_ok()
}

/// A panic in the code under test is a failure like any other.
fn run(seed: u64, log: &mut Log) -> Result<Totals, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let subject = Subject::of(seed);
        let mut totals = Totals::default();
        Every { subject: &subject, log, totals: &mut totals }.run()?;
        if subject.refusal.is_none() {
            storm::storms(&subject, log, &mut totals)?;
        }
        Ok(totals)
    }));
    ran.unwrap_or_else(|_| Err("a panic, see above".into()))
        .map_err(|violation: String| format!("{}: {violation}", log.trial()))
}
