use super::domains;
use super::events::News;
use super::sql::{Row, Sql, Value};
use crate::model::{EventKind, Rollout, RolloutId, RolloutState, Stamp, Wave};
use crate::rollout::limits::{Limits, Reached};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, RolloutWaves, StateChange, forgives, halted, unknown};
use crate::store::words::word;

const ROLLOUT: &str =
    "id, name, release, file, plan_digest, state, reason, created_by, created_at, revision";

/// What [`held`] reads, of the table `r`.
pub(super) const HELD: &str = "r.id, r.name, r.state, r.revision, r.limits, r.round, r.release";

pub(super) fn page(
    sql: &mut dyn Sql,
    after: RolloutId,
    limit: i64,
) -> Result<Vec<Rollout>, StoreError> {
    let query = format!("SELECT {ROLLOUT} FROM rollouts WHERE id > $1 ORDER BY id LIMIT $2");
    let rows = sql.query(&query, &[after.into(), limit.into()])?;
    rows.into_iter().map(|mut row| rollout(&mut row)).collect()
}

pub(super) fn under_way(
    sql: &mut dyn Sql,
    after: RolloutId,
    limit: i64,
) -> Result<Vec<RolloutId>, StoreError> {
    let rows = sql.query(
        "SELECT id FROM rollouts WHERE id > $1 AND state IN ('scheduled', 'running')
         ORDER BY id LIMIT $2",
        &[after.into(), limit.into()],
    )?;
    rows.into_iter().map(|mut row| row.integer()).collect()
}

/// Finds a rollout by `id` or `name`.
pub(super) fn find(
    sql: &mut dyn Sql,
    column: &'static str,
    value: Value,
) -> Result<Option<RolloutWaves>, StoreError> {
    let query = format!("SELECT {ROLLOUT}, limits FROM rollouts WHERE {column} = $1");
    let Some(mut row) = sql.query(&query, &[value])?.into_iter().next() else { return Ok(None) };
    let rollout = rollout(&mut row)?;
    let limits = row.json()?;
    let rows = sql.query(
        "SELECT number, name, state, approval, soak_s, since FROM waves WHERE rollout = $1
         ORDER BY number",
        &[rollout.id.into()],
    )?;
    let waves = rows.into_iter().map(wave).collect::<Result<_, _>>()?;
    Ok(Some(RolloutWaves { rollout, waves, limits }))
}

/// A rollout that nobody else changes until the transaction ends.
pub(super) struct Held {
    pub(super) id: RolloutId,
    pub(super) name: String,
    pub(super) state: RolloutState,
    pub(super) revision: i64,
    pub(super) limits: Limits,
    /// How often it was resumed.
    pub(super) round: i64,
    pub(super) release: String,
}

/// Holds a rollout until the transaction ends. Whoever changes anything of a rollout begins so.
pub(super) fn hold(sql: &mut dyn Sql, id: RolloutId) -> Result<Held, StoreError> {
    let query = format!("SELECT {HELD} FROM rollouts r WHERE r.id = $1 {{lock}}");
    let row = sql.query(&query, &[id.into()])?.into_iter().next();
    row.map_or_else(|| Err(unknown("rollout", id)), held)
}

/// Reads the columns of [`HELD`].
pub(super) fn held(mut row: Row) -> Result<Held, StoreError> {
    Ok(Held {
        id: row.integer()?,
        name: row.text()?,
        state: row.word()?,
        revision: row.integer()?,
        limits: row.json()?,
        round: row.integer()?,
        release: row.text()?,
    })
}

pub(super) fn change_state(
    sql: &mut dyn Sql,
    id: RolloutId,
    change: &StateChange<'_>,
    news: &mut Vec<News>,
) -> Result<Changed, StoreError> {
    let query = format!("SELECT {ROLLOUT} FROM rollouts WHERE id = $1 {{lock}}");
    let rows = sql.query(&query, &[id.into()])?;
    let Some(mut row) = rows.into_iter().next() else { return Err(unknown("rollout", id)) };
    let rollout = rollout(&mut row)?;
    if change.judge(&rollout)? == Changed::Before {
        return Ok(Changed::Before);
    }
    set_state(sql, id, rollout.state, change, news)?;
    Ok(Changed::Now)
}

/// Pauses or stops a rollout that a limit of failures says it of.
pub(super) fn halt(
    sql: &mut dyn Sql,
    rollout: &Held,
    reached: &Reached,
    by: &str,
    at: Stamp,
    news: &mut Vec<News>,
) -> Result<(), StoreError> {
    let Some(to) = halted(rollout.state, reached.action) else { return Ok(()) };
    let change =
        StateChange { from: &[rollout.state], to, reason: &reached.reason, by, at, revision: None };
    set_state(sql, rollout.id, rollout.state, &change, news)
}

pub(super) fn set_state(
    sql: &mut dyn Sql,
    id: RolloutId,
    from: RolloutState,
    change: &StateChange<'_>,
    news: &mut Vec<News>,
) -> Result<(), StoreError> {
    let to = word(&change.to);
    sql.execute(
        "UPDATE rollouts SET state = $1, reason = $2, revision = revision + 1 WHERE id = $3",
        &[to.as_str().into(), change.reason.into(), id.into()],
    )?;
    if change.to == RolloutState::Error {
        sql.execute(
            "UPDATE attempts SET state = 'skipped', ended_at = $1
             WHERE rollout = $2 AND state = 'planned'",
            &[change.at.into(), id.into()],
        )?;
    }
    if forgives(from, change.to) {
        sql.execute("UPDATE rollouts SET round = round + 1 WHERE id = $1", &[id.into()])?;
        domains::forgive(sql, id)?;
    }
    let detail = if change.reason.is_empty() { to } else { format!("{to}: {}", change.reason) };
    let by = change.by.to_owned();
    news.push(News {
        at: change.at,
        rollout: Some(id),
        host: None,
        by,
        kind: EventKind::State,
        detail,
    });
    Ok(())
}

fn rollout(row: &mut Row) -> Result<Rollout, StoreError> {
    Ok(Rollout {
        id: row.integer()?,
        name: row.text()?,
        release: row.text()?,
        file: row.text()?,
        plan_digest: row.text()?,
        state: row.word()?,
        reason: row.text()?,
        created_by: row.text()?,
        created_at: row.integer()?,
        revision: row.integer()?,
    })
}

fn wave(mut row: Row) -> Result<Wave, StoreError> {
    Ok(Wave {
        number: row.unsigned()?,
        name: row.text()?,
        state: row.word()?,
        approval: row.word()?,
        soak_s: row.unsigned()?,
        since: row.integer()?,
    })
}
