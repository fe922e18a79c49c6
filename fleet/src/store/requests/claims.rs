use std::collections::BTreeMap;

use firmcast::reason::{FlashState, Reason};

use super::bundles::check_lacking;
use super::changes::Changed;
use crate::model::{Attempt, AttemptState, RolloutId, Stamp};
use crate::rollout::limits::Ending;
use crate::store::error::StoreError;
use crate::store::text;
use crate::store::words::word;

/// Maximum number of hosts that one call claims.
pub const CLAIM_MAX: usize = 1000;
/// Maximum number of leases that one call renews.
pub const RENEW_MAX: usize = 10_000;
/// Maximum number of rollouts that one call claims hosts of.
pub const OPEN_MAX: usize = 1000;

/// A rollout whose window is open at the worker's site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The rollout.
    pub rollout: RolloutId,
    /// For how many seconds yet: a host begins only if its longest predicted time fits.
    /// [`u32::MAX`] for a rollout without windows.
    pub seconds: u32,
}

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
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
    /// The rollouts whose hosts may begin at this site now. Leases that ran out are taken over in
    /// whatever rollout.
    pub open: &'a [Open],
    /// Digests of releases that the worker lacks: hosts that are to get one of these are neither
    /// begun with nor taken over.
    pub lacking: &'a [String],
}

impl ClaimRequest<'_> {
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        text::words("the name of a site", self.site)?;
        text::name("the name of a worker", self.worker)?;
        text::at_most("the number of open rollouts", self.open.len(), OPEN_MAX)?;
        check_lacking(self.lacking)?;
        text::at_most("the number of hosts to claim", self.limit, CLAIM_MAX)
    }

    /// The open rollouts in their order, each with the seconds that are left.
    pub(in crate::store) fn opened(&self) -> BTreeMap<RolloutId, u32> {
        self.open.iter().map(|open| (open.rollout, open.seconds)).collect()
    }

    /// Until when the lease holds.
    pub(in crate::store) fn until(&self) -> Stamp {
        self.at.saturating_add(self.lease_us)
    }
}

/// A host that a worker got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The attempt, with the new lease.
    pub attempt: Attempt,
    /// Whose lease ran out, when the attempt had begun already: the host may be anywhere on its
    /// way, and is looked for first.
    pub taken_from: Option<String>,
}

/// What became of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Whether the new firmware was seen after the boot.
    pub confirmed: bool,
    /// Name of the reason it ended with ([`firmcast::reason::Reason`]).
    pub reason: Option<&'a str>,
    /// What that says about the flash.
    pub flash: Option<&'a str>,
    /// Details for a person; cut at [`text::DETAIL_BYTES_MAX`].
    pub detail: &'a str,
}

impl Outcome<'_> {
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        text::words("the reason of an attempt", self.reason.unwrap_or_default())?;
        text::words("the state of a flash", self.flash.unwrap_or_default())
    }

    pub(in crate::store) fn state(&self) -> AttemptState {
        if self.confirmed { AttemptState::Confirmed } else { AttemptState::Failed }
    }

    /// How the limits count it.
    pub(in crate::store) fn ending(&self) -> Ending {
        if self.confirmed {
            Ending::Confirmed
        } else if self.reason == Some(Reason::HostUnreachable.name()) {
            Ending::Unreachable
        } else {
            Ending::Failed
        }
    }

    /// Whether the chip may hold something else than before.
    pub(in crate::store) fn may_have_changed(&self) -> bool {
        let flash = FlashState::from_word(self.flash.unwrap_or_default());
        !matches!(flash, FlashState::Untouched(_) | FlashState::Restored(_))
    }

    /// What the event says.
    pub(in crate::store) fn told(&self) -> String {
        let state = word(&self.state());
        match self.reason {
            Some(reason) => format!("{state}: {reason}"),
            None => state,
        }
    }

    /// Decides what comes of a worker's report: one rule for all stores. A report that comes twice,
    /// because the answer to the first was lost, changes nothing.
    pub(in crate::store) fn judge(
        &self,
        attempt: &Attempt,
        worker: &str,
    ) -> Result<Changed, StoreError> {
        let mine = attempt.worker.as_deref() == Some(worker);
        match attempt.state {
            AttemptState::InFlight if mine => Ok(Changed::Now),
            state if mine && state == self.state() => Ok(Changed::Before),
            _ => Err(lease_lost(attempt, worker)),
        }
    }
}

/// The error for a worker whose host is another's.
pub(in crate::store) fn lease_lost(attempt: &Attempt, worker: &str) -> StoreError {
    let in_flight = attempt.state == AttemptState::InFlight;
    StoreError::LeaseLost {
        worker: worker.to_owned(),
        host: attempt.host.clone(),
        holder: attempt.worker.clone().filter(|_| in_flight),
    }
}
