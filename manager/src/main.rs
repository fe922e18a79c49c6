//! `firmcast`: the manager's command line.

mod bundle;
mod cli;
mod key;
mod output;

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
