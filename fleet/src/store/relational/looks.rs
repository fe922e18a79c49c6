use super::attempts::{ATTEMPT, about, attempt, locked};
use super::bundles::lacking;
use super::domains;
use super::events::News;
use super::hosts;
use super::rollouts::{Held, halt, hold};
use super::sql::{Row, Sql, Value};
use crate::model::{Attempt, AttemptId, EventKind, Health, Look};
use crate::store::error::StoreError;
use crate::store::requests::{
    Changed, LookRequest, WaveChange, judge_look, last_look, sick_detail, told_look, unknown,
};
use crate::store::text;
use crate::store::words::word;

/// Claims looks. No rollout is held: a look changes nothing until it is told.
pub(super) fn claim(
    sql: &mut dyn Sql,
    request: &LookRequest<'_>,
) -> Result<Vec<Attempt>, StoreError> {
    let rows = sql.query(
        &format!(
            "SELECT {ATTEMPT} FROM attempts a
             JOIN waves w ON w.rollout = a.rollout AND w.number = a.wave
             JOIN rollouts r ON r.id = a.rollout
             WHERE a.site = $1 AND a.state = 'confirmed' AND a.look <> 'healthy'
             AND w.state = 'looking' AND r.state IN ('running', 'paused')
             AND r.release NOT IN {{texts}}$4{{end}}
             AND (a.lease_until IS NULL OR a.lease_until <= $2) AND NOT EXISTS (
                 SELECT 1 FROM attempts b WHERE b.host = a.host AND b.state = 'in-flight')
             ORDER BY a.rollout, a.wave, a.position, a.id LIMIT $3 {{lock-attempt}}"
        ),
        &[
            request.site.into(),
            request.at.into(),
            Value::Integer(i64::try_from(request.limit).unwrap_or(i64::MAX)),
            lacking(request.lacking)?,
        ],
    )?;
    let mut claimed = Vec::with_capacity(rows.len());
    for mut row in rows {
        let mut attempt = attempt(&mut row)?;
        sql.execute(
            "UPDATE attempts SET worker = $1, lease_until = $2 WHERE id = $3",
            &[request.worker.into(), request.until().into(), attempt.id.into()],
        )?;
        attempt.worker = Some(request.worker.to_owned());
        attempt.lease_until = Some(request.until());
        claimed.push(attempt);
    }
    Ok(claimed)
}

/// Keeps what a look came to. The rollout is held before the attempt, as by claims.
pub(super) fn report(
    sql: &mut dyn Sql,
    id: AttemptId,
    worker: &str,
    look: &Look,
    news: &mut Vec<News>,
) -> Result<Changed, StoreError> {
    let rows = sql.query("SELECT rollout FROM attempts WHERE id = $1", &[id.into()])?;
    let Some(mut row) = rows.into_iter().next() else { return Err(unknown("attempt", id)) };
    let rollout = hold(sql, row.integer()?)?;
    let attempt = locked(sql, id)?;
    if judge_look(&attempt, worker, look)? == Changed::Before {
        return Ok(Changed::Before);
    }
    keep(sql, &attempt, look)?;
    news.push(about(&attempt, EventKind::Looked, worker, look.at, &told_look(look)));
    if look.health != Health::Sick {
        return Ok(Changed::Now);
    }
    hosts::forget_version(sql, &attempt.host)?;
    let domains = domains::of(sql, id)?;
    let mut counts = domains::some(sql, rollout.id, &domains)?;
    counts.fall_sick(&domains, is_counted(sql, &rollout, id)?);
    domains::write(sql, rollout.id, domains.iter().map(|domain| (domain, counts.of(domain))))?;
    if let Some(reached) = rollout.limits.reached(&counts) {
        halt(sql, &rollout, &reached, worker, look.at, news)?;
    }
    Ok(Changed::Now)
}

