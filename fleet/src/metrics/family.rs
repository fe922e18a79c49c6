/// What a metric's value does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rises and falls.
    Gauge,
    /// Only rises.
    Counter,
}

/// A metric: its series differ in their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, by Prometheus' conventions: the base unit last, `_total` for counters.
    pub name: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// What it means, for a person.
    pub help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

pub(super) const BUILD_INFO: Family =
    gauge("firmcast_fleet_build_info", "Always 1; the label has the program's version.");
pub(super) const STORE_UP: Family =
    gauge("firmcast_fleet_store_up", "1 when the store answered this scrape, else 0.");
pub(super) const STORE_READ: Family =
    gauge("firmcast_fleet_store_read_seconds", "How long reading the store took for this scrape.");
pub(super) const HOSTS: Family = gauge("firmcast_fleet_hosts", "Hosts of the fleet.");
pub(super) const ROLLOUTS: Family =
    gauge("firmcast_fleet_rollouts", "Rollouts by state, also those that have ended.");
pub(super) const ROLLOUT_STATE: Family = gauge(
    "firmcast_fleet_rollout_state",
    "1 for the state that an open rollout has, 0 for the others.",
);
pub(super) const WAVE_STATE: Family = gauge(
    "firmcast_fleet_rollout_wave_state",
    "1 for the state that a wave of an open rollout has, 0 for the others.",
);
pub(super) const ATTEMPTS: Family = gauge(
    "firmcast_fleet_rollout_attempts",
    "Attempts of an open rollout by wave, site and state; a host that is tried again has several.",
);
pub(super) const OLDEST_IN_FLIGHT: Family = gauge(
    "firmcast_fleet_rollout_oldest_in_flight_seconds",
    "How long the host has been in flight that began first of those in flight; 0 without any.",
);
pub(super) const OVERDUE: Family = gauge(
    "firmcast_fleet_rollout_overdue_attempts",
    "Hosts in flight for longer than the longest time that was predicted.",
);
pub(super) const DRAINING: Family = gauge(
    "firmcast_fleet_rollout_draining_hosts",
    "Hosts of an open rollout in flight that are drained, or undrained, just now.",
);
pub(super) const LIMIT_USED: Family = gauge(
    "firmcast_fleet_rollout_limit_used_hosts",
    "Hosts that a limit counts, where it is fullest: in flight, or failed since the last resume.",
);
pub(super) const LIMIT_MAX: Family = gauge(
    "firmcast_fleet_rollout_limit_max_hosts",
    "How many hosts reach that limit there; of a percentage, at the hosts that have ended now.",
);
pub(super) const WORKERS: Family =
    gauge("firmcast_fleet_workers", "Workers of a site that were seen within the last minute.");
pub(super) const WORKERS_WAITING: Family = gauge(
    "firmcast_fleet_workers_waiting_for_bundle",
    "Workers of a site, of those seen within the last minute, that wait for a bundle.",
);
pub(super) const WORKER_SEEN: Family = gauge(
    "firmcast_fleet_worker_last_seen_timestamp_seconds",
    "When a worker of a site was seen last.",
);
pub(super) const CALLS: Family = gauge(
    "firmcast_fleet_calls_for_help",
    "Dead hosts that call for help, by the site whose worker answers them, and whether they are \
     left alone.",
);
pub(super) const LEASES_EXPIRED: Family = Family {
    name: "firmcast_fleet_leases_expired_total",
    kind: Kind::Counter,
    help: "Leases that ran out, so that another worker took the host over.",
};
pub(super) const DRAIN_FAILURES: Family = Family {
    name: "firmcast_fleet_drain_failures_total",
    kind: Kind::Counter,
    help: "How often drain, or undrain, failed or took too long, in all rollouts.",
};
pub(super) const LAST_EVENT: Family =
    gauge("firmcast_fleet_last_event_timestamp_seconds", "When the last event happened.");
pub(super) const WEBHOOK_SENDER_UP: Family = gauge(
    "firmcast_fleet_webhook_sender_up",
    "1 when somebody delivers to the webhooks, else 0; where there are webhooks.",
);
pub(super) const WEBHOOK_FAILING: Family = gauge(
    "firmcast_fleet_webhook_failing",
    "1 when the last deliveries to a webhook failed, one after the other, else 0.",
);
pub(super) const WEBHOOK_LAG: Family = gauge(
    "firmcast_fleet_webhook_lag_events",
    "Events that a webhook was not told of yet, among them those that it does not want.",
);
pub(super) const LEFT_OUT: Family = gauge(
    "firmcast_fleet_left_out",
    "Open rollouts, and series, that are missing here because there are too many.",
);

/// Every metric, in the order of the page.
pub const FAMILIES: [&Family; 24] = [
    &BUILD_INFO,
    &STORE_UP,
    &STORE_READ,
    &HOSTS,
    &ROLLOUTS,
    &ROLLOUT_STATE,
    &WAVE_STATE,
    &ATTEMPTS,
    &OLDEST_IN_FLIGHT,
    &OVERDUE,
    &DRAINING,
    &LIMIT_USED,
    &LIMIT_MAX,
    &WORKERS,
    &WORKERS_WAITING,
    &WORKER_SEEN,
    &CALLS,
    &LEASES_EXPIRED,
    &DRAIN_FAILURES,
    &LAST_EVENT,
    &WEBHOOK_SENDER_UP,
    &WEBHOOK_FAILING,
    &WEBHOOK_LAG,
    &LEFT_OUT,
];
