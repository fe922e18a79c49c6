//! The store in memory: for the simulator, and as the model that the others are held against.

mod attempts;
mod budget;
mod bundles;
mod drains;
mod foresights;
mod looks;
mod rollouts;
mod survey;
mod webhooks;

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock;
use super::contract::Store;
use super::error::StoreError;
use super::requests::{
    Changed, Claim, ClaimRequest, Count, DrainStep, HOSTS_AT_ONCE_MAX, LookBack, LookRequest,
    NewRollout, Outcome, PAGE_MAX, Place, RENEW_MAX, Replanned, Retry, RolloutWaves,
    SignedApproval, StateChange, Survey, WaveChange, check_lacking, check_look, in_order, unknown,
};
use super::text;
use super::words::word;
use crate::model::{
    Attempt, AttemptId, BoardTimes, Delivery, Event, EventId, EventKind, Foresight, Host, Look,
    Release, Rollout, RolloutId, RolloutState, Secret, Stamp, WaveState, Webhook, WebhookId,
    Worker,
};
use crate::rollout::limits::Counts;

use attempts::Attempts;
use bundles::Bundles;
use rollouts::Kept;
use webhooks::Webhooks;

/// The store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    hosts: BTreeMap<String, Host>,
    /// Whose key it is.
    keys: BTreeMap<String, String>,
    releases: BTreeMap<String, Release>,
    bundles: Bundles,
    /// By release and host.
    foresights: BTreeMap<(String, String), Foresight>,
    /// By number, from 1.
    rollouts: Vec<Kept>,
    attempts: Attempts,
    events: Vec<Event>,
    /// By name.
    workers: BTreeMap<String, Worker>,
    webhooks: Webhooks,
}

impl MemoryStore {
    fn tell(
        &mut self,
        at: Stamp,
        rollout: impl Into<Option<RolloutId>>,
        by: &str,
        kind: EventKind,
        detail: &str,
    ) {
        let (by, detail) = (by.to_owned(), text::detail(detail));
        let id = next_id(self.events.len());
        self.events.push(Event { id, at, rollout: rollout.into(), host: None, by, kind, detail });
    }

    fn tell_of(&mut self, attempt: &Attempt, kind: EventKind, by: &str, at: Stamp, detail: &str) {
        self.tell(at, attempt.rollout, by, kind, detail);
        if let Some(event) = self.events.last_mut() {
            event.host = Some(attempt.host.clone());
        }
    }
}

fn next_id(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).saturating_add(1)
}

fn bounded(limit: usize) -> Result<usize, StoreError> {
    text::at_most("the number of rows of a page", limit, PAGE_MAX)?;
    Ok(limit)
}

fn after<'a, T: Clone>(
    map: &'a BTreeMap<String, T>,
    after: &str,
) -> impl Iterator<Item = T> + use<'a, T> {
    use std::ops::Bound::{Excluded, Unbounded};
    map.range::<str, _>((Excluded(after), Unbounded)).map(|(_, each)| each.clone())
}

impl Store for MemoryStore {
    fn now(&mut self) -> Result<Stamp, StoreError> {
        Ok(clock::now())
    }

    fn put_hosts(&mut self, hosts: &[Host]) -> Result<(), StoreError> {
        text::at_most("the number of hosts", hosts.len(), HOSTS_AT_ONCE_MAX)?;
        hosts.iter().try_for_each(text::host)?;
        // What the keys would be, on a copy of what changes.
        let mut given = BTreeMap::<&str, Option<&str>>::new();
        let mut held = BTreeMap::<&str, &str>::new();
        for host in hosts {
            let kept = self.keys.get(&host.key).map(String::as_str);
            let owner = given.get(host.key.as_str()).copied().unwrap_or(kept);
            if let Some(owner) = owner.filter(|owner| *owner != host.name) {
                let (name, owner) = (host.name.clone(), owner.to_owned());
                return Err(StoreError::KeyOfAnother { name, owner });
            }
            let before = held.insert(&host.name, &host.key);
            let kept = self.hosts.get(&host.name).map(|host| host.key.as_str());
            if let Some(before) = before.or(kept) {
                given.insert(before, None);
            }
            given.insert(&host.key, Some(&host.name));
        }
        for host in hosts {
            let before = self.hosts.insert(host.name.clone(), host.clone());
            if let Some(before) = before
                && self.keys.get(&before.key) == Some(&host.name)
            {
                self.keys.remove(&before.key);
            }
            self.keys.insert(host.key.clone(), host.name.clone());
        }
        Ok(())
    }

