use std::collections::{BTreeMap, BTreeSet};

use super::super::error::StoreError;
use super::super::requests::{
    Claim, ClaimRequest, Count, DrainStep, LookRequest, Outcome, Place, Placed, Replanned,
    lease_lost, sick_detail, unknown,
};
use super::super::text;
use super::super::words::word;
use super::budget::Budget;
use crate::model::{Attempt, AttemptId, AttemptState, Drain, Health, Look, RolloutId, Stamp};

/// Where an attempt stands among those of all rollouts.
type Order = (RolloutId, u32, u32, AttemptId);

/// All attempts, with what the SQL stores have indexes for.
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

fn order(attempt: &Attempt) -> Order {
    (attempt.rollout, attempt.wave, attempt.position, attempt.id)
}

/// All places of a wave.
fn places(rollout: RolloutId, wave: u32) -> std::ops::RangeInclusive<Order> {
    (rollout, wave, 0, 0)..=(rollout, wave, u32::MAX, AttemptId::MAX)
}

fn index(id: AttemptId) -> usize {
    usize::try_from(id).map_or(usize::MAX, |id| id.wrapping_sub(1))
}

impl Attempts {
    pub(super) fn one(&self, id: AttemptId) -> Result<&Attempt, StoreError> {
        self.all.get(index(id)).ok_or_else(|| unknown("attempt", id))
    }

    fn one_mut(&mut self, id: AttemptId) -> Result<&mut Attempt, StoreError> {
        self.all.get_mut(index(id)).ok_or_else(|| unknown("attempt", id))
    }

    /// Keeps the stage that a worker tells, if it holds the lease.
    pub(super) fn reach(
        &mut self,
        id: AttemptId,
        worker: &str,
        stage: &str,
    ) -> Result<&Attempt, StoreError> {
        let attempt = self.one_mut(id)?;
        if !is_held(attempt, worker) {
            return Err(lease_lost(attempt, worker));
        }
        attempt.stage = Some(text::detail(stage));
        Ok(attempt)
    }

    /// All attempts, by number.
    pub(super) fn all(&self) -> &[Attempt] {
        &self.all
    }

