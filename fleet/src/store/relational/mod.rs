//! The store in a database that speaks SQL. One text for both; [`dialect`] has the differences.
//!
//! | file | what it does |
//! | --- | --- |
//! | `sql.rs` | what is needed of a database: statements in transactions |
//! | `dialect.rs` | where the databases differ |
//! | `migrate.rs`, `migrations/` | the schema, version by version |
//! | `hosts.rs` | hosts and releases |
//! | `bundles.rs` | the bundles of releases, in chunks |
//! | `calls.rs` | dead hosts that call for help |
//! | `foresights.rs` | how long updates take |
//! | `creation.rs` | rollouts to be created |
//! | `rollouts.rs` | rollouts and their states |
//! | `waves.rs` | the states of waves, approvals |
//! | `retries.rs` | other tries for what failed |
//! | `claims.rs` | who begins with which hosts |
//! | `attempts.rs` | attempts: leases, reports |
//! | `drains.rs` | hosts that are drained, or put back |
//! | `looks.rs` | looks at confirmed hosts |
//! | `domains.rs` | what the limits count |
//! | `events.rs` | what happened |
//! | `survey.rs` | all of it, counted; workers that were seen |
//! | `webhooks.rs` | who is told of events, and how far they are |
//!
//! Whoever changes anything of a rollout holds its row first, and the lock for events last. Between
//! the two only a report waits, for its attempt.

mod attempts;
mod bundles;
mod calls;
mod claims;
mod creation;
pub(super) mod dialect;
mod domains;
mod drains;
mod events;
mod foresights;
mod hosts;
mod looks;
pub(super) mod migrate;
mod retries;
mod rollouts;
pub(super) mod sql;
mod survey;
mod waves;
mod webhooks;

use std::time::Duration;

use events::News;
use sql::{Database, Sql};

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

/// A store in a database.
#[derive(Debug)]
pub struct Relational<D> {
    database: D,
}

#[allow(private_bounds)] // Databases are made in this room only.
impl<D: Database> Relational<D> {
    pub(super) fn new(database: D) -> Self {
        Self { database }
    }

    #[cfg(test)]
    pub(super) fn database(&mut self) -> &mut D {
        &mut self.database
    }

    /// Does `work` in a transaction, and appends what it has to tell at the end.
    fn tell<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Sql, &mut Vec<News>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.database.transaction(|sql| {
            let mut news = Vec::new();
            let answer = work(sql, &mut news)?;
            events::append(sql, news)?;
            Ok(answer)
        })
    }
}

fn page(limit: usize) -> Result<i64, StoreError> {
    text::at_most("the number of rows of a page", limit, PAGE_MAX)?;
    Ok(i64::try_from(limit).unwrap_or(i64::MAX))
}

impl<D: Database> Store for Relational<D> {
    fn now(&mut self) -> Result<Stamp, StoreError> {
        self.database.now()
    }

    fn put_hosts(&mut self, hosts: &[Host]) -> Result<(), StoreError> {
        text::at_most("the number of hosts", hosts.len(), HOSTS_AT_ONCE_MAX)?;
        hosts.iter().try_for_each(text::host)?;
        self.database.transaction(|sql| hosts.iter().try_for_each(|host| hosts::put(sql, host)))
    }

    fn host(&mut self, name: &str) -> Result<Option<Host>, StoreError> {
        text::words("the name of a host", name)?;
        self.database.read(|sql| hosts::one(sql, name))
    }

    fn hosts(&mut self, after: &str, limit: usize) -> Result<Vec<Host>, StoreError> {
        text::words("the name of a host", after)?;
        let limit = page(limit)?;
        self.database.read(|sql| hosts::page(sql, after, limit))
    }

    fn add_release(&mut self, release: &Release) -> Result<Changed, StoreError> {
        text::release(release)?;
        self.database.transaction(|sql| hosts::add_release(sql, release))
    }

    fn release(&mut self, digest: &str) -> Result<Option<Release>, StoreError> {
        text::words("the digest of a release", digest)?;
        self.database.read(|sql| hosts::one_release(sql, digest))
    }

    fn releases(&mut self, after: &str, limit: usize) -> Result<Vec<Release>, StoreError> {
        text::words("the digest of a release", after)?;
        let limit = page(limit)?;
        self.database.read(|sql| hosts::releases(sql, after, limit))
    }

    fn put_chunk(&mut self, release: &str, number: u32, bytes: &[u8]) -> Result<(), StoreError> {
        text::words("the digest of a release", release)?;
        self.database.transaction(|sql| bundles::put_chunk(sql, release, number, bytes))
    }

