//! `firmcast`: the manager's command line.

mod backup;
mod bundle;
mod cli;
mod discover;
mod display;
mod history;
mod key;
mod network;
mod output;
mod sender;
mod serve;
mod status;
mod targets;
mod update;
mod wait;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("firmcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
