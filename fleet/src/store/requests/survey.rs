use std::collections::BTreeMap;

use crate::model::{
    AttemptState, Call, Delivery, EventId, RolloutId, RolloutState, Stamp, Wave, Worker,
};
use crate::rollout::limits::{Counts, Limits};

/// Maximum number of open rollouts of a survey: the latest ones.
pub const SURVEYED_MAX: usize = 100;

/// Maximum number of workers of a survey: those that were seen last.
pub const WORKERS_MAX: usize = 1000;

/// Maximum number of webhooks of a store.
pub const WEBHOOKS_MAX: usize = 64;

/// For how long a worker that is not seen again is kept, in microseconds.
pub const WORKER_KEPT_US: i64 = 86_400_000_000;

/// What a store holds, counted, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Hosts of the fleet.
    pub hosts: u64,
    /// Rollouts, by what they do; a state that no rollout has may be missing.
    pub rollouts: BTreeMap<RolloutState, u64>,
    /// The latest rollouts that have not ended, by number; at most [`SURVEYED_MAX`].
    pub open: Vec<Surveyed>,
    /// Workers, by name; at most [`WORKERS_MAX`].
    pub workers: Vec<Worker>,
    /// The dead hosts that call for help, by site.
    pub calls: BTreeMap<String, Calling>,
    /// How many leases ran out and were taken over, ever.
    pub leases_lost: u64,
    /// How many attempts ended because `drain` failed, ever.
    pub drain_failures: u64,
    /// How often `undrain` failed, ever.
    pub undrain_failures: u64,
    /// The last event, and when it happened.
    pub last_event: Option<(EventId, Stamp)>,
    /// How far each webhook is, by name.
    pub webhooks: Vec<(String, Delivery)>,
    /// Until when somebody delivers to the webhooks.
    pub sender_until: Option<Stamp>,
}

/// Dead hosts of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calling {
    /// How many call for help.
    pub hosts: u64,
    /// How many of them are left alone.
    pub parked: u64,
}

/// Counts who calls for help, by site.
pub(in crate::store) fn calling(calls: &[Call]) -> BTreeMap<String, Calling> {
    let mut sites = BTreeMap::<String, Calling>::new();
    for call in calls {
        let site = sites.entry(call.site.clone()).or_default();
        site.hosts += 1;
        site.parked += u64::from(call.parked);
    }
    sites
}

/// An open rollout of a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Its number.
    pub id: RolloutId,
    /// Its name.
    pub name: String,
    /// What it does now.
    pub state: RolloutState,
    /// Its waves, in their order.
    pub waves: Vec<Wave>,
    /// Its attempts, by wave, site and state.
    pub tallies: Vec<Tally>,
    /// Its limits.
    pub limits: Limits,
    /// What the limits count.
    pub counts: Counts,
}

/// Attempts of one wave, site and state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally {
    /// The wave, from 0.
    pub wave: u32,
    /// The site.
    pub site: String,
    /// What became of them so far.
    pub state: AttemptState,
    /// How many.
    pub attempts: u64,
    /// When the first of them began.
    pub oldest_started_at: Option<Stamp>,
    /// How many of those in flight have taken longer than was predicted at most.
    pub overdue: u64,
    /// How many of those in flight are being drained.
    pub draining: u64,
    /// How many of those in flight are being undrained.
    pub undraining: u64,
}

/// Says whether a rollout in this state is open: somebody may still do something with it.
pub(in crate::store) fn is_open(state: RolloutState) -> bool {
    !matches!(state, RolloutState::Finished | RolloutState::Error)
}
