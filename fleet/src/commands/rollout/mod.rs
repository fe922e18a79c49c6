//! `firmcast-fleet rollout`: from the file to the last wave.

mod deeds;
mod planning;
mod showing;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use firmcast_fleet::deeds::Deed;

use super::Place;

#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show whom a rollout file would touch, in which wave and order, how long that takes, and what
    /// each limit does; nothing is kept
    Plan {
        /// The rollout's file
        file: PathBuf,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Freeze what the plan shows, without starting it
    Create {
        /// The rollout's file
        file: PathBuf,
        /// Only if the plan still has this digest, as rollout plan showed it
        #[arg(long, value_name = "DIGEST")]
        plan: Option<String>,
    },
    /// Let workers begin with the hosts that were frozen; a second start changes nothing
    Start(Named),
    /// Sign that a wave may begin which waits for a person; early approvals count
    Approve {
        #[command(flatten)]
        named: Named,
        /// The wave's name
        wave: String,
        /// Your own manager key, which workers were told by --approver
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Sign as for approve, without a store, and write the JSON that the HTTP API takes
    Sign {
        /// The wave's name
        wave: String,
        /// Digest of the plan that you looked at
        #[arg(long, value_name = "DIGEST")]
        plan: String,
        /// Your own manager key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Let no further host begin; those that have begun go on
    Pause(Explained),
    /// Let hosts begin again; the limits of failures count anew
    Resume(Named),
    /// End a rollout: hosts that have not begun are skipped, those that have go on
    Abort(Explained),
    /// Plan the hosts again that failed
    Retry(Named),
    /// List all rollouts
    List {
        /// Write JSON, one rollout in each line
        #[arg(long)]
        json: bool,
    },
    /// Show a rollout, wave by wave
    Show {
        #[command(flatten)]
        named: Named,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// The rollout's name
    name: String,
}

#[derive(Debug, Args)]
struct Explained {
    #[command(flatten)]
    named: Named,
    /// Why, for those who look at it later
    #[arg(long, value_name = "WORDS", default_value = "")]
    because: String,
}

impl RolloutArgs {
    /// Does what the command line says.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        if let Command::Plan { file, json } = &self.command {
            planning::show(place.store()?.as_mut(), file, *json)?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Command::Sign { wave, plan, key } = &self.command {
            deeds::sign(wave, plan, key)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut store = place.store()?;
        let store = store.as_mut();
        match self.command {
            Command::Plan { .. } | Command::Sign { .. } => {}
            Command::Create { file, plan } => planning::create(store, &file, plan.as_deref())?,
            Command::Approve { named, wave, key } => {
                deeds::approve(store, &named.name, &wave, &key)?;
            }
            Command::Start(named) => deeds::carry_out(store, Deed::Start, &named.name, "")?,
            Command::Pause(Explained { named, because }) => {
                deeds::carry_out(store, Deed::Pause, &named.name, &because)?;
            }
            Command::Resume(named) => deeds::carry_out(store, Deed::Resume, &named.name, "")?,
            Command::Abort(Explained { named, because }) => {
                deeds::carry_out(store, Deed::Abort, &named.name, &because)?;
            }
            Command::Retry(named) => deeds::carry_out(store, Deed::Retry, &named.name, "")?,
            Command::List { json } => showing::list(store, json)?,
            Command::Show { named, json } => showing::show(store, &named.name, json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