    /// Names of the hosts in flight, after one.
    pub(super) fn hosts_in_flight(&self, after: &str, limit: usize) -> Vec<String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let later = self.in_flight.range::<str, _>((Excluded(after), Unbounded));
        later.take(limit).map(|(host, _)| host.clone()).collect()
    }

    /// Those of a host, the last one first.
    pub(super) fn of_host(&self, host: &str, limit: usize) -> Vec<Attempt> {
        let is_wanted = |attempt: &&Attempt| attempt.host == host;
        self.all.iter().rev().filter(is_wanted).take(limit).cloned().collect()
    }

    /// The number of an attempt's cohort in its rollout.
    pub(super) fn cohort(&self, id: AttemptId) -> u32 {
        self.cohorts.get(index(id)).copied().unwrap_or_default()
    }

    pub(super) fn plan(&mut self, rollout: RolloutId, placed: &Placed<'_>) {
        let new = placed.attempt;
        let attempt = Attempt {
            id: 0,
            rollout,
            wave: new.wave,
            position: placed.position,
            host: new.host.clone(),
            site: new.site.clone(),
            predicted_s: new.predicted_s,
            retry: 0,
            state: AttemptState::Planned,
            stage: None,
            worker: None,
            lease_until: None,
            reason: None,
            flash: None,
            detail: String::new(),
            started_at: None,
            ended_at: None,
            drain: Drain::NotStarted,
            look: None,
        };
        self.insert(attempt, placed.cohort);
    }

    fn insert(&mut self, mut attempt: Attempt, cohort: u32) {
        attempt.id = super::next_id(self.all.len());
        self.places.insert(order(&attempt));
        self.planned.entry(attempt.site.clone()).or_default().insert(order(&attempt));
        self.all.push(attempt);
        self.cohorts.push(cohort);
        self.rounds.push(0);
    }

    /// The attempts of a rollout, by place.
    pub(super) fn of(&self, rollout: RolloutId) -> impl Iterator<Item = &Attempt> {
        let places = (rollout, 0, 0, 0)..=(rollout, u32::MAX, u32::MAX, AttemptId::MAX);
        self.places.range(places).filter_map(|place| self.all.get(index(place.3)))
    }

    pub(super) fn page(
        &self,
        rollout: RolloutId,
        after: Option<Place>,
        limit: usize,
    ) -> Vec<Attempt> {
        let later = self.of(rollout).filter(|attempt| Some(Place::from(*attempt)) > after);
        later.take(limit).cloned().collect()
    }

    pub(super) fn counts(&self, rollout: RolloutId) -> Vec<Count> {
        let mut counts = BTreeMap::<(u32, &str, String), Count>::new();
        for attempt in self.of(rollout) {
            let Attempt { wave, state, ref site, .. } = *attempt;
            let none = || Count { wave, site: site.clone(), state, attempts: 0, healthy: 0 };
            let count = counts.entry((wave, site, word(&state))).or_insert_with(none);
            count.attempts += 1;
            count.healthy += u64::from(is_healthy(attempt));
        }
        counts.into_values().collect()
    }

    pub(super) fn skip_planned(&mut self, rollout: RolloutId, at: Stamp) {
        for planned in self.planned.values_mut() {
            planned.retain(|place| place.0 != rollout);
        }
        let mine = self.all.iter_mut().filter(|attempt| attempt.rollout == rollout);
        for attempt in mine.filter(|attempt| attempt.state == AttemptState::Planned) {
            attempt.state = AttemptState::Skipped;
            attempt.ended_at = Some(at);
        }
    }

    /// Plans another attempt for each host whose last one failed, and is `predicted` to take so
    /// many seconds.
    pub(super) fn retry_failed(
        &mut self,
        rollout: RolloutId,
        predicted: impl Fn(&Attempt) -> u32,
    ) -> Vec<Replanned> {
        let mut last = BTreeMap::<&str, &Attempt>::new();
        for attempt in self.of(rollout) {
            let known = last.entry(&attempt.host).or_insert(attempt);
            if attempt.retry > known.retry {
                *known = attempt;
            }
        }
        let mut failed: Vec<Attempt> = (last.into_values())
            .filter(|attempt| attempt.state == AttemptState::Failed)
            .cloned()
            .collect();
        failed.sort_by_key(order);
        let mut planned = Vec::with_capacity(failed.len());
        for attempt in failed {
            let cohort = self.cohort(attempt.id);
            let (before_s, predicted_s) = (attempt.predicted_s, predicted(&attempt));
            let (host, site) = (attempt.host.clone(), attempt.site.clone());
            planned.push(Replanned { host, site, before_s, predicted_s });
            let again = Attempt {
                predicted_s,
                retry: attempt.retry + 1,
                state: AttemptState::Planned,
                stage: None,
                worker: None,
                lease_until: None,
                reason: None,
                flash: None,
                detail: String::new(),
                started_at: None,
                ended_at: None,
                drain: Drain::NotStarted,
                look: None,
                ..attempt
            };
            self.insert(again, cohort);
        }
        planned
    }

    /// Says whether a wave of a rollout has hosts that nobody has begun with.
    pub(super) fn are_planned(&self, rollout: RolloutId, wave: u32) -> bool {
        let waits =
            |planned: &BTreeSet<Order>| planned.range(places(rollout, wave)).next().is_some();
        self.planned.values().any(waits)
    }

    /// Says whether a wave of a rollout has hosts of a site that nobody has begun with.
    pub(super) fn wait(&self, site: &str, rollout: RolloutId, wave: u32) -> bool {
        let planned = self.planned.get(site).map(|planned| planned.range(places(rollout, wave)));
        planned.is_some_and(|mut planned| planned.next().is_some())
    }

    /// Begins with hosts of a rollout's waves, at most `limit`.
    pub(super) fn begin(
        &mut self,
        request: &ClaimRequest<'_>,
        (rollout, seconds): (RolloutId, u32),
        waves: &[u32],
        limit: usize,
        budget: &mut Budget,
    ) -> Vec<Claim> {
        let Some(planned) = self.planned.get_mut(request.site) else { return Vec::new() };
        let mut full = BTreeSet::new();
        let mut begun = Vec::new();
        for place in waves.iter().flat_map(|wave| planned.range(places(rollout, *wave))) {
            if begun.len() == limit {
                break;
            }
            let at = index(place.3);
            let (Some(attempt), Some(cohort)) = (self.all.get(at), self.cohorts.get(at)) else {
                continue;
            };
            let waits = attempt.predicted_s > seconds
                || self.in_flight.contains_key(&attempt.host)
                || full.contains(cohort);
            if waits {
                continue;
            }
            if budget.begin(*cohort) {
                begun.push(*place);
            } else {
                full.insert(*cohort);
            }
        }
        let mut claims = Vec::with_capacity(begun.len());
        for place in begun {
            planned.remove(&place);
            let Some(attempt) = self.all.get_mut(index(place.3)) else { continue };
            attempt.state = AttemptState::InFlight;
            attempt.started_at = Some(request.at);
            hold(attempt, request);
            self.in_flight.insert(attempt.host.clone(), attempt.id);
            claims.push(Claim { attempt: attempt.clone(), taken_from: None });
        }
        claims
    }

    pub(super) fn in_flight(&self) -> impl Iterator<Item = &Attempt> {
        self.in_flight.values().filter_map(|id| self.all.get(index(*id)))
    }

    /// Takes over attempts whose lease ran out, but for those of some rollouts.
    pub(super) fn take_over(
        &mut self,
        request: &ClaimRequest<'_>,
        lacking: &BTreeSet<RolloutId>,
    ) -> Vec<Claim> {
        let mut lost: Vec<Order> = (self.in_flight())
            .filter(|attempt| attempt.site == request.site)
            .filter(|attempt| !lacking.contains(&attempt.rollout))
            .filter(|attempt| attempt.lease_until.is_some_and(|until| until <= request.at))
            .map(order)
            .collect();
        lost.sort_unstable();
        lost.truncate(request.limit);
        let mut claims = Vec::with_capacity(lost.len());
        for (.., id) in lost {
            let Some(attempt) = self.all.get_mut(index(id)) else { continue };
            let worker = attempt.worker.take().unwrap_or_default();
            hold(attempt, request);
            claims.push(Claim { attempt: attempt.clone(), taken_from: Some(worker) });
        }
        claims
    }

    pub(super) fn renew(
        &mut self,
        worker: &str,
        attempts: &[AttemptId],
        until: Stamp,
    ) -> Vec<AttemptId> {
        let named: BTreeSet<_> = attempts.iter().copied().collect();
        let held = named.into_iter().filter(|id| match self.all.get_mut(index(*id)) {
            Some(attempt) if is_leased(attempt, worker) => {
                attempt.lease_until = Some(until);
                true
            }
            _ => false,
        });
        held.collect()
    }

    /// Keeps how far the drain programs are with a host.
    pub(super) fn drain(&mut self, id: AttemptId, step: &DrainStep<'_>) -> Result<(), StoreError> {
        let attempt = self.one_mut(id)?;
        attempt.drain = step.drain();
        if let Some(stage) = step.stage() {
            attempt.stage = Some(stage.to_owned());
        }
        if let Some(outcome) = step.outcome() {
            attempt.reason = outcome.reason.map(str::to_owned);
            attempt.flash = outcome.flash.map(str::to_owned);
            attempt.detail = text::detail(outcome.detail);
        }
        Ok(())
    }

    /// Gives a host in flight the state that it has when it is put back.
    pub(super) fn put_back(
        &mut self,
        id: AttemptId,
        state: AttemptState,
        at: Stamp,
    ) -> Result<(), StoreError> {
        let attempt = self.one_mut(id)?;
        attempt.state = state;
        (attempt.worker, attempt.lease_until, attempt.stage) = (None, None, None);
        attempt.started_at = None;
        attempt.ended_at = (state == AttemptState::Skipped).then_some(at);
        let (host, site, place) = (attempt.host.clone(), attempt.site.clone(), order(attempt));
        self.in_flight.remove(&host);
        if state == AttemptState::Planned {
            self.planned.entry(site).or_default().insert(place);
        }
        Ok(())
    }

    /// The confirmed hosts of a wave that nobody has seen healthy, by place.
    pub(super) fn unseen(&self, rollout: RolloutId, wave: u32) -> impl Iterator<Item = &Attempt> {
        let all = self.places.range(places(rollout, wave));
        all.filter_map(|place| self.all.get(index(place.3)))
            .filter(|attempt| attempt.state == AttemptState::Confirmed && !is_healthy(attempt))
    }

    /// Whether looks at a host of a site may be claimed.
    pub(super) fn may_be_looked_at(&self, attempt: &Attempt, request: &LookRequest<'_>) -> bool {
        attempt.site == request.site
            && attempt.lease_until.is_none_or(|until| until <= request.at)
            && !self.in_flight.contains_key(&attempt.host)
    }

    pub(super) fn hold_look(
        &mut self,
        id: AttemptId,
        request: &LookRequest<'_>,
    ) -> Result<Attempt, StoreError> {
        let attempt = self.one_mut(id)?;
        attempt.worker = Some(request.worker.to_owned());
        attempt.lease_until = Some(request.until());
        Ok(attempt.clone())
    }

    /// Keeps what a look came to, and returns in which round the attempt had ended.
    pub(super) fn keep_look(&mut self, id: AttemptId, look: &Look) -> Result<u64, StoreError> {
        let round = self.rounds.get(index(id)).copied().unwrap_or_default();
        let attempt = self.one_mut(id)?;
        if look.health != Health::Unclear {
            attempt.lease_until = None;
        }
        if look.health == Health::Sick {
            attempt.state = AttemptState::Failed;
            attempt.reason = Some(look.reason.clone());
            attempt.flash = Some("unknown".to_owned());
            attempt.detail = sick_detail(look);
        }
        attempt.look = Some(Look { detail: text::detail(&look.detail), ..look.clone() });
        Ok(round)
    }

    pub(super) fn end(
        &mut self,
        id: AttemptId,
        outcome: &Outcome<'_>,
        (at, round): (Stamp, u64),
    ) -> Result<(), StoreError> {
        if let Some(ended) = self.rounds.get_mut(index(id)) {
            *ended = round;
        }
        let attempt = self.one_mut(id)?;
        attempt.state = outcome.state();
        attempt.lease_until = None;
        attempt.reason = outcome.reason.map(str::to_owned);
        attempt.flash = outcome.flash.map(str::to_owned);
        attempt.detail = text::detail(outcome.detail);
        attempt.ended_at = Some(at);
        let host = attempt.host.clone();
        self.in_flight.remove(&host);
        Ok(())
    }
}

/// Whether the host is in flight, or looked at.
fn is_leased(attempt: &Attempt, worker: &str) -> bool {
    attempt.worker.as_deref() == Some(worker) && attempt.lease_until.is_some()
}

fn is_held(attempt: &Attempt, worker: &str) -> bool {
    attempt.worker.as_deref() == Some(worker) && attempt.state == AttemptState::InFlight
}

fn is_healthy(attempt: &Attempt) -> bool {
    attempt.look.as_ref().is_some_and(|look| look.health == Health::Healthy)
}

fn hold(attempt: &mut Attempt, request: &ClaimRequest<'_>) {
    attempt.worker = Some(request.worker.to_owned());
    attempt.lease_until = Some(request.until());
}
