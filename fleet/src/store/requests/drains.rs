use super::claims::{Outcome, lease_lost};
use crate::model::{Attempt, AttemptState, DRAINING, Drain, EventKind, RolloutState, UNDRAINING};
use crate::store::error::StoreError;
use crate::store::words::word;

/// A step of the drain programs with a host in flight.
#[derive(Clone, Copy, Debug)]
pub enum DrainStep<'a> {
    /// `drain` is about to be started.
    Drain,
    /// `undrain` is about to be started. The host came to this; nothing when it is put back.
    Undrain(Option<Outcome<'a>>),
    /// `undrain` ended well.
    Undrained,
    /// `undrain` failed, with these words.
    UndrainFailed(&'a str),
}

impl<'a> DrainStep<'a> {
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        self.outcome().map_or(Ok(()), Outcome::check)
    }

    /// What is kept of it.
    pub(in crate::store) fn drain(&self) -> Drain {
        match self {
            Self::Drain => Drain::Started,
            Self::Undrain(_) => Drain::Undraining,
            Self::Undrained => Drain::Undrained,
            Self::UndrainFailed(_) => Drain::UndrainFailed,
        }
    }

    /// What the host came to, if this says it.
    pub(in crate::store) fn outcome(&self) -> Option<&Outcome<'a>> {
        match self {
            Self::Undrain(outcome) => outcome.as_ref(),
            _ => None,
        }
    }

    /// The stage that the host reaches by it.
    pub(in crate::store) fn stage(&self) -> Option<&'static str> {
        match self {
            Self::Drain => Some(DRAINING),
            Self::Undrain(_) => Some(UNDRAINING),
            Self::Undrained | Self::UndrainFailed(_) => None,
        }
    }

    /// The event that tells of it, if one does.
    pub(in crate::store) fn told(&self) -> Option<(EventKind, &'a str)> {
        match *self {
            Self::UndrainFailed(words) => Some((EventKind::UndrainFailed, words)),
            _ => self.stage().map(|stage| (EventKind::Stage, stage)),
        }
    }
}

/// Fails for a worker that does not hold the lease on a host in flight: one rule for all stores.
pub(in crate::store) fn check_held(attempt: &Attempt, worker: &str) -> Result<(), StoreError> {
    let mine = attempt.worker.as_deref() == Some(worker);
    match attempt.state {
        AttemptState::InFlight if mine => Ok(()),
        _ => Err(lease_lost(attempt, worker)),
    }
}

/// What becomes of a host that is put back, in a rollout of this state.
pub(in crate::store) fn put_back_state(rollout: RolloutState) -> AttemptState {
    match rollout {
        RolloutState::Error => AttemptState::Skipped,
        _ => AttemptState::Planned,
    }
}

/// What the event says of a host that is put back.
pub(in crate::store) fn told_put_back(state: AttemptState, why: &str) -> String {
    format!("{}: {why}", word(&state))
}