    fn host(&mut self, name: &str) -> Result<Option<Host>, StoreError> {
        text::words("the name of a host", name)?;
        Ok(self.hosts.get(name).cloned())
    }

    fn hosts(&mut self, name: &str, limit: usize) -> Result<Vec<Host>, StoreError> {
        text::words("the name of a host", name)?;
        Ok(after(&self.hosts, name).take(bounded(limit)?).collect())
    }

    fn add_release(&mut self, release: &Release) -> Result<Changed, StoreError> {
        text::release(release)?;
        if self.releases.contains_key(&release.digest) {
            return Ok(Changed::Before);
        }
        self.releases.insert(release.digest.clone(), release.clone());
        Ok(Changed::Now)
    }

    fn release(&mut self, digest: &str) -> Result<Option<Release>, StoreError> {
        text::words("the digest of a release", digest)?;
        Ok(self.releases.get(digest).cloned())
    }

    fn releases(&mut self, digest: &str, limit: usize) -> Result<Vec<Release>, StoreError> {
        text::words("the digest of a release", digest)?;
        Ok(after(&self.releases, digest).take(bounded(limit)?).collect())
    }

    fn put_chunk(&mut self, release: &str, number: u32, bytes: &[u8]) -> Result<(), StoreError> {
        text::words("the digest of a release", release)?;
        self.keep_chunk(release, number, bytes)
    }

    fn close_bundle(&mut self, release: &str) -> Result<Changed, StoreError> {
        text::words("the digest of a release", release)?;
        self.finish_bundle(release)
    }

    fn has_bundle(&mut self, release: &str) -> Result<bool, StoreError> {
        text::words("the digest of a release", release)?;
        Ok(self.bundles.is_whole(release))
    }

    fn chunk(&mut self, release: &str, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        text::words("the digest of a release", release)?;
        Ok(self.bundles.chunk(release, number))
    }

    fn remove_release(&mut self, release: &str) -> Result<(), StoreError> {
        text::words("the digest of a release", release)?;
        self.forget_release(release)
    }

    fn releases_due(&mut self, site: &str) -> Result<Vec<String>, StoreError> {
        text::words("the name of a site", site)?;
        Ok(self.due(site))
    }

