//! What is remembered of a host that called.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use firmcast::keys::Fingerprint;
use firmcast::reason::Reason;
use firmcast::session::RateLimit;
use firmcast::time::Time;
use firmcast::wire::help::HelpRequest;
use firmcast::wire::help::{CONFIRMED_STAY, RESCUES_IN_VAIN};

use super::shelf::BundleId;
use crate::campaign::Outcome;
use crate::campaign::boots::Boots;

/// Maximum number of times that a host is enlisted within an hour, whatever became of it. So what
/// one key can make the service broadcast is bounded.
pub(super) const ENLISTMENTS_PER_HOUR_MAX: usize = 8;

const HOUR: Duration = Duration::from_secs(3600);

/// How long a rescue counts as one in vain if the host asks again.
const RESCUE_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Maximum number of rescues that are remembered: more than a policy may ask for.
const RESCUES_MAX: usize = 100;

/// Requests of one host that are answered in a second.
pub(super) const REQUESTS_PER_SECOND: u32 = 8;

/// One host that called.
#[derive(Debug)]
pub(super) struct Caller {
    /// Its name in the inventory, else its fingerprint.
    pub(super) name: String,
    pub(super) fingerprint: Fingerprint,
    /// It is in the inventory.
    pub(super) is_known: bool,
    pub(super) address: SocketAddr,
    /// When it was heard first.
    pub(super) since: Time,
    pub(super) seen: Time,
    pub(super) limit: RateLimit,
    pub(super) request: Option<Box<HelpRequest>>,
    /// The campaign that it was enlisted in last.
    pub(super) campaign: Option<u64>,
    /// File of the bundle that it was enlisted for last.
    pub(super) file: String,
    /// It shall be enlisted when this bundle was read.
    pub(super) waits_for: Option<BundleId>,
    /// Times that it was enlisted.
    pub(super) attempts: u32,
    /// Times that it failed.
    pub(super) failures: u32,
    pub(super) is_parked: bool,
    /// When it was enlisted, and when it was rescued, lately.
    enlisted: VecDeque<Time>,
    rescued: VecDeque<Time>,
    /// How often it was rescued without a confirmed stay, as it told itself last.
    told: u32,
    pub(super) last: Option<Outcome>,
    /// The boots that it named in its requests.
    pub(super) boots: Boots,
    /// Why it was put off last, so that the log says each reason once.
    pub(super) held: Option<Reason>,
    /// The campaign of nobody that it was let go from last, so that the log says it once.
    pub(super) recalled: Option<u64>,
}

impl Caller {
    pub(super) fn new(
        name: Option<String>,
        fingerprint: Fingerprint,
        now: Time,
        from: SocketAddr,
    ) -> Self {
        Self {
            is_known: name.is_some(),
            name: name.unwrap_or_else(|| fingerprint.to_string()),
            fingerprint,
            address: from,
            since: now,
            seen: now,
            limit: RateLimit::new(REQUESTS_PER_SECOND),
            request: None,
            campaign: None,
            file: String::new(),
            waits_for: None,
            attempts: 0,
            failures: 0,
            is_parked: false,
            enlisted: VecDeque::new(),
            rescued: VecDeque::new(),
            told: 0,
            last: None,
            boots: Boots::default(),
            held: None,
            recalled: None,
        }
    }

    /// Records that it is enlisted.
    pub(super) fn enlist(&mut self, now: Time) {
        self.attempts += 1;
        remember(&mut self.enlisted, now, ENLISTMENTS_PER_HOUR_MAX);
    }

    /// Returns whether it was not enlisted too often within the last hour.
    pub(super) fn may_enlist(&self, now: Time) -> bool {
        within(&self.enlisted, now, HOUR) < ENLISTMENTS_PER_HOUR_MAX
    }

    /// When it was enlisted last.
    pub(super) fn last_enlisted(&self) -> Option<Time> {
        self.enlisted.back().copied()
    }

    /// Records how an attempt ended. True when the host is left alone from now on.
    pub(super) fn attempt_ended(
        &mut self,
        now: Time,
        outcome: &Outcome,
        failures_max: u32,
    ) -> bool {
        if outcome.ending.reason == Reason::Rescued {
            (self.failures, self.is_parked) = (0, false);
            remember(&mut self.rescued, now, RESCUES_MAX);
        }
        self.failures += u32::from(is_failure(outcome.ending.reason));
        self.last = Some(outcome.clone());
        let was_parked = self.is_parked;
        self.is_parked |= self.failures >= failures_max;
        self.is_parked && !was_parked
    }

    /// It asks for help although it was rescued `rescues_max` times within a day: something else
    /// damages its chip, or has it ask. `told` is how often it was rescued by its own count, which
    /// outlives this service, and which a confirmed stay ends. True when it is left alone from now
    /// on.
    pub(super) fn rescued_in_vain(
        &mut self,
        now: Time,
        told: Option<u8>,
        rescues_max: u32,
    ) -> bool {
        let was_parked = self.is_parked;
        if let Some(told) = told {
            self.heed(now, told);
            self.is_parked = self.failures >= rescues_max || self.told >= RESCUES_IN_VAIN as u32;
        }
        self.is_parked |= self.rescues(now) >= rescues_max;
        self.is_parked && !was_parked
    }

    /// Takes over the host's own count. Where it is lower, a stay was confirmed since; but no stay
    /// is shorter than [`CONFIRMED_STAY`], so a count that does not grow pardons nobody.
    fn heed(&mut self, now: Time, told: u8) {
        self.told = u32::from(told);
        if self.rescued.back().is_none_or(|last| now.since(*last) >= CONFIRMED_STAY) {
            let surplus = self.rescued.len().saturating_sub(usize::from(told));
            self.rescued.drain(..surplus);
        }
    }

    /// How often it was rescued within a day, as far as this service and the host know.
    pub(super) fn rescues(&self, now: Time) -> u32 {
        let seen = within(&self.rescued, now, RESCUE_MEMORY);
        u32::try_from(seen).unwrap_or(u32::MAX).max(self.told)
    }

    /// It may try again.
    pub(super) fn pardon(&mut self) {
        (self.failures, self.is_parked) = (0, false);
        self.enlisted.clear();
        self.rescued.clear();
        self.told = 0;
    }
}

fn remember(times: &mut VecDeque<Time>, now: Time, max: usize) {
    if times.len() >= max {
        times.pop_front();
    }
    times.push_back(now);
}

fn within(times: &VecDeque<Time>, now: Time, span: Duration) -> usize {
    times.iter().filter(|at| now.since(**at) < span).count()
}

/// Returns whether another try costs something and will likely end the same way. Trouble with the
/// network, the manager's own restart and the operator's orders are no fault of the host.
fn is_failure(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Rescued
            | Reason::Updated
            | Reason::AlreadyCurrent
            | Reason::Released
            | Reason::Interrupted
            | Reason::LeftBehind
            | Reason::HostUnreachable
            | Reason::TransferTimedOut
            | Reason::ManagerNotReached
            | Reason::NetworkUnavailable
    )
}
