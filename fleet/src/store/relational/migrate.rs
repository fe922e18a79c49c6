//! The schema and its versions.

use super::sql::Sql;
use crate::store::error::StoreError;

/// The steps from one version to the next. They are never changed once released, only followed.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001.sql")];

/// The version of this program.
pub(in crate::store) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// What a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Schema {
    /// Nothing yet.
    None,
    /// An older version: wants a backup first.
    Older(i64),
    /// The one of this program.
    Known,
}

/// Says what a database holds, if it has the table `schema_version`.
///
/// # Errors
/// For a newer version.
pub(in crate::store) fn schema(sql: &mut dyn Sql, exists: bool) -> Result<Schema, StoreError> {
    if !exists {
        return Ok(Schema::None);
    }
    let mut rows = sql.query("SELECT version FROM schema_version", &[])?;
    let found = match rows.as_mut_slice() {
        [row] => row.integer()?,
        _ => {
            let problem = "schema_version does not have one row".to_owned();
            return Err(StoreError::Damaged { problem });
        }
    };
    match found {
        KNOWN => Ok(Schema::Known),
        0..KNOWN => Ok(Schema::Older(found)),
        _ => Err(StoreError::Newer { found, known: KNOWN }),
    }
}

/// Brings a database to the version of this program, within the caller's transaction.
pub(in crate::store) fn migrate(sql: &mut dyn Sql, schema: Schema) -> Result<(), StoreError> {
    let from = match schema {
        Schema::Known => return Ok(()),
        Schema::Older(from) => from,
        Schema::None => {
            sql.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)", &[])?;
            sql.execute("INSERT INTO schema_version (version) VALUES (0)", &[])?;
            0
        }
    };
    for step in MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        for statement in statements(step) {
            sql.execute(&statement, &[])?;
        }
    }
    sql.execute("UPDATE schema_version SET version = $1", &[KNOWN.into()])?;
    Ok(())
}

/// The statements of a step. No step has a semicolon or two hyphens in a text.
fn statements(step: &str) -> Vec<String> {
    let lines = step.lines().map(|line| line.split("--").next().unwrap_or_default());
    let without_comments: String = lines.flat_map(|line| [line, "\n"]).collect();
    let statements = without_comments.split(';').map(str::trim);
    statements.filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}
