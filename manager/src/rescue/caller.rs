//! What is remembered of a host that called.

use std::net::SocketAddr;

use firmcast::keys::Fingerprint;
use firmcast::reason::Reason;
use firmcast::session::RateLimit;
use firmcast::time::Time;
use firmcast::wire::help::HelpRequest;

use super::shelf::BundleId;
use crate::campaign::Outcome;

/// Requests of one host that are answered in a second.
pub(super) const REQUESTS_PER_SECOND: u32 = 2;

/// One host that called.
#[derive(Debug)]
pub(super) struct Caller {
    /// Its name in the inventory, else its fingerprint.
    pub(super) name: String,
    pub(super) fingerprint: Fingerprint,
    /// It is in the inventory.
    pub(super) is_known: bool,
    pub(super) address: SocketAddr,
    pub(super) seen: Time,
    pub(super) limit: RateLimit,
    pub(super) request: Option<Box<HelpRequest>>,
    /// The campaign that it was enlisted in last.
    pub(super) campaign: Option<u64>,
    /// It shall be enlisted when this bundle was read.
    pub(super) waits_for: Option<BundleId>,
    /// Times that it was enlisted.
    pub(super) attempts: u32,
    /// Times that it failed.
    pub(super) failures: u32,
    pub(super) is_parked: bool,
    pub(super) last: Option<Outcome>,
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
            seen: now,
            limit: RateLimit::new(REQUESTS_PER_SECOND),
            request: None,
            campaign: None,
            waits_for: None,
            attempts: 0,
            failures: 0,
            is_parked: false,
            last: None,
            held: None,
            recalled: None,
        }
    }

    /// Takes note of how an attempt ended. True when the host is left alone from now on.
    pub(super) fn attempt_ended(&mut self, outcome: &Outcome, failures_max: u32) -> bool {
        if outcome.ending.reason == Reason::Rescued {
            self.pardon();
        }
        self.failures += u32::from(is_failure(outcome.ending.reason));
        self.last = Some(outcome.clone());
        let was_parked = self.is_parked;
        self.is_parked |= self.failures >= failures_max;
        self.is_parked && !was_parked
    }

    /// It may try again.
    pub(super) fn pardon(&mut self) {
        (self.failures, self.is_parked) = (0, false);
    }
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
