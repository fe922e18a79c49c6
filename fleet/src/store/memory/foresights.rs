use std::collections::{BTreeMap, BTreeSet};

use super::super::error::StoreError;
use super::super::requests::{board_times, unknown};
use super::MemoryStore;
use crate::model::{AttemptState, BoardTimes, EventKind, Foresight};

impl MemoryStore {
    pub(super) fn keep(&mut self, foresights: &[&Foresight]) -> Result<(), StoreError> {
        for Foresight { host, release, .. } in foresights {
            if !self.hosts.contains_key(host) {
                return Err(unknown("host", host));
            }
            if !self.releases.contains_key(release) {
                return Err(unknown("release", release));
            }
        }
        for foresight in foresights {
            if let Some(host) = self.hosts.get_mut(&foresight.host) {
                host.bios_version.clone_from(&foresight.from_version);
            }
            let key = (foresight.release.clone(), foresight.host.clone());
            self.foresights.insert(key, (*foresight).clone());
        }
        Ok(())
    }

    /// A host's chip may hold something else now: what it foresaw is void.
    pub(super) fn forget(&mut self, host: &str) {
        self.foresights.retain(|(_, whose), _| whose != host);
    }

    /// Those that still hold, of a release, by host.
    pub(super) fn foreseen(&self, release: &str, after: &str, limit: usize) -> Vec<Foresight> {
        use std::ops::Bound::{Excluded, Unbounded};
        let first = (release.to_owned(), after.to_owned());
        let of_release = self.foresights.range((Excluded(first), Unbounded));
        let of_release = of_release.take_while(|((of, _), _)| of == release);
        let holds = |foresight: &&Foresight| {
            let host = self.hosts.get(&foresight.host);
            host.is_some_and(|host| host.bios_version == foresight.from_version)
        };
        let held = of_release.map(|(_, foresight)| foresight).filter(holds);
        held.take(limit).cloned().collect()
    }

    pub(super) fn times_by_board(&self) -> Vec<BoardTimes> {
        let was_lost = self.events.iter().filter(|event| event.kind == EventKind::LeaseLost);
        let lost: BTreeSet<_> =
            was_lost.map(|event| (event.rollout, event.host.as_deref())).collect();
        let mut boards = BTreeMap::<(&str, &str), (u64, i64, i64)>::new();
        for attempt in self.attempts.all() {
            let times = attempt.ended_at.zip(attempt.started_at);
            let (Some((ended, started)), Some(host)) = (times, self.hosts.get(&attempt.host))
            else {
                continue;
            };
            let is_measure = attempt.state == AttemptState::Confirmed
                && !lost.contains(&(Some(attempt.rollout), Some(&attempt.host)));
            if is_measure {
                let took = ended - started;
                let (updates, sum, longest) =
                    boards.entry((&host.vendor, &host.product)).or_default();
                *updates += 1;
                *sum += took;
                *longest = took.max(*longest);
            }
        }
        let times = |((vendor, product), (updates, sum, longest)): ((&str, &str), _)| {
            board_times((vendor.to_owned(), product.to_owned()), updates, (sum, longest))
        };
        boards.into_iter().map(times).collect()
    }
}
