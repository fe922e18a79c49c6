use crate::model::{RolloutState, Stamp};
use crate::rollout::prediction::Predictions;
use crate::store::error::StoreError;

/// Another try for what failed, if the rollout is still where the caller saw it.
#[derive(Clone, Copy, Debug)]
pub struct Retry<'a> {
    /// Who wants it.
    pub by: &'a str,
    /// When.
    pub at: Stamp,
    /// The rollout's revision that the caller saw, if it has to be that.
    pub revision: Option<i64>,
    /// What the programs of the rollout's file add to each predicted time, in seconds; none keeps
    /// the times as they are.
    pub around_s: Option<u32>,
}

/// A host that is planned again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replanned {
    /// Its name.
    pub host: String,
    /// Its site when the rollout was frozen.
    pub site: String,
    /// The longest time that was predicted for the try that failed, in seconds.
    pub before_s: u32,
    /// The longest time that is predicted for the next one, in seconds.
    pub predicted_s: u32,
}

impl Retry<'_> {
    /// As [`super::StateChange::judge`], for a rollout with this name, state and revision: in one
    /// that is in *error* nobody is planned again.
    pub(in crate::store) fn judge(
        &self,
        (name, state, revision): (&str, RolloutState, i64),
    ) -> Result<(), StoreError> {
        let seen = self.revision.is_none_or(|seen| seen == revision);
        if seen && state != RolloutState::Error {
            return Ok(());
        }
        Err(StoreError::RolloutMoved { name: name.to_owned(), state, revision })
    }

    /// Returns the longest time that the next try of a host of this name and board may take, in
    /// seconds: by what is known now, else as before.
    pub(in crate::store) fn predict(
        &self,
        known: &Predictions,
        (host, board): (&str, (&str, &str)),
        before_s: u32,
    ) -> u32 {
        let around_s = self.around_s;
        let now = around_s.zip(known.known(host, board));
        now.map_or(before_s, |(around_s, prediction)| prediction.with(around_s).longest_s)
    }
}

/// What the event says.
pub(in crate::store) fn told_retry(planned: &[Replanned]) -> String {
    let hosts = planned.len();
    let newer = planned.iter().filter(|host| host.predicted_s != host.before_s).count();
    match newer {
        0 => format!("{hosts} planned again"),
        newer => format!("{hosts} planned again, {newer} of them with newer predicted times"),
    }
}

/// Why a rollout that had finished runs again.
pub(in crate::store) const RETRIED: &str = "hosts that failed are tried again";
