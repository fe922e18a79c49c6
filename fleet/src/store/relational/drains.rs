use super::attempts::{about, locked};
use super::domains;
use super::events::News;
use super::rollouts::hold;
use super::sql::Sql;
use crate::model::{AttemptId, AttemptState, EventKind, Stamp};
use crate::store::error::StoreError;
use crate::store::requests::{DrainStep, check_held, put_back_state, told_put_back, unknown};
use crate::store::text;
use crate::store::words::word;

pub(super) fn tell(
    sql: &mut dyn Sql,
    id: AttemptId,
    worker: &str,
    (step, at): (&DrainStep<'_>, Stamp),
    news: &mut Vec<News>,
) -> Result<(), StoreError> {
    let attempt = locked(sql, id)?;
    check_held(&attempt, worker)?;
    sql.execute(
        "UPDATE attempts SET drain = $1, stage = $2 WHERE id = $3",
        &[word(&step.drain()).into(), step.stage().or(attempt.stage.as_deref()).into(), id.into()],
    )?;
    if let Some(outcome) = step.outcome() {
        sql.execute(
            "UPDATE attempts SET reason = $1, flash = $2, detail = $3 WHERE id = $4",
            &[
                outcome.reason.into(),
                outcome.flash.into(),
                text::detail(outcome.detail).into(),
                id.into(),
            ],
        )?;
    }
    if let Some((kind, words)) = step.told() {
        news.push(about(&attempt, kind, worker, at, words));
    }
    Ok(())
}

/// The rollout is held before the attempt, as by claims.
pub(super) fn put_back(
    sql: &mut dyn Sql,
    id: AttemptId,
    worker: &str,
    (why, at): (&str, Stamp),
    news: &mut Vec<News>,
) -> Result<(), StoreError> {
    let rows = sql.query("SELECT rollout FROM attempts WHERE id = $1", &[id.into()])?;
    let Some(mut row) = rows.into_iter().next() else { return Err(unknown("attempt", id)) };
    let rollout = hold(sql, row.integer()?)?;
    let attempt = locked(sql, id)?;
    check_held(&attempt, worker)?;
    let state = put_back_state(rollout.state);
    let ended_at = (state == AttemptState::Skipped).then_some(at);
    sql.execute(
        "UPDATE attempts SET state = $1, worker = NULL, lease_until = NULL, stage = NULL,
         started_at = NULL, ended_at = $2 WHERE id = $3",
        &[word(&state).into(), ended_at.into(), id.into()],
    )?;
    news.push(about(&attempt, EventKind::PutBack, worker, at, &told_put_back(state, why)));
    let domains = domains::of(sql, id)?;
    let mut counts = domains::some(sql, rollout.id, &domains)?;
    counts.put_back(&domains);
    domains::write(sql, rollout.id, domains.iter().map(|domain| (domain, counts.of(domain))))
}
