//! `firmcast bundle`: make and inspect signed bundles.

mod create;
mod diff;
mod doubts;
mod file;
mod learned;
mod open;
mod parts;
mod policy;
mod show;
mod sign;
mod try_on;
mod variables;
mod wrapped;

use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) use file::{Readers, ensure_absent, read_bundle, write_new};
pub(crate) use learned::write_learned;
pub(crate) use open::{Opened, open, pieces, trusted};
pub(crate) use sign::sign;
pub(crate) use variables::{NO_VARIABLE_STORE, tell_if_no_variable_store};

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    #[command(subcommand)]
    command: BundleCommand,
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Make a signed bundle of a firmware image, and say which hosts it is for
    Create(Box<create::CreateArgs>),
    /// Show what a bundle contains, and whether a trusted key signed it
    Show(show::ShowArgs),
    /// Tell what an update would change on a chip whose contents are in a file, or on the hosts
    /// that gave their backups; nothing is sent to anybody
    Try(Box<try_on::TryArgs>),
    /// Show what differs between two bundles, or images of whole chips
    ///
    /// Exit status: 0 when nothing differs, 1 when something does, 2 on any failure.
    Diff(diff::DiffArgs),
}

impl BundleArgs {
    pub(crate) fn run(
        self,
        state: impl FnOnce() -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<ExitCode> {
        match self.command {
            BundleCommand::Create(args) => args.run(),
            BundleCommand::Show(args) => args.run(),
            BundleCommand::Try(args) => args.run(state),
            BundleCommand::Diff(args) => Ok(args.run()),
        }
    }
}

/// Returns why nothing is said of the image in a bundle that this key claims to have signed.
fn needs_trust(signer: &str) -> String {
    format!(
        "nothing of an image is looked at before its signature is checked; it claims release key \
         {signer}: give --trust RELEASE.pub"
    )
}
