use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender as Reporter, channel};
use std::time::{Duration, Instant};

use super::courier::{failed, went_well};
use super::message::Message;
use super::post::Postman;
use crate::model::{Delivery, Event, EventId, RolloutId, Secret, Stamp, Webhook, WebhookId};
use crate::store::{Store, StoreError};

/// How long the lease of who delivers holds, in microseconds: when it dies, another one goes on
/// after that time.
pub const LEASE_US: i64 = 20_000_000;

/// After how long the lease is renewed, in microseconds.
const RENEW_US: i64 = LEASE_US / 4;

/// Events of a webhook that are looked at together.
const PAGE: usize = 200;

/// Maximum number of messages that are delivered before the store is told.
const BATCH_MAX: usize = 32;

/// After how long no further message of a batch is begun with.
const BATCH_TIME: Duration = Duration::from_secs(5);

/// How long it may be untold that a webhook passed over events which it does not want, in
/// microseconds.
const PASS_OVER_US: i64 = 5_000_000;

/// Maximum number of names of rollouts that are remembered.
const NAMES_MAX: usize = 1000;

/// Messages for one webhook, in their order.
struct Batch {
    webhook: Webhook,
    messages: Vec<(EventId, Message)>,
    /// How far the webhook is when all were delivered.
    up_to: EventId,
}

/// What became of a batch.
#[derive(Debug)]
struct Report {
    webhook: WebhookId,
    name: String,
    before: Delivery,
    delivered: EventId,
    /// Why a message failed, if one did.
    trouble: Option<String>,
}

/// Delivers to all webhooks of a store, each on its own: one that hangs holds up nobody else. Only
/// who has the lease delivers.
#[derive(Debug)]
pub struct Sender {
    name: String,
    postman: Postman,
    renewed_at: Option<Stamp>,
    is_holder: bool,
    is_stopping: bool,
    /// Webhooks with a batch under way, or one that the store has not been told of.
    busy: BTreeSet<WebhookId>,
    reports: Vec<Report>,
    reporter: Reporter<Report>,
    reported: Receiver<Report>,
    passed_over_at: BTreeMap<WebhookId, Stamp>,
    rollouts: BTreeMap<RolloutId, String>,
    news: Vec<String>,
}

