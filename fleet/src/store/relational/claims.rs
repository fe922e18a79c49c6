use std::collections::{BTreeMap, BTreeSet};

use super::attempts::{ATTEMPT, about, attempt};
use super::bundles::lacking;
use super::domains;
use super::events::News;
use super::rollouts::{HELD, Held, halt, held};
use super::sql::{Sql, Value, json};
use crate::model::{Attempt, AttemptState, EventKind};
use crate::rollout::limits::{Counts, Domain};
use crate::store::error::StoreError;
use crate::store::requests::{Claim, ClaimRequest};

/// Maximum number of looks for hosts of one rollout in one claim. Each look leaves out the hosts
/// of full domains, so after each one at least one host begins, unless nobody can. What a claim
/// does not reach, the next one does.
const LOOKS_MAX: usize = 32;

/// Claims hosts. Rollouts are held before attempts, as by all who change both, or two would wait
/// for each other. Once a rollout is held, nobody is waited for.
pub(super) fn claim(
    sql: &mut dyn Sql,
    request: &ClaimRequest<'_>,
    news: &mut Vec<News>,
) -> Result<Vec<Claim>, StoreError> {
    let rollouts = hold(sql, request)?;
    let mut claims = take_over(sql, request, news)?;
    for (rollout, seconds) in &rollouts {
        let limit = request.limit - claims.len();
        if limit == 0 {
            break;
        }
        let counts = domains::all(sql, rollout.id)?;
        if let Some(reached) = rollout.limits.reached(&counts) {
            halt(sql, rollout, &reached, request.worker, request.at, news)?;
            continue;
        }
        let cohorts = domains::cohorts(sql, rollout.id, request.site)?;
        let start = Start { request, rollout, seconds: *seconds, cohorts, counts };
        let fresh = start.run(sql, limit)?;
        news.extend(
            fresh
                .iter()
                .map(|begun| about(begun, EventKind::Claimed, request.worker, request.at, "")),
        );
        claims.extend(fresh.into_iter().map(|attempt| Claim { attempt, taken_from: None }));
    }
    Ok(claims)
}

/// Holds the open rollouts that run and have hosts for this site, until the transaction ends: so
/// claims of one rollout come one after another, and no host begins once a pause was answered.
fn hold(sql: &mut dyn Sql, request: &ClaimRequest<'_>) -> Result<Vec<(Held, u32)>, StoreError> {
    let open = request.opened();
    let ids: Vec<_> = open.keys().collect();
    let rows = sql.query(
        &format!(
            "SELECT {HELD} FROM rollouts r
             WHERE r.state = 'running' AND r.id IN {{numbers}}$1{{end}}
             AND r.release NOT IN {{texts}}$3{{end}} AND EXISTS (
                 SELECT 1 FROM waves w
                 WHERE w.rollout = r.id AND w.state = 'running' AND EXISTS (
                     SELECT 1 FROM attempts a
                     WHERE a.site = $2 AND a.rollout = w.rollout AND a.wave = w.number
                     AND a.state = 'planned'))
             ORDER BY r.id {{lock}}"
        ),
        &[json(&ids)?, request.site.into(), lacking(request.lacking)?],
    )?;
    let with_seconds = |row| {
        let rollout = held(row)?;
        let seconds = open.get(&rollout.id).copied().unwrap_or(0);
        Ok((rollout, seconds))
    };
    rows.into_iter().map(with_seconds).collect()
}

/// Takes over attempts whose lease ran out, at once.
fn take_over(
    sql: &mut dyn Sql,
    request: &ClaimRequest<'_>,
    news: &mut Vec<News>,
) -> Result<Vec<Claim>, StoreError> {
    let rows = sql.query(
        &format!(
            "SELECT {ATTEMPT} FROM attempts a
             WHERE a.site = $1 AND a.state = 'in-flight' AND a.lease_until <= $2
             AND NOT EXISTS (SELECT 1 FROM rollouts r
                 WHERE r.id = a.rollout AND r.release IN {{texts}}$4{{end}})
             ORDER BY a.rollout, a.wave, a.position, a.id LIMIT $3 {{lock-attempt}}"
        ),
        &[request.site.into(), request.at.into(), count(request.limit), lacking(request.lacking)?],
    )?;
    let mut claims = Vec::with_capacity(rows.len());
    for mut row in rows {
        let mut attempt = attempt(&mut row)?;
        sql.execute(
            "UPDATE attempts SET worker = $1, lease_until = $2 WHERE id = $3",
            &[request.worker.into(), request.until().into(), attempt.id.into()],
        )?;
        let before = attempt.worker.replace(request.worker.to_owned()).unwrap_or_default();
        attempt.lease_until = Some(request.until());
        news.push(about(&attempt, EventKind::LeaseLost, request.worker, request.at, &before));
        claims.push(Claim { attempt, taken_from: Some(before) });
    }
    Ok(claims)
}

