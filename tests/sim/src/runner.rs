//! Runs the seeds of one kind of world, on all processors, and tells what came out.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use crate::engine::Violation;

/// Every tenth seed is run twice, to see that it goes the same way.
const TWICE_EVERY: u64 = 10;

/// One kind of world.
pub(crate) trait Kind {
    /// What a person calls it.
    const NAME: &'static str;
    /// The variable of `make test-sim` that runs one seed again.
    const VARIABLE: &'static str;
    /// What came out of one world, or of many together.
    type Summary: Default + fmt::Debug + fmt::Display + PartialEq + Send;

    /// Returns what a seed stands for, for a person.
    fn describe(seed: u64) -> String;

    /// Runs one world to its end, and prints what happens when somebody looks. A violation says
    /// when it was.
    fn run(seed: u64, verbose: bool) -> Result<Self::Summary, Violation>;

    fn add(all: &mut Self::Summary, one: Self::Summary);
}

/// Runs the seeds and prints what was found. Returns whether all is well.
pub(crate) fn run_all<K: Kind>(seeds: Range<u64>) -> bool {
    if seeds.is_empty() {
        return true;
    }
    println!("{}: seeds {} to {}", K::NAME, seeds.start, seeds.end - 1);
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
                    if seed >= end || results.send((seed, run_checked::<K>(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        report::<K>(inbox, started)
    })
}

fn report<K: Kind>(
    inbox: mpsc::Receiver<(u64, Result<K::Summary, Violation>)>,
    started: Instant,
) -> bool {
    let (mut all, mut passed, mut failed) = (K::Summary::default(), 0, 0);
    for (seed, result) in inbox {
        match result {
            Ok(summary) => {
                passed += 1;
                K::add(&mut all, summary);
            }
            Err(violation) => {
                failed += 1;
                let (name, variable) = (K::NAME, K::VARIABLE);
                println!(
                    "FAILED {name} seed {seed}: {violation}\n  again: make test-sim \
                     {variable}={seed}"
                );
            }
        }
    }
    println!("{all}");
    println!("{}: {passed} passed, {failed} failed in {} s", K::NAME, started.elapsed().as_secs());
    failed == 0
}

/// Runs one seed and prints all that happens. Returns whether all is well.
pub(crate) fn look_into<K: Kind>(seed: u64) -> bool {
    println!("{}", K::describe(seed));
    let result = run::<K>(seed, true);
    match &result {
        Ok(summary) => println!("{summary:#?}\n{} seed {seed} passed", K::NAME),
        Err(violation) => println!("FAILED {} seed {seed}: {violation}", K::NAME),
    }
    result.is_ok()
}

fn run_checked<K: Kind>(seed: u64) -> Result<K::Summary, Violation> {
    let summary = run::<K>(seed, false)?;
    if seed % TWICE_EVERY == 3 {
        let again = run::<K>(seed, false)?;
        if again != summary {
            return Err(format!(
                "it goes another way the second time: {summary:?}, then {again:?}"
            ));
        }
    }
    Ok(summary)
}

fn run<K: Kind>(seed: u64, verbose: bool) -> Result<K::Summary, Violation> {
    caught(|| K::run(seed, verbose))
}

/// Runs a world; a panic in the code under test is a violation like any other.
pub(crate) fn caught<S>(world: impl FnOnce() -> Result<S, Violation>) -> Result<S, Violation> {
    catch_unwind(AssertUnwindSafe(world)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "a panic, see above".into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds below five pass, five fails, six panics, and thirteen goes another way each time.
    struct Small;

    static RUNS: AtomicU64 = AtomicU64::new(0);

    impl Kind for Small {
        const NAME: &'static str = "small";
        const VARIABLE: &'static str = "SMALL_SEED";
        type Summary = u64;

        fn describe(seed: u64) -> String {
            format!("a small world, {seed}")
        }

        fn run(seed: u64, _: bool) -> Result<u64, Violation> {
            match seed {
                5 => Err("five".into()),
                6 => panic!("the code under test has a bug"),
                13 => Ok(RUNS.fetch_add(1, Ordering::Relaxed)),
                _ => Ok(1),
            }
        }

        fn add(all: &mut u64, one: u64) {
            *all += one;
        }
    }

    #[test]
    fn a_violation_a_panic_and_a_world_that_goes_another_way_fail() {
        assert!(run_all::<Small>(0..5) && run_all::<Small>(0..0));
        for seed in [5, 6, 13] {
            assert!(!run_all::<Small>(seed..seed + 1), "seed {seed}");
        }
        assert_eq!(run::<Small>(5, false), Err("five".into()));
        assert!(look_into::<Small>(1) && !look_into::<Small>(5));
    }
}
