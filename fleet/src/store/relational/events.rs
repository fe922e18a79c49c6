use super::sql::{Row, Sql, Value, insert};
use crate::model::{Event, EventId, EventKind, RolloutId, Stamp};
use crate::store::error::StoreError;
use crate::store::requests::LookBack;
use crate::store::text;
use crate::store::words::word;

/// What [`event`] reads.
const EVENT: &str = "id, at, rollout, host, by_whom, kind, detail";

/// Something that is to be told when its transaction ends.
#[derive(Debug)]
pub(super) struct News {
    pub(super) at: Stamp,
    pub(super) rollout: Option<RolloutId>,
    pub(super) host: Option<String>,
    pub(super) by: String,
    pub(super) kind: EventKind,
    pub(super) detail: String,
}

/// Appends events; the last thing that a transaction does.
pub(super) fn append(sql: &mut dyn Sql, news: Vec<News>) -> Result<(), StoreError> {
    if news.is_empty() {
        return Ok(());
    }
    sql.before_events()?;
    let rows = news.into_iter().map(|each| {
        vec![
            each.at.into(),
            each.rollout.into(),
            each.host.into(),
            each.by.into(),
            word(&each.kind).into(),
            text::detail(&each.detail).into(),
        ]
    });
    let rows: Vec<Vec<Value>> = rows.collect();
    insert(sql, "events (at, rollout, host, by_whom, kind, detail)", &rows, "")
}

pub(super) fn after(
    sql: &mut dyn Sql,
    after: EventId,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    let rows = sql.query(
        &format!("SELECT {EVENT} FROM events WHERE id > $1 ORDER BY id LIMIT $2"),
        &[after.into(), limit.into()],
    )?;
    rows.into_iter().map(event).collect()
}

pub(super) fn before(
    sql: &mut dyn Sql,
    which: &LookBack<'_>,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    let mut values: Vec<Value> = vec![which.before.into(), limit.into()];
    let mut only = String::new();
    if let Some(rollout) = which.rollout {
        values.push(rollout.into());
        only += &format!(" AND rollout = ${}", values.len());
    }
    if let Some(host) = which.host {
        values.push(host.into());
        only += &format!(" AND host = ${}", values.len());
    }
    let rows = sql.query(
        &format!("SELECT {EVENT} FROM events WHERE id < $1{only} ORDER BY id DESC LIMIT $2"),
        &values,
    )?;
    rows.into_iter().map(event).collect()
}

fn event(mut row: Row) -> Result<Event, StoreError> {
    Ok(Event {
        id: row.integer()?,
        at: row.integer()?,
        rollout: row.optional_integer()?,
        host: row.optional_text()?,
        by: row.text()?,
        kind: row.word()?,
        detail: row.text()?,
    })
}
