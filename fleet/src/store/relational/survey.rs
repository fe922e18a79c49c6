use super::calls;
use super::domains;
use super::rollouts;
use super::sql::{Row, Sql, json};
use super::webhooks;
use crate::model::{RolloutId, Stamp, Worker};
use crate::store::error::StoreError;
use crate::store::requests::{
    RolloutWaves, SURVEYED_MAX, Survey, Surveyed, Tally, WORKER_KEPT_US, WORKERS_MAX, calling,
};
use crate::store::text;

/// Keeps that a worker was seen, and forgets those that were not seen for long.
pub(super) fn see_worker(sql: &mut dyn Sql, worker: &Worker) -> Result<(), StoreError> {
    let Worker { name, site, seen_at, waits_for, lacking } = worker;
    let forgotten = seen_at.saturating_sub(WORKER_KEPT_US);
    sql.execute("DELETE FROM workers WHERE seen_at < $1", &[forgotten.into()])?;
    sql.execute(
        "INSERT INTO workers (name, site, seen_at, waits_for, lacking) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name) DO UPDATE SET site = excluded.site, seen_at = excluded.seen_at,
         waits_for = excluded.waits_for, lacking = excluded.lacking",
        &[
            name.as_str().into(),
            site.as_str().into(),
            (*seen_at).into(),
            text::detail(waits_for).into(),
            json(lacking)?,
        ],
    )?;
    Ok(())
}

/// Counts what the store holds. The database does the counting: of attempts in one query for each
/// open rollout, however many hosts it has.
pub(super) fn survey(sql: &mut dyn Sql, at: Stamp) -> Result<Survey, StoreError> {
    let states = sql.query("SELECT state, COUNT(*) FROM rollouts GROUP BY state", &[])?;
    let states = states.into_iter().map(|mut row| Ok((row.word()?, row.unsigned()?)));
    let leases_lost = "SELECT COUNT(*) FROM events WHERE kind = 'lease-lost'";
    let drain_failures = "SELECT COUNT(*) FROM events
         WHERE kind = 'ended' AND detail = 'failed: drain-failed'";
    let undrain_failures = "SELECT COUNT(*) FROM events WHERE kind = 'undrain-failed'";
    let last_event = "SELECT id, at FROM events ORDER BY id DESC LIMIT 1";
    let last_event = sql.query(last_event, &[])?.into_iter().next();
    let last_event = last_event.map(|mut row| Ok((row.integer()?, row.integer()?)));
    Ok(Survey {
        hosts: number(sql, "SELECT COUNT(*) FROM hosts")?.unwrap_or_default(),
        rollouts: states.collect::<Result<_, StoreError>>()?,
        open: open(sql, at)?,
        workers: workers(sql)?,
        calls: calling(&calls::all(sql, at)?),
        leases_lost: number(sql, leases_lost)?.unwrap_or_default(),
        drain_failures: number(sql, drain_failures)?.unwrap_or_default(),
        undrain_failures: number(sql, undrain_failures)?.unwrap_or_default(),
        last_event: last_event.transpose()?,
        webhooks: webhooks::deliveries(sql)?,
        sender_until: webhooks::held_until(sql)?,
    })
}

/// The number that a query finds, if it finds one.
fn number<T: TryFrom<i64>>(sql: &mut dyn Sql, query: &str) -> Result<Option<T>, StoreError> {
    let row = sql.query(query, &[])?.into_iter().next();
    row.map(|mut row| row.unsigned()).transpose()
}

pub(super) fn workers(sql: &mut dyn Sql) -> Result<Vec<Worker>, StoreError> {
    let rows = sql.query(
        "SELECT name, site, seen_at, waits_for, lacking FROM workers
         ORDER BY seen_at DESC, name LIMIT $1",
        &[limit(WORKERS_MAX)],
    )?;
    let worker = |mut row: Row| {
        let (name, site, seen_at) = (row.text()?, row.text()?, row.integer()?);
        Ok(Worker { name, site, seen_at, waits_for: row.text()?, lacking: row.json()? })
    };
    let mut workers = rows.into_iter().map(worker).collect::<Result<Vec<_>, StoreError>>()?;
    workers.sort_unstable();
    Ok(workers)
}

fn open(sql: &mut dyn Sql, at: Stamp) -> Result<Vec<Surveyed>, StoreError> {
    let rows = sql.query(
        "SELECT id FROM rollouts WHERE state NOT IN ('finished', 'error')
         ORDER BY id DESC LIMIT $1",
        &[limit(SURVEYED_MAX)],
    )?;
    let mut open = Vec::with_capacity(rows.len());
    for mut row in rows.into_iter().rev() {
        let id = row.integer()?;
        let Some(found) = rollouts::find(sql, "id", id.into())? else { continue };
        let RolloutWaves { rollout, waves, limits } = found;
        let (tallies, counts) = (tallies(sql, id, at)?, domains::all(sql, id)?);
        let (name, state) = (rollout.name, rollout.state);
        open.push(Surveyed { id, name, state, waves, tallies, limits, counts });
    }
    Ok(open)
}

fn tallies(sql: &mut dyn Sql, rollout: RolloutId, at: Stamp) -> Result<Vec<Tally>, StoreError> {
    let rows = sql.query(
        "SELECT wave, site, state, COUNT(*), MIN(started_at),
         COUNT(CASE WHEN state = 'in-flight' AND started_at + predicted_s * 1000000 < $1
             THEN 1 END),
         COUNT(CASE WHEN state = 'in-flight' AND stage = 'draining' THEN 1 END),
         COUNT(CASE WHEN state = 'in-flight' AND stage = 'undraining' THEN 1 END)
         FROM attempts WHERE rollout = $2 GROUP BY wave, site, state",
        &[at.into(), rollout.into()],
    )?;
    let tally = |mut row: Row| {
        Ok(Tally {
            wave: row.unsigned()?,
            site: row.text()?,
            state: row.word()?,
            attempts: row.unsigned()?,
            oldest_started_at: row.optional_integer()?,
            overdue: row.unsigned()?,
            draining: row.unsigned()?,
            undraining: row.unsigned()?,
        })
    };
    let mut tallies = rows.into_iter().map(tally).collect::<Result<Vec<_>, StoreError>>()?;
    tallies.sort_unstable();
    Ok(tallies)
}

fn limit(rows: usize) -> super::sql::Value {
    i64::try_from(rows).unwrap_or(i64::MAX).into()
}
