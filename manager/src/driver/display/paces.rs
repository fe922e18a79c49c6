//! How long each host still takes for what it does now.

use std::collections::BTreeMap;
use std::time::Duration;

use firmcast::time::Time;
use firmcast_manager::campaign::Host;

/// Where each host was when it began what it does now; how long it will take follows from this.
#[derive(Debug, Default)]
pub(super) struct Paces {
    begun: BTreeMap<usize, Pace>,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    total: u32,
    since: Time,
    done: u32,
}

impl Paces {
    pub(super) fn follow(&mut self, now: Time, hosts: &[Host]) {
        for (index, host) in hosts.iter().enumerate() {
            let (done, total) = host.progress();
            let fresh = Pace { total, since: now, done };
            let pace = self.begun.entry(index).or_insert(fresh);
            if pace.total != total || pace.done > done {
                *pace = fresh;
            }
        }
    }

    pub(super) fn time_left(
        &self,
        now: Time,
        host: usize,
        done: u32,
        total: u32,
    ) -> Option<Duration> {
        let pace = self.begun.get(&host)?;
        let (gained, missing) = (done.checked_sub(pace.done)?, total.checked_sub(done)?);
        if gained == 0 {
            return None;
        }
        Some(now.since(pace.since).mul_f64(f64::from(missing) / f64::from(gained)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_from_the_pace() {
        let mut paces = Paces::default();
        paces.begun.insert(0, Pace { total: 100, since: Time::ZERO, done: 20 });
        let now = Time::ZERO + Duration::from_secs(10);
        assert_eq!(paces.time_left(now, 0, 40, 100), Some(Duration::from_secs(30)));
        assert_eq!(paces.time_left(now, 0, 20, 100), None);
    }
}
