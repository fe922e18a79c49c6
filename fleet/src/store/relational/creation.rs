use super::domains;
use super::events::News;
use super::hosts::one_release;
use super::sql::{Sql, Value, insert, json};
use crate::model::{Drain, EventKind, RolloutId, RolloutState, WaveState};
use crate::store::error::StoreError;
use crate::store::requests::{Frozen, NewRollout, unknown};
use crate::store::words::word;

pub(super) fn create(
    sql: &mut dyn Sql,
    new: &NewRollout,
    frozen: &Frozen<'_>,
    news: &mut Vec<News>,
) -> Result<RolloutId, StoreError> {
    if one_release(sql, &new.release)?.is_none() {
        return Err(unknown("release", &new.release));
    }
    let id = insert_rollout(sql, new)?;
    insert_waves(sql, id, new)?;
    check_hosts(sql, frozen)?;
    domains::create(sql, id, &frozen.cohorts, &frozen.counts)?;
    insert_attempts(sql, id, frozen)?;
    news.push(News {
        at: new.at,
        rollout: Some(id),
        host: None,
        by: new.created_by.clone(),
        kind: EventKind::Created,
        detail: new.name.clone(),
    });
    Ok(id)
}

fn insert_rollout(sql: &mut dyn Sql, new: &NewRollout) -> Result<RolloutId, StoreError> {
    let values: [Value; 8] = [
        new.name.as_str().into(),
        new.release.as_str().into(),
        new.file.as_str().into(),
        new.plan_digest.as_str().into(),
        json(&new.limits)?,
        word(&RolloutState::Ready).into(),
        new.created_by.as_str().into(),
        new.at.into(),
    ];
    let created = sql.query(
        "INSERT INTO rollouts
         (name, release, file, plan_digest, limits, state, reason, created_by, created_at,
          revision, round)
         VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, 0, 0)
         ON CONFLICT (name) DO NOTHING RETURNING id",
        &values,
    )?;
    match created.into_iter().next() {
        Some(mut row) => row.integer(),
        None => Err(StoreError::NameTaken { name: new.name.clone() }),
    }
}

fn insert_waves(sql: &mut dyn Sql, id: RolloutId, new: &NewRollout) -> Result<(), StoreError> {
    let rows = (0_u32..).zip(&new.waves).map(|(number, wave)| {
        vec![
            id.into(),
            number.into(),
            wave.name.as_str().into(),
            word(&WaveState::Waiting).into(),
            word(&wave.approval).into(),
            wave.soak_s.into(),
            new.at.into(),
        ]
    });
    let rows: Vec<Vec<Value>> = rows.collect();
    insert(sql, "waves (rollout, number, name, state, approval, soak_s, since)", &rows, "")
}

fn insert_attempts(
    sql: &mut dyn Sql,
    id: RolloutId,
    frozen: &Frozen<'_>,
) -> Result<(), StoreError> {
    let rows = frozen.attempts.iter().map(|placed| {
        let attempt = placed.attempt;
        vec![
            id.into(),
            attempt.wave.into(),
            placed.position.into(),
            attempt.host.as_str().into(),
            attempt.site.as_str().into(),
            placed.cohort.into(),
            attempt.predicted_s.into(),
            0_u32.into(),
            "planned".into(),
            "".into(),
            word(&Drain::NotStarted).into(),
            0_u32.into(),
            "".into(),
        ]
    });
    let rows: Vec<Vec<Value>> = rows.collect();
    let columns = "rollout, wave, position, host, site, cohort, predicted_s, retry, state, detail, \
                   drain, round, look";
    insert(sql, &format!("attempts ({columns})"), &rows, "")
}

/// Refuses hosts that are not in the store, by name: the database would only say that one is not.
fn check_hosts(sql: &mut dyn Sql, frozen: &Frozen<'_>) -> Result<(), StoreError> {
    let names: Vec<&str> =
        frozen.attempts.iter().map(|placed| placed.attempt.host.as_str()).collect();
    let missing = sql.query(
        "SELECT wanted.value FROM {texts}$1{end} wanted WHERE NOT EXISTS (
             SELECT 1 FROM hosts h WHERE h.name = wanted.value) LIMIT 1",
        &[json(&names)?],
    )?;
    match missing.into_iter().next() {
        Some(mut row) => Err(unknown("host", row.text()?)),
        None => Ok(()),
    }
}
