use super::domains;
use super::events::News;
use super::foresights;
use super::hosts;
use super::rollouts::{halt, hold};
use super::sql::{Row, Sql, Value, json, parse_word};
use crate::model::{Attempt, AttemptId, AttemptState, EventKind, Look, RolloutId, Stamp};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, Count, Outcome, Place, lease_lost, unknown};
use crate::store::text;
use crate::store::words::word;

/// What [`attempt`] reads, of the table `a`.
pub(super) const ATTEMPT: &str = "a.id, a.rollout, a.wave, a.position, a.host, a.site, \
     a.predicted_s, a.retry, a.state, a.stage, a.worker, a.lease_until, a.reason, a.flash, \
     a.detail, a.started_at, a.ended_at, a.drain, a.look, a.look_at, a.look_reason, a.look_detail";

pub(super) fn page(
    sql: &mut dyn Sql,
    rollout: RolloutId,
    after: Option<Place>,
    limit: i64,
) -> Result<Vec<Attempt>, StoreError> {
    let (wave, position, id): (i64, i64, i64) =
        after.map_or((-1, -1, -1), |at| (at.wave.into(), at.position.into(), at.id));
    let rows = sql.query(
        &format!(
            "SELECT {ATTEMPT} FROM attempts a
             WHERE a.rollout = $1 AND (a.wave, a.position, a.id) > ($2, $3, $4)
             ORDER BY a.wave, a.position, a.id LIMIT $5"
        ),
        &[rollout.into(), wave.into(), position.into(), id.into(), limit.into()],
    )?;
    rows.into_iter().map(|mut row| attempt(&mut row)).collect()
}

pub(super) fn in_flight(
    sql: &mut dyn Sql,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = sql.query(
        "SELECT host FROM attempts WHERE state = 'in-flight' AND host > $1 ORDER BY host LIMIT $2",
        &[after.into(), limit.into()],
    )?;
    rows.into_iter().map(|mut row| row.text()).collect()
}

pub(super) fn of_host(
    sql: &mut dyn Sql,
    host: &str,
    limit: i64,
) -> Result<Vec<Attempt>, StoreError> {
    let rows = sql.query(
        &format!("SELECT {ATTEMPT} FROM attempts a WHERE a.host = $1 ORDER BY a.id DESC LIMIT $2"),
        &[host.into(), limit.into()],
    )?;
    rows.into_iter().map(|mut row| attempt(&mut row)).collect()
}

pub(super) fn counts(sql: &mut dyn Sql, rollout: RolloutId) -> Result<Vec<Count>, StoreError> {
    let rows = sql.query(
        "SELECT wave, site, state, COUNT(*), COUNT(CASE WHEN look = 'healthy' THEN 1 END)
         FROM attempts WHERE rollout = $1
         GROUP BY wave, site, state ORDER BY wave, site, state",
        &[rollout.into()],
    )?;
    let count = |mut row: Row| {
        Ok(Count {
            wave: row.unsigned()?,
            site: row.text()?,
            state: row.word()?,
            attempts: row.unsigned()?,
            healthy: row.unsigned()?,
        })
    };
    rows.into_iter().map(count).collect()
}

pub(super) fn renew(
    sql: &mut dyn Sql,
    worker: &str,
    attempts: &[AttemptId],
    until: Stamp,
) -> Result<Vec<AttemptId>, StoreError> {
    let rows = sql.query(
        "UPDATE attempts SET lease_until = $1 WHERE worker = $2 AND lease_until IS NOT NULL
         AND id IN {numbers}$3{end} RETURNING id",
        &[until.into(), worker.into(), json(&attempts)?],
    )?;
    let mut ids = rows.into_iter().map(|mut row| row.integer()).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    Ok(ids)
}

pub(super) fn tell_stage(
    sql: &mut dyn Sql,
    id: AttemptId,
    worker: &str,
    stage: &str,
    at: Stamp,
    news: &mut Vec<News>,
) -> Result<(), StoreError> {
    let attempt = locked(sql, id)?;
    if attempt.state != AttemptState::InFlight || attempt.worker.as_deref() != Some(worker) {
        return Err(lease_lost(&attempt, worker));
    }
    let stage = text::detail(stage);
    sql.execute("UPDATE attempts SET stage = $1 WHERE id = $2", &[(&*stage).into(), id.into()])?;
    news.push(about(&attempt, EventKind::Stage, worker, at, &stage));
    Ok(())
}

