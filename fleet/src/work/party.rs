//! The hosts of one campaign, and what it says of them.

use std::collections::BTreeMap;

use firmcast::reason::Reason;

use crate::model::{AttemptId, Host, RolloutId};

/// What a campaign is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The hosts get the release.
    Update,
    /// The hosts are measured where they are: whether they run the release. Nothing is changed.
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

/// A program that is to be run for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number; no campaign of this worker has the same.
    pub number: u64,
    /// Its path, and its arguments.
    pub argv: Vec<String>,
    /// How long it may take, in seconds.
    pub within_s: u32,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramEnd {
    /// Well.
    Done,
    /// It failed, or took too long: why, in words.
    Failed(String),
    /// The worker ended it before its time was over, as its leases were, or as it was told to. That
    /// says nothing of the host.
    CutOff,
}

/// How a campaign ended as a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Before it said anything to a host.
    NotBegun,
    /// By itself. It may have told hosts to write.
    BrokeOff,
    /// The worker ended it, as its leases may have been over. That says nothing of the hosts.
    CutOff,
}

/// How a campaign ended for a host that was to get the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEnd {
    /// Whether the new firmware was seen.
    pub confirmed: bool,
    /// Name of the reason.
    pub reason: String,
    /// What that says about the flash.
    pub flash: String,
    /// Details for a person.
    pub detail: String,
}

impl HostEnd {
    /// Returns the end of a host whose campaign did not come to one: nobody has said what its chip
    /// holds.
    pub(super) fn interrupted(words: &str) -> Self {
        Self {
            confirmed: false,
            reason: Reason::Interrupted.name().to_owned(),
            flash: "unknown".to_owned(),
            detail: words.to_owned(),
        }
    }
}

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It runs the release, and its chip holds it.
    Holds,
    /// It is home, and its chip holds something else.
    Lacks,
    /// Its chip holds the release, and it shows another version.
    OtherVersion,
    /// It did not answer, or another campaign has it.
    Away,
    /// It answered, and could not tell.
    Unclear,
}

/// What was seen of a host, as its campaign told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What.
    pub sight: Sight,
    /// Name of the reason.
    pub reason: String,
    /// Details for a person.
    pub detail: String,
}

impl Sight {
    /// What the reason with this name says, at the end of a look.
    pub fn of_reason(name: &str) -> Self {
        let is = |reasons: &[Reason]| reasons.iter().any(|reason| reason.name() == name);
        match () {
            () if is(&[Reason::Confirmed]) => Self::Holds,
            () if is(&[Reason::WrongDigest]) => Self::Lacks,
            () if is(&[Reason::WrongVersion]) => Self::OtherVersion,
            () if is(&[Reason::HostUnreachable, Reason::NoAgentAfterReboot, Reason::Busy]) => {
                Self::Away
            }
            () => Self::Unclear,
        }
    }
}

/// What a worker remembers of a campaign that runs.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) rollout: RolloutId,
    pub(super) purpose: Purpose,
    /// The hosts whose end was not said yet.
    pub(super) hosts: BTreeMap<String, AttemptId>,
}
