//! `firmcast-fleet release`: which bundles there are.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use firmcast_fleet::model::Release;
use firmcast_fleet::store::requests::{CHUNK_BYTES, Changed};
use firmcast_fleet::store::{Store, all_releases};
use serde::Serialize;

use super::shelf::{Found, Shelf};
use super::terminal::{columns, say, shown};
use super::{Place, now};

/// Minimum number of digits that a digest may be shortened to.
const DIGEST_DIGITS_MIN: usize = 8;

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put a signed bundle into the store, and let rollouts name it; the workers of all sites fetch
    /// it from there
    Add {
        /// The bundle's file, made by firmcast bundle create
        bundle: PathBuf,
        /// Put it into the store again, where it is damaged there
        #[arg(long)]
        again: bool,
    },
    /// List all releases, and where their bundles are
    List {
        /// Write JSON, one release in each line
        #[arg(long)]
        json: bool,
    },
    /// Remove a bundle from the store and from this machine, unless a rollout needs it
    Remove {
        /// The release's digest, or its beginning, or its version
        release: String,
    },
}

impl ReleaseArgs {
    /// Does what the command line says.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let shelf = place.shelf();
        match self.command {
            Command::Add { bundle, again } => {
                let found = Found::read(&bundle)?;
                let mut store = place.store()?;
                shelf.hold()?.keep(&found)?;
                let added = store.add_release(&found.release(now()))?;
                let is_new = again || !store.has_bundle(&found.digest)?;
                if is_new {
                    put(store.as_mut(), &found)?;
                }
                let is_known = added == Changed::Before && !is_new;
                let known = if is_known { "; it was there already" } else { "" };
                let version = shown(found.manifest.version());
                say(&format!("release {} is version {version}{known}", found.digest));
            }
            Command::List { json } => list(place.store()?.as_mut(), &shelf, json)?,
            Command::Remove { release } => {
                let mut store = place.store()?;
                let Release { digest, version, .. } = chosen(store.as_mut(), &release)?;
                store.remove_release(&digest)?;
                let here =
                    if shelf.hold()?.remove(&digest)? { ", and from this machine" } else { "" };
                let version = shown(&version);
                say(&format!("release {digest}, version {version}, is removed{here}"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts a bundle into the store. What breaks off is not read by anybody, and the next try writes
/// over it.
fn put(store: &mut dyn Store, found: &Found) -> anyhow::Result<()> {
    for (number, chunk) in (0..).zip(found.file.chunks(CHUNK_BYTES)) {
        store.put_chunk(&found.digest, number, chunk)?;
    }
    store.close_bundle(&found.digest)?;
    Ok(())
}

/// The release of a digest, of the beginning of one, or of a version.
fn chosen(store: &mut dyn Store, wanted: &str) -> anyhow::Result<Release> {
    let digits = wanted.to_ascii_lowercase();
    let is_digest = digits.len() >= DIGEST_DIGITS_MIN;
    let mut releases = all_releases(store)?;
    releases.retain(|release| {
        (is_digest && release.digest.starts_with(&digits)) || release.version == wanted
    });
    match releases.len() {
        1 => Ok(releases.remove(0)),
        0 => bail!("there is no release {wanted:?}: firmcast-fleet release list shows them"),
        count => bail!("{count} releases are {wanted:?}: name one by its digest"),
    }
}

/// A release in the list.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    release: Release,
    /// Whether its bundle is in the store, and whole.
    in_store: bool,
    /// Whether it is on the shelf of this machine.
    on_shelf: bool,
}

fn list(store: &mut dyn Store, shelf: &Shelf, json: bool) -> anyhow::Result<()> {
    let mut listed = Vec::new();
    for release in all_releases(store)? {
        let in_store = store.has_bundle(&release.digest)?;
        let on_shelf = shelf.has(&release.digest);
        listed.push(Listed { release, in_store, on_shelf });
    }
    if json {
        for release in &listed {
            say(&serde_json::to_string(release)?);
        }
        return Ok(());
    }
    let head = ["DIGEST", "VERSION", "SECURITY", "BUNDLE", "FOR"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(listed.iter().map(row)).collect();
    say(&columns(&rows));
    Ok(())
}

fn row(Listed { release, in_store, on_shelf }: &Listed) -> Vec<String> {
    let place = match (in_store, on_shelf) {
        (true, true) => "store, here",
        (true, false) => "store",
        (false, true) => "here only",
        (false, false) => "missing",
    };
    vec![
        release.digest[..16.min(release.digest.len())].to_owned(),
        shown(&release.version),
        release.security_version.to_string(),
        place.to_owned(),
        shown(&format!("{} {}", release.vendor, release.products.join(", "))),
    ]
}