    fn tell_bundle(&mut self, worker: &str, words: &str, at: Stamp) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        self.tell(at, None, worker, EventKind::Bundle, words);
        Ok(())
    }

    fn keep_foresights(&mut self, foresights: &[Foresight]) -> Result<(), StoreError> {
        self.keep(&in_order(foresights)?)
    }

    fn foresights(
        &mut self,
        release: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Foresight>, StoreError> {
        text::words("the digest of a release", release)?;
        text::words("the name of a host", after)?;
        Ok(self.foreseen(release, after, bounded(limit)?))
    }

    fn board_times(&mut self) -> Result<Vec<BoardTimes>, StoreError> {
        Ok(self.times_by_board())
    }

    fn create_rollout(&mut self, new: &NewRollout) -> Result<RolloutId, StoreError> {
        new.check()?;
        let frozen = new.freeze()?;
        if !self.releases.contains_key(&new.release) {
            return Err(unknown("release", &new.release));
        }
        if self.rollouts.iter().any(|kept| kept.rollout.name == new.name) {
            return Err(StoreError::NameTaken { name: new.name.clone() });
        }
        if let Some(missing) =
            new.attempts.iter().find(|attempt| !self.hosts.contains_key(&attempt.host))
        {
            return Err(unknown("host", &missing.host));
        }
        let id = next_id(self.rollouts.len());
        frozen.attempts.iter().for_each(|placed| self.attempts.plan(id, placed));
        self.rollouts.push(Kept::new(id, new, frozen));
        self.tell(new.at, id, &new.created_by, EventKind::Created, &new.name);
        Ok(id)
    }

    fn rollouts(&mut self, after: RolloutId, limit: usize) -> Result<Vec<Rollout>, StoreError> {
        let rollouts = self.rollouts.iter().map(|kept| &kept.rollout);
        let later = rollouts.filter(|rollout| rollout.id > after);
        Ok(later.take(bounded(limit)?).cloned().collect())
    }

    fn under_way(&mut self, after: RolloutId, limit: usize) -> Result<Vec<RolloutId>, StoreError> {
        let moves = |state| matches!(state, RolloutState::Scheduled | RolloutState::Running);
        let rollouts = self.rollouts.iter().map(|kept| &kept.rollout);
        let under_way = rollouts.filter(|rollout| rollout.id > after && moves(rollout.state));
        Ok(under_way.take(bounded(limit)?).map(|rollout| rollout.id).collect())
    }

    fn rollout(&mut self, id: RolloutId) -> Result<Option<RolloutWaves>, StoreError> {
        Ok(self.kept(id).ok().map(|kept| kept.shown()))
    }

    fn rollout_named(&mut self, name: &str) -> Result<Option<RolloutWaves>, StoreError> {
        text::words("the name of a rollout", name)?;
        Ok(self.rollouts.iter().find(|kept| kept.rollout.name == name).map(Kept::shown))
    }

    fn attempts(
        &mut self,
        rollout: RolloutId,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Attempt>, StoreError> {
        Ok(self.attempts.page(rollout, after, bounded(limit)?))
    }

    fn in_flight(&mut self, after: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        text::words("the name of a host", after)?;
        Ok(self.attempts.hosts_in_flight(after, bounded(limit)?))
    }

    fn attempts_of(&mut self, host: &str, limit: usize) -> Result<Vec<Attempt>, StoreError> {
        Ok(self.attempts.of_host(host, bounded(limit)?))
    }

    fn counts(&mut self, rollout: RolloutId) -> Result<Vec<Count>, StoreError> {
        Ok(self.attempts.counts(rollout))
    }

    fn counters(&mut self, rollout: RolloutId) -> Result<Counts, StoreError> {
        Ok(self.kept(rollout).map_or(Counts::default(), |kept| kept.budget.counts.clone()))
    }

    fn change_state(
        &mut self,
        rollout: RolloutId,
        change: &StateChange<'_>,
    ) -> Result<Changed, StoreError> {
        text::words("the reason of a change", change.reason)?;
        text::name("who changes a rollout", change.by)?;
        let kept = self.kept(rollout)?;
        if change.judge(&kept.rollout)? == Changed::Before {
            return Ok(Changed::Before);
        }
        self.set_state(rollout, change)?;
        Ok(Changed::Now)
    }

    fn change_wave(
        &mut self,
        rollout: RolloutId,
        wave: u32,
        change: &WaveChange<'_>,
    ) -> Result<Changed, StoreError> {
        text::name("who changes a wave", change.by)?;
        let Rollout { name, state, revision, .. } = self.kept(rollout)?.rollout.clone();
        let kept = self.wave(rollout, wave)?;
        if change.judge((&name, state, revision), wave, kept.state)? == Changed::Before {
            return Ok(Changed::Before);
        }
        let is_end = (kept.state, change.to) == (WaveState::Looking, WaveState::Finished);
        kept.state = change.to;
        kept.since = change.at;
        let detail = format!("{}: {}", kept.name, word(&change.to));
        self.tell(change.at, rollout, change.by, EventKind::Wave, &detail);
        if is_end {
            self.end_looks(rollout, wave, change)?;
        }
        Ok(Changed::Now)
    }

    fn approve(
        &mut self,
        rollout: RolloutId,
        approval: &SignedApproval,
    ) -> Result<Changed, StoreError> {
        approval.check()?;
        let name = self.wave(rollout, approval.wave)?.name.clone();
        let approvals = &mut self.kept(rollout)?.approvals;
        let key = (approval.wave, approval.key.clone());
        if approvals.contains_key(&key) {
            return Ok(Changed::Before);
        }
        approvals.insert(key, approval.clone());
        self.tell(approval.at, rollout, &approval.by, EventKind::Approved, &name);
        Ok(Changed::Now)
    }

    fn approvals(&mut self, rollout: RolloutId) -> Result<Vec<SignedApproval>, StoreError> {
        Ok(self.kept(rollout).map_or(Vec::new(), |kept| kept.approvals.values().cloned().collect()))
    }

    fn retry_failed(
        &mut self,
        rollout: RolloutId,
        retry: &Retry<'_>,
    ) -> Result<Vec<Replanned>, StoreError> {
        text::name("who retries", retry.by)?;
        self.plan_again(rollout, retry)
    }

    fn claim(&mut self, request: &ClaimRequest<'_>) -> Result<Vec<Claim>, StoreError> {
        request.check()?;
        let lacking = self.rollouts_lacking(request.lacking);
        let mut claims = self.attempts.take_over(request, &lacking);
        for claim in &claims {
            let before = claim.taken_from.as_deref().unwrap_or_default();
            let (kind, at) = (EventKind::LeaseLost, request.at);
            self.tell_of(&claim.attempt, kind, request.worker, at, before);
        }
        for (rollout, seconds) in request.opened() {
            let limit = request.limit - claims.len();
            if limit > 0 && !lacking.contains(&rollout) {
                claims.extend(self.begin(request, (rollout, seconds), limit)?);
            }
        }
        Ok(claims)
    }

    fn renew(
        &mut self,
        worker: &str,
        attempts: &[AttemptId],
        at: Stamp,
        lease_us: i64,
    ) -> Result<Vec<AttemptId>, StoreError> {
        text::name("the name of a worker", worker)?;
        text::at_most("the number of leases to renew", attempts.len(), RENEW_MAX)?;
        Ok(self.attempts.renew(worker, attempts, at.saturating_add(lease_us)))
    }

    fn tell_stage(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        stage: &str,
        at: Stamp,
    ) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        let attempt = self.attempts.reach(attempt, worker, stage)?.clone();
        self.tell_of(&attempt, EventKind::Stage, worker, at, stage);
        Ok(())
    }

    fn report(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        outcome: &Outcome<'_>,
        at: Stamp,
    ) -> Result<Changed, StoreError> {
        text::name("the name of a worker", worker)?;
        outcome.check()?;
        let kept = self.attempts.one(attempt)?.clone();
        if outcome.judge(&kept, worker)? == Changed::Before {
            return Ok(Changed::Before);
        }
        let round = self.kept(kept.rollout)?.budget.round;
        self.attempts.end(attempt, outcome, (at, round))?;
        if outcome.may_have_changed() {
            self.forget(&kept.host);
        }
        self.tell_of(&kept, EventKind::Ended, worker, at, &outcome.told());
        let cohort = self.attempts.cohort(attempt);
        let reached = self.kept(kept.rollout)?.budget.end(cohort, outcome.ending());
        if let Some(reached) = reached {
            self.halt(kept.rollout, &reached, worker, at)?;
        }
        Ok(Changed::Now)
    }

    fn tell_drain(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        step: &DrainStep<'_>,
        at: Stamp,
    ) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        step.check()?;
        self.keep_drain(attempt, worker, step, at)
    }

    fn put_back(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        why: &str,
        at: Stamp,
    ) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        self.undo_claim(attempt, worker, why, at)
    }

    fn claim_looks(&mut self, request: &LookRequest<'_>) -> Result<Vec<Attempt>, StoreError> {
        request.check()?;
        self.begin_looks(request)
    }

    fn report_look(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        look: &Look,
    ) -> Result<Changed, StoreError> {
        text::name("the name of a worker", worker)?;
        check_look(look)?;
        self.end_look(attempt, worker, look)
    }

    fn events(&mut self, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError> {
        let before = usize::try_from(after).unwrap_or(0);
        Ok(self.events.iter().skip(before).take(bounded(limit)?).cloned().collect())
    }

    fn past_events(
        &mut self,
        which: &LookBack<'_>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let is_wanted = |event: &&Event| {
            event.id < which.before
                && which.rollout.is_none_or(|rollout| event.rollout == Some(rollout))
                && which.host.is_none_or(|host| event.host.as_deref() == Some(host))
        };
        Ok(self.events.iter().rev().filter(is_wanted).take(bounded(limit)?).cloned().collect())
    }

    fn see_worker(&mut self, worker: &Worker) -> Result<(), StoreError> {
        text::worker(worker)?;
        check_lacking(&worker.lacking)?;
        let waits_for = text::detail(&worker.waits_for);
        self.keep_worker(&Worker { waits_for, ..worker.clone() });
        Ok(())
    }

    fn workers(&mut self) -> Result<Vec<Worker>, StoreError> {
        Ok(self.seen_workers())
    }

    fn survey(&mut self, at: Stamp) -> Result<Survey, StoreError> {
        Ok(self.count_all(at))
    }

    fn add_webhook(&mut self, webhook: &Webhook) -> Result<Changed, StoreError> {
        text::webhook(webhook)?;
        self.webhooks.add(webhook)
    }

    fn webhooks(&mut self) -> Result<Vec<Webhook>, StoreError> {
        Ok(self.webhooks.all())
    }

    fn set_secrets(&mut self, name: &str, secrets: &[Secret]) -> Result<(), StoreError> {
        text::secrets(secrets)?;
        self.webhooks.set_secrets(name, secrets)
    }

    fn remove_webhook(&mut self, name: &str) -> Result<(), StoreError> {
        self.webhooks.remove(name)
    }

    fn tell_delivery(
        &mut self,
        webhook: WebhookId,
        delivery: &Delivery,
    ) -> Result<Changed, StoreError> {
        Ok(self.webhooks.tell(webhook, delivery))
    }

    fn hold_webhooks(&mut self, holder: &str, at: Stamp, until: Stamp) -> Result<bool, StoreError> {
        text::name("the name of a sender", holder)?;
        Ok(self.webhooks.hold(holder, at, until))
    }

    /// Returns at once: there is no other thread to wait for.
    fn wait(&mut self, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }
}
