//! `firmcast-fleet`: rollouts over fleets, from the command line.

mod commands;
#[cfg(feature = "pages")]
mod pages;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    commands::Cli::parse().run().unwrap_or_else(|error| {
        commands::terminal::complain(&error);
        ExitCode::FAILURE
    })
}
