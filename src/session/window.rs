//! Replay protection: each counter of a session is accepted once (RFC 6479, here with one word).

/// How far behind the newest counter a late datagram may be.
const WINDOW_SIZE: u64 = 128;

/// The counters that were accepted.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplayWindow {
    /// One more than the highest accepted counter.
    next: u64,
    /// Bit `i` stands for counter `next - 1 - i`.
    seen: u128,
}

impl ReplayWindow {
    /// Returns whether `counter` was not accepted before and is not too old to know.
    pub(super) fn is_fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter < u64::MAX;
        }
        let age = self.next - 1 - counter;
        age < WINDOW_SIZE && self.seen & (1 << age) == 0
    }

    /// Returns whether a higher counter was accepted.
    pub(super) fn is_late(&self, counter: u64) -> bool {
        counter < self.next
    }

    /// Marks an authentic `counter` as seen.
    pub(super) fn accept(&mut self, counter: u64) {
        if counter >= self.next {
            let shift = counter - self.next + 1;
            self.seen = if shift >= WINDOW_SIZE { 0 } else { self.seen << shift };
            self.seen |= 1;
            self.next = counter + 1;
        } else {
            self.seen |= 1 << (self.next - 1 - counter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn nothing_is_accepted_twice(counters in prop::collection::vec(0u64..400, 0..600)) {
            let (mut window, mut seen) = (ReplayWindow::default(), HashSet::new());
            let mut highest = 0;
            for counter in counters {
                let fresh = window.is_fresh(counter);
                let near = counter + WINDOW_SIZE > highest;
                prop_assert_eq!(fresh, near && !seen.contains(&counter));
                if fresh {
                    window.accept(counter);
                    seen.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }

    #[test]
    fn the_last_counter_is_never_used() {
        assert!(!ReplayWindow::default().is_fresh(u64::MAX));
    }
}
