use super::events::News;
use super::looks;
use super::rollouts::hold;
use super::sql::{Row, Sql, Value};
use crate::model::{EventKind, RolloutId, WaveState};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, SignedApproval, WaveChange, unknown};
use crate::store::words::word;

pub(super) fn change_wave(
    sql: &mut dyn Sql,
    id: RolloutId,
    number: u32,
    change: &WaveChange<'_>,
    news: &mut Vec<News>,
) -> Result<Changed, StoreError> {
    let held = hold(sql, id)?;
    let (state, name) = wave_of(sql, id, number)?;
    let of = (held.name.as_str(), held.state, held.revision);
    if change.judge(of, number, state)? == Changed::Before {
        return Ok(Changed::Before);
    }
    let to = word(&change.to);
    sql.execute(
        "UPDATE waves SET state = $1, since = $2 WHERE rollout = $3 AND number = $4",
        &[to.as_str().into(), change.at.into(), id.into(), number.into()],
    )?;
    let (by, detail) = (change.by.to_owned(), format!("{name}: {to}"));
    news.push(News {
        at: change.at,
        rollout: Some(id),
        host: None,
        by,
        kind: EventKind::Wave,
        detail,
    });
    if (state, change.to) == (WaveState::Looking, WaveState::Finished) {
        looks::end_all(sql, &held, number, change, news)?;
    }
    Ok(Changed::Now)
}

/// The state and the name of a wave of a rollout that is held.
fn wave_of(
    sql: &mut dyn Sql,
    id: RolloutId,
    number: u32,
) -> Result<(WaveState, String), StoreError> {
    let rows = sql.query(
        "SELECT state, name FROM waves WHERE rollout = $1 AND number = $2",
        &[id.into(), number.into()],
    )?;
    let Some(mut row) = rows.into_iter().next() else { return Err(unknown("wave", number)) };
    Ok((row.word()?, row.text()?))
}

pub(super) fn approve(
    sql: &mut dyn Sql,
    id: RolloutId,
    approval: &SignedApproval,
    news: &mut Vec<News>,
) -> Result<Changed, StoreError> {
    hold(sql, id)?;
    let (_, detail) = wave_of(sql, id, approval.wave)?;
    let values: [Value; 6] = [
        id.into(),
        approval.wave.into(),
        approval.key.as_str().into(),
        approval.signature.as_str().into(),
        approval.by.as_str().into(),
        approval.at.into(),
    ];
    let added = sql.execute(
        "INSERT INTO approvals (rollout, wave, key, signature, by_whom, at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (rollout, wave, key) DO NOTHING",
        &values,
    )?;
    if added == 0 {
        return Ok(Changed::Before);
    }
    let (at, by) = (approval.at, approval.by.clone());
    news.push(News { at, rollout: Some(id), host: None, by, kind: EventKind::Approved, detail });
    Ok(Changed::Now)
}

pub(super) fn approvals(
    sql: &mut dyn Sql,
    id: RolloutId,
) -> Result<Vec<SignedApproval>, StoreError> {
    let rows = sql.query(
        "SELECT wave, key, signature, by_whom, at FROM approvals WHERE rollout = $1
         ORDER BY wave, key",
        &[id.into()],
    )?;
    let approval = |mut row: Row| {
        Ok(SignedApproval {
            wave: row.unsigned()?,
            key: row.text()?,
            signature: row.text()?,
            by: row.text()?,
            at: row.integer()?,
        })
    };
    rows.into_iter().map(approval).collect()
}
