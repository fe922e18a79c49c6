//! The command line: global options, and one file for each subcommand.

mod calls;
mod events;
mod firmcast;
mod hosts;
mod metrics;
mod people;
mod release;
mod rollout;
mod shelf;
pub(crate) mod terminal;
mod top;
mod web;
mod webhook;
mod webhooks;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use firmcast_fleet::model::Stamp;
use firmcast_fleet::store::{Backup, PostgresStore, SqliteStore, Store, StoreError};
use firmcast_manager::clock::unix_micros;
use ring::rand::SecureRandom as _;

use shelf::Shelf;

/// Where the state is kept without `--state`.
const STATE_DEFAULT: &str = "/var/lib/firmcast-fleet";

/// Rolls out firmware over fleets of computers, wave by wave.
///
/// Exit status: 0 when everything asked for was done, 1 on any failure, 2 on wrong usage.
#[derive(Debug, Parser)]
#[command(name = "firmcast-fleet", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where things are kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Keep the store, if it is a file, and the bundles in DIR
    #[arg(
        long, global = true, value_name = "DIR", default_value = STATE_DEFAULT,
        env = "FIRMCAST_FLEET_STATE"
    )]
    state: PathBuf,
    /// Keep the bundles in DIR, which the machines of a site may share [default: bundles in the
    /// state directory]
    #[arg(long, global = true, value_name = "DIR", env = "FIRMCAST_FLEET_SHELF")]
    shelf: Option<PathBuf>,
    /// Keep what the fleet's programs know in the PostgreSQL database at URL, for example
    /// postgres://fleet@localhost/fleet, instead of a file
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "FIRMCAST_FLEET_STORE",
        hide_env_values = true
    )]
    store: Option<String>,
    /// There is a backup of the PostgreSQL database, made by pg_dump: its schema may be changed to
    /// that of this version
    #[arg(long, global = true)]
    have_backup: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the computers of the fleet, and take them over from other lists
    Hosts(hosts::HostsArgs),
    /// List the releases, add bundles to them, and remove them
    Release(release::ReleaseArgs),
    /// Plan, start and follow rollouts
    Rollout(rollout::RolloutArgs),
    /// Update the hosts of a site that may begin, until stopped
    Work(work::WorkArgs),
    /// Show what happens, on the whole screen of a terminal
    Top(top::TopArgs),
    /// List the dead hosts that call for help
    Calls(calls::CallsArgs),
    /// Show what happened
    Events(events::EventsArgs),
    /// Write what Prometheus would read of the store
    Metrics(metrics::MetricsArgs),
    /// Say who may act on the page and by the API
    People(people::PeopleArgs),
    /// Show the fleet in a browser, until stopped
    Web(web::WebArgs),
    /// Have events sent to others over HTTP
    Webhook(webhook::WebhookArgs),
    /// Deliver events to the webhooks, until stopped
    Webhooks(webhooks::WebhooksArgs),
    #[cfg(feature = "pages")]
    #[command(hide = true)]
    Pages(crate::pages::PagesArgs),
}

impl Cli {
    /// Does what the command line says.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Hosts(args) => args.run(&self.place),
            Command::Release(args) => args.run(&self.place),
            Command::Rollout(args) => args.run(&self.place),
            Command::Work(args) => args.run(&self.place),
            Command::Top(args) => args.run(&self.place),
            Command::Calls(args) => args.run(&self.place),
            Command::Events(args) => args.run(&self.place),
            Command::Metrics(args) => args.run(&self.place),
            Command::People(args) => args.run(&self.place),
            Command::Web(args) => args.run(&self.place),
            Command::Webhook(args) => args.run(&self.place),
            Command::Webhooks(args) => args.run(&self.place),
            #[cfg(feature = "pages")]
            Command::Pages(args) => {
                args.run(<Self as clap::CommandFactory>::command())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Place {
    fn state(&self) -> &Path {
        &self.state
    }

    /// The bundles of this machine.
    fn shelf(&self) -> Shelf {
        Shelf::at(self.shelf.clone().unwrap_or_else(|| self.state.join("bundles")))
    }

    /// Opens the store.
    fn store(&self) -> anyhow::Result<Box<dyn Store>> {
        if self.store.is_some() {
            return self.open().context("cannot open the store in PostgreSQL");
        }
        std::fs::create_dir_all(&self.state)
            .with_context(|| format!("cannot create {}", self.state.display()))?;
        // Of a directory that is closed the database would only say that it cannot open a file.
        std::fs::read_dir(&self.state).with_context(|| {
            let state = self.state.display();
            format!("cannot use {state}: be somebody of its group, or name another one by --state")
        })?;
        self.open().with_context(|| format!("cannot open the store in {}", self.state.display()))
    }

    /// Opens the store, where its directory is there.
    fn open(&self) -> Result<Box<dyn Store>, StoreError> {
        let Some(url) = &self.store else { return Ok(Box::new(SqliteStore::open(&self.state)?)) };
        let backup = match self.have_backup {
            true => Backup::Confirmed,
            false => Backup::Unconfirmed,
        };
        Ok(Box::new(PostgresStore::open(url, backup)?))
    }
}

/// Now, as the store keeps it.
fn now() -> Stamp {
    i64::try_from(unix_micros(SystemTime::now())).unwrap_or(i64::MAX)
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| anyhow::anyhow!("the system gives no random bytes; try again"))?;
    Ok(bytes)
}

/// A number that others do not have at the same time; it keeps no secret.
fn chance() -> u16 {
    random().map_or(0, u16::from_le_bytes)
}
