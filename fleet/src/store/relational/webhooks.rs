use super::sql::{Row, Sql, Value, json};
use crate::model::{Delivery, Secret, Stamp, Webhook, WebhookId};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, WEBHOOKS_MAX, unknown};
use crate::store::text;

pub(super) fn add(sql: &mut dyn Sql, webhook: &Webhook) -> Result<Changed, StoreError> {
    let there = all(sql)?;
    text::at_most("the number of webhooks", there.len() + 1, WEBHOOKS_MAX)?;
    let Delivery { delivered, failures, next_at, trouble } = &webhook.delivery;
    let values: [Value; 11] = [
        webhook.name.as_str().into(),
        webhook.url.as_str().into(),
        webhook.source.as_str().into(),
        json(&webhook.kinds)?,
        json(&webhook.secrets)?,
        webhook.created_by.as_str().into(),
        webhook.created_at.into(),
        (*delivered).into(),
        (*failures).into(),
        (*next_at).into(),
        text::detail(trouble).into(),
    ];
    let added = sql.execute(
        "INSERT INTO webhooks (name, url, source, kinds, secrets, created_by, created_at,
         delivered, failures, next_at, trouble)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (name) DO NOTHING",
        &values,
    )?;
    Ok(changed(added))
}

pub(super) fn all(sql: &mut dyn Sql) -> Result<Vec<Webhook>, StoreError> {
    let rows = sql.query(
        "SELECT id, name, url, source, kinds, secrets, created_by, created_at, delivered,
         failures, next_at, trouble FROM webhooks ORDER BY name",
        &[],
    )?;
    let webhook = |mut row: Row| {
        Ok(Webhook {
            id: row.integer()?,
            name: row.text()?,
            url: row.text()?,
            source: row.text()?,
            kinds: row.json()?,
            secrets: row.json()?,
            created_by: row.text()?,
            created_at: row.integer()?,
            delivery: delivery(&mut row)?,
        })
    };
    rows.into_iter().map(webhook).collect()
}

/// How far each webhook is, by name; without what is secret.
pub(super) fn deliveries(sql: &mut dyn Sql) -> Result<Vec<(String, Delivery)>, StoreError> {
    let rows = sql.query(
        "SELECT name, delivered, failures, next_at, trouble FROM webhooks ORDER BY name",
        &[],
    )?;
    rows.into_iter().map(|mut row| Ok((row.text()?, delivery(&mut row)?))).collect()
}

fn delivery(row: &mut Row) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        delivered: row.integer()?,
        failures: row.unsigned()?,
        next_at: row.integer()?,
        trouble: row.text()?,
    })
}

pub(super) fn set_secrets(
    sql: &mut dyn Sql,
    name: &str,
    secrets: &[Secret],
) -> Result<(), StoreError> {
    let values = [json(&secrets)?, name.into()];
    match sql.execute("UPDATE webhooks SET secrets = $1 WHERE name = $2", &values)? {
        0 => Err(unknown("webhook", name)),
        _ => Ok(()),
    }
}

pub(super) fn remove(sql: &mut dyn Sql, name: &str) -> Result<(), StoreError> {
    match sql.execute("DELETE FROM webhooks WHERE name = $1", &[name.into()])? {
        0 => Err(unknown("webhook", name)),
        _ => Ok(()),
    }
}

pub(super) fn tell(
    sql: &mut dyn Sql,
    id: WebhookId,
    delivery: &Delivery,
) -> Result<Changed, StoreError> {
    let Delivery { delivered, failures, next_at, trouble } = delivery;
    let values: [Value; 5] = [
        (*delivered).into(),
        (*failures).into(),
        (*next_at).into(),
        text::detail(trouble).into(),
        id.into(),
    ];
    let told = sql.execute(
        "UPDATE webhooks SET delivered = $1, failures = $2, next_at = $3, trouble = $4
         WHERE id = $5 AND delivered <= $1",
        &values,
    )?;
    Ok(changed(told))
}

pub(super) fn hold(
    sql: &mut dyn Sql,
    holder: &str,
    at: Stamp,
    until: Stamp,
) -> Result<bool, StoreError> {
    let held = sql.execute(
        "INSERT INTO senders (role, holder, lease_until) VALUES ('webhooks', $1, $2)
         ON CONFLICT (role) DO UPDATE SET holder = excluded.holder,
         lease_until = excluded.lease_until
         WHERE senders.holder = excluded.holder OR senders.lease_until <= $3",
        &[holder.into(), until.into(), at.into()],
    )?;
    Ok(held > 0)
}

/// Until when somebody holds the lease.
pub(super) fn held_until(sql: &mut dyn Sql) -> Result<Option<Stamp>, StoreError> {
    let row = sql.query("SELECT lease_until FROM senders", &[])?.into_iter().next();
    row.map(|mut row| row.integer()).transpose()
}

fn changed(rows: u64) -> Changed {
    if rows > 0 { Changed::Now } else { Changed::Before }
}
