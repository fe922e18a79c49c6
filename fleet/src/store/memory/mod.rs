//! The store in memory: for the simulator, and as the model that the others are held against. Its
//! files have the names of those in `relational/`, which do the same in SQL.
//!
//! | file | what it does |
//! | --- | --- |
//! | `table.rs` | the attempts, with what databases have indexes for |
//! | `hosts.rs` | hosts and releases |
//! | `bundles.rs` | the bundles of releases, in chunks |
//! | `calls.rs` | dead hosts that call for help |
//! | `foresights.rs` | how long updates take |
//! | `creation.rs` | rollouts to be created |
//! | `rollouts.rs` | rollouts and their states |
//! | `waves.rs` | the states of waves, approvals, retries |
//! | `retries.rs` | other tries for what failed |
//! | `claims.rs` | who begins with which hosts |
//! | `attempts.rs` | attempts: leases, reports |
//! | `drains.rs` | hosts that are drained, or put back |
//! | `looks.rs` | looks at confirmed hosts |
//! | `domains.rs` | what the limits count |
//! | `events.rs` | what happened |
//! | `survey.rs` | all of it, counted; workers that were seen |
//! | `webhooks.rs` | who is told of events, and how far they are |

mod attempts;
mod bundles;
mod calls;
mod claims;
mod creation;
mod domains;
mod drains;
mod events;
mod foresights;
mod hosts;
mod looks;
mod retries;
mod rollouts;
mod survey;
mod table;
mod waves;
mod webhooks;

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock;
use super::contract::Store;
use super::error::StoreError;
use super::requests::{
    Changed, Claim, ClaimRequest, Count, DrainStep, HOSTS_AT_ONCE_MAX, LookBack, LookRequest,
    NewRollout, Outcome, PAGE_MAX, Place, RENEW_MAX, Replanned, Retry, RolloutWaves,
    SignedApproval, StateChange, Survey, WaveChange, check_calls, check_lacking, check_look,
    in_order,
};
use super::text;
use crate::model::{
    Attempt, AttemptId, BoardTimes, Call, CallNews, Delivery, Event, EventId, Foresight, Host,
    Look, Release, Rollout, RolloutId, Secret, Stamp, Webhook, WebhookId, Worker,
};
use crate::rollout::limits::Counts;

use bundles::Bundles;
use rollouts::Kept;
use table::Attempts;
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
    /// By worker and host.
    calls: BTreeMap<(String, String), Call>,
    webhooks: Webhooks,
}

fn next_id(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).saturating_add(1)
}

fn page(limit: usize) -> Result<usize, StoreError> {
    text::at_most("the number of rows of a page", limit, PAGE_MAX)?;
    Ok(limit)
}

impl Store for MemoryStore {
    fn now(&mut self) -> Result<Stamp, StoreError> {
        Ok(clock::now())
    }

    fn put_hosts(&mut self, hosts: &[Host]) -> Result<(), StoreError> {
        text::at_most("the number of hosts", hosts.len(), HOSTS_AT_ONCE_MAX)?;
        hosts.iter().try_for_each(text::host)?;
        hosts::put(self, hosts)
    }

    fn host(&mut self, name: &str) -> Result<Option<Host>, StoreError> {
        text::words("the name of a host", name)?;
        Ok(hosts::one(self, name))
    }

    fn hosts(&mut self, after: &str, limit: usize) -> Result<Vec<Host>, StoreError> {
        text::words("the name of a host", after)?;
        let limit = page(limit)?;
        Ok(hosts::page(self, after, limit))
    }

    fn add_release(&mut self, release: &Release) -> Result<Changed, StoreError> {
        text::release(release)?;
        Ok(hosts::add_release(self, release))
    }

    fn release(&mut self, digest: &str) -> Result<Option<Release>, StoreError> {
        text::words("the digest of a release", digest)?;
        Ok(hosts::one_release(self, digest))
    }

    fn releases(&mut self, after: &str, limit: usize) -> Result<Vec<Release>, StoreError> {
        text::words("the digest of a release", after)?;
        let limit = page(limit)?;
        Ok(hosts::releases(self, after, limit))
    }

    fn put_chunk(&mut self, release: &str, number: u32, bytes: &[u8]) -> Result<(), StoreError> {
        text::words("the digest of a release", release)?;
        bundles::put_chunk(self, release, number, bytes)
    }

