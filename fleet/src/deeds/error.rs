use thiserror::Error;

use crate::rollout::file::FileError;
use crate::rollout::plan::PlanError;
use crate::store::StoreError;

/// Why something was not done. Then nothing was changed, unless the store says otherwise.
#[derive(Debug, Error)]
pub enum DeedError {
    /// No rollout of this name.
    #[error("there is no rollout {name:?}: firmcast-fleet rollout list shows those there are")]
    NoRollout {
        /// The name.
        name: String,
    },
    /// No wave of this name.
    #[error("rollout {name} has no wave {wave:?}: its waves are {}", known.join(", "))]
    NoWave {
        /// The rollout.
        name: String,
        /// The name.
        wave: String,
        /// The waves that there are.
        known: Vec<String>,
    },
    /// Nothing starts it again.
    #[error(
        "rollout {name} was ended ({reason}): create another one from its file, with another name"
    )]
    Ended {
        /// The rollout.
        name: String,
        /// Why it was ended.
        reason: String,
    },
    /// A paused rollout is resumed, not started.
    #[error("rollout {name} is paused ({reason}): firmcast-fleet rollout resume lets it go on")]
    Paused {
        /// The rollout.
        name: String,
        /// Why it is paused.
        reason: String,
    },
    /// Nobody was tried, or nobody will be.
    #[error("rollout {name} is not under way: retry is for one that was started and not aborted")]
    NotUnderWay {
        /// The rollout.
        name: String,
    },
    /// Who creates a rollout does not approve its waves.
    #[error("{by} created rollout {name}: somebody else has to approve its waves")]
    OwnRollout {
        /// Who it is.
        by: String,
        /// The rollout.
        name: String,
    },
    /// The file has mistakes.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No release of this digest or version.
    #[error("there is no release {wanted:?}: add its bundle with firmcast-fleet release add")]
    NoRelease {
        /// The digest or version.
        wanted: String,
    },
    /// More than one release of this version.
    #[error(
        "there are {count} releases of version {wanted:?}: write the digest of one of them, see \
         firmcast-fleet release list"
    )]
    SeveralReleases {
        /// The version.
        wanted: String,
        /// How many there are.
        count: usize,
    },
    /// The plan is not the one that was looked at.
    #[error(
        "nothing was created: the plan has the digest {now} now, and not {expected}; look at it \
         again with firmcast-fleet rollout plan"
    )]
    OtherPlan {
        /// The digest that it has.
        now: String,
        /// The digest that it should have.
        expected: String,
    },
    /// A plan for nobody.
    #[error("nothing was created: the rollout would touch no host, see the plan")]
    TouchesNobody,
    /// What the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
}