/// Ends an attempt, and asks the limits. The rollout is held before the attempt, as by claims.
pub(super) fn report(
    sql: &mut dyn Sql,
    id: AttemptId,
    worker: &str,
    outcome: &Outcome<'_>,
    at: Stamp,
    news: &mut Vec<News>,
) -> Result<Changed, StoreError> {
    let rows = sql.query("SELECT rollout FROM attempts WHERE id = $1", &[id.into()])?;
    let Some(mut row) = rows.into_iter().next() else { return Err(unknown("attempt", id)) };
    let rollout = hold(sql, row.integer()?)?;
    let attempt = locked(sql, id)?;
    if outcome.judge(&attempt, worker)? == Changed::Before {
        return Ok(Changed::Before);
    }
    let values: [Value; 7] = [
        word(&outcome.state()).into(),
        outcome.reason.into(),
        outcome.flash.into(),
        text::detail(outcome.detail).into(),
        at.into(),
        rollout.round.into(),
        id.into(),
    ];
    sql.execute(
        "UPDATE attempts SET state = $1, lease_until = NULL, reason = $2, flash = $3, detail = $4,
         ended_at = $5, round = $6 WHERE id = $7",
        &values,
    )?;
    // The host before what it foresaw, as by who keeps that: or two would wait for each other.
    if outcome.confirmed {
        hosts::has(sql, &attempt.host, &rollout.release)?;
    }
    if outcome.may_have_changed() {
        foresights::forget(sql, &attempt.host)?;
    }
    news.push(about(&attempt, EventKind::Ended, worker, at, &outcome.told()));
    let domains = domains::of(sql, id)?;
    let mut counts = domains::some(sql, rollout.id, &domains)?;
    counts.end(&domains, outcome.ending());
    domains::write(sql, rollout.id, domains.iter().map(|domain| (domain, counts.of(domain))))?;
    if let Some(reached) = rollout.limits.reached(&counts) {
        halt(sql, &rollout, &reached, worker, at, news)?;
    }
    Ok(Changed::Now)
}

/// An attempt that nobody else changes until the transaction ends.
pub(super) fn locked(sql: &mut dyn Sql, id: AttemptId) -> Result<Attempt, StoreError> {
    let query = format!("SELECT {ATTEMPT} FROM attempts a WHERE a.id = $1 {{lock}}");
    let row = sql.query(&query, &[id.into()])?.into_iter().next();
    row.map_or_else(|| Err(unknown("attempt", id)), |mut row| attempt(&mut row))
}

/// News of an attempt.
pub(super) fn about(attempt: &Attempt, kind: EventKind, by: &str, at: Stamp, detail: &str) -> News {
    let (rollout, host) = (Some(attempt.rollout), Some(attempt.host.clone()));
    News { at, rollout, host, by: by.to_owned(), kind, detail: detail.to_owned() }
}

/// Reads the columns of [`ATTEMPT`].
pub(super) fn attempt(row: &mut Row) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        id: row.integer()?,
        rollout: row.integer()?,
        wave: row.unsigned()?,
        position: row.unsigned()?,
        host: row.text()?,
        site: row.text()?,
        predicted_s: row.unsigned()?,
        retry: row.unsigned()?,
        state: row.word()?,
        stage: row.optional_text()?,
        worker: row.optional_text()?,
        lease_until: row.optional_integer()?,
        reason: row.optional_text()?,
        flash: row.optional_text()?,
        detail: row.text()?,
        started_at: row.optional_integer()?,
        ended_at: row.optional_integer()?,
        drain: row.word()?,
        look: look(row)?,
    })
}

/// Reads the columns of a look, if there was one.
fn look(row: &mut Row) -> Result<Option<Look>, StoreError> {
    let health = row.text()?;
    let (at, reason, detail) =
        (row.optional_integer()?, row.optional_text()?, row.optional_text()?);
    match (at, reason, detail) {
        (Some(at), Some(reason), Some(detail)) => {
            Ok(Some(Look { health: parse_word(&health)?, at, reason, detail }))
        }
        _ => Ok(None),
    }
}
