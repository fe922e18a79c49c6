//! What the store is asked for, and what it answers, beyond the model.
//!
//! | file | what it has |
//! | --- | --- |
//! | `bundles.rs` | the chunks of bundles |
//! | `calls.rs` | dead hosts that call for help |
//! | `creation.rs` | a rollout to be created |
//! | `changes.rs` | changes of states, approvals; which of them are done |
//! | `retries.rs` | other tries for what failed |
//! | `claims.rs` | what workers ask for and report |
//! | `foresights.rs` | how long updates take |
//! | `drains.rs` | the steps of drain programs |
//! | `looks.rs` | looks at confirmed hosts |
//! | `survey.rs` | all of the store, counted |

mod bundles;
mod calls;
mod changes;
mod claims;
mod creation;
mod drains;
mod foresights;
mod looks;
mod retries;
mod survey;

use super::error::StoreError;
use crate::model::{Attempt, AttemptId, AttemptState, EventId, Rollout, RolloutId, Wave};
use crate::rollout::limits::Limits;

pub use bundles::{CHUNK_BYTES, LACKING_MAX, chunks};
pub(super) use bundles::{check_chunk, check_lacking, check_whole, needs_release};
pub use calls::{CALL_KEPT_US, CALLS_MAX};
pub(super) use calls::{check_calls, kept_call, last_heard, told_call};
pub use changes::{Changed, SignedApproval, StateChange, WaveChange};
pub(super) use changes::{forgives, halted};
pub(super) use claims::lease_lost;
pub use claims::{CLAIM_MAX, Claim, ClaimRequest, OPEN_MAX, Open, Outcome, RENEW_MAX};
pub use creation::{ATTEMPTS_MAX, DOMAINS_MAX, NewAttempt, NewRollout, NewWave, WAVES_MAX};
pub(super) use creation::{Cohort, Frozen, Placed};
pub use drains::DrainStep;
pub(super) use drains::{check_held, put_back_state, told_put_back};
pub use foresights::FORESIGHTS_AT_ONCE_MAX;
pub(super) use foresights::{board_times, in_order};
pub use looks::{LOOKS_MAX, LookRequest};
pub(super) use looks::{check_look, judge_look, last_look, sick_detail, told_look};
pub(super) use retries::{RETRIED, told_retry};
pub use retries::{Replanned, Retry};
pub use survey::{
    Calling, SURVEYED_MAX, Survey, Surveyed, Tally, WEBHOOKS_MAX, WORKER_KEPT_US, WORKERS_MAX,
};

pub(super) use survey::{calling, is_open};

/// Maximum number of hosts that one call puts.
pub const HOSTS_AT_ONCE_MAX: usize = 200_000;
/// Maximum number of rows that one call returns.
pub const PAGE_MAX: usize = 10_000;

/// A rollout with its waves and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutWaves {
    /// The rollout.
    pub rollout: Rollout,
    /// Its waves, in their order.
    pub waves: Vec<Wave>,
    /// Its limits.
    pub limits: Limits,
}

/// How many attempts of a rollout are where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// The wave, from 0.
    pub wave: u32,
    /// The site.
    pub site: String,
    /// What became of them so far.
    pub state: AttemptState,
    /// How many.
    pub attempts: u64,
    /// How many of them were seen healthy after the soak time.
    pub healthy: u64,
}

/// Which events are looked back at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookBack<'a> {
    /// Only events before this one; [`EventId::MAX`] for the newest.
    pub before: EventId,
    /// Only events about this rollout.
    pub rollout: Option<RolloutId>,
    /// Only events about this host.
    pub host: Option<&'a str>,
}

impl LookBack<'_> {
    /// From the newest event on, whatever it is about.
    pub const ALL: Self = Self { before: EventId::MAX, rollout: None, host: None };
}

/// Where a page of attempts begins: after this place. Of attempts in one place the later retry
/// comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The wave.
    pub wave: u32,
    /// The place in it.
    pub position: u32,
    /// The attempt.
    pub id: AttemptId,
}

impl From<&Attempt> for Place {
    fn from(attempt: &Attempt) -> Self {
        Self { wave: attempt.wave, position: attempt.position, id: attempt.id }
    }
}

/// The error for something that is not there.
pub(super) fn unknown(what: &'static str, name: impl ToString) -> StoreError {
    StoreError::Unknown { what, name: name.to_string() }
}
