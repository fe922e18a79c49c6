use std::time::Duration;

use super::error::StoreError;
use super::requests::{
    Changed, Claim, ClaimRequest, Count, DrainStep, LookBack, LookRequest, NewRollout, Outcome,
    Place, Replanned, Retry, RolloutWaves, SignedApproval, StateChange, Survey, WaveChange,
};
use crate::model::{
    Attempt, AttemptId, BoardTimes, Call, CallNews, Delivery, Event, EventId, Foresight, Host,
    Look, Release, Rollout, RolloutId, Secret, Stamp, Webhook, WebhookId, Worker,
};
use crate::rollout::limits::Counts;

/// What the fleet's programs know together. Each call happens whole or not at all, and the events
/// that tell of it with it. Times come from the caller.
///
/// Every call fails with a [`StoreError`] that says what to do next.
#[allow(clippy::missing_errors_doc)] // Said once, above, for all of them.
pub trait Store: Send {
    /// Now, by the store's own clock: PostgreSQL's, or that of the machine with the file. Leases
    /// and windows go by it, whatever time the callers believe in.
    fn now(&mut self) -> Result<Stamp, StoreError>;

    /// Inserts hosts, or changes those of the same names; all or none. A key belongs to one name:
    /// who wants to exchange keys between hosts needs two calls.
    fn put_hosts(&mut self, hosts: &[Host]) -> Result<(), StoreError>;

    /// The host of a name.
    fn host(&mut self, name: &str) -> Result<Option<Host>, StoreError>;

    /// Hosts by name (in the order of its bytes), after a name, at most
    /// [`super::requests::PAGE_MAX`].
    fn hosts(&mut self, after: &str, limit: usize) -> Result<Vec<Host>, StoreError>;

    /// Adds a release. The same digest twice changes nothing.
    fn add_release(&mut self, release: &Release) -> Result<Changed, StoreError>;

    /// The release of a digest.
    fn release(&mut self, digest: &str) -> Result<Option<Release>, StoreError>;

    /// Releases by digest, after one.
    fn releases(&mut self, after: &str, limit: usize) -> Result<Vec<Release>, StoreError>;

    /// Keeps a chunk of a release's bundle, from number 0. Again, it takes the place of the one
    /// before. Each has [`super::requests::CHUNK_BYTES`], but for the last.
    fn put_chunk(&mut self, release: &str, number: u32, bytes: &[u8]) -> Result<(), StoreError>;

    /// Says that a bundle is whole, once all its chunks are there. Before, nobody reads any of
    /// them. What they come to, who reads them checks by the digest.
    fn close_bundle(&mut self, release: &str) -> Result<Changed, StoreError>;

    /// Says whether the bundle of a release is here, and whole.
    fn has_bundle(&mut self, release: &str) -> Result<bool, StoreError>;

    /// A chunk of a bundle that is whole; none behind its end.
    fn chunk(&mut self, release: &str, number: u32) -> Result<Option<Vec<u8>>, StoreError>;

    /// Removes the bundle of a release, and the release where no rollout names it. Refused while a
    /// rollout needs it: one that has not ended, or has hosts in flight.
    fn remove_release(&mut self, release: &str) -> Result<(), StoreError>;

    /// Digests of the releases that workers of a site need, or will when a rollout goes on: those
    /// of hosts that are planned, in flight, or to be looked at.
    fn releases_due(&mut self, site: &str) -> Result<Vec<String>, StoreError>;

    /// Tells how a worker fares with a bundle, in words.
    fn tell_bundle(&mut self, worker: &str, words: &str, at: Stamp) -> Result<(), StoreError>;

    /// Keeps what hosts foresee; all or none. Of each host and release the newest is kept, and the
    /// version that the host runs with the host.
    fn keep_foresights(&mut self, foresights: &[Foresight]) -> Result<(), StoreError>;

