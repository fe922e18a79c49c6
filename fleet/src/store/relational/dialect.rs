//! Where the databases differ: one row for each word in braces.

/// How a database says what the standard leaves open.
#[derive(Debug)]
pub(in crate::store) struct Dialect {
    /// A number that the database gives to each row, as the table's key.
    id: &'static str,
    /// Text in the order of its bytes.
    text: &'static str,
    /// Any bytes.
    bytes: &'static str,
    /// Holds the rows that a query returns until the transaction ends.
    lock: &'static str,
    /// As `lock`, for hosts; those that others hold are passed over.
    lock_host: &'static str,
    /// As `lock_host`, for attempts.
    lock_attempt: &'static str,
    /// What stands before a list in JSON, to make a table of numbers of it.
    numbers: &'static str,
    /// As `numbers`, for texts.
    texts: &'static str,
    /// What stands behind such a list.
    end: &'static str,
    /// What stands before the number of a value.
    value: char,
}

/// SQLite has one writer at a time: there is nothing to lock.
pub(in crate::store) const SQLITE: Dialect = Dialect {
    id: "INTEGER PRIMARY KEY AUTOINCREMENT",
    text: "TEXT",
    bytes: "BLOB",
    lock: "",
    lock_host: "",
    lock_attempt: "",
    numbers: "(SELECT value FROM json_each(",
    texts: "(SELECT value FROM json_each(",
    end: "))",
    value: '?',
};

/// PostgreSQL.
pub(in crate::store) const POSTGRES: Dialect = Dialect {
    id: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    text: "TEXT COLLATE \"C\"",
    bytes: "BYTEA",
    lock: "FOR NO KEY UPDATE",
    lock_host: "FOR NO KEY UPDATE OF h SKIP LOCKED",
    lock_attempt: "FOR NO KEY UPDATE OF a SKIP LOCKED",
    numbers: "(SELECT value::bigint FROM json_array_elements_text(",
    texts: "(SELECT value FROM json_array_elements_text(",
    end: "::text::json))",
    value: '$',
};

impl Dialect {
    /// Returns a statement as the database wants it.
    pub(in crate::store) fn speak(&self, sql: &str) -> String {
        let mut spoken = sql.to_owned();
        for (word, meaning) in [
            ("{id}", self.id),
            ("{text}", self.text),
            ("{bytes}", self.bytes),
            ("{lock}", self.lock),
            ("{lock-host}", self.lock_host),
            ("{lock-attempt}", self.lock_attempt),
            ("{numbers}", self.numbers),
            ("{texts}", self.texts),
            ("{end}", self.end),
        ] {
            spoken = spoken.replace(word, meaning);
        }
        spoken.replace('$', self.value.encode_utf8(&mut [0; 4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_in_braces_is_left() {
        for dialect in [SQLITE, POSTGRES] {
            let said = dialect.speak(
                "{id} {text} {bytes} {lock} {lock-host} {lock-attempt} {numbers} {texts} {end} $1",
            );
            assert!(!said.contains(['{', '}']), "{said}");
        }
        assert_eq!(SQLITE.speak("$1 $2"), "?1 ?2");
    }
}
