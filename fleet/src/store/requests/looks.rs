use firmcast::reason::Reason;

use super::bundles::check_lacking;
use super::changes::Changed;
use super::claims::lease_lost;
use crate::model::{Attempt, AttemptState, Health, Look, Stamp};
use crate::store::error::StoreError;
use crate::store::text;
use crate::store::words::word;

/// Maximum number of looks that one call claims.
pub const LOOKS_MAX: usize = 1000;

/// What a worker asks for that looks at confirmed hosts.
#[derive(Clone, Copy, Debug)]
pub struct LookRequest<'a> {
    /// The worker's site.
    pub site: &'a str,
    /// The worker's name, unique among all workers.
    pub worker: &'a str,
    /// Now.
    pub at: Stamp,
    /// How long the lease holds, in microseconds.
    pub lease_us: i64,
    /// Maximum number of hosts.
    pub limit: usize,
    /// Digests of releases that the worker lacks: it cannot look for these.
    pub lacking: &'a [String],
}

impl LookRequest<'_> {
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        text::words("the name of a site", self.site)?;
        text::name("the name of a worker", self.worker)?;
        check_lacking(self.lacking)?;
        text::at_most("the number of looks to claim", self.limit, LOOKS_MAX)
    }

    /// Until when the lease holds.
    pub(in crate::store) fn until(&self) -> Stamp {
        self.at.saturating_add(self.lease_us)
    }
}

/// Checks what is kept of a look.
pub(in crate::store) fn check_look(look: &Look) -> Result<(), StoreError> {
    text::words("the reason of a look", &look.reason)
}

/// Decides what comes of a worker's look: one rule for all stores. A report that comes twice
/// changes nothing.
pub(in crate::store) fn judge_look(
    attempt: &Attempt,
    worker: &str,
    look: &Look,
) -> Result<Changed, StoreError> {
    let mine = attempt.worker.as_deref() == Some(worker);
    let before = attempt.look.as_ref().map(|before| before.health);
    match attempt.state {
        AttemptState::Confirmed if mine && attempt.lease_until.is_some() => Ok(Changed::Now),
        AttemptState::Confirmed | AttemptState::Failed if mine && before == Some(look.health) => {
            Ok(Changed::Before)
        }
        _ => Err(lease_lost(attempt, worker)),
    }
}

/// What the event says.
pub(in crate::store) fn told_look(look: &Look) -> String {
    format!("{}: {}", word(&look.health), look.reason)
}

/// What is kept as the details of a host that was confirmed and is not healthy.
pub(in crate::store) fn sick_detail(look: &Look) -> String {
    text::detail(&format!(
        "it was confirmed, and is not healthy after the soak time: {}",
        look.detail
    ))
}

/// The last word on a host that nobody has seen healthy when the time for looks is over: what the
/// last look at it told, if there was one.
pub(in crate::store) fn last_look(look: Option<&Look>, at: Stamp) -> Look {
    let nobody = || {
        let reason = Reason::NoAgentAfterReboot.name().to_owned();
        let detail = "nobody has looked at it: see that a worker of its site runs".to_owned();
        (reason, detail)
    };
    let told = look.map(|look| (look.reason.clone(), look.detail.clone()));
    let (reason, detail) = told.unwrap_or_else(nobody);
    Look { health: Health::Sick, at, reason, detail }
}