    /// What hosts foresee of a release, by host, after one. What a host foresaw is void when it has
    /// another version, or when an attempt ended that may have changed its chip.
    fn foresights(
        &mut self,
        release: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Foresight>, StoreError>;

    /// How long updates took, by vendor and product: those that were confirmed and that no other
    /// worker had to take over.
    fn board_times(&mut self) -> Result<Vec<BoardTimes>, StoreError>;

    /// Creates a rollout with its waves and attempts, ready to be started.
    fn create_rollout(&mut self, new: &NewRollout) -> Result<RolloutId, StoreError>;

    /// Rollouts by number, after one (0 is before all).
    fn rollouts(&mut self, after: RolloutId, limit: usize) -> Result<Vec<Rollout>, StoreError>;

    /// Numbers of the rollouts that are scheduled or run, after one (0 is before all).
    fn under_way(&mut self, after: RolloutId, limit: usize) -> Result<Vec<RolloutId>, StoreError>;

    /// A rollout with its waves.
    fn rollout(&mut self, id: RolloutId) -> Result<Option<RolloutWaves>, StoreError>;

    /// The rollout of a name, with its waves.
    fn rollout_named(&mut self, name: &str) -> Result<Option<RolloutWaves>, StoreError>;

    /// Attempts of a rollout, by wave and position, after a place.
    fn attempts(
        &mut self,
        rollout: RolloutId,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Attempt>, StoreError>;

    /// Names of the hosts that are in flight, in whatever rollout, after one.
    fn in_flight(&mut self, after: &str, limit: usize) -> Result<Vec<String>, StoreError>;

    /// Attempts of a host in all rollouts, the last one first.
    fn attempts_of(&mut self, host: &str, limit: usize) -> Result<Vec<Attempt>, StoreError>;

    /// How many attempts of a rollout are where, in the order of wave, site and state's word.
    fn counts(&mut self, rollout: RolloutId) -> Result<Vec<Count>, StoreError>;

    /// What the limits of a rollout count. Each claim and each report changes these together with
    /// the attempts. Attempts that are tried again count again; those that failed before stay
    /// counted, until the rollout is resumed.
    fn counters(&mut self, rollout: RolloutId) -> Result<Counts, StoreError>;

    /// Changes the state of a rollout if it is where the caller saw it. If it has the new state
    /// already, nothing changes. With the state *error* all attempts that nobody has begun are
    /// skipped. From *paused* to *running* or *scheduled*, what ended so far is forgiven: the
    /// limits of failures count anew.
    fn change_state(
        &mut self,
        rollout: RolloutId,
        change: &StateChange<'_>,
    ) -> Result<Changed, StoreError>;

    /// Changes the state of a wave if it is where the caller saw it. The rollout's revision stays.
    /// From *looking* to *finished*, hosts that nobody has seen healthy have failed.
    fn change_wave(
        &mut self,
        rollout: RolloutId,
        wave: u32,
        change: &WaveChange<'_>,
    ) -> Result<Changed, StoreError>;

    /// Keeps an approval. The same key twice for one wave changes nothing.
    fn approve(
        &mut self,
        rollout: RolloutId,
        approval: &SignedApproval,
    ) -> Result<Changed, StoreError>;

    /// The approvals of a rollout, by wave and key.
    fn approvals(&mut self, rollout: RolloutId) -> Result<Vec<SignedApproval>, StoreError>;

    /// Plans another attempt for each host of a rollout whose last one failed, and returns these by
    /// wave and position. They stand where the failed ones stood, with the times that are known by
    /// now: what the host foresees, else what updates of its board took, else as before. Their
    /// waves run again, as does a rollout that had finished; its revision grows, so who was about
    /// to finish it comes too late. In a rollout that is in *error*, or has another revision than
    /// the caller saw, nobody is planned again.
    fn retry_failed(
        &mut self,
        rollout: RolloutId,
        retry: &Retry<'_>,
    ) -> Result<Vec<Replanned>, StoreError>;

    /// Claims hosts of a site for a worker. First come attempts whose lease ran out, in whatever
    /// state the rollout is: what has begun is brought to its end. Then come planned attempts of
    /// running waves of open rollouts that run, in the order of rollout, wave and position. Passed
    /// over are hosts that are in flight in another rollout, those whose time does not fit, and
    /// those for which the limits have no room. Fewer may come than could begin: ask again.
    ///
    /// A rollout whose limit of failures is reached is paused or stopped instead.
    fn claim(&mut self, request: &ClaimRequest<'_>) -> Result<Vec<Claim>, StoreError>;

    /// Renews leases of a worker, and returns which: an attempt that is missing there is lost. A
    /// lease that ran out is renewed, too, as long as nobody took it over. What is not named runs
    /// out: so hosts of a claim whose answer was lost are taken over.
    fn renew(
        &mut self,
        worker: &str,
        attempts: &[AttemptId],
        at: Stamp,
        lease_us: i64,
    ) -> Result<Vec<AttemptId>, StoreError>;

    /// Tells the stage that a host has reached; only who holds the lease may.
    fn tell_stage(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        stage: &str,
        at: Stamp,
    ) -> Result<(), StoreError>;

    /// Ends an attempt; only who holds the lease may. A host that is confirmed has the release's
    /// version from then on. If a limit of failures is reached by it, the rollout is paused or
    /// stopped at once.
    fn report(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        outcome: &Outcome<'_>,
        at: Stamp,
    ) -> Result<Changed, StoreError>;

    /// Keeps how far the drain programs are with a host in flight; only who holds the lease may.
    fn tell_drain(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        step: &DrainStep<'_>,
        at: Stamp,
    ) -> Result<(), StoreError>;

    /// Plans a host again that was claimed and not touched, or skips it if its rollout was aborted;
    /// the event says `why`. Only who holds the lease may. It counts as neither confirmed nor
    /// failed.
    fn put_back(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        why: &str,
        at: Stamp,
    ) -> Result<(), StoreError>;

    /// Claims looks at confirmed hosts of a site for a worker: in waves that are *looking*, of
    /// rollouts that run or are paused; hosts that nobody has seen healthy, whom nobody looks at,
    /// and that are not in flight in another rollout. In the order of rollout, wave and position.
    /// Their leases are renewed as those of hosts in flight.
    fn claim_looks(&mut self, request: &LookRequest<'_>) -> Result<Vec<Attempt>, StoreError>;

    /// Tells what a look came to; only who holds its lease may. One that is *unclear* goes on, with
    /// its lease. A host that is *sick* has failed, and nobody knows its version: if a limit of
    /// failures is reached by it, the rollout is paused or stopped at once.
    fn report_look(
        &mut self,
        attempt: AttemptId,
        worker: &str,
        look: &Look,
    ) -> Result<Changed, StoreError>;

    /// Events by number, after one. What has been read this way is never followed by an event of a
    /// lower number.
    fn events(&mut self, after: EventId, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Events by number, the last one first.
    fn past_events(&mut self, which: &LookBack<'_>, limit: usize)
    -> Result<Vec<Event>, StoreError>;

    /// Keeps which dead hosts call a worker for help, in place of those that did before, and tells
    /// what happened to some. A host that was rescued has the release's version from then on, and
    /// what it foresaw is void. Hosts that the store does not know are left out.
    fn tell_calls(
        &mut self,
        worker: &str,
        calls: &[Call],
        news: &[CallNews],
        at: Stamp,
    ) -> Result<(), StoreError>;

    /// The dead hosts that call for help, by name, each as the worker knows it that heard it last;
    /// those that were heard within [`super::requests::CALL_KEPT_US`] before `at`. At most
    /// [`super::requests::CALLS_MAX`], those that were heard last.
    fn calls(&mut self, at: Stamp) -> Result<Vec<Call>, StoreError>;

    /// Keeps that a worker was seen, with its site, for a day.
    fn see_worker(&mut self, worker: &Worker) -> Result<(), StoreError>;

    /// The workers that were seen, by name; at most [`super::requests::WORKERS_MAX`], those that
    /// were seen last.
    fn workers(&mut self) -> Result<Vec<Worker>, StoreError>;

    /// Counts what there is, at `at`; cheap enough for every few seconds.
    fn survey(&mut self, at: Stamp) -> Result<Survey, StoreError>;

    /// Keeps a webhook, if there is none of its name.
    fn add_webhook(&mut self, webhook: &Webhook) -> Result<Changed, StoreError>;

    /// All webhooks, by name.
    fn webhooks(&mut self) -> Result<Vec<Webhook>, StoreError>;

    /// Changes what signs the messages of a webhook.
    fn set_secrets(&mut self, name: &str, secrets: &[Secret]) -> Result<(), StoreError>;

    /// Forgets a webhook.
    fn remove_webhook(&mut self, name: &str) -> Result<(), StoreError>;

    /// Keeps how far a webhook is. Nothing changes when it was further already, or is gone.
    fn tell_delivery(
        &mut self,
        webhook: WebhookId,
        delivery: &Delivery,
    ) -> Result<Changed, StoreError>;

    /// Makes `holder` the one who delivers to the webhooks, until `until`; says whether it is.
    /// Somebody else can be it when that time is over.
    fn hold_webhooks(&mut self, holder: &str, at: Stamp, until: Stamp) -> Result<bool, StoreError>;

    /// Waits until there may be new events, at most `timeout`. A wake-up only: it may be missing,
    /// and it may come without reason.
    fn wait(&mut self, timeout: Duration) -> Result<(), StoreError>;
}
