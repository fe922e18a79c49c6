use super::events::News;
use super::foresights;
use super::rollouts::{Held, hold, set_state};
use super::sql::{Row, Sql, insert};
use super::waves::change_wave;
use crate::model::{EventKind, RolloutId, RolloutState, Stamp, WaveState};
use crate::rollout::prediction::Predictions;
use crate::store::error::StoreError;
use crate::store::requests::{
    RETRIED, Replanned, Retry, StateChange, WaveChange, told_retry, unknown,
};

/// An attempt that failed, as far as the next one is like it.
struct Failed {
    wave: u32,
    position: u32,
    cohort: u32,
    retry: u32,
    host: String,
    site: String,
    predicted_s: u32,
    vendor: String,
    product: String,
}

pub(super) fn retry_failed(
    sql: &mut dyn Sql,
    id: RolloutId,
    retry: &Retry<'_>,
    news: &mut Vec<News>,
) -> Result<Vec<Replanned>, StoreError> {
    let Retry { by, at, .. } = *retry;
    let held = hold(sql, id)?;
    retry.judge((&held.name, held.state, held.revision))?;
    let failed = failed(sql, id)?;
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let known = known(sql, id)?;
    let (mut rows, mut planned) = (Vec::new(), Vec::new());
    for Failed { wave, position, cohort, retry: tried, host, site, predicted_s, vendor, product } in
        failed
    {
        let before_s = predicted_s;
        let predicted_s = retry.predict(&known, (&host, (&vendor, &product)), before_s);
        rows.push(vec![
            id.into(),
            wave.into(),
            position.into(),
            host.as_str().into(),
            site.as_str().into(),
            cohort.into(),
            predicted_s.into(),
            (tried + 1).into(),
            "planned".into(),
            "".into(),
            "not-started".into(),
            0_i64.into(),
            "".into(),
        ]);
        planned.push(Replanned { host, site, before_s, predicted_s });
    }
    let into = "attempts (rollout, wave, position, host, site, cohort, predicted_s, retry, state,
                detail, drain, round, look)";
    insert(sql, into, &rows, "")?;
    news.push(News {
        at,
        rollout: Some(id),
        host: None,
        by: by.to_owned(),
        kind: EventKind::State,
        detail: told_retry(&planned),
    });
    open_again(sql, &held, by, at, news)?;
    Ok(planned)
}

/// The last attempts of hosts that failed, by wave and position.
fn failed(sql: &mut dyn Sql, id: RolloutId) -> Result<Vec<Failed>, StoreError> {
    let rows = sql.query(
        "SELECT a.wave, a.position, a.cohort, a.retry, a.host, a.site, a.predicted_s,
         h.vendor, h.product FROM attempts a JOIN hosts h ON h.name = a.host
         WHERE a.rollout = $1 AND a.state = 'failed' AND NOT EXISTS (
             SELECT 1 FROM attempts b
             WHERE b.rollout = a.rollout AND b.host = a.host AND b.retry > a.retry)
         ORDER BY a.wave, a.position",
        &[id.into()],
    )?;
    let failed = |mut row: Row| {
        Ok(Failed {
            wave: row.unsigned()?,
            position: row.unsigned()?,
            cohort: row.unsigned()?,
            retry: row.unsigned()?,
            host: row.text()?,
            site: row.text()?,
            predicted_s: row.unsigned()?,
            vendor: row.text()?,
            product: row.text()?,
        })
    };
    rows.into_iter().map(failed).collect()
}

/// What is known now of how long updates to a rollout's release take.
fn known(sql: &mut dyn Sql, id: RolloutId) -> Result<Predictions, StoreError> {
    let row = sql.query("SELECT release FROM rollouts WHERE id = $1", &[id.into()])?;
    let mut row = row.into_iter().next().ok_or_else(|| unknown("rollout", id))?;
    let foresights = foresights::page(sql, &row.text()?, "", i64::MAX)?;
    Ok(Predictions::new(foresights, foresights::boards(sql)?))
}

/// Lets waves run again that have planned hosts, and the rollout, if it had finished.
fn open_again(
    sql: &mut dyn Sql,
    held: &Held,
    by: &str,
    at: Stamp,
    news: &mut Vec<News>,
) -> Result<(), StoreError> {
    let rows = sql.query(
        "SELECT w.number FROM waves w
         WHERE w.rollout = $1 AND w.state IN ('soaking', 'looking', 'finished') AND EXISTS (
             SELECT 1 FROM attempts a
             WHERE a.rollout = w.rollout AND a.wave = w.number AND a.state = 'planned')
         ORDER BY w.number",
        &[held.id.into()],
    )?;
    let from = &[WaveState::Soaking, WaveState::Looking, WaveState::Finished];
    for mut row in rows {
        let change = WaveChange { from, to: WaveState::Running, by, at, revision: None };
        change_wave(sql, held.id, row.unsigned()?, &change, news)?;
    }
    if held.state != RolloutState::Finished {
        let raise = "UPDATE rollouts SET revision = revision + 1 WHERE id = $1";
        return sql.execute(raise, &[held.id.into()]).map(drop);
    }
    let (from, to) = (&[RolloutState::Finished], RolloutState::Running);
    let change = StateChange { from, to, reason: RETRIED, by, at, revision: None };
    set_state(sql, held.id, held.state, &change, news)
}
