use std::collections::BTreeMap;

use super::events::News;
use super::foresights;
use super::hosts;
use super::sql::{Row, Sql, Value, insert, json};
use crate::model::{Call, CallNews, CallTurn, Stamp};
use crate::store::error::StoreError;
use crate::store::requests::{CALL_KEPT_US, CALLS_MAX, kept_call, last_heard, told_call};

/// Keeps who calls a worker, and tells what happened.
pub(super) fn tell(
    sql: &mut dyn Sql,
    worker: &str,
    calls: &[Call],
    told: &[CallNews],
    at: Stamp,
    news: &mut Vec<News>,
) -> Result<(), StoreError> {
    let forgotten = at.saturating_sub(CALL_KEPT_US);
    sql.execute(
        "DELETE FROM calls WHERE worker = $1 OR heard_at < $2",
        &[worker.into(), forgotten.into()],
    )?;
    // Of a host that is named twice the last is kept.
    let mut rows = BTreeMap::<&str, Vec<Value>>::new();
    for call in calls {
        if is_known(sql, &call.host)? {
            let host = call.host.as_str();
            let facts = json(&kept_call(worker, call))?;
            rows.insert(host, vec![worker.into(), host.into(), call.heard_at.into(), facts]);
        }
    }
    let rows: Vec<Vec<Value>> = rows.into_values().collect();
    insert(sql, "calls (worker, host, heard_at, facts)", &rows, "")?;
    for CallNews { host, what, detail } in told {
        if !is_known(sql, host)? {
            continue;
        }
        if let CallTurn::Rescued(release) = what {
            hosts::has(sql, host, release)?;
        }
        if what.may_have_changed() {
            foresights::forget(sql, host)?;
        }
        let (by, kind) = (worker.to_owned(), told_call(what));
        let (host, detail) = (Some(host.clone()), detail.clone());
        news.push(News { at, rollout: None, host, by, kind, detail });
    }
    Ok(())
}

fn is_known(sql: &mut dyn Sql, host: &str) -> Result<bool, StoreError> {
    Ok(!sql.query("SELECT name FROM hosts WHERE name = $1", &[host.into()])?.is_empty())
}

pub(super) fn all(sql: &mut dyn Sql, at: Stamp) -> Result<Vec<Call>, StoreError> {
    let limit = i64::try_from(CALLS_MAX).unwrap_or(i64::MAX);
    let rows = sql.query(
        "SELECT facts FROM calls WHERE heard_at >= $1
         ORDER BY heard_at DESC, host, worker LIMIT $2",
        &[at.saturating_sub(CALL_KEPT_US).into(), limit.into()],
    )?;
    let calls = rows.into_iter().map(|mut row: Row| row.json());
    Ok(last_heard(calls.collect::<Result<Vec<Call>, StoreError>>()?))
}
