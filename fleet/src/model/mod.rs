//! What a fleet consists of, and what is done to it. Plain data; the store keeps it.

mod attempt;
mod call;
mod event;
mod foresight;
mod host;
mod release;
mod rollout;
mod webhook;
mod worker;

pub use attempt::{Attempt, AttemptId, AttemptState, DRAINING, Drain, Health, Look, UNDRAINING};
pub use call::{Call, CallNews, CallTurn};
pub use event::{Event, EventId, EventKind};
pub use foresight::{BoardTimes, Foresight};
pub use host::{Host, LABEL_BYTES_MAX, LABELS_MAX, POWER, RACK, ROLE, SITE};
pub use release::Release;
pub use rollout::{Approval, Rollout, RolloutId, RolloutState, Wave, WaveState};
pub use webhook::{Delivery, Secret, TRIES_UNTIL_FAILING, Webhook, WebhookId};
pub use worker::Worker;

/// Microseconds since 1970, UTC.
pub type Stamp = i64;
