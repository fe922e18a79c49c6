//! The clock by which a worker ends its campaigns.

use firmcast_fleet::model::Stamp;
use nix::time::{ClockId, clock_gettime};

/// Microseconds since this machine started, with the time that it slept: nobody sets this clock.
pub(super) fn now() -> Stamp {
    // Every Linux has this clock; without one, leases would be over at once.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Stamp::MAX, |time| {
        time.tv_sec().saturating_mul(1_000_000).saturating_add(time.tv_nsec() / 1000)
    })
}
