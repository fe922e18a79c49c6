//! Dead hosts that nobody instructed, and the managers that answer them.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`scenario`] | what a seed stands for |
//! | [`truth`] | boards, images, keys and bundles of a world |
//! | [`computer`], [`host`] | a dead host, and the invariants that hold after each of its steps |
//! | [`manager`], [`memory`] | managers good and bad, and how much memory they hold |
//! | [`places`] | what stored address, BMC, DHCP and DNS say |
//! | [`traffic`] | how much is said, and the bounds of it |
//! | [`world`] | the clock, the network, and what goes wrong |

mod computer;
mod host;
mod manager;
pub(crate) mod memory;
mod places;
mod scenario;
mod summary;
mod traffic;
mod truth;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use firmcast::time::Time;
use scenario::Scenario;
use summary::Summary;
use world::World;

use crate::TWICE_EVERY;

/// Goal for the memory of a manager, for each of a thousand hosts that are dead at once.
const MEMORY_PER_HOST_MAX: i64 = 64 * 1024;

/// Runs the seeds and prints what was found; says whether all is well.
pub(crate) fn run_all(seeds: Range<u64>) -> bool {
    println!("rescue: seeds {} to {}", seeds.start, seeds.end - 1);
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
                    if seed >= end || results.send((seed, run_checked(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        report(inbox, started)
    })
}

fn report(inbox: mpsc::Receiver<(u64, Result<Summary, String>)>, started: Instant) -> bool {
    let (mut all, mut passed, mut failed) = (Summary::default(), 0, 0);
    for (seed, result) in inbox {
        match result {
            Ok(summary) => {
                passed += 1;
                all.add(summary);
            }
            Err(violation) => {
                failed += 1;
                println!(
                    "FAILED rescue seed {seed}: {violation}\n  again: make test-sim RESCUE_SEED={seed}"
                );
            }
        }
    }
    println!("{all} in {} s", started.elapsed().as_secs());
    println!("{passed} passed, {failed} failed");
    failed == 0
}

/// Runs one seed and prints all that happens; says whether all is well.
pub(crate) fn look_into(seed: u64) -> bool {
    println!("{:#?}", Scenario::of(seed));
    let result = run(Scenario::of(seed), true);
    match &result {
        Ok(summary) => println!("rescue seed {seed} passed: {summary:#?}"),
        Err(violation) => println!("FAILED rescue seed {seed}: {violation}"),
    }
    result.is_ok()
}

/// Kills a thousand hosts with chips of this size at once, and prints what it cost to rescue them as one line of JSON.
pub(crate) fn power_failure(chip_bytes: usize) -> bool {
    let started = Instant::now();
    match run(Scenario::power_failure(0, chip_bytes), false) {
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

fn run_checked(seed: u64) -> Result<Summary, String> {
    let summary = run(Scenario::of(seed), false)?;
    if seed % TWICE_EVERY == 3 {
        let again = run(Scenario::of(seed), false)?;
        if again != summary {
            return Err(format!(
                "it goes another way the second time: {summary:?}, then {again:?}"
            ));
        }
    }
    Ok(summary)
}

/// Runs one world; a panic in the code under test is a failure like any other.
fn run(scenario: Scenario, verbose: bool) -> Result<Summary, String> {
    let is_power_failure = scenario.hosts == scenario::POWER_FAILURE_HOSTS;
    let mut now = Time::ZERO;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(scenario, verbose);
        let result = world.run();
        now = world.now;
        result
    }));
    let at = |violation| format!("at {:.3} s: {violation}", now.as_micros() as f64 / 1e6);
    let ran = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "a panic, see above".into()))
    });
    let summary = ran.map_err(at)?;
    let per_host = summary.held_bytes_max / summary.hosts as i64;
    match is_power_failure && per_host > MEMORY_PER_HOST_MAX {
        true => Err(format!("the manager held {per_host} bytes for each host")),
        false => Ok(summary),
    }
}
