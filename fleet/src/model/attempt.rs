use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{RolloutId, Stamp};

/// Number of an attempt in its store.
pub type AttemptId = i64;

/// The stage of a host for which `drain` runs.
pub const DRAINING: &str = "draining";

/// The stage of a host for which `undrain` runs.
pub const UNDRAINING: &str = "undraining";

/// What became of an attempt so far.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptState {
    /// Nobody has begun.
    Planned,
    /// A worker holds a lease on it. A host has at most one of these, in all rollouts together.
    InFlight,
    /// The new firmware was seen after the boot.
    Confirmed,
    /// Ended otherwise, or was confirmed and is not healthy; the reason says how.
    Failed,
    /// Will not be tried: the rollout was aborted before.
    Skipped,
}

/// What the last look at a confirmed host came to, after the soak time of its wave.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It answers, and has the version and the digest as signed.
    Healthy,
    /// It has not, or was not seen so in time: it counts as failed.
    Sick,
    /// It did not answer, or could not tell: it is looked at again.
    Unclear,
}

/// How far the programs of `[drain]` and `[undrain]` are with a host.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Drain {
    /// `drain` was not started.
    NotStarted,
    /// `drain` was started: `undrain` is due when the host has ended.
    Started,
    /// The host has ended, and is in flight until `undrain` has; the attempt says what it came to.
    Undraining,
    /// `undrain` ended well, or the rollout has none.
    Undrained,
    /// `undrain` failed, or took too long: the host may get no load.
    UndrainFailed,
}

/// A look at a confirmed host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Look {
    /// What it came to.
    pub health: Health,
    /// When.
    pub at: Stamp,
    /// Name of the reason ([`firmcast::reason::Reason`]).
    pub reason: String,
    /// Details for a person.
    pub detail: String,
}

/// One try to update one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Its number.
    pub id: AttemptId,
    /// The rollout.
    pub rollout: RolloutId,
    /// The wave, from 0.
    pub wave: u32,
    /// The place in the wave's order, from 0.
    pub position: u32,
    /// Name of the host.
    pub host: String,
    /// The host's site when the rollout was frozen.
    pub site: String,
    /// The longest time that the update is predicted to take, in seconds.
    pub predicted_s: u32,
    /// How often the host was tried before in this rollout.
    pub retry: u32,
    /// What became of it.
    pub state: AttemptState,
    /// The stage that its worker told last, by its name in firmcast's table, or [`DRAINING`] or
    /// [`UNDRAINING`]; none before the first.
    pub stage: Option<String>,
    /// The worker that holds the lease, or held it last.
    pub worker: Option<String>,
    /// Until when the lease holds: on the host that is in flight, or on the look at it.
    pub lease_until: Option<Stamp>,
    /// Name of the reason it ended with ([`firmcast::reason::Reason`]).
    pub reason: Option<String>,
    /// What that says about the flash, as one word ([`firmcast::reason::FlashState::word`]).
    pub flash: Option<String>,
    /// Details for a person.
    pub detail: String,
    /// When it began.
    pub started_at: Option<Stamp>,
    /// When it ended.
    pub ended_at: Option<Stamp>,
    /// How far its drain programs are.
    pub drain: Drain,
    /// The last look at it, once it was confirmed.
    pub look: Option<Look>,
}