impl Sender {
    /// Returns the sender of a name, which is unique among all.
    pub fn new(name: &str, postman: Postman) -> Self {
        let (reporter, reported) = channel();
        Self {
            name: name.to_owned(),
            postman,
            renewed_at: None,
            is_holder: false,
            is_stopping: false,
            busy: BTreeSet::new(),
            reports: Vec::new(),
            reporter,
            reported,
            passed_over_at: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Begins with no further message.
    pub fn take_no_more(&mut self) {
        self.is_stopping = true;
    }

    /// Says whether messages are under way, or the store was not told yet what became of some.
    pub fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Waits until something became of a batch that is under way.
    pub fn wait(&mut self, timeout: Duration) {
        self.reports.extend(self.reported.recv_timeout(timeout));
    }

    /// Returns what an operator should know, since the last time.
    pub fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// Tells the store what was delivered, and begins with what is due. `chance` is random.
    ///
    /// # Errors
    /// The store does not answer, or refuses. Nothing is lost: the next turn goes on.
    pub fn turn(
        &mut self,
        store: &mut dyn Store,
        now: Stamp,
        chance: u16,
    ) -> Result<(), StoreError> {
        self.hold(store, now)?;
        self.tell(store, now, chance)?;
        if !self.is_holder || self.is_stopping {
            return Ok(());
        }
        for webhook in store.webhooks()? {
            let is_due = webhook.delivery.next_at <= now;
            if is_due && !self.busy.contains(&webhook.id) {
                self.look(store, webhook, now)?;
            }
        }
        Ok(())
    }

    /// Lets another one deliver at once.
    ///
    /// # Errors
    /// Those of the store; then the lease runs out.
    pub fn give_up(&mut self, store: &mut dyn Store, now: Stamp) -> Result<(), StoreError> {
        if std::mem::take(&mut self.is_holder) {
            store.hold_webhooks(&self.name, now, now)?;
        }
        Ok(())
    }

    fn hold(&mut self, store: &mut dyn Store, now: Stamp) -> Result<(), StoreError> {
        if self.renewed_at.is_some_and(|at| now < at.saturating_add(RENEW_US)) {
            return Ok(());
        }
        // Until the store has answered, nobody knows.
        let was_holder = std::mem::take(&mut self.is_holder);
        self.is_holder = store.hold_webhooks(&self.name, now, now.saturating_add(LEASE_US))?;
        let is_first = self.renewed_at.replace(now).is_none();
        if was_holder != self.is_holder || is_first {
            self.news.push(match self.is_holder {
                true => "delivers to the webhooks".to_owned(),
                false => "another one delivers to the webhooks: waits for it to end".to_owned(),
            });
        }
        Ok(())
    }

    fn tell(&mut self, store: &mut dyn Store, now: Stamp, chance: u16) -> Result<(), StoreError> {
        self.reports.extend(self.reported.try_iter());
        while let Some(report) = self.reports.last() {
            let Report { webhook, name, before, delivered, trouble } = report;
            let delivery = match trouble {
                Some(trouble) => failed(before, *delivered, trouble.clone(), now, chance),
                None => went_well(*delivered),
            };
            store.tell_delivery(*webhook, &delivery)?;
            if delivery.failures == 1 {
                let trouble = &delivery.trouble;
                self.news.push(format!("webhook {name}: {trouble}. It is tried again"));
            } else if delivery.is_failing() && !before.is_failing() {
                let failures = delivery.failures;
                self.news.push(format!("webhook {name} is failing: {failures} times in a row"));
            } else if before.is_failing() && delivery.failures == 0 {
                self.news.push(format!("webhook {name} answers again"));
            }
            self.busy.remove(webhook);
            self.reports.pop();
        }
        Ok(())
    }

    /// Looks for what a webhook is to be told next, and begins with it.
    fn look(
        &mut self,
        store: &mut dyn Store,
        webhook: Webhook,
        now: Stamp,
    ) -> Result<(), StoreError> {
        let events = store.events(webhook.delivery.delivered, PAGE)?;
        let Some(last) = events.last().map(|last| last.id) else { return Ok(()) };
        let mut wanted = events.iter().filter(|event| webhook.wants(event.kind)).peekable();
        if wanted.peek().is_none() {
            return self.pass_over(store, &webhook, last, events.len() == PAGE, now);
        }
        let mut messages = Vec::new();
        for event in wanted.by_ref().take(BATCH_MAX) {
            let rollout = self.name_of(store, event)?;
            let message = Message::of(event, rollout.as_deref(), &webhook.source);
            messages.push((event.id, message));
        }
        let is_all = wanted.peek().is_none();
        let up_to = if is_all { last } else { messages.last().map_or(last, |(id, _)| *id) };
        let id = webhook.id;
        if self.begin(Batch { webhook, messages, up_to }) {
            self.busy.insert(id);
        }
        Ok(())
    }

    /// Moves a webhook on over events that it does not want; not for each one of them.
    fn pass_over(
        &mut self,
        store: &mut dyn Store,
        webhook: &Webhook,
        delivered: EventId,
        is_full: bool,
        now: Stamp,
    ) -> Result<(), StoreError> {
        let before = self.passed_over_at.get(&webhook.id);
        let is_due = before.is_none_or(|at| now >= at.saturating_add(PASS_OVER_US));
        if is_full || is_due {
            let delivery = Delivery { delivered, ..webhook.delivery.clone() };
            store.tell_delivery(webhook.id, &delivery)?;
            if self.passed_over_at.len() >= NAMES_MAX {
                self.passed_over_at.clear();
            }
            self.passed_over_at.insert(webhook.id, now);
        }
        Ok(())
    }

    /// The name of an event's rollout. It never changes.
    fn name_of(
        &mut self,
        store: &mut dyn Store,
        event: &Event,
    ) -> Result<Option<String>, StoreError> {
        let Some(id) = event.rollout else { return Ok(None) };
        if let Some(name) = self.rollouts.get(&id) {
            return Ok(Some(name.clone()));
        }
        let Some(found) = store.rollout(id)? else { return Ok(None) };
        if self.rollouts.len() >= NAMES_MAX {
            self.rollouts.clear();
        }
        self.rollouts.insert(id, found.rollout.name.clone());
        Ok(Some(found.rollout.name))
    }

    /// Has a batch delivered by a thread of its own, and says whether there is one.
    fn begin(&self, batch: Batch) -> bool {
        let (postman, reporter) = (self.postman.clone(), self.reporter.clone());
        let deliver = move || {
            // Nobody listens when the sender is gone.
            let _ = reporter.send(batch.deliver(&postman));
        };
        std::thread::Builder::new().name("webhook".to_owned()).spawn(deliver).is_ok()
    }
}

impl Batch {
    fn deliver(self, postman: &Postman) -> Report {
        let Webhook { id, name, url, secrets, delivery, .. } = self.webhook;
        let report = |delivered, trouble| Report {
            webhook: id,
            name,
            before: delivery.clone(),
            delivered,
            trouble,
        };
        let begun = Instant::now();
        let mut delivered = delivery.delivered;
        for (event, message) in &self.messages {
            if begun.elapsed() > BATCH_TIME {
                return report(delivered, None);
            }
            if let Err(error) = post(postman, &url, &secrets, message) {
                return report(delivered, Some(error));
            }
            delivered = *event;
        }
        report(self.up_to, None)
    }
}

fn post(postman: &Postman, url: &str, secrets: &[Secret], message: &Message) -> Result<(), String> {
    postman.post(url, secrets, message).map_err(|error| error.to_string())
}
