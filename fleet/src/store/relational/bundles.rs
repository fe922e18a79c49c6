//! The bundles of releases, in chunks. `releases.is_whole` says that all of them are there: what
//! was begun and not finished is never read.

use super::events::News;
use super::hosts::{RELEASE, release};
use super::sql::{Row, Sql, Value, json};
use crate::model::{EventKind, Release, Stamp};
use crate::store::error::StoreError;
use crate::store::requests::{Changed, check_chunk, check_whole, unknown};

/// Holds a release until the transaction ends.
fn held(sql: &mut dyn Sql, digest: &str) -> Result<Release, StoreError> {
    let query = format!("SELECT {RELEASE} FROM releases WHERE digest = $1 {{lock}}");
    let row = sql.query(&query, &[digest.into()])?.into_iter().next();
    release(row.ok_or_else(|| unknown("release", digest))?)
}

pub(super) fn put_chunk(
    sql: &mut dyn Sql,
    digest: &str,
    number: u32,
    bytes: &[u8],
) -> Result<(), StoreError> {
    check_chunk(&held(sql, digest)?, number, bytes)?;
    sql.execute(
        "INSERT INTO chunks (release, number, bytes) VALUES ($1, $2, $3)
         ON CONFLICT (release, number) DO UPDATE SET bytes = excluded.bytes",
        &[digest.into(), number.into(), Value::Bytes(bytes.to_vec())],
    )?;
    Ok(())
}

pub(super) fn close(sql: &mut dyn Sql, digest: &str) -> Result<Changed, StoreError> {
    let release = held(sql, digest)?;
    let query = "SELECT COUNT(*) FROM chunks WHERE release = $1";
    let row = sql.query(query, &[digest.into()])?.into_iter().next();
    check_whole(&release, row.map_or(Ok(0), |mut row| row.unsigned())?)?;
    let closed = sql.execute(
        "UPDATE releases SET is_whole = 1 WHERE digest = $1 AND is_whole = 0",
        &[digest.into()],
    )?;
    Ok(if closed == 0 { Changed::Before } else { Changed::Now })
}

pub(super) fn is_whole(sql: &mut dyn Sql, digest: &str) -> Result<bool, StoreError> {
    let query = "SELECT is_whole FROM releases WHERE digest = $1";
    let row = sql.query(query, &[digest.into()])?.into_iter().next();
    Ok(row.map(|mut row| row.integer()).transpose()? == Some(1))
}

pub(super) fn chunk(
    sql: &mut dyn Sql,
    digest: &str,
    number: u32,
) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = sql.query(
        "SELECT c.bytes FROM chunks c JOIN releases r ON r.digest = c.release
         WHERE c.release = $1 AND c.number = $2 AND r.is_whole = 1",
        &[digest.into(), number.into()],
    )?;
    rows.into_iter().next().map(|mut row| row.bytes()).transpose()
}

/// Removes a bundle, and the release with it where no rollout names it.
pub(super) fn remove(sql: &mut dyn Sql, digest: &str) -> Result<(), StoreError> {
    held(sql, digest)?;
    let rows = sql.query(
        "SELECT r.name FROM rollouts r WHERE r.release = $1
         AND (r.state NOT IN ('finished', 'error') OR EXISTS (
             SELECT 1 FROM attempts a WHERE a.rollout = r.id AND a.state = 'in-flight'))
         ORDER BY r.id LIMIT 1",
        &[digest.into()],
    )?;
    if let Some(mut row) = rows.into_iter().next() {
        return Err(StoreError::Needed { digest: digest.to_owned(), rollout: row.text()? });
    }
    sql.execute("DELETE FROM chunks WHERE release = $1", &[digest.into()])?;
    sql.execute("UPDATE releases SET is_whole = 0 WHERE digest = $1", &[digest.into()])?;
    sql.execute(
        "DELETE FROM releases WHERE digest = $1
         AND NOT EXISTS (SELECT 1 FROM rollouts r WHERE r.release = $1)",
        &[digest.into()],
    )?;
    Ok(())
}

pub(super) fn due(sql: &mut dyn Sql, site: &str) -> Result<Vec<String>, StoreError> {
    let rows = sql.query(
        "SELECT DISTINCT r.release FROM rollouts r
         WHERE (r.state IN ('scheduled', 'running', 'paused') AND EXISTS (
             SELECT 1 FROM attempts a
             WHERE a.site = $1 AND a.rollout = r.id AND a.state = 'planned'))
         OR (r.state IN ('running', 'paused') AND EXISTS (
             SELECT 1 FROM waves w
             WHERE w.rollout = r.id AND w.state = 'looking' AND EXISTS (
                 SELECT 1 FROM attempts a
                 WHERE a.site = $1 AND a.rollout = r.id AND a.wave = w.number
                 AND a.state = 'confirmed' AND a.look <> 'healthy')))
         OR r.id IN (SELECT a.rollout FROM attempts a
             WHERE a.site = $1 AND a.state = 'in-flight')
         ORDER BY r.release",
        &[site.into()],
    )?;
    rows.into_iter().map(|mut row: Row| row.text()).collect()
}

/// The releases that a worker lacks, as the statements have them.
pub(super) fn lacking(digests: &[String]) -> Result<Value, StoreError> {
    json(&digests)
}

pub(super) fn tell(worker: &str, words: &str, at: Stamp) -> News {
    News {
        at,
        rollout: None,
        host: None,
        by: worker.to_owned(),
        kind: EventKind::Bundle,
        detail: words.to_owned(),
    }
}
