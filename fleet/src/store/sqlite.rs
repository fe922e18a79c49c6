//! The store in one file, with SQLite. Several programs of one machine may use it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, TransactionBehavior, params_from_iter};

use super::clock;
use super::error::StoreError;
use super::relational::Relational;
use super::relational::dialect::SQLITE;
use super::relational::migrate::{Schema, migrate, schema};
use super::relational::sql::{Database, Row, Sql, Value};
use crate::model::Stamp;

/// Name of the file in the state directory.
pub const FILE: &str = "fleet.sqlite";

/// Pause before a call asks again while another program's transaction is under way. SQLite's own
/// pauses grow to 0.1 s, so that who comes later is served first, and others wait for seconds.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// How often a call asks again: for some ten seconds.
const BUSY_PAUSES_MAX: i32 = 5_000;

/// How often who waits for events looks for them: there is no wake-up between programs.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Statements that stay prepared.
const PREPARED_MAX: usize = 64;

/// The store in one file.
pub type SqliteStore = Relational<Sqlite>;

/// A database of SQLite.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
}

impl SqliteStore {
    /// Opens the store of a state directory; a missing one is made. An older one is changed to this
    /// program's schema, after a backup beside it, `fleet.sqlite.schema-VERSION`.
    ///
    /// # Errors
    /// When it is of a newer program, or cannot be read or written.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let path = state.join(FILE);
        let connection = Connection::open(&path).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_MAX);
        connection.busy_handler(Some(wait_for_others)).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        // With WAL the default would lose the last transactions when the power fails.
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        let mut database = Sqlite { connection };
        database.prepare(&path)?;
        Ok(Self::new(database))
    }
}

/// Called by SQLite when it was kept out so many times; it gives up after `false`.
fn wait_for_others(times: i32) -> bool {
    std::thread::sleep(BUSY_PAUSE);
    times < BUSY_PAUSES_MAX
}

impl Sqlite {
    fn prepare(&mut self, path: &Path) -> Result<(), StoreError> {
        if let Schema::Older(version) = self.transaction(|sql| look(sql))? {
            self.back_up(&backup_path(path, version))?;
        }
        // Another program may have been faster.
        self.transaction(|sql| {
            let schema = look(sql)?;
            migrate(sql, schema)
        })
    }

    fn run<T>(
        &mut self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(failed)?;
        let answer = work(&mut Statements(&transaction))?;
        transaction.commit().map_err(failed)?;
        Ok(answer)
    }

    /// Copies the database. A backup that is there is of the same version, made before this
    /// failed: it stays.
    fn back_up(&mut self, to: &Path) -> Result<(), StoreError> {
        if to.exists() {
            return Ok(());
        }
        // A copy that was cut off must not be taken for a backup.
        let unfinished = to.with_extension("unfinished");
        let refused = |error: std::io::Error| StoreError::Refused { source: Box::new(error) };
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(refused(error));
            }
            _ => {}
        }
        let target = unfinished.to_string_lossy();
        self.connection.execute("VACUUM INTO ?1", [&target]).map_err(failed)?;
        std::fs::File::open(&unfinished).and_then(|file| file.sync_all()).map_err(refused)?;
        std::fs::rename(&unfinished, to).map_err(refused)
    }
}

fn look(sql: &mut dyn Sql) -> Result<Schema, StoreError> {
    let tables = sql.query("SELECT name FROM sqlite_schema WHERE name = 'schema_version'", &[])?;
    schema(sql, !tables.is_empty())
}

fn backup_path(path: &Path, version: i64) -> PathBuf {
    path.with_extension(format!("sqlite.schema-{version}"))
}

impl Database for Sqlite {
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A transaction that reads first and writes then could not wait for another.
        self.run(TransactionBehavior::Immediate, work)
    }

    fn read<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run(TransactionBehavior::Deferred, work)
    }

    fn now(&mut self) -> Result<Stamp, StoreError> {
        Ok(clock::now())
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), StoreError> {
        std::thread::sleep(timeout.min(LOOK_INTERVAL));
        Ok(())
    }
}

struct Statements<'a>(&'a Connection);

impl Sql for Statements<'_> {
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.0.prepare_cached(&SQLITE.speak(sql)).map_err(failed)?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let values = (0..columns).map(|column| value(row.get_ref(column).map_err(failed)?));
            found.push(Row::new(values.collect::<Result<_, _>>()?));
        }
        Ok(found)
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let mut statement = self.0.prepare_cached(&SQLITE.speak(sql)).map_err(failed)?;
        let changed = statement.execute(params_from_iter(values)).map_err(failed)?;
        Ok(changed as u64)
    }

    fn before_events(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn value(found: ValueRef<'_>) -> Result<Value, StoreError> {
    let damaged = |problem: &str| StoreError::Damaged { problem: problem.to_owned() };
    match found {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Integer(number)),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err(damaged("text is not UTF-8")),
        },
        ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes.to_owned())),
        ValueRef::Real(_) => Err(damaged("a value is no text, whole number or bytes")),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn failed(error: rusqlite::Error) -> StoreError {
    let code = error.sqlite_error_code();
    // A file beside the database cannot grow, so nothing has begun (sqlite.org/rescode.html).
    let is_stuck =
        error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE);
    let source = Box::new(error);
    match code {
        Some(ErrorCode::DiskFull) => StoreError::Full { source },
        Some(_) if is_stuck => StoreError::Full { source },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { source },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { problem: source.to_string() }
        }
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => StoreError::Gone { source },
        _ => StoreError::Refused { source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Host;
    use crate::store::Store as _;

    fn host(number: usize) -> Host {
        Host {
            name: format!("host{number}"),
            key: format!("key{number}"),
            addresses: Vec::new(),
            vendor: "v".repeat(1000),
            product: String::new(),
            bios_version: String::new(),
            agent_version: String::new(),
            security_version_floor: 0,
            labels: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn a_full_disk_leaves_nothing_half_done() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let mut store = SqliteStore::open(folder.path()).expect("a store");
        store.put_hosts(&[host(0)]).expect("room for one");
        let limit = |store: &mut SqliteStore, pages: i64| {
            let connection = &store.database().connection;
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        };
        limit(&mut store, 40).expect("a limit");
        let many: Vec<Host> = (1..500).map(host).collect();
        let full = store.put_hosts(&many).expect_err("no room for so many");
        assert!(matches!(full, StoreError::Full { .. }), "{full}");
        assert_eq!(store.hosts("", 10).expect("still readable"), [host(0)]);
        limit(&mut store, 100_000).expect("a limit");
        store.put_hosts(&many).expect("room again");
        assert_eq!(store.hosts("", 1000).expect("readable").len(), 500);
    }
}
