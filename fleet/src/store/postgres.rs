//! The store in PostgreSQL, for several sites.
//!
//! | file | what it does |
//! | --- | --- |
//! | `postgres/options.rs` | how it is reached, and what an operator says of TLS |
//! | `postgres/client.rs` | what this program shows of itself |
//! | `postgres/tls.rs` | TLS: whom to trust, and what is wrong with a certificate |

mod client;
mod options;
mod tls;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use ::postgres::fallible_iterator::FallibleIterator as _;
use ::postgres::types::private::BytesMut;
use ::postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use ::postgres::{Client, Config, IsolationLevel, NoTls, Statement, Transaction};

use super::error::StoreError;
use super::relational::Relational;
use super::relational::dialect::POSTGRES;
use super::relational::migrate::{KNOWN, Schema, migrate, schema};
use super::relational::sql::{Database, Row, Sql, Value};
use crate::model::Stamp;
use options::{Mode, Options};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server may be silent before the connection counts as broken.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a statement may wait for another transaction, and how long it may take, in the
/// server's words.
const SESSION: &str = "SET lock_timeout = '10s'; SET statement_timeout = '60s'; \
                       SET idle_in_transaction_session_timeout = '60s'; LISTEN firmcast_fleet";

/// Key of the advisory lock that is held while the schema changes: "fcschema" in ASCII.
const SCHEMA_LOCK: i64 = 0x6663_7363_6865_6d61;

/// Key of the advisory lock of whoever appends events: "fcevents" in ASCII.
const EVENTS_LOCK: i64 = 0x6663_6576_656e_7473;

/// The store in PostgreSQL.
pub type PostgresStore = Relational<Postgres>;

/// Whether there is a backup of an older store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backup {
    /// Nobody said so: an older store is left as it is.
    Unconfirmed,
    /// The operator has made one, with pg_dump: this program cannot know where it would have room.
    Confirmed,
}

/// Maximum number of statements that stay prepared.
const PREPARED_MAX: usize = 128;

/// A database of PostgreSQL.
pub struct Postgres {
    config: Config,
    options: Options,
    /// None after the connection broke: the next call makes one.
    session: Option<Session>,
}

struct Session {
    client: Client,
    /// By their text.
    prepared: HashMap<String, Statement>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration shows no password.
        f.debug_struct("Postgres").field("config", &self.config).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Opens the store at `postgres://USER@HOST/DATABASE`, with libpq's options of TLS: `sslmode`,
    /// `sslrootcert`, `sslcert` and `sslkey`. Whatever leaves the machine is verified unless these
    /// say otherwise (`sslmode=verify-full`); over loopback TLS is used where it is offered. An
    /// empty database is prepared. An older store is changed to this program's schema, in one
    /// transaction, if there is a backup.
    ///
    /// # Errors
    /// When the database cannot be reached, is not in UTF-8, is of a newer program, or of an older
    /// one without a backup.
    pub fn open(url: &str, backup: Backup) -> Result<Self, StoreError> {
        let (mut config, options) = options::read(url)?;
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(SILENCE_MAX);
        config.application_name("firmcast-fleet");
        let mut database = Postgres { config, options, session: None };
        database.transaction(|sql| prepare(sql, backup))?;
        Ok(Self::new(database))
    }
}

fn prepare(sql: &mut dyn Sql, backup: Backup) -> Result<(), StoreError> {
    sql.query("SELECT pg_advisory_xact_lock($1)", &[SCHEMA_LOCK.into()])?;
    let encoding = sql.query("SELECT current_setting('server_encoding')", &[])?;
    let encoding = encoding.into_iter().next().map(|mut row| row.text()).transpose()?;
    if encoding.as_deref() != Some("UTF8") {
        let problem = format!("is in {}, expected UTF8", encoding.unwrap_or_default());
        return Err(StoreError::Text { what: "the database".to_owned(), problem });
    }
    let table = sql.query("SELECT to_regclass('schema_version')::text", &[])?;
    let table = table.into_iter().next().map(|mut row| row.optional_text()).transpose()?;
    let schema = schema(sql, table.flatten().is_some())?;
    match schema {
        Schema::Older(found) if backup == Backup::Unconfirmed => {
            Err(StoreError::BackupNeeded { found, known: KNOWN })
        }
        _ => migrate(sql, schema),
    }
}

