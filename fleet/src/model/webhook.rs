use std::fmt;

use serde::{Deserialize, Serialize};

use super::{EventId, EventKind, Stamp};

/// Number of a webhook in its store. It is never given again: who delivers for a webhook that was
/// removed meanwhile does not change one of the same name.
pub type WebhookId = i64;

/// How often in a row a delivery may fail before the webhook counts as failing. It is tried again
/// all the same.
pub const TRIES_UNTIL_FAILING: u32 = 8;

/// Somebody who wants to be told of events, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its number; 0 before it is kept.
    pub id: WebhookId,
    /// Its name, unique in the store.
    pub name: String,
    /// Where events are sent to: `https://` or `http://`.
    pub url: String,
    /// What the events name as their source, a URI reference.
    pub source: String,
    /// Which events; when there are none, all but those of single steps ([`EventKind::is_step`]).
    pub kinds: Vec<EventKind>,
    /// What signs, the newest first. Each of them signs each message, so that the receiver can
    /// change from one to the other at any time.
    pub secrets: Vec<Secret>,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: Stamp,
    /// How far it is.
    pub delivery: Delivery,
}

/// How far a webhook is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The last event that was delivered, or passed over.
    pub delivered: EventId,
    /// How often in a row the next one failed.
    pub failures: u32,
    /// When it is tried again.
    pub next_at: Stamp,
    /// Why it failed, in words; empty when the last one went well.
    pub trouble: String,
}

/// What signs messages: `whsec_`, then Base64. It is never shown by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Webhook {
    /// Says whether it wants events of a kind.
    pub fn wants(&self, kind: EventKind) -> bool {
        if self.kinds.is_empty() { !kind.is_step() } else { self.kinds.contains(&kind) }
    }
}

impl Delivery {
    /// Says whether somebody should look at it.
    pub fn is_failing(&self) -> bool {
        self.failures >= TRIES_UNTIL_FAILING
    }
}
