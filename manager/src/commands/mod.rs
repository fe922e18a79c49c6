//! The command line: global options, and one file for each subcommand. Imports `driver` and the
//! library.

mod backup;
mod bundle;
mod campaign;
mod discover;
mod drill;
mod history;
mod key;
mod sending;
mod serve;
mod status;
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use firmcast_manager::store::state;

/// Replaces and rescues the firmware of many networked computers at once.
///
/// Exit status: 0 when everything asked for was done, 1 on any failure, 2 on wrong usage; firmcast
/// update and firmcast drill also have 3 when nothing was started, firmcast bundle diff has 1 when
/// something differs and 2 on any failure.
#[derive(Debug, Parser)]
#[command(name = "firmcast", version)]
pub(crate) struct Cli {
    /// Keep the manager's key, inventory and campaign records in DIR
    /// [default: /var/lib/firmcast-manager for root, else $XDG_STATE_HOME/firmcast]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys
    Key(key::KeyArgs),
    /// Make and inspect signed bundles
    Bundle(bundle::BundleArgs),
    /// List the hosts that answer, and keep them in the inventory
    Discover(discover::DiscoverArgs),
    /// Replace the firmware of hosts
    Update(update::UpdateArgs),
    /// Do everything that an update does up to the first change, and come home
    Drill(drill::DrillArgs),
    /// Answer dead hosts that ask for help, until stopped
    Serve(serve::ServeArgs),
    /// Show what the service for dead hosts is doing
    Status(status::StatusArgs),
    /// List the backups of hosts, and make bundles that restore them
    Backup(backup::BackupArgs),
    /// List all campaigns, and what became of each
    History(history::HistoryArgs),
    #[cfg(feature = "pages")]
    #[command(hide = true)]
    Pages(crate::pages::PagesArgs),
}

impl Cli {
    /// Does what the command line says.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let state = self.state;
        match self.command {
            Command::Key(args) => args.run(|| state_dir(state)),
            Command::Bundle(args) => args.run(|| state_dir(state)),
            Command::Discover(args) => args.run(&state_dir(state)?),
            Command::Update(args) => Ok(args.run(&state_dir(state)?)),
            Command::Drill(args) => Ok(args.run(&state_dir(state)?)),
            Command::Serve(args) => args.run(&state_dir(state)?),
            Command::Status(args) => args.run(&state_dir(state)?),
            Command::Backup(args) => args.run(&state_dir(state)?),
            Command::History(args) => args.run(&state_dir(state)?),
            #[cfg(feature = "pages")]
            Command::Pages(args) => {
                args.run(<Self as clap::CommandFactory>::command())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The state directory: as given, else the default for this user.
fn state_dir(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    given
        .or_else(state::default_dir)
        .context("no state directory: neither XDG_STATE_HOME nor HOME is set; give --state DIR")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_update_without_hosts_is_told_of_both_ways_to_name_them() {
        let usage = |words: &[&str]| {
            let words = [&["firmcast", "update", "--bundle", "b"], words].concat();
            Cli::try_parse_from(words).map(drop).map_err(|error| error.to_string())
        };
        let told = usage(&[]).unwrap_err();
        assert!(told.contains("--host") && told.contains("--all"), "{told}");
        assert!(usage(&["--all", "--host", "h"]).is_err());
        assert!(usage(&["--all"]).is_ok() && usage(&["--host", "a", "b"]).is_ok());
    }
}
