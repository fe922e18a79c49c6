//! The hosts of one campaign.

use std::collections::BTreeMap;

use crate::model::{AttemptId, Host, RolloutId};

/// What a campaign is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The hosts get the release.
    Update,
    /// The hosts are looked at: whether they are home, and hold the release. Nothing is changed.
    Look,
}

/// A campaign that is to be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// Its number among this worker's.
    pub number: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// Digest of the release.
    pub release: String,
    /// The hosts.
    pub hosts: Vec<Host>,
}

/// What a worker remembers of a campaign that runs.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) rollout: RolloutId,
    pub(super) purpose: Purpose,
    /// The hosts whose end was not said yet.
    pub(super) hosts: BTreeMap<String, AttemptId>,
}
