use super::sql::{Sql, Value, insert};
use crate::model::{Event, EventId, EventKind, RolloutId, Stamp};
use crate::store::error::StoreError;
use crate::store::text;
use crate::store::words::word;

/// Something that is to be told when its transaction ends.
#[derive(Debug)]
pub(super) struct News {
    pub(super) at: Stamp,
    pub(super) rollout: RolloutId,
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
        "SELECT id, at, rollout, host, by_whom, kind, detail FROM events
         WHERE id > $1 ORDER BY id LIMIT $2",
        &[after.into(), limit.into()],
    )?;
    let event = |mut row: super::sql::Row| {
        Ok(Event {
            id: row.integer()?,
            at: row.integer()?,
            rollout: row.optional_integer()?,
            host: row.optional_text()?,
            by: row.text()?,
            kind: row.word()?,
            detail: row.text()?,
        })
    };
    rows.into_iter().map(event).collect()
}
