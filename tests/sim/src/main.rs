//! `firmcast-sim [--seeds N] [--first N] [--flash-seeds N] [--seed N] [--flash-seed N]`: hosts,
//! managers, a faulty network and faulty flash under one virtual clock, and the flash engine alone
//! against chips that break at every operation.
//!
//! Everything random comes from a seed, so each world can be run again: `--seed N` does so with
//! every line of what happened, `--flash-seed N` does it for a chip. [`update`] has campaigns of a
//! person, [`rescue`] dead hosts, [`flash`] chips. [`sockets`] is something else: hosts of
//! [`update`] under the real clock, for real managers.

mod chance;
mod chip;
mod division;
mod dump;
mod engine;
mod flash;
mod network;
mod outbox;
mod rescue;
mod runner;
mod sockets;
mod trace;
mod update;

use std::process::ExitCode;

use flash::Chips;
use rescue::Rescue;
use runner::{look_into, run_all};
use update::Update;

const SEEDS_DEFAULT: u64 = 200;
const FLASH_SEEDS_DEFAULT: u64 = 400;
const RESCUE_SEEDS_DEFAULT: u64 = 100;

#[global_allocator]
static ALLOCATOR: rescue::memory::Counting = rescue::memory::Counting;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("sockets", words)) = words.split_first().map(|(kind, rest)| (kind.as_str(), rest))
    {
        return sockets::run(words);
    }
    let options = match Options::parse(words.into_iter()) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!(
                "{problem}\nusage: firmcast-sim [--seeds N] [--flash-seeds N] [--rescue-seeds N] \
                 [--first N] | --seed N | --flash-seed N | --rescue-seed N | --power-failure BYTES \
                 [--loss-percent N] [--hosts N] | sockets"
            );
            return ExitCode::from(2);
        }
    };
    let exit = |is_well: bool| ExitCode::from(u8::from(!is_well));
    match options {
        Options { only: Some(seed), .. } => exit(look_into::<Update>(seed)),
        Options { only_flash: Some(seed), .. } => exit(look_into::<Chips>(seed)),
        Options { only_rescue: Some(seed), .. } => exit(look_into::<Rescue>(seed)),
        Options { power_failure: Some(chip_bytes), .. } => {
            let loss = options.loss_percent as f64 / 100.0;
            exit(rescue::power_failure(options.hosts, chip_bytes, loss))
        }
        _ => run_every_kind(&options),
    }
}

fn run_every_kind(options: &Options) -> ExitCode {
    let seeds = |count| options.first..options.first + count;
    let well = [
        run_all::<Chips>(seeds(options.flash_seeds)),
        run_all::<Rescue>(seeds(options.rescue_seeds)),
        run_all::<Update>(seeds(options.seeds)),
    ];
    ExitCode::from(u8::from(well.contains(&false)))
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
    loss_percent: u64,
    hosts: usize,
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
            loss_percent: 1,
            hosts: rescue::POWER_FAILURE_HOSTS,
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
                "--loss-percent" => options.loss_percent = number,
                "--hosts" => options.hosts = number as usize,
                "--flash-seed" => options.only_flash = Some(number),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }
}