    fn close_bundle(&mut self, release: &str) -> Result<Changed, StoreError> {
        text::words("the digest of a release", release)?;
        self.database.transaction(|sql| bundles::close(sql, release))
    }

    fn has_bundle(&mut self, release: &str) -> Result<bool, StoreError> {
        text::words("the digest of a release", release)?;
        self.database.read(|sql| bundles::is_whole(sql, release))
    }

    fn chunk(&mut self, release: &str, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        text::words("the digest of a release", release)?;
        self.database.read(|sql| bundles::chunk(sql, release, number))
    }

    fn remove_release(&mut self, release: &str) -> Result<(), StoreError> {
        text::words("the digest of a release", release)?;
        self.database.transaction(|sql| bundles::remove(sql, release))
    }

    fn releases_due(&mut self, site: &str) -> Result<Vec<String>, StoreError> {
        text::words("the name of a site", site)?;
        self.database.read(|sql| bundles::due(sql, site))
    }

    fn tell_bundle(&mut self, worker: &str, words: &str, at: Stamp) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        self.tell(|_, news| {
            news.push(bundles::tell(worker, words, at));
            Ok(())
        })
    }

    fn keep_foresights(&mut self, foresights: &[Foresight]) -> Result<(), StoreError> {
        let foresights = in_order(foresights)?;
        self.database.transaction(|sql| foresights::keep(sql, &foresights))
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
        self.database.read(|sql| foresights::page(sql, release, after, limit))
    }

    fn board_times(&mut self) -> Result<Vec<BoardTimes>, StoreError> {
        self.database.read(foresights::boards)
    }

    fn create_rollout(&mut self, new: &NewRollout) -> Result<RolloutId, StoreError> {
        new.check()?;
        let frozen = new.freeze()?;
        self.tell(|sql, news| creation::create(sql, new, &frozen, news))
    }

    fn rollouts(&mut self, after: RolloutId, limit: usize) -> Result<Vec<Rollout>, StoreError> {
        let limit = page(limit)?;
        self.database.read(|sql| rollouts::page(sql, after, limit))
    }

    fn under_way(&mut self, after: RolloutId, limit: usize) -> Result<Vec<RolloutId>, StoreError> {
        let limit = page(limit)?;
        self.database.read(|sql| rollouts::under_way(sql, after, limit))
    }

    fn rollout(&mut self, id: RolloutId) -> Result<Option<RolloutWaves>, StoreError> {
        self.database.read(|sql| rollouts::find(sql, "id", id.into()))
    }

    fn rollout_named(&mut self, name: &str) -> Result<Option<RolloutWaves>, StoreError> {
        text::words("the name of a rollout", name)?;
        self.database.read(|sql| rollouts::find(sql, "name", name.into()))
    }

    fn attempts(
        &mut self,
        rollout: RolloutId,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Attempt>, StoreError> {
        let limit = page(limit)?;
        self.database.read(|sql| attempts::page(sql, rollout, after, limit))
    }

    fn in_flight(&mut self, after: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        text::words("the name of a host", after)?;
        let limit = page(limit)?;
        self.database.read(|sql| attempts::in_flight(sql, after, limit))
    }

    fn attempts_of(&mut self, host: &str, limit: usize) -> Result<Vec<Attempt>, StoreError> {
        text::words("the name of a host", host)?;
        let limit = page(limit)?;
        self.database.read(|sql| attempts::of_host(sql, host, limit))
    }

    fn counts(&mut self, rollout: RolloutId) -> Result<Vec<Count>, StoreError> {
        self.database.read(|sql| attempts::counts(sql, rollout))
    }

    fn counters(&mut self, rollout: RolloutId) -> Result<Counts, StoreError> {
        self.database.read(|sql| domains::all(sql, rollout))
    }

    fn change_state(
        &mut self,
        rollout: RolloutId,
        change: &StateChange<'_>,
    ) -> Result<Changed, StoreError> {
        text::words("the reason of a change", change.reason)?;
        text::name("who changes a rollout", change.by)?;
        self.tell(|sql, news| rollouts::change_state(sql, rollout, change, news))
    }

    fn change_wave(
        &mut self,
        rollout: RolloutId,
        wave: u32,
        change: &WaveChange<'_>,
    ) -> Result<Changed, StoreError> {
        text::name("who changes a wave", change.by)?;
        self.tell(|sql, news| waves::change_wave(sql, rollout, wave, change, news))
    }

    fn approve(
        &mut self,
        rollout: RolloutId,
        approval: &SignedApproval,
    ) -> Result<Changed, StoreError> {
        approval.check()?;
        self.tell(|sql, news| waves::approve(sql, rollout, approval, news))
    }

    fn approvals(&mut self, rollout: RolloutId) -> Result<Vec<SignedApproval>, StoreError> {
        self.database.read(|sql| waves::approvals(sql, rollout))
    }

    fn retry_failed(
        &mut self,
        rollout: RolloutId,
        retry: &Retry<'_>,
    ) -> Result<Vec<Replanned>, StoreError> {
        text::name("who retries", retry.by)?;
        self.tell(|sql, news| retries::retry_failed(sql, rollout, retry, news))
    }

    fn claim(&mut self, request: &ClaimRequest<'_>) -> Result<Vec<Claim>, StoreError> {
        request.check()?;
        self.tell(|sql, news| claims::claim(sql, request, news))
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
        self.database.transaction(|sql| attempts::renew(sql, worker, attempts, until))
    }

    fn tell_stage(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        stage: &str,
        at: Stamp,
    ) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        self.tell(|sql, news| attempts::tell_stage(sql, attempt, worker, stage, at, news))
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
        self.tell(|sql, news| attempts::report(sql, attempt, worker, outcome, at, news))
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
        self.tell(|sql, news| drains::tell(sql, attempt, worker, (step, at), news))
    }

    fn put_back(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        why: &str,
        at: Stamp,
    ) -> Result<(), StoreError> {
        text::name("the name of a worker", worker)?;
        self.tell(|sql, news| drains::put_back(sql, attempt, worker, (why, at), news))
    }

    fn claim_looks(&mut self, request: &LookRequest<'_>) -> Result<Vec<Attempt>, StoreError> {
        request.check()?;
        self.database.transaction(|sql| looks::claim(sql, request))
    }

    fn report_look(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        look: &Look,
    ) -> Result<Changed, StoreError> {
        text::name("the name of a worker", worker)?;
        check_look(look)?;
        self.tell(|sql, news| looks::report(sql, attempt, worker, look, news))
    }

    fn events(&mut self, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError> {
        let limit = page(limit)?;
        self.database.read(|sql| events::after(sql, after, limit))
    }

    fn past_events(
        &mut self,
        which: &LookBack<'_>,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let limit = page(limit)?;
        self.database.read(|sql| events::before(sql, which, limit))
    }

    fn tell_calls(
        &mut self,
        worker: &str,
        calls: &[Call],
        news: &[CallNews],
        at: Stamp,
    ) -> Result<(), StoreError> {
        check_calls(worker, calls, news)?;
        self.tell(|sql, told| calls::tell(sql, worker, calls, news, at, told))
    }

    fn calls(&mut self, at: Stamp) -> Result<Vec<Call>, StoreError> {
        self.database.read(|sql| calls::all(sql, at))
    }

    fn see_worker(&mut self, worker: &Worker) -> Result<(), StoreError> {
        text::worker(worker)?;
        check_lacking(&worker.lacking)?;
        self.database.transaction(|sql| survey::see_worker(sql, worker))
    }

    fn workers(&mut self) -> Result<Vec<Worker>, StoreError> {
        self.database.read(survey::workers)
    }

    fn survey(&mut self, at: Stamp) -> Result<Survey, StoreError> {
        self.database.read(|sql| survey::survey(sql, at))
    }

    fn add_webhook(&mut self, webhook: &Webhook) -> Result<Changed, StoreError> {
        text::webhook(webhook)?;
        self.database.transaction(|sql| webhooks::add(sql, webhook))
    }

    fn webhooks(&mut self) -> Result<Vec<Webhook>, StoreError> {
        self.database.read(webhooks::all)
    }

    fn set_secrets(&mut self, name: &str, secrets: &[Secret]) -> Result<(), StoreError> {
        text::secrets(secrets)?;
        text::name("the name of a webhook", name)?;
        self.database.transaction(|sql| webhooks::set_secrets(sql, name, secrets))
    }

    fn remove_webhook(&mut self, name: &str) -> Result<(), StoreError> {
        text::name("the name of a webhook", name)?;
        self.database.transaction(|sql| webhooks::remove(sql, name))
    }

    fn tell_delivery(
        &mut self,
        webhook: WebhookId,
        delivery: &Delivery,
    ) -> Result<Changed, StoreError> {
        self.database.transaction(|sql| webhooks::tell(sql, webhook, delivery))
    }

    fn hold_webhooks(&mut self, holder: &str, at: Stamp, until: Stamp) -> Result<bool, StoreError> {
        text::name("the name of a sender", holder)?;
        self.database.transaction(|sql| webhooks::hold(sql, holder, at, until))
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), StoreError> {
        self.database.wait(timeout)
    }
}
