use std::collections::BTreeMap;

use super::sql::{Row, Sql, Value, insert, json};
use crate::model::{AttemptId, RolloutId};
use crate::rollout::limits::{Counters, Counts, Domain};
use crate::store::error::StoreError;
use crate::store::requests::Cohort;

const COUNTERS: &str = "key, planned, in_flight, confirmed, failed, unreachable";

/// Inserts what a rollout's limits count.
pub(super) fn create(
    sql: &mut dyn Sql,
    rollout: RolloutId,
    cohorts: &[Cohort],
    counts: &Counts,
) -> Result<(), StoreError> {
    let rows = (0_u32..).zip(cohorts).map(|(number, cohort)| {
        let (site, domains) = (cohort.site.as_str().into(), json(&cohort.domains)?);
        Ok(vec![rollout.into(), number.into(), site, domains])
    });
    let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
    insert(sql, "cohorts (rollout, number, site, domains)", &rows, "")?;
    write(sql, rollout, counts.iter().map(|(domain, counters)| (domain, *counters)))
}

/// The counters of all domains of a rollout.
pub(super) fn all(sql: &mut dyn Sql, rollout: RolloutId) -> Result<Counts, StoreError> {
    let query = format!("SELECT {COUNTERS} FROM domains WHERE rollout = $1");
    sql.query(&query, &[rollout.into()])?.into_iter().map(counters).collect()
}

/// The counters of some domains of a rollout.
pub(super) fn some(
    sql: &mut dyn Sql,
    rollout: RolloutId,
    domains: &[Domain],
) -> Result<Counts, StoreError> {
    let query = format!("SELECT {COUNTERS} FROM domains WHERE rollout = $1 AND key = $2");
    let mut found = Vec::with_capacity(domains.len());
    for domain in domains {
        found.extend(sql.query(&query, &[rollout.into(), json(domain)?])?);
    }
    found.into_iter().map(counters).collect()
}

/// Keeps counters as they are now. Only who holds the rollout may.
pub(super) fn write<'a>(
    sql: &mut dyn Sql,
    rollout: RolloutId,
    counts: impl Iterator<Item = (&'a Domain, Counters)>,
) -> Result<(), StoreError> {
    let rows = counts.map(|(domain, counters)| {
        let Counters { planned, in_flight, confirmed, failed, unreachable } = counters;
        let numbers = [planned, in_flight, confirmed, failed, unreachable].map(Value::from);
        Ok([rollout.into(), json(domain)?].into_iter().chain(numbers).collect())
    });
    let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
    insert(
        sql,
        &format!("domains (rollout, {COUNTERS})"),
        &rows,
        "ON CONFLICT (rollout, key) DO UPDATE SET in_flight = excluded.in_flight,
         confirmed = excluded.confirmed, failed = excluded.failed,
         unreachable = excluded.unreachable",
    )
}

/// Forgets how hosts ended. Only who holds the rollout may.
pub(super) fn forgive(sql: &mut dyn Sql, rollout: RolloutId) -> Result<(), StoreError> {
    sql.execute(
        "UPDATE domains SET confirmed = 0, failed = 0, unreachable = 0 WHERE rollout = $1",
        &[rollout.into()],
    )?;
    Ok(())
}

/// The domains of a rollout's cohorts at a site, by the cohorts' numbers.
pub(super) fn cohorts(
    sql: &mut dyn Sql,
    rollout: RolloutId,
    site: &str,
) -> Result<BTreeMap<i64, Vec<Domain>>, StoreError> {
    let rows = sql.query(
        "SELECT number, domains FROM cohorts WHERE rollout = $1 AND site = $2",
        &[rollout.into(), site.into()],
    )?;
    rows.into_iter().map(|mut row| Ok((row.integer()?, row.json()?))).collect()
}

/// The domains of all of a rollout's cohorts, by the cohorts' numbers.
pub(super) fn all_cohorts(
    sql: &mut dyn Sql,
    rollout: RolloutId,
) -> Result<BTreeMap<i64, Vec<Domain>>, StoreError> {
    let query = "SELECT number, domains FROM cohorts WHERE rollout = $1";
    let rows = sql.query(query, &[rollout.into()])?;
    rows.into_iter().map(|mut row| Ok((row.integer()?, row.json()?))).collect()
}

/// The domains of an attempt.
pub(super) fn of(sql: &mut dyn Sql, attempt: AttemptId) -> Result<Vec<Domain>, StoreError> {
    let rows = sql.query(
        "SELECT c.domains FROM cohorts c
         JOIN attempts a ON a.rollout = c.rollout AND a.cohort = c.number WHERE a.id = $1",
        &[attempt.into()],
    )?;
    rows.into_iter().next().map_or_else(|| Ok(Vec::new()), |mut row| row.json())
}

fn counters(mut row: Row) -> Result<(Domain, Counters), StoreError> {
    let domain = row.json()?;
    let counters = Counters {
        planned: row.unsigned()?,
        in_flight: row.unsigned()?,
        confirmed: row.unsigned()?,
        failed: row.unsigned()?,
        unreachable: row.unsigned()?,
    };
    Ok((domain, counters))
}
