use std::collections::BTreeMap;

use super::domain::Domain;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The new firmware was seen.
    Confirmed,
    /// Anything else.
    Failed,
    /// The host never answered.
    Unreachable,
}

/// Hosts of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// In the plan; what percentages of hosts in flight are of. Never changes.
    pub planned: u32,
    /// In flight now.
    pub in_flight: u32,
    /// Ended well since the rollout was resumed last.
    pub confirmed: u32,
    /// Ended otherwise since then.
    pub failed: u32,
    /// Never answered, since then.
    pub unreachable: u32,
}

/// The counters of domains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Domain, Counters>);

impl Counts {
    /// Returns the counters of a domain; of one that is not here they are zero.
    pub fn of(&self, domain: &Domain) -> Counters {
        self.0.get(domain).copied().unwrap_or_default()
    }

    /// Returns the domains in their order, each with its counters.
    pub fn iter(&self) -> impl Iterator<Item = (&Domain, &Counters)> {
        self.0.iter()
    }

    /// Returns the number of domains.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are no domains.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a host of these domains as planned.
    pub fn plan(&mut self, domains: &[Domain]) {
        self.each(domains, |counters| counters.planned += 1);
    }

    /// Counts a host of these domains as in flight.
    pub fn begin(&mut self, domains: &[Domain]) {
        self.each(domains, |counters| counters.in_flight += 1);
    }

    /// Counts a host of these domains, which was in flight, as ended.
    pub fn end(&mut self, domains: &[Domain], ending: Ending) {
        self.each(domains, |counters| {
            counters.in_flight = counters.in_flight.saturating_sub(1);
            match ending {
                Ending::Confirmed => counters.confirmed += 1,
                Ending::Failed => counters.failed += 1,
                Ending::Unreachable => counters.unreachable += 1,
            }
        });
    }

    /// Counts a host of these domains, which was in flight, as planned again.
    pub fn put_back(&mut self, domains: &[Domain]) {
        self.each(domains, |counters| counters.in_flight = counters.in_flight.saturating_sub(1));
    }

    /// Counts a host of these domains, which had ended as confirmed, as failed. `is_counted`: among
    /// the confirmed ones, as nobody has resumed since.
    pub fn fall_sick(&mut self, domains: &[Domain], is_counted: bool) {
        self.each(domains, |counters| {
            counters.confirmed = counters.confirmed.saturating_sub(u32::from(is_counted));
            counters.failed += 1;
        });
    }

    /// Forgets how hosts ended: a person resumed the rollout and accepts what failed.
    pub fn forgive(&mut self) {
        for counters in self.0.values_mut() {
            let Counters { planned, in_flight, .. } = *counters;
            *counters = Counters { planned, in_flight, ..Counters::default() };
        }
    }

    fn each(&mut self, domains: &[Domain], change: impl Fn(&mut Counters)) {
        for domain in domains {
            match self.0.get_mut(domain) {
                Some(counters) => change(counters),
                None => change(self.0.entry(domain.clone()).or_default()),
            }
        }
    }
}

impl FromIterator<(Domain, Counters)> for Counts {
    fn from_iter<T: IntoIterator<Item = (Domain, Counters)>>(counters: T) -> Self {
        Self(counters.into_iter().collect())
    }
}
