//! Updates that a person starts, on hosts that run.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`scenario`] | what a seed stands for |
//! | [`truth`] | board, images, keys and bundles of a world |
//! | [`computer`], [`host`] | a host, and the invariants that hold after each of its steps |
//! | [`operator`] | managers good and bad, and whether what they say is true |
//! | [`world`] | the clock, the network, and what goes wrong |

pub(crate) mod computer;
pub(crate) mod host;
mod operator;
pub(crate) mod scenario;
pub(crate) mod truth;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use firmcast::time::Time;
use scenario::Scenario;
use world::{Summary, World};

use crate::TWICE_EVERY;

/// Runs one seed and prints all that happens. Returns whether all is well.
pub(crate) fn look_into(seed: u64) -> bool {
    println!("{:#?}", Scenario::of(seed));
    let result = run(seed, true);
    println!("seed {seed}: {result:#?}");
    result.is_ok()
}

/// Runs the seeds and prints what was found. Returns whether all is well.
pub(crate) fn run_all(seeds: Range<u64>) -> bool {
    println!("simulator: seeds {} to {}", seeds.start, seeds.end - 1);
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
    let (mut passed, mut failed) = (0, 0);
    let (mut steps, mut virtual_s, mut rescues) = (0, 0, 0);
    let mut ends = BTreeMap::<_, u64>::new();
    for (seed, result) in inbox {
        match result {
            Ok(summary) => {
                passed += 1;
                steps += summary.steps;
                virtual_s += summary.virtual_time.as_secs();
                rescues += summary.rescues;
                for (reason, count) in summary.ends {
                    *ends.entry(reason).or_default() += count;
                }
            }
            Err(violation) => {
                failed += 1;
                println!("FAILED seed {seed}: {violation}\n  again: make test-sim SEED={seed}");
            }
        }
    }
    let (hours, elapsed_s) = (virtual_s / 3600, started.elapsed().as_secs());
    let ends: Vec<String> =
        ends.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    println!("ends that managers saw: {}", ends.join(", "));
    println!(
        "{rescues} hosts were left damaged by chips that failed for too long, and did not reboot"
    );
    println!("{steps} steps, {hours} virtual hours in {elapsed_s} s");
    println!("{passed} passed, {failed} failed");
    failed == 0
}

fn run_checked(seed: u64) -> Result<Summary, String> {
    let summary = run(seed, false)?;
    if seed % TWICE_EVERY == 3 {
        let again = run(seed, false)?;
        if again != summary {
            return Err(format!(
                "it goes another way the second time: {summary:?}, then {again:?}"
            ));
        }
    }
    Ok(summary)
}

/// Runs one world; a panic in the code under test is a failure like any other.
fn run(seed: u64, verbose: bool) -> Result<Summary, String> {
    let mut now = Time::ZERO;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(Scenario::of(seed), verbose);
        let result = world.run();
        now = world.now;
        result
    }));
    let at = |violation| format!("at {:.3} s: {violation}", now.as_micros() as f64 / 1e6);
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "a panic, see above".into()))
    })
    .map_err(at)
}
