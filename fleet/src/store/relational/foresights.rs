use super::hosts::one_release;
use super::sql::{Row, Sql, Value};
use crate::model::{BoardTimes, Foresight};
use crate::store::error::StoreError;
use crate::store::requests::{board_times, unknown};

/// Keeps what hosts foresee, one by one in their order, and which version each of them runs.
pub(super) fn keep(sql: &mut dyn Sql, foresights: &[&Foresight]) -> Result<(), StoreError> {
    for foresight in foresights {
        let host: [Value; 2] =
            [foresight.from_version.as_str().into(), foresight.host.as_str().into()];
        if sql.execute("UPDATE hosts SET bios_version = $1 WHERE name = $2", &host)? == 0 {
            return Err(unknown("host", &foresight.host));
        }
        if one_release(sql, &foresight.release)?.is_none() {
            return Err(unknown("release", &foresight.release));
        }
        let values: [Value; 6] = [
            foresight.host.as_str().into(),
            foresight.release.as_str().into(),
            foresight.from_version.as_str().into(),
            foresight.typical_s.into(),
            foresight.longest_s.into(),
            foresight.at.into(),
        ];
        sql.execute(
            "INSERT INTO foresights (host, release, from_version, typical_s, longest_s, at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (release, host) DO UPDATE SET from_version = excluded.from_version,
             typical_s = excluded.typical_s, longest_s = excluded.longest_s, at = excluded.at",
            &values,
        )?;
    }
    Ok(())
}

/// A host's chip may hold something else now: what it foresaw is void.
pub(super) fn forget(sql: &mut dyn Sql, host: &str) -> Result<(), StoreError> {
    sql.execute("DELETE FROM foresights WHERE host = $1", &[host.into()]).map(drop)
}

pub(super) fn page(
    sql: &mut dyn Sql,
    release: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Foresight>, StoreError> {
    let rows = sql.query(
        "SELECT f.host, f.release, f.from_version, f.typical_s, f.longest_s, f.at
         FROM foresights f JOIN hosts h ON h.name = f.host AND h.bios_version = f.from_version
         WHERE f.release = $1 AND f.host > $2 ORDER BY f.host LIMIT $3",
        &[release.into(), after.into(), limit.into()],
    )?;
    let foresight = |mut row: Row| {
        Ok(Foresight {
            host: row.text()?,
            release: row.text()?,
            from_version: row.text()?,
            typical_s: row.unsigned()?,
            longest_s: row.unsigned()?,
            at: row.integer()?,
        })
    };
    rows.into_iter().map(foresight).collect()
}

/// The database does the counting. What a takeover made longer is no measure of a board.
pub(super) fn boards(sql: &mut dyn Sql) -> Result<Vec<BoardTimes>, StoreError> {
    let rows = sql.query(
        "SELECT h.vendor, h.product, COUNT(*), CAST(SUM(a.ended_at - a.started_at) AS BIGINT),
         MAX(a.ended_at - a.started_at)
         FROM attempts a JOIN hosts h ON h.name = a.host
         WHERE a.state = 'confirmed' AND NOT EXISTS (
             SELECT 1 FROM events e
             WHERE e.host = a.host AND e.rollout = a.rollout AND e.kind = 'lease-lost')
         GROUP BY h.vendor, h.product ORDER BY h.vendor, h.product",
        &[],
    )?;
    let board = |mut row: Row| {
        let board = (row.text()?, row.text()?);
        Ok(board_times(board, row.unsigned()?, (row.integer()?, row.integer()?)))
    };
    rows.into_iter().map(board).collect()
}
