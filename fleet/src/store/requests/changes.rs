use crate::model::{Rollout, RolloutState, Stamp, WaveState};
use crate::rollout::limits::Action;
use crate::store::error::StoreError;
use crate::store::text;

/// A change of a rollout's state, if it is still where the caller saw it.
#[derive(Clone, Debug)]
pub struct StateChange<'a> {
    /// The states that it may have now.
    pub from: &'a [RolloutState],
    /// The state that it gets.
    pub to: RolloutState,
    /// Why, in words.
    pub reason: &'a str,
    /// Who changes it.
    pub by: &'a str,
    /// When.
    pub at: Stamp,
    /// The revision that the caller saw, if it has to be that.
    pub revision: Option<i64>,
}

/// A change of a wave's state, if it is still where the caller saw it.
#[derive(Clone, Debug)]
pub struct WaveChange<'a> {
    /// The states that it may have now.
    pub from: &'a [WaveState],
    /// The state that it gets.
    pub to: WaveState,
    /// Who changes it.
    pub by: &'a str,
    /// When.
    pub at: Stamp,
    /// The rollout's revision that the caller saw, if it has to be that.
    pub revision: Option<i64>,
}

/// Whether a call changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It did.
    Now,
    /// All was so already: nothing happened, and there is no event.
    Before,
}

impl StateChange<'_> {
    /// Decides what comes of the change: one rule for all stores.
    pub(in crate::store) fn judge(&self, rollout: &Rollout) -> Result<Changed, StoreError> {
        if rollout.state == self.to {
            return Ok(Changed::Before);
        }
        let seen = self.revision.is_none_or(|revision| revision == rollout.revision);
        if seen && self.from.contains(&rollout.state) {
            return Ok(Changed::Now);
        }
        let (name, state, revision) = (rollout.name.clone(), rollout.state, rollout.revision);
        Err(StoreError::RolloutMoved { name, state, revision })
    }
}

impl WaveChange<'_> {
    /// As [`StateChange::judge`], for a wave of a rollout with this name, state and revision.
    pub(in crate::store) fn judge(
        &self,
        (name, of, revision): (&str, RolloutState, i64),
        number: u32,
        state: WaveState,
    ) -> Result<Changed, StoreError> {
        if state == self.to {
            return Ok(Changed::Before);
        }
        if self.revision.is_some_and(|seen| seen != revision) {
            return Err(StoreError::RolloutMoved { name: name.to_owned(), state: of, revision });
        }
        if self.from.contains(&state) {
            return Ok(Changed::Now);
        }
        Err(StoreError::WaveMoved { wave: number, state })
    }
}

/// Somebody's signed word that a wave may begin. The store keeps it; who reads it checks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedApproval {
    /// The wave, from 0.
    pub wave: u32,
    /// Fingerprint of the key that signed.
    pub key: String,
    /// The signature.
    pub signature: String,
    /// Who it was.
    pub by: String,
    /// When.
    pub at: Stamp,
}

impl SignedApproval {
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        text::name("the fingerprint of an approval", &self.key)?;
        text::name("the signature of an approval", &self.signature)?;
        text::name("who approves", &self.by)
    }
}

/// Says whether a change forgives what failed: a person resumes a paused rollout.
pub(in crate::store) fn forgives(from: RolloutState, to: RolloutState) -> bool {
    from == RolloutState::Paused && matches!(to, RolloutState::Running | RolloutState::Scheduled)
}

/// Returns the state that a rollout gets when a limit of failures is reached; none when it keeps
/// its own.
pub(in crate::store) fn halted(from: RolloutState, action: Action) -> Option<RolloutState> {
    use RolloutState::{Error, Paused, Running, Scheduled};
    match (action, from) {
        (Action::Pause, Running | Scheduled) => Some(Paused),
        (Action::Stop, Running | Scheduled | Paused) => Some(Error),
        _ => None,
    }
}
