//! The line from a worker to the store: it may be cut, and calls may break off, before or after
//! they were done. Between two calls other people act.

use std::time::Duration;

use firmcast_fleet::model::{
    Attempt, AttemptId, BoardTimes, Call, CallNews, Delivery, Event, EventId, Foresight, Host,
    Look, Release, Rollout, RolloutId, Secret, Stamp, Webhook, WebhookId, Worker,
};
use firmcast_fleet::rollout::limits::Counts;
use firmcast_fleet::store::requests::{
    Changed, Claim, ClaimRequest, Count, DrainStep, LookBack, LookRequest, NewRollout, Outcome,
    Place, Replanned, Retry, RolloutWaves, SignedApproval, StateChange, Survey, WaveChange,
};
use firmcast_fleet::store::{Store, StoreError};

use super::chance::Chance;
use super::people;

pub(crate) struct Line<'a> {
    pub(crate) store: &'a mut dyn Store,
    pub(crate) chance: &'a mut Chance,
    pub(crate) is_cut: bool,
    /// Of so many calls one breaks off.
    pub(crate) breaks_every: Option<u64>,
    /// What the store's clock says.
    pub(crate) now: Stamp,
    /// When somebody may act between two calls.
    pub(crate) people: Option<(usize, Stamp)>,
}

impl Line<'_> {
    fn pass<T>(
        &mut self,
        call: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some((rollouts, at)) = self.people
            && self.chance.once_in(300)
        {
            people::act(self.store, self.chance, rollouts, at);
        }
        let breaks = self.breaks_every.is_some_and(|every| self.chance.once_in(every));
        if !self.is_cut && (!breaks || self.chance.once_in(2)) {
            let answer = call(self.store);
            if !breaks {
                return answer;
            }
        }
        Err(StoreError::Gone { source: "the line is cut".into() })
    }
}

/// Passes on each call with its arguments.
macro_rules! passed {
    ($(fn $name:ident(&mut self $(, $argument:ident: $type:ty)*) -> $answer:ty;)*) => {
        impl Store for Line<'_> {
            fn now(&mut self) -> Result<Stamp, StoreError> {
                let now = self.now;
                self.pass(|_| Ok(now))
            }

            $(fn $name(&mut self $(, $argument: $type)*) -> Result<$answer, StoreError> {
                self.pass(|store| store.$name($($argument),*))
            })*
        }
    };
}

passed! {
    fn put_hosts(&mut self, hosts: &[Host]) -> ();
    fn host(&mut self, name: &str) -> Option<Host>;
    fn hosts(&mut self, after: &str, limit: usize) -> Vec<Host>;
    fn add_release(&mut self, release: &Release) -> Changed;
    fn release(&mut self, digest: &str) -> Option<Release>;
    fn releases(&mut self, after: &str, limit: usize) -> Vec<Release>;
    fn put_chunk(&mut self, release: &str, number: u32, bytes: &[u8]) -> ();
    fn close_bundle(&mut self, release: &str) -> Changed;
    fn has_bundle(&mut self, release: &str) -> bool;
    fn chunk(&mut self, release: &str, number: u32) -> Option<Vec<u8>>;
    fn remove_release(&mut self, release: &str) -> ();
    fn releases_due(&mut self, site: &str) -> Vec<String>;
    fn tell_bundle(&mut self, worker: &str, words: &str, at: Stamp) -> ();
    fn keep_foresights(&mut self, foresights: &[Foresight]) -> ();
    fn foresights(&mut self, release: &str, after: &str, limit: usize) -> Vec<Foresight>;
    fn board_times(&mut self) -> Vec<BoardTimes>;
    fn create_rollout(&mut self, new: &NewRollout) -> RolloutId;
    fn rollouts(&mut self, after: RolloutId, limit: usize) -> Vec<Rollout>;
    fn under_way(&mut self, after: RolloutId, limit: usize) -> Vec<RolloutId>;
    fn rollout(&mut self, id: RolloutId) -> Option<RolloutWaves>;
    fn rollout_named(&mut self, name: &str) -> Option<RolloutWaves>;
    fn attempts(&mut self, id: RolloutId, after: Option<Place>, limit: usize) -> Vec<Attempt>;
    fn in_flight(&mut self, after: &str, limit: usize) -> Vec<String>;
    fn attempts_of(&mut self, host: &str, limit: usize) -> Vec<Attempt>;
    fn counts(&mut self, rollout: RolloutId) -> Vec<Count>;
    fn counters(&mut self, rollout: RolloutId) -> Counts;
    fn change_state(&mut self, id: RolloutId, change: &StateChange<'_>) -> Changed;
    fn change_wave(&mut self, id: RolloutId, wave: u32, change: &WaveChange<'_>) -> Changed;
    fn approve(&mut self, rollout: RolloutId, approval: &SignedApproval) -> Changed;
    fn approvals(&mut self, rollout: RolloutId) -> Vec<SignedApproval>;
    fn retry_failed(&mut self, rollout: RolloutId, retry: &Retry<'_>) -> Vec<Replanned>;
    fn claim(&mut self, request: &ClaimRequest<'_>) -> Vec<Claim>;
    fn renew(&mut self, worker: &str, ids: &[AttemptId], at: Stamp, us: i64) -> Vec<AttemptId>;
    fn tell_stage(&mut self, id: AttemptId, worker: &str, stage: &str, at: Stamp) -> ();
    fn report(&mut self, id: AttemptId, worker: &str, end: &Outcome<'_>, at: Stamp) -> Changed;
    fn tell_drain(&mut self, id: AttemptId, worker: &str, step: &DrainStep<'_>, at: Stamp) -> ();
    fn put_back(&mut self, id: AttemptId, worker: &str, why: &str, at: Stamp) -> ();
    fn claim_looks(&mut self, request: &LookRequest<'_>) -> Vec<Attempt>;
    fn report_look(&mut self, id: AttemptId, worker: &str, look: &Look) -> Changed;
    fn events(&mut self, after: EventId, limit: usize) -> Vec<Event>;
    fn past_events(&mut self, which: &LookBack<'_>, limit: usize) -> Vec<Event>;
    fn tell_calls(&mut self, worker: &str, calls: &[Call], news: &[CallNews], at: Stamp) -> ();
    fn calls(&mut self, at: Stamp) -> Vec<Call>;
    fn see_worker(&mut self, worker: &Worker) -> ();
    fn workers(&mut self) -> Vec<Worker>;
    fn survey(&mut self, at: Stamp) -> Survey;
    fn add_webhook(&mut self, webhook: &Webhook) -> Changed;
    fn webhooks(&mut self) -> Vec<Webhook>;
    fn set_secrets(&mut self, name: &str, secrets: &[Secret]) -> ();
    fn remove_webhook(&mut self, name: &str) -> ();
    fn tell_delivery(&mut self, webhook: WebhookId, delivery: &Delivery) -> Changed;
    fn hold_webhooks(&mut self, holder: &str, at: Stamp, until: Stamp) -> bool;
    fn wait(&mut self, timeout: Duration) -> ();
}
