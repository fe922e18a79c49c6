//! `firmcast-sim [--seeds N] [--first N] [--flash-seeds N] [--seed N] [--flash-seed N]`: hosts, managers, a faulty network and
//! faulty flash under one virtual clock, and the flash engine alone against chips that break at every operation.
//!
//! Everything random comes from a seed, so each world can be run again: `--seed N` does so with every line of what happened,
//! `--flash-seed N` does it for a chip. See [`world`] for the worlds, [`host`] and [`operator`] for the invariants, [`scenario`] for
//! what goes wrong in a seed, [`flash`] for the chips.

mod chance;
mod computer;
mod flash;
mod host;
mod network;
mod operator;
mod rescue;
mod scenario;
mod trace;
mod truth;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use scenario::Scenario;
use world::{Summary, World};

const SEEDS_DEFAULT: u64 = 200;
const FLASH_SEEDS_DEFAULT: u64 = 400;
const RESCUE_SEEDS_DEFAULT: u64 = 100;
/// Every tenth seed is run twice, to see that it goes the same way.
pub(crate) const TWICE_EVERY: u64 = 10;

#[global_allocator]
static ALLOCATOR: rescue::memory::Counting = rescue::memory::Counting;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!(
                "{problem}\nusage: firmcast-sim [--seeds N] [--flash-seeds N] [--rescue-seeds N] [--first N] | --seed N | --flash-seed N | --rescue-seed N | --power-failure BYTES"
            );
            return ExitCode::from(2);
        }
    };
    let exit = |is_well: bool| ExitCode::from(u8::from(!is_well));
    match options {
        Options { only: Some(seed), .. } => look_into(seed),
        Options { only_flash: Some(seed), .. } => exit(flash::look_into(seed)),
        Options { only_rescue: Some(seed), .. } => exit(rescue::look_into(seed)),
        Options { power_failure: Some(chip_bytes), .. } => exit(rescue::power_failure(chip_bytes)),
        _ => run_every_kind(&options),
    }
}

fn run_every_kind(options: &Options) -> ExitCode {
    let seeds = |count| options.first..options.first + count;
    let flash_is_well = options.flash_seeds == 0 || flash::run_all(seeds(options.flash_seeds));
    let rescue_is_well = options.rescue_seeds == 0 || rescue::run_all(seeds(options.rescue_seeds));
    let worlds = match options.seeds {
        0 => ExitCode::SUCCESS,
        count => run_all(seeds(count)),
    };
    if flash_is_well && rescue_is_well { worlds } else { ExitCode::FAILURE }
}

struct Options {
    seeds: u64,
    first: u64,
    flash_seeds: u64,
    rescue_seeds: u64,
    only: Option<u64>,
    only_flash: Option<u64>,
    only_rescue: Option<u64>,
    power_failure: Option<usize>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seeds: SEEDS_DEFAULT,
            first: 0,
            flash_seeds: FLASH_SEEDS_DEFAULT,
            rescue_seeds: RESCUE_SEEDS_DEFAULT,
            only: None,
            only_flash: None,
            only_rescue: None,
            power_failure: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a number"))?;
            let number =
                value.parse().map_err(|_| format!("{name} needs a number, got {value:?}"))?;
            match name.as_str() {
                "--seeds" => options.seeds = number,
                "--first" => options.first = number,
                "--flash-seeds" => options.flash_seeds = number,
                "--seed" => options.only = Some(number),
                "--rescue-seeds" => options.rescue_seeds = number,
                "--rescue-seed" => options.only_rescue = Some(number),
                "--power-failure" => options.power_failure = usize::try_from(number).ok(),
                "--flash-seed" => options.only_flash = Some(number),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }
}

/// Runs one seed and prints all that happens.
fn look_into(seed: u64) -> ExitCode {
    println!("{:#?}", Scenario::of(seed));
    let result = run(seed, true);
    println!("seed {seed}: {result:#?}");
    ExitCode::from(u8::from(result.is_err()))
}

fn run_all(seeds: std::ops::Range<u64>) -> ExitCode {
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

fn report(inbox: mpsc::Receiver<(u64, Result<Summary, String>)>, started: Instant) -> ExitCode {
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
    ExitCode::from(u8::from(failed > 0))
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
    let mut now = firmcast::time::Time::ZERO;
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