impl Postgres {
    fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            self.session = None;
        }
        match &mut self.session {
            Some(session) => Ok(session),
            none => {
                let connected = match self.options.mode {
                    Mode::Disable => self.config.connect(NoTls),
                    _ => self.config.connect(tls::connector(&self.options)?),
                };
                let mut client = connected.map_err(gone)?;
                client.batch_execute(SESSION).map_err(failed)?;
                Ok(none.insert(Session { client, prepared: HashMap::new() }))
            }
        }
    }

    fn run<T>(
        &mut self,
        read_only: bool,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = self.session().and_then(|Session { client, prepared }| {
            // Who writes has to see what others changed while it waited for a lock. The server's
            // own default may be another.
            let level = if read_only {
                IsolationLevel::RepeatableRead
            } else {
                IsolationLevel::ReadCommitted
            };
            let builder = client.build_transaction().read_only(read_only).isolation_level(level);
            let mut transaction = builder.start().map_err(failed)?;
            let answer = work(&mut Statements { transaction: &mut transaction, prepared })?;
            transaction.commit().map_err(failed)?;
            Ok(answer)
        });
        match (&done, &mut self.session) {
            (Err(StoreError::Gone { .. }), session) => *session = None,
            // Somebody may have changed the schema under a prepared statement.
            (Err(StoreError::Refused { .. }), Some(session)) => session.prepared.clear(),
            _ => {}
        }
        done
    }
}

impl Database for Postgres {
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run(false, work)
    }

    fn read<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run(true, work)
    }

    fn now(&mut self) -> Result<Stamp, StoreError> {
        let query = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint";
        let rows = self.read(|sql| sql.query(query, &[]))?;
        let damaged = || StoreError::Damaged { problem: "it has no clock".to_owned() };
        rows.into_iter().next().ok_or_else(damaged)?.integer()
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), StoreError> {
        let waited = self.session().and_then(|Session { client, .. }| {
            let mut notifications = client.notifications();
            notifications.timeout_iter(timeout).next().map_err(failed)?;
            // Those that came meanwhile tell nothing more.
            notifications.iter().count().map_err(failed)
        });
        if waited.is_err() {
            self.session = None;
        }
        waited.map(|_| ())
    }
}

struct Statements<'a, 'b> {
    transaction: &'a mut Transaction<'b>,
    prepared: &'a mut HashMap<String, Statement>,
}

impl Statements<'_, '_> {
    fn prepare(&mut self, sql: &str) -> Result<Statement, StoreError> {
        let text = POSTGRES.speak(sql);
        if let Some(statement) = self.prepared.get(&text) {
            return Ok(statement.clone());
        }
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.clear();
        }
        let statement = self.transaction.prepare(&text).map_err(failed)?;
        self.prepared.insert(text, statement.clone());
        Ok(statement)
    }
}

impl Sql for Statements<'_, '_> {
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepare(sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let rows = self.transaction.query(&statement, &values).map_err(failed)?;
        rows.iter().map(row).collect()
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError> {
        let statement = self.prepare(sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        self.transaction.execute(&statement, &values).map_err(failed)
    }

    /// Numbers are given before transactions end, so a reader could see a higher number first and
    /// never look for the lower one. The lock makes those that append events end one by one.
    fn before_events(&mut self) -> Result<(), StoreError> {
        self.query("SELECT pg_advisory_xact_lock($1)", &[EVENTS_LOCK.into()])?;
        self.execute("NOTIFY firmcast_fleet", &[])?;
        Ok(())
    }
}

fn row(row: &::postgres::Row) -> Result<Row, StoreError> {
    let value = |(index, column): (usize, &::postgres::Column)| {
        let value = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index).map_err(failed)?.map(Value::Integer),
            Type::BYTEA => {
                row.try_get::<_, Option<Vec<u8>>>(index).map_err(failed)?.map(Value::Bytes)
            }
            Type::VOID => None,
            _ => row.try_get::<_, Option<String>>(index).map_err(failed)?.map(Value::Text),
        };
        Ok(value.unwrap_or(Value::Null))
    };
    row.columns().iter().enumerate().map(value).collect::<Result<_, _>>().map(Row::new)
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    /// All numbers of the schema have 64 bits, and all else is text or bytes.
    fn accepts(kind: &Type) -> bool {
        *kind == Type::BYTEA || <i64 as ToSql>::accepts(kind) || <String as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

fn gone(error: ::postgres::Error) -> StoreError {
    tls::problem(&error).unwrap_or_else(|| StoreError::Gone { source: Box::new(error) })
}

/// Sorts errors by what is to be done, by the classes of PostgreSQL's manual, appendix A.
fn failed(error: ::postgres::Error) -> StoreError {
    let code = error.code().map(|code| code.code().to_owned());
    let closed = error.is_closed() || (code.is_none() && has_io_source(&error));
    let source = Box::new(error);
    match code.as_deref() {
        // Ended by an administrator, a crash, a shutdown; or the connection failed.
        Some("57P01" | "57P02" | "57P03" | "25P03") => StoreError::Gone { source },
        Some(code) if code.starts_with("08") => StoreError::Gone { source },
        Some("53100") => StoreError::Full { source },
        // No lock in time, a deadlock, a conflict of transactions; two who put one key at once.
        Some("55P03" | "40P01" | "40001" | "57014" | "23505") => StoreError::Busy { source },
        None if closed => StoreError::Gone { source },
        _ => StoreError::Refused { source },
    }
}

fn has_io_source(error: &::postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}
