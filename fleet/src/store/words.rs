//! States and kinds as words: one name from the model to the database and the messages.

use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::{Deserialize, Serialize};

/// Returns the word of a state or kind, as serde has it.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        // Only for types that are not words: our own bug, seen in every test.
        other => format!("{other:?}"),
    }
}

/// Parses a word out of the database.
///
/// # Errors
/// For a word that this program does not know.
pub(super) fn parse<'a, T: Deserialize<'a>>(word: &'a str) -> Result<T, WordError> {
    let text: StrDeserializer<'a, WordError> = word.into_deserializer();
    T::deserialize(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttemptState, EventKind};

    #[test]
    fn words_are_those_of_the_model() {
        assert_eq!(word(&AttemptState::InFlight), "in-flight");
        assert_eq!(parse::<EventKind>("lease-lost").expect("a word"), EventKind::LeaseLost);
        assert!(parse::<EventKind>("lost").is_err());
    }
}
