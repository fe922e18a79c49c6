use std::collections::BTreeMap;

use super::MemoryStore;
use crate::model::{Delivery, Secret, Stamp, Webhook, WebhookId};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, WEBHOOKS_MAX, unknown};
use crate::store::text;

/// The webhooks, and who delivers.
#[derive(Debug, Default)]
pub(super) struct Webhooks {
    by_name: BTreeMap<String, Webhook>,
    last_id: WebhookId,
    holder: Option<(String, Stamp)>,
}

pub(super) fn add(store: &mut MemoryStore, webhook: &Webhook) -> Result<Changed, StoreError> {
    let Webhooks { by_name, last_id, .. } = &mut store.webhooks;
    text::at_most("the number of webhooks", by_name.len() + 1, WEBHOOKS_MAX)?;
    if by_name.contains_key(&webhook.name) {
        return Ok(Changed::Before);
    }
    *last_id += 1;
    by_name.insert(webhook.name.clone(), Webhook { id: *last_id, ..webhook.clone() });
    Ok(Changed::Now)
}

pub(super) fn all(store: &MemoryStore) -> Vec<Webhook> {
    store.webhooks.by_name.values().cloned().collect()
}

pub(super) fn deliveries(store: &MemoryStore) -> Vec<(String, Delivery)> {
    let webhooks = store.webhooks.by_name.values();
    webhooks.map(|webhook| (webhook.name.clone(), webhook.delivery.clone())).collect()
}

pub(super) fn set_secrets(
    store: &mut MemoryStore,
    name: &str,
    secrets: &[Secret],
) -> Result<(), StoreError> {
    let webhook = store.webhooks.by_name.get_mut(name).ok_or_else(|| unknown("webhook", name))?;
    webhook.secrets = secrets.to_vec();
    Ok(())
}

pub(super) fn remove(store: &mut MemoryStore, name: &str) -> Result<(), StoreError> {
    store.webhooks.by_name.remove(name).map(drop).ok_or_else(|| unknown("webhook", name))
}

pub(super) fn tell(store: &mut MemoryStore, id: WebhookId, delivery: &Delivery) -> Changed {
    let webhook = store.webhooks.by_name.values_mut().find(|webhook| webhook.id == id);
    let Some(webhook) = webhook else { return Changed::Before };
    if webhook.delivery.delivered > delivery.delivered {
        return Changed::Before;
    }
    let trouble = text::detail(&delivery.trouble);
    webhook.delivery = Delivery { trouble, ..delivery.clone() };
    Changed::Now
}

pub(super) fn hold(store: &mut MemoryStore, holder: &str, at: Stamp, until: Stamp) -> bool {
    let held = store.webhooks.holder.as_ref();
    let is_free = held.is_none_or(|(name, end)| name == holder || *end <= at);
    if is_free {
        store.webhooks.holder = Some((holder.to_owned(), until));
    }
    is_free
}

pub(super) fn held_until(store: &MemoryStore) -> Option<Stamp> {
    store.webhooks.holder.as_ref().map(|(_, until)| *until)
}
