//! `firmcast`: the manager's command line. `commands` is what one types, `driver` does the I/O.

mod commands;
mod driver;
#[cfg(feature = "pages")]
mod pages;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("firmcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
