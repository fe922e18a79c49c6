use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Stamp;

/// Number of a rollout in its store.
pub type RolloutId = i64;

/// What a rollout does now; the words are those of hawkBit.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    /// Created: the hosts are frozen, nobody is touched.
    Ready,
    /// Started, and waits for its first window.
    Scheduled,
    /// Hosts are being updated, or waited for.
    Running,
    /// No host begins; those that have begun go on. It can be resumed.
    Paused,
    /// Every host has ended.
    Finished,
    /// Aborted, by a person or by a limit that says *stop*.
    Error,
}

/// A wave of a rollout.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WaveState {
    /// Waits for the wave before it.
    Waiting,
    /// The wave before it is done; a person has to approve this one.
    AwaitsApproval,
    /// Its hosts may begin.
    Running,
    /// Every host has ended; it is watched for as long as the rollout says.
    Soaking,
    /// The soak time is over: each confirmed host is looked at.
    Looking,
    /// Over.
    Finished,
}

/// How a wave begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// By itself, after the soak time of the wave before it.
    Automatic,
    /// When somebody else than who created the rollout has signed that it may.
    Person,
}

/// One release for a frozen set of hosts, wave by wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// Its number.
    pub id: RolloutId,
    /// Its name, unique in the store.
    pub name: String,
    /// Digest of the release.
    pub release: String,
    /// The file that it was created from, as it was.
    pub file: String,
    /// SHA-256 over the frozen hosts, waves and order, 64 hexadecimal digits.
    pub plan_digest: String,
    /// What it does now.
    pub state: RolloutState,
    /// Why, in words; empty where that is plain.
    pub reason: String,
    /// Who created it.
    pub created_by: String,
    /// When.
    pub created_at: Stamp,
    /// Grows with each change: two people who act at once are told from each other by it.
    pub revision: i64,
}

/// A part of a rollout's hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wave {
    /// Its place in the order, from 0.
    pub number: u32,
    /// Its name in the file.
    pub name: String,
    /// What it does now.
    pub state: WaveState,
    /// How it begins.
    pub approval: Approval,
    /// How long it is watched after its last host ended, in seconds.
    pub soak_s: u32,
    /// Since when it has been in this state.
    pub since: Stamp,
}
