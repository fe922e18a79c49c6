//! What the store needs of a database: statements with values, in transactions.

use std::time::Duration;

use serde::Serialize;

use crate::model::Stamp;
use crate::store::error::StoreError;

/// A value in a statement or a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The values of a row, read in the order of the statement's columns.
#[derive(Debug)]
pub(in crate::store) struct Row(std::vec::IntoIter<Value>);

impl Row {
    pub(in crate::store) fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    pub(in crate::store) fn text(&mut self) -> Result<String, StoreError> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(text),
            other => Err(unexpected("text", &other)),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        match self.0.next() {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            other => Err(unexpected("bytes", &other)),
        }
    }

    pub(in crate::store) fn optional_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.0.next() {
            Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            other => Err(unexpected("text or nothing", &other)),
        }
    }

    pub(in crate::store) fn integer(&mut self) -> Result<i64, StoreError> {
        match self.0.next() {
            Some(Value::Integer(number)) => Ok(number),
            other => Err(unexpected("a number", &other)),
        }
    }

    pub(super) fn optional_integer(&mut self) -> Result<Option<i64>, StoreError> {
        match self.0.next() {
            Some(Value::Null) => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(number)),
            other => Err(unexpected("a number or nothing", &other)),
        }
    }

    /// A number that is never negative, and may have fewer bits.
    pub(super) fn unsigned<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let number = self.integer()?;
        number.try_into().map_err(|_| unexpected("a number in its range", &number))
    }

    pub(super) fn word<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        parse_word(&self.text()?)
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        serde_json::from_str(&self.text()?).map_err(damaged)
    }
}

/// Parses a word out of the database.
pub(super) fn parse_word<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, StoreError> {
    crate::store::words::parse(word).map_err(damaged)
}

fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { problem: error.to_string() }
}

fn unexpected(expected: &str, got: &impl std::fmt::Debug) -> StoreError {
    StoreError::Damaged { problem: format!("expected {expected}, got {got:?}") }
}

/// Rows of one statement: SQLite allows for 32,766 values.
const ROWS_AT_ONCE_MAX: usize = 1000;

/// Inserts rows, as few statements as possible. `into` names the table and its columns, `conflict`
/// says what is done about rows that are there.
pub(super) fn insert(
    sql: &mut dyn Sql,
    into: &str,
    rows: &[Vec<Value>],
    conflict: &str,
) -> Result<(), StoreError> {
    for part in rows.chunks(ROWS_AT_ONCE_MAX) {
        let mut numbers = 1..;
        let places: Vec<String> = (part.iter())
            .map(|row| {
                let row = row.iter().zip(&mut numbers).map(|(_, number)| format!("${number}"));
                format!("({})", row.collect::<Vec<_>>().join(", "))
            })
            .collect();
        let places = places.join(", ");
        sql.execute(&format!("INSERT INTO {into} VALUES {places} {conflict}"), &part.concat())?;
    }
    Ok(())
}

/// Returns what the databases keep as text in JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Value, StoreError> {
    let text = serde_json::to_string(value);
    text.map(Value::Text).map_err(damaged)
}

/// A transaction. Values stand as `$1`, `$2`; what differs between the databases stands in braces.
pub(in crate::store) trait Sql {
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// Returns how many rows were changed.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, StoreError>;

    /// Makes sure that events are numbered in the order in which their transactions end, and that
    /// who waits for some wakes up. Nothing but inserting events may follow.
    fn before_events(&mut self) -> Result<(), StoreError>;
}

/// A database.
pub(in crate::store) trait Database: Send {
    /// Does `work` in one transaction: all of it when it returns `Ok`, nothing otherwise.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError>;

    /// Does `work`, which changes nothing, on one state of the database.
    fn read<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError>;

    /// As [`crate::store::Store::now`].
    fn now(&mut self) -> Result<Stamp, StoreError>;

    /// As [`crate::store::Store::wait`].
    fn wait(&mut self, timeout: Duration) -> Result<(), StoreError>;
}
