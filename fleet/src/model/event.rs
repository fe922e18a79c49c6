use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{RolloutId, Stamp};

/// Number of an event in its store; they grow.
pub type EventId = i64;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A rollout was created.
    Created,
    /// A rollout has another state.
    State,
    /// A wave has another state.
    Wave,
    /// Somebody approved a wave.
    Approved,
    /// A worker began with a host.
    Claimed,
    /// A host reached another stage.
    Stage,
    /// A host ended.
    Ended,
    /// A confirmed host was looked at after the soak time; told when the look comes to something
    /// else than the one before.
    Looked,
    /// A lease ran out: another worker takes over.
    LeaseLost,
    /// A worker fetches a bundle for its site, has it, or cannot have it.
    Bundle,
    /// A host that was claimed was not touched, as its rollout does not run any more, or its worker
    /// had to end its `drain`: it is planned again, or skipped.
    PutBack,
    /// `undrain` failed for a host.
    UndrainFailed,
    /// A dead host calls for help.
    Called,
    /// A dead host has repaired itself, and starts its firmware.
    Rescued,
    /// A try to rescue a dead host failed.
    RescueFailed,
    /// A dead host is left alone: it failed, or came back, too often.
    Parked,
}

impl EventKind {
    /// Says whether it is one of the many steps of a single host, which few want to be told of.
    pub fn is_step(self) -> bool {
        matches!(self, Self::Claimed | Self::Stage)
    }
}

/// Something that happened. Events are never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number.
    pub id: EventId,
    /// When.
    pub at: Stamp,
    /// The rollout, if it is about one.
    pub rollout: Option<RolloutId>,
    /// The host, if it is about one.
    pub host: Option<String>,
    /// Who did it: a person, a worker.
    pub by: String,
    /// What.
    pub kind: EventKind,
    /// Details, for a person.
    pub detail: String,
}