    fn close_bundle(&mut self, release: &str) -> Result<Changed, StoreError> {
        text::words("the digest of a release", release)?;
        bundles::close(self, release)
    }

    fn has_bundle(&mut self, release: &str) -> Result<bool, StoreError> {
        text::words("the digest of a release", release)?;
        Ok(bundles::is_whole(self, release))
    }

    fn chunk(&mut self, release: &str, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        text::words("the digest of a release", release)?;
        Ok(bundles::chunk(self, release, number))
    }

    fn remove_release(&mut self, release: &str) -> Result<(), StoreError> {
        text::words("the digest of a release", release)?;
        bundles::remove(self, release)
    }

    fn releases_due(&mut self, site: &str) -> Result<Vec<String>, StoreError> {
        text::words("the name of a site", site)?;
        Ok(bundles::due(self, site))
    }

    fn tell_bundle(&mut self, worker: &str, words: &str, at: Stamp) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        bundles::tell(self, worker, words, at);
        Ok(())
    }

    fn keep_foresights(&mut self, foresights: &[Foresight]) -> Result<(), StoreError> {
        let foresights = in_order(foresights)?;
        foresights::keep(self, &foresights)
    }

    fn foresights(
        &mut self,
        release: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Foresight>, StoreError> {
        text::words("the digest of a release", release)?;
        text::words("the name of a host", after)?;
        let limit = page(limit)?;
        Ok(foresights::page(self, release, after, limit))
    }

    fn board_times(&mut self) -> Result<Vec<BoardTimes>, StoreError> {
        Ok(foresights::boards(self))
    }

    fn create_rollout(&mut self, new: &NewRollout) -> Result<RolloutId, StoreError> {
        new.check()?;
        let frozen = new.freeze()?;
        creation::create(self, new, frozen)
    }

    fn rollouts(&mut self, after: RolloutId, limit: usize) -> Result<Vec<Rollout>, StoreError> {
        let limit = page(limit)?;
        Ok(rollouts::page(self, after, limit))
    }

    fn under_way(&mut self, after: RolloutId, limit: usize) -> Result<Vec<RolloutId>, StoreError> {
        let limit = page(limit)?;
        Ok(rollouts::under_way(self, after, limit))
    }

    fn rollout(&mut self, id: RolloutId) -> Result<Option<RolloutWaves>, StoreError> {
        Ok(rollouts::find(self, |rollout| rollout.id == id))
    }

    fn rollout_named(&mut self, name: &str) -> Result<Option<RolloutWaves>, StoreError> {
        text::words("the name of a rollout", name)?;
        Ok(rollouts::find(self, |rollout| rollout.name == name))
    }

    fn attempts(
        &mut self,
        rollout: RolloutId,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Attempt>, StoreError> {
        let limit = page(limit)?;
        Ok(attempts::page(self, rollout, after, limit))
    }

    fn in_flight(&mut self, after: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        text::words("the name of a host", after)?;
        let limit = page(limit)?;
        Ok(attempts::in_flight(self, after, limit))
    }

    fn attempts_of(&mut self, host: &str, limit: usize) -> Result<Vec<Attempt>, StoreError> {
        text::words("the name of a host", host)?;
        let limit = page(limit)?;
        Ok(attempts::of_host(self, host, limit))
    }

    fn counts(&mut self, rollout: RolloutId) -> Result<Vec<Count>, StoreError> {
        Ok(attempts::counts(self, rollout))
    }

    fn counters(&mut self, rollout: RolloutId) -> Result<Counts, StoreError> {
        Ok(domains::all(self, rollout))
    }

    fn change_state(
        &mut self,
        rollout: RolloutId,
        change: &StateChange<'_>,
    ) -> Result<Changed, StoreError> {
        text::words("the reason of a change", change.reason)?;
        text::name("who changes a rollout", change.by)?;
        rollouts::change_state(self, rollout, change)
    }

    fn change_wave(
        &mut self,
        rollout: RolloutId,
        wave: u32,
        change: &WaveChange<'_>,
    ) -> Result<Changed, StoreError> {
        text::name("who changes a wave", change.by)?;
        waves::change_wave(self, rollout, wave, change)
    }

    fn approve(
        &mut self,
        rollout: RolloutId,
        approval: &SignedApproval,
    ) -> Result<Changed, StoreError> {
        approval.check()?;
        waves::approve(self, rollout, approval)
    }

    fn approvals(&mut self, rollout: RolloutId) -> Result<Vec<SignedApproval>, StoreError> {
        Ok(waves::approvals(self, rollout))
    }

    fn retry_failed(
        &mut self,
        rollout: RolloutId,
        retry: &Retry<'_>,
    ) -> Result<Vec<Replanned>, StoreError> {
        text::name("who retries", retry.by)?;
        retries::retry_failed(self, rollout, retry)
    }

    fn claim(&mut self, request: &ClaimRequest<'_>) -> Result<Vec<Claim>, StoreError> {
        request.check()?;
        claims::claim(self, request)
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
        let until = at.saturating_add(lease_us);
        Ok(attempts::renew(self, worker, attempts, until))
    }

    fn tell_stage(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        stage: &str,
        at: Stamp,
    ) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        attempts::tell_stage(self, attempt, worker, stage, at)
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
        attempts::report(self, attempt, worker, outcome, at)
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
        drains::tell(self, attempt, worker, step, at)
    }

    fn put_back(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        why: &str,
        at: Stamp,
    ) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        drains::put_back(self, attempt, worker, (why, at))
    }

    fn claim_looks(&mut self, request: &LookRequest<'_>) -> Result<Vec<Attempt>, StoreError> {
        request.check()?;
        looks::claim(self, request)
    }

    fn report_look(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        look: &Look,
    ) -> Result<Changed, StoreError> {
        text::name("the name of a worker", worker)?;
        check_look(look)?;
        looks::report(self, attempt, worker, look)
    }

    fn events(&mut self, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError> {
        let limit = page(limit)?;
        Ok(events::after(self, after, limit))
    }

    fn past_events(
        &mut self,
        which: &LookBack<'_>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let limit = page(limit)?;
        Ok(events::before(self, which, limit))
    }

    fn tell_calls(
        &mut self,
        worker: &str,
        calls: &[Call],
        news: &[CallNews],
        at: Stamp,
    ) -> Result<(), StoreError> {
        check_calls(worker, calls, news)?;
        calls::tell(self, worker, calls, news, at);
        Ok(())
    }

    fn calls(&mut self, at: Stamp) -> Result<Vec<Call>, StoreError> {
        Ok(calls::all(self, at))
    }

    fn see_worker(&mut self, worker: &Worker) -> Result<(), StoreError> {
        text::worker(worker)?;
        check_lacking(&worker.lacking)?;
        survey::see_worker(self, worker);
        Ok(())
    }

    fn workers(&mut self) -> Result<Vec<Worker>, StoreError> {
        Ok(survey::workers(self))
    }

    fn survey(&mut self, at: Stamp) -> Result<Survey, StoreError> {
        Ok(survey::survey(self, at))
    }

    fn add_webhook(&mut self, webhook: &Webhook) -> Result<Changed, StoreError> {
        text::webhook(webhook)?;
        webhooks::add(self, webhook)
    }

    fn webhooks(&mut self) -> Result<Vec<Webhook>, StoreError> {
        Ok(webhooks::all(self))
    }

    fn set_secrets(&mut self, name: &str, secrets: &[Secret]) -> Result<(), StoreError> {
        text::secrets(secrets)?;
        text::name("the name of a webhook", name)?;
        webhooks::set_secrets(self, name, secrets)
    }

    fn remove_webhook(&mut self, name: &str) -> Result<(), StoreError> {
        text::name("the name of a webhook", name)?;
        webhooks::remove(self, name)
    }

    fn tell_delivery(
        &mut self,
        webhook: WebhookId,
        delivery: &Delivery,
    ) -> Result<Changed, StoreError> {
        Ok(webhooks::tell(self, webhook, delivery))
    }

    fn hold_webhooks(&mut self, holder: &str, at: Stamp, until: Stamp) -> Result<bool, StoreError> {
        text::name("the name of a sender", holder)?;
        Ok(webhooks::hold(self, holder, at, until))
    }

    /// Returns at once: there is no other thread to wait for.
    fn wait(&mut self, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }
}
