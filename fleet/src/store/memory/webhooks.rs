use std::collections::BTreeMap;

use super::super::error::StoreError;
use super::super::requests::{Changed, WEBHOOKS_MAX, unknown};
use super::super::text;
use crate::model::{Delivery, Secret, Stamp, Webhook, WebhookId};

/// The webhooks, and who delivers.
#[derive(Debug, Default)]
pub(super) struct Webhooks {
    by_name: BTreeMap<String, Webhook>,
    last_id: WebhookId,
    holder: Option<(String, Stamp)>,
}

impl Webhooks {
    pub(super) fn add(&mut self, webhook: &Webhook) -> Result<Changed, StoreError> {
        text::at_most("the number of webhooks", self.by_name.len() + 1, WEBHOOKS_MAX)?;
        if self.by_name.contains_key(&webhook.name) {
            return Ok(Changed::Before);
        }
        self.last_id += 1;
        let webhook = Webhook { id: self.last_id, ..webhook.clone() };
        self.by_name.insert(webhook.name.clone(), webhook);
        Ok(Changed::Now)
    }

    pub(super) fn all(&self) -> Vec<Webhook> {
        self.by_name.values().cloned().collect()
    }

    pub(super) fn deliveries(&self) -> Vec<(String, Delivery)> {
        let webhooks = self.by_name.values();
        webhooks.map(|webhook| (webhook.name.clone(), webhook.delivery.clone())).collect()
    }

    pub(super) fn set_secrets(&mut self, name: &str, secrets: &[Secret]) -> Result<(), StoreError> {
        let webhook = self.by_name.get_mut(name).ok_or_else(|| unknown("webhook", name))?;
        webhook.secrets = secrets.to_vec();
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        self.by_name.remove(name).map(|_| ()).ok_or_else(|| unknown("webhook", name))
    }

    pub(super) fn tell(&mut self, id: WebhookId, delivery: &Delivery) -> Changed {
        let webhook = self.by_name.values_mut().find(|webhook| webhook.id == id);
        let Some(webhook) = webhook else { return Changed::Before };
        if webhook.delivery.delivered > delivery.delivered {
            return Changed::Before;
        }
        let trouble = text::detail(&delivery.trouble);
        webhook.delivery = Delivery { trouble, ..delivery.clone() };
        Changed::Now
    }

    pub(super) fn hold(&mut self, holder: &str, at: Stamp, until: Stamp) -> bool {
        let is_free = (self.holder.as_ref()).is_none_or(|(name, end)| name == holder || *end <= at);
        if is_free {
            self.holder = Some((holder.to_owned(), until));
        }
        is_free
    }

    pub(super) fn held_until(&self) -> Option<Stamp> {
        self.holder.as_ref().map(|(_, until)| *until)
    }
}
