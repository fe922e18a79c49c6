//! `firmcast`: the manager's command line. `commands` is what one types, `driver` does the I/O.

// Only a thread of its own may wait for a reader.
#![deny(clippy::print_stderr)]

mod commands;
mod driver;
#[cfg(feature = "pages")]
mod pages;

use std::process::ExitCode;

use clap::Parser as _;
use driver::stderr;

fn main() -> ExitCode {
    let code = commands::Cli::parse().run().unwrap_or_else(|error| {
        stderr::tell(format_args!("{error:#}"));
        ExitCode::FAILURE
    });
    stderr::wait();
    code
}
