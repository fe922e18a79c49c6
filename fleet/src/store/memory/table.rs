//! The table of attempts, with what the databases have indexes for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::RangeInclusive;

use crate::model::{Attempt, AttemptId, AttemptState, RolloutId};
use crate::store::error::StoreError;
use crate::store::requests::unknown;

/// Where an attempt stands among those of all rollouts.
pub(super) type Order = (RolloutId, u32, u32, AttemptId);

/// All attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// By number, from 1.
    all: Vec<Attempt>,
    /// The number of each one's cohort.
    cohorts: Vec<u32>,
    /// In which round of its rollout each one ended.
    rounds: Vec<u64>,
    places: BTreeSet<Order>,
    /// By site.
    planned: BTreeMap<String, BTreeSet<Order>>,
    /// By host: no host is twice in flight.
    in_flight: BTreeMap<String, AttemptId>,
}

pub(super) fn order(attempt: &Attempt) -> Order {
    (attempt.rollout, attempt.wave, attempt.position, attempt.id)
}

/// All places of a wave.
fn places(rollout: RolloutId, wave: u32) -> RangeInclusive<Order> {
    (rollout, wave, 0, 0)..=(rollout, wave, u32::MAX, AttemptId::MAX)
}

fn index(id: AttemptId) -> usize {
    usize::try_from(id).map_or(usize::MAX, |id| id.wrapping_sub(1))
}

impl Attempts {
    pub(super) fn one(&self, id: AttemptId) -> Result<&Attempt, StoreError> {
        self.all.get(index(id)).ok_or_else(|| unknown("attempt", id))
    }

    /// One that is to be changed in all but its state.
    pub(super) fn one_mut(&mut self, id: AttemptId) -> Result<&mut Attempt, StoreError> {
        self.all.get_mut(index(id)).ok_or_else(|| unknown("attempt", id))
    }

    /// All attempts, by number.
    pub(super) fn all(&self) -> &[Attempt] {
        &self.all
    }

    /// The attempts of a rollout, by place.
    pub(super) fn of(&self, rollout: RolloutId) -> impl Iterator<Item = &Attempt> {
        self.at((rollout, 0, 0, 0)..=(rollout, u32::MAX, u32::MAX, AttemptId::MAX))
    }

    /// The attempts of a wave, by place.
    pub(super) fn of_wave(&self, rollout: RolloutId, wave: u32) -> impl Iterator<Item = &Attempt> {
        self.at(places(rollout, wave))
    }

    fn at(&self, places: RangeInclusive<Order>) -> impl Iterator<Item = &Attempt> {
        self.places.range(places).filter_map(|place| self.all.get(index(place.3)))
    }

    /// The hosts of a site in a wave with which nobody has begun, by place.
    pub(super) fn planned(
        &self,
        site: &str,
        rollout: RolloutId,
        wave: u32,
    ) -> impl Iterator<Item = &Attempt> + use<'_> {
        let planned = self.planned.get(site);
        let planned = planned.into_iter().flat_map(move |all| all.range(places(rollout, wave)));
        planned.filter_map(|place| self.all.get(index(place.3)))
    }

    /// Says whether nobody has begun with some host of a wave.
    pub(super) fn are_planned(&self, rollout: RolloutId, wave: u32) -> bool {
        let mut sites = self.planned.values();
        sites.any(|planned| planned.range(places(rollout, wave)).next().is_some())
    }

    /// Those that are in flight, by host.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = &Attempt> {
        self.in_flight.values().filter_map(|id| self.all.get(index(*id)))
    }

    /// Names of the hosts in flight, after one.
    pub(super) fn hosts_in_flight(&self, after: &str) -> impl Iterator<Item = &String> + use<'_> {
        self.in_flight.range::<str, _>((Excluded(after), Unbounded)).map(|(host, _)| host)
    }

    pub(super) fn is_in_flight(&self, host: &str) -> bool {
        self.in_flight.contains_key(host)
    }

    /// The number of an attempt's cohort in its rollout.
    pub(super) fn cohort(&self, id: AttemptId) -> u32 {
        self.cohorts.get(index(id)).copied().unwrap_or_default()
    }

    /// In which round of its rollout an attempt ended.
    pub(super) fn round(&self, id: AttemptId) -> u64 {
        self.rounds.get(index(id)).copied().unwrap_or_default()
    }

    pub(super) fn set_round(&mut self, id: AttemptId, round: u64) {
        if let Some(ended) = self.rounds.get_mut(index(id)) {
            *ended = round;
        }
    }

    /// Inserts one that is planned, with the number of its cohort; its own number is given here.
    pub(super) fn insert(&mut self, mut attempt: Attempt, cohort: u32) {
        attempt.id = super::next_id(self.all.len());
        self.places.insert(order(&attempt));
        self.planned.entry(attempt.site.clone()).or_default().insert(order(&attempt));
        self.all.push(attempt);
        self.cohorts.push(cohort);
        self.rounds.push(0);
    }

    /// Gives an attempt another state, and returns it.
    pub(super) fn set_state(
        &mut self,
        id: AttemptId,
        state: AttemptState,
    ) -> Result<&mut Attempt, StoreError> {
        let attempt = self.all.get_mut(index(id)).ok_or_else(|| unknown("attempt", id))?;
        let place = order(attempt);
        match attempt.state {
            AttemptState::Planned => {
                if let Some(planned) = self.planned.get_mut(&attempt.site) {
                    planned.remove(&place);
                }
            }
            AttemptState::InFlight => drop(self.in_flight.remove(&attempt.host)),
            _ => {}
        }
        match state {
            AttemptState::Planned => {
                self.planned.entry(attempt.site.clone()).or_default().insert(place);
            }
            AttemptState::InFlight => drop(self.in_flight.insert(attempt.host.clone(), id)),
            _ => {}
        }
        attempt.state = state;
        Ok(attempt)
    }
}
