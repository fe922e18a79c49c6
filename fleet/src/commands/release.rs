//! `firmcast-fleet release`: which bundles there are.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use firmcast_fleet::model::Release;
use firmcast_fleet::store::requests::Changed;
use firmcast_fleet::store::{Store, all_releases};

use super::shelf::Found;
use super::terminal::{columns, say, shown};
use super::{Place, now};

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep a signed bundle, and let rollouts name it
    Add {
        /// The bundle's file, made by firmcast bundle create
        bundle: PathBuf,
    },
    /// List all releases
    List {
        /// Write JSON, one release in each line
        #[arg(long)]
        json: bool,
    },
}

impl ReleaseArgs {
    /// Does what the command line says.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Add { bundle } => {
                let found = Found::read(&bundle)?;
                let mut store = place.store()?;
                found.keep(place.state())?;
                let added = store.add_release(&found.release(now()))?;
                let known = if added == Changed::Before { "; it was there already" } else { "" };
                let version = shown(found.manifest.version());
                say(&format!("release {} is version {version}{known}", found.digest));
            }
            Command::List { json } => list(place.store()?.as_mut(), json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(store: &mut dyn Store, json: bool) -> anyhow::Result<()> {
    let releases = all_releases(store)?;
    if json {
        for release in &releases {
            say(&serde_json::to_string(release)?);
        }
        return Ok(());
    }
    let head = ["DIGEST", "VERSION", "SECURITY", "FOR"].map(str::to_owned).to_vec();
    let row = |release: &Release| {
        let boards = format!("{} {}", release.vendor, release.products.join(", "));
        let version = shown(&release.version);
        let security = release.security_version.to_string();
        vec![
            release.digest[..16.min(release.digest.len())].to_owned(),
            version,
            security,
            shown(&boards),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(releases.iter().map(row)).collect();
    say(&columns(&rows));
    Ok(())
}