/// Hosts of one rollout are to begin.
struct Start<'a> {
    request: &'a ClaimRequest<'a>,
    rollout: &'a Held,
    /// For how long its window is open.
    seconds: u32,
    /// The domains of the site's cohorts.
    cohorts: BTreeMap<i64, Vec<Domain>>,
    counts: Counts,
}

impl Start<'_> {
    /// Begins with at most `limit` hosts, in the plan's order.
    fn run(mut self, sql: &mut dyn Sql, limit: usize) -> Result<Vec<Attempt>, StoreError> {
        let mut begun = Vec::new();
        let mut touched = BTreeSet::new();
        for _ in 0..LOOKS_MAX {
            let candidates = self.look(sql, limit - begun.len())?;
            if candidates.is_empty() {
                break;
            }
            for (mut attempt, cohort) in candidates {
                let Some(domains) = self.cohorts.get(&cohort) else { continue };
                let room = self.rollout.limits.have_room(&self.counts, domains);
                if room && self.begin(sql, &mut attempt)? {
                    self.counts.begin(domains);
                    touched.insert(cohort);
                    begun.push(attempt);
                }
            }
        }
        let domains: BTreeSet<&Domain> =
            touched.iter().filter_map(|cohort| self.cohorts.get(cohort)).flatten().collect();
        let counters = domains.into_iter().map(|domain| (domain, self.counts.of(domain)));
        domains::write(sql, self.rollout.id, counters)?;
        Ok(begun)
    }

    /// Returns who is next, each with the number of the cohort: none of a full domain, none whose
    /// time does not fit, none that is in flight. Their hosts are held.
    fn look(&self, sql: &mut dyn Sql, limit: usize) -> Result<Vec<(Attempt, i64)>, StoreError> {
        let limits = &self.rollout.limits;
        let is_full = |domains: &Vec<Domain>| !limits.have_room(&self.counts, domains);
        let full = self.cohorts.iter().filter(|(_, domains)| is_full(domains));
        let full: Vec<i64> = full.map(|(number, _)| *number).collect();
        if limit == 0 || full.len() == self.cohorts.len() {
            return Ok(Vec::new());
        }
        let rows = sql.query(
            &format!(
                "SELECT {ATTEMPT}, a.cohort FROM attempts a
                 JOIN waves w ON w.rollout = a.rollout AND w.number = a.wave
                 JOIN hosts h ON h.name = a.host
                 WHERE a.site = $1 AND a.rollout = $2 AND a.state = 'planned'
                 AND w.state = 'running' AND a.predicted_s <= $3
                 AND a.cohort NOT IN {{numbers}}$4{{end}} AND NOT EXISTS (
                     SELECT 1 FROM attempts b WHERE b.host = a.host AND b.state = 'in-flight')
                 ORDER BY a.wave, a.position, a.id LIMIT $5 {{lock-host}}"
            ),
            &[
                self.request.site.into(),
                self.rollout.id.into(),
                self.seconds.into(),
                json(&full)?,
                count(limit),
            ],
        )?;
        rows.into_iter().map(|mut row| Ok((attempt(&mut row)?, row.integer()?))).collect()
    }

    /// Begins with a host, and says whether it could: another rollout's claim may have begun with
    /// it between the look and the hold.
    fn begin(&self, sql: &mut dyn Sql, attempt: &mut Attempt) -> Result<bool, StoreError> {
        let request = self.request;
        let begun = sql.execute(
            "UPDATE attempts SET state = 'in-flight', worker = $1, lease_until = $2,
             started_at = $3 WHERE id = $4 AND state = 'planned' AND NOT EXISTS (
                 SELECT 1 FROM attempts b WHERE b.host = $5 AND b.state = 'in-flight')",
            &[
                request.worker.into(),
                request.until().into(),
                request.at.into(),
                attempt.id.into(),
                attempt.host.as_str().into(),
            ],
        )?;
        attempt.state = AttemptState::InFlight;
        attempt.worker = Some(request.worker.to_owned());
        attempt.lease_until = Some(request.until());
        attempt.started_at = Some(request.at);
        Ok(begun > 0)
    }
}

fn count(limit: usize) -> Value {
    Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX))
}
