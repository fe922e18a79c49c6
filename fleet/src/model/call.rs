use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Stamp;

/// A dead host that calls for help, as the worker knows it that answers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Call {
    /// The host.
    pub host: String,
    /// The site whose worker answers it.
    pub site: String,
    /// The worker.
    pub worker: String,
    /// When the worker heard it first.
    pub since: Stamp,
    /// When it heard it last.
    pub heard_at: Stamp,
    /// Where the host calls from.
    pub address: String,
    /// What the host found of its firmware: `valid`, `invalid` or `unknown`; empty when it has not
    /// said so yet.
    pub finding: String,
    /// Why, in words.
    pub why: String,
    /// The stage of its rescue; `waiting` when it is in none.
    pub stage: String,
    /// Steps of the stage that are done.
    pub done: u32,
    /// Steps of the stage in all; 0 where it has none.
    pub total: u32,
    /// The version that it was brought last; empty before.
    pub version: String,
    /// How often it was tried to rescue it.
    pub attempts: u32,
    /// How often that failed.
    pub failures: u32,
    /// How often it was rescued within a day.
    pub rescues: u32,
    /// Whether it is left alone: it failed, or came back, too often.
    pub parked: bool,
    /// Whether several machines call with its key.
    pub conflict: bool,
    /// Why it is put off; empty when it is not.
    pub held: String,
    /// The reason with which the last try ended; empty before.
    pub last: String,
}

/// Something that happened to a dead host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallNews {
    /// The host.
    pub host: String,
    /// What.
    pub what: CallTurn,
    /// Details, for a person.
    pub detail: String,
}

/// What happened to a dead host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallTurn {
    /// It calls for help.
    Called,
    /// It has repaired itself with the release of this digest, and starts it.
    Rescued(String),
    /// A try to rescue it failed.
    Failed,
    /// It is left alone.
    Parked,
}

impl CallTurn {
    /// Says whether its chip may hold something else than before.
    pub fn may_have_changed(&self) -> bool {
        matches!(self, Self::Rescued(_) | Self::Failed)
    }
}