/// The time for looks is over in a wave of a rollout that is held: who was not seen healthy is
/// sick. That may be tens of thousands of hosts that nobody has looked at: they are changed by one
/// statement, as others wait for the rollout meanwhile.
pub(super) fn end_all(
    sql: &mut dyn Sql,
    rollout: &Held,
    wave: u32,
    change: &WaveChange<'_>,
    news: &mut Vec<News>,
) -> Result<(), StoreError> {
    let unseen = sql.query(
        "SELECT a.id, a.host, a.cohort, a.round, a.look FROM attempts a
         WHERE a.rollout = $1 AND a.wave = $2 AND a.state = 'confirmed' AND a.look <> 'healthy'
         ORDER BY a.position, a.id {lock}",
        &[rollout.id.into(), wave.into()],
    )?;
    if unseen.is_empty() {
        return Ok(());
    }
    let never = last_look(None, change.at);
    end_never_looked_at(sql, rollout, wave, &never)?;
    let cohorts = domains::all_cohorts(sql, rollout.id)?;
    let mut counts = domains::all(sql, rollout.id)?;
    for mut row in unseen {
        let (id, host, cohort) = (row.integer()?, row.text()?, row.integer()?);
        let is_counted = row.integer()? == rollout.round;
        let detail = match row.text()?.is_empty() {
            true => told_look(&never),
            false => {
                let attempt = locked(sql, id)?;
                let look = last_look(attempt.look.as_ref(), change.at);
                keep(sql, &attempt, &look)?;
                told_look(&look)
            }
        };
        counts.fall_sick(cohorts.get(&cohort).map_or(&[], Vec::as_slice), is_counted);
        let (at, rollout, by) = (change.at, Some(rollout.id), change.by.to_owned());
        news.push(News { at, rollout, host: Some(host), by, kind: EventKind::Looked, detail });
    }
    domains::write(sql, rollout.id, counts.iter().map(|(domain, counters)| (domain, *counters)))?;
    match rollout.limits.reached(&counts) {
        Some(reached) => halt(sql, rollout, &reached, change.by, change.at, news),
        None => Ok(()),
    }
}

/// Keeps the last word on all hosts of a wave that nobody has looked at.
fn end_never_looked_at(
    sql: &mut dyn Sql,
    rollout: &Held,
    wave: u32,
    look: &Look,
) -> Result<(), StoreError> {
    let values: [Value; 7] = [
        word(&look.health).into(),
        look.at.into(),
        look.reason.as_str().into(),
        text::detail(&look.detail).into(),
        sick_detail(look).into(),
        rollout.id.into(),
        wave.into(),
    ];
    sql.execute(
        "UPDATE attempts SET state = 'failed', lease_until = NULL, reason = $3, flash = 'unknown',
         detail = $5, look = $1, look_at = $2, look_reason = $3, look_detail = $4
         WHERE rollout = $6 AND wave = $7 AND state = 'confirmed' AND look = ''",
        &values,
    )?;
    Ok(())
}

/// Whether an attempt ended in this round of its rollout.
fn is_counted(sql: &mut dyn Sql, rollout: &Held, id: AttemptId) -> Result<bool, StoreError> {
    let rows = sql.query("SELECT round FROM attempts WHERE id = $1", &[id.into()])?;
    let round = rows.into_iter().next().map(|mut row: Row| row.integer()).transpose()?;
    Ok(round == Some(rollout.round))
}

fn keep(sql: &mut dyn Sql, attempt: &Attempt, look: &Look) -> Result<(), StoreError> {
    let health = word(&look.health);
    let (reason, detail) = (look.reason.as_str(), text::detail(&look.detail));
    sql.execute(
        "UPDATE attempts SET look = $1, look_at = $2, look_reason = $3, look_detail = $4
         WHERE id = $5",
        &[health.into(), look.at.into(), reason.into(), detail.into(), attempt.id.into()],
    )?;
    match look.health {
        Health::Unclear => Ok(()),
        Health::Healthy => {
            let free = "UPDATE attempts SET lease_until = NULL WHERE id = $1";
            sql.execute(free, &[attempt.id.into()]).map(drop)
        }
        Health::Sick => {
            let values = [reason.into(), sick_detail(look).into(), attempt.id.into()];
            sql.execute(
                "UPDATE attempts SET state = 'failed', lease_until = NULL, reason = $1,
                 flash = 'unknown', detail = $2 WHERE id = $3",
                &values,
            )
            .map(drop)
        }
    }
}
