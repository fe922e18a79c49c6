use crate::model::{Delivery, EventId, Stamp};

/// Pause after the first failure, in microseconds; each further one doubles it.
pub const PAUSE_FIRST_US: i64 = 1_000_000;

/// The longest pause, in microseconds: so often a webhook is tried that is failing.
pub const PAUSE_MAX_US: i64 = 300_000_000;

/// Returns how far a webhook is after all up to `delivered` went well.
pub(super) fn went_well(delivered: EventId) -> Delivery {
    Delivery { delivered, failures: 0, next_at: 0, trouble: String::new() }
}

/// Returns how far a webhook is after some went well up to `delivered`, and then one failed.
/// `chance` is random: of several senders and webhooks not all come back at once.
pub(super) fn failed(
    before: &Delivery,
    delivered: EventId,
    trouble: String,
    at: Stamp,
    chance: u16,
) -> Delivery {
    let is_new = delivered > before.delivered;
    let failures = if is_new { 1 } else { before.failures.saturating_add(1) };
    let doubled = PAUSE_FIRST_US.saturating_mul(1 << (failures - 1).min(30));
    let pause = doubled.min(PAUSE_MAX_US);
    // Three quarters of it at least.
    let shorter = pause / 4 * i64::from(chance) / i64::from(u16::MAX);
    Delivery { delivered, failures, next_at: at.saturating_add(pause - shorter), trouble }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_success_forgets_them() {
        let mut delivery = Delivery { delivered: 7, ..Delivery::default() };
        let mut pauses = Vec::new();
        for _ in 0..40 {
            delivery = failed(&delivery, 7, "answered 500".to_owned(), 100, 0);
            pauses.push((delivery.next_at - 100) / 1_000_000);
        }
        assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(pauses[39], 300);
        assert!(delivery.is_failing());
        let soonest = failed(&Delivery::default(), 0, String::new(), 0, u16::MAX);
        assert_eq!(soonest.next_at, PAUSE_FIRST_US / 4 * 3);
        let next = failed(&delivery, 8, "answered 500".to_owned(), 100, 0);
        assert_eq!((next.delivered, next.failures, next.is_failing()), (8, 1, false));
        assert_eq!(went_well(9).next_at, 0);
    }
}
