use super::sql::{Row, Sql, Value, json};
use crate::model::{Host, Release};
use crate::store::error::StoreError;
use crate::store::requests::Changed;

const HOST: &str = "name, key, addresses, vendor, product, bios_version, agent_version, \
                    security_version_floor, labels";
pub(super) const RELEASE: &str =
    "digest, version, security_version, vendor, products, size_bytes, added_at";

pub(super) fn put(sql: &mut dyn Sql, host: &Host) -> Result<(), StoreError> {
    let owner = sql.query("SELECT name FROM hosts WHERE key = $1", &[host.key.as_str().into()])?;
    for mut row in owner {
        let owner = row.text()?;
        if owner != host.name {
            return Err(StoreError::KeyOfAnother { name: host.name.clone(), owner });
        }
    }
    let values: [Value; 9] = [
        host.name.as_str().into(),
        host.key.as_str().into(),
        json(&host.addresses)?,
        host.vendor.as_str().into(),
        host.product.as_str().into(),
        host.bios_version.as_str().into(),
        host.agent_version.as_str().into(),
        number(host.security_version_floor),
        json(&host.labels)?,
    ];
    sql.execute(
        &format!(
            "INSERT INTO hosts ({HOST}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (name) DO UPDATE SET key = excluded.key, addresses = excluded.addresses,
             vendor = excluded.vendor, product = excluded.product,
             bios_version = excluded.bios_version, agent_version = excluded.agent_version,
             security_version_floor = excluded.security_version_floor, labels = excluded.labels"
        ),
        &values,
    )?;
    Ok(())
}

/// A host holds this release from now on, as was seen.
pub(super) fn has(sql: &mut dyn Sql, host: &str, release: &str) -> Result<(), StoreError> {
    let Some(release) = one_release(sql, release)? else { return Ok(()) };
    sql.execute(
        "UPDATE hosts SET bios_version = $1, security_version_floor =
             CASE WHEN security_version_floor < $2 THEN $2 ELSE security_version_floor END
         WHERE name = $3",
        &[release.version.into(), number(release.security_version), host.into()],
    )?;
    Ok(())
}

/// Nobody knows the version of a host any more.
pub(super) fn forget_version(sql: &mut dyn Sql, host: &str) -> Result<(), StoreError> {
    sql.execute("UPDATE hosts SET bios_version = '' WHERE name = $1", &[host.into()]).map(drop)
}

pub(super) fn one(sql: &mut dyn Sql, name: &str) -> Result<Option<Host>, StoreError> {
    let rows = sql.query(&format!("SELECT {HOST} FROM hosts WHERE name = $1"), &[name.into()])?;
    rows.into_iter().next().map(host).transpose()
}

pub(super) fn page(sql: &mut dyn Sql, after: &str, limit: i64) -> Result<Vec<Host>, StoreError> {
    let query = format!("SELECT {HOST} FROM hosts WHERE name > $1 ORDER BY name LIMIT $2");
    let rows = sql.query(&query, &[after.into(), limit.into()])?;
    rows.into_iter().map(host).collect()
}

pub(super) fn add_release(sql: &mut dyn Sql, release: &Release) -> Result<Changed, StoreError> {
    let values: [Value; 7] = [
        release.digest.as_str().into(),
        release.version.as_str().into(),
        number(release.security_version),
        release.vendor.as_str().into(),
        json(&release.products)?,
        number(release.size_bytes),
        release.added_at.into(),
    ];
    let added = sql.execute(
        &format!(
            "INSERT INTO releases ({RELEASE}, is_whole) VALUES ($1, $2, $3, $4, $5, $6, $7, 0)
             ON CONFLICT (digest) DO NOTHING"
        ),
        &values,
    )?;
    Ok(if added == 0 { Changed::Before } else { Changed::Now })
}

pub(super) fn one_release(sql: &mut dyn Sql, digest: &str) -> Result<Option<Release>, StoreError> {
    let query = format!("SELECT {RELEASE} FROM releases WHERE digest = $1");
    let rows = sql.query(&query, &[digest.into()])?;
    rows.into_iter().next().map(release).transpose()
}

pub(super) fn releases(
    sql: &mut dyn Sql,
    after: &str,
    limit: i64,
) -> Result<Vec<Release>, StoreError> {
    let query =
        format!("SELECT {RELEASE} FROM releases WHERE digest > $1 ORDER BY digest LIMIT $2");
    let rows = sql.query(&query, &[after.into(), limit.into()])?;
    rows.into_iter().map(release).collect()
}

fn host(mut row: Row) -> Result<Host, StoreError> {
    Ok(Host {
        name: row.text()?,
        key: row.text()?,
        addresses: row.json()?,
        vendor: row.text()?,
        product: row.text()?,
        bios_version: row.text()?,
        agent_version: row.text()?,
        security_version_floor: row.unsigned()?,
        labels: row.json()?,
    })
}

pub(super) fn release(mut row: Row) -> Result<Release, StoreError> {
    Ok(Release {
        digest: row.text()?,
        version: row.text()?,
        security_version: row.unsigned()?,
        vendor: row.text()?,
        products: row.json()?,
        size_bytes: row.unsigned()?,
        added_at: row.integer()?,
    })
}

/// What [`crate::store::text`] let pass fits.
fn number(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}
