use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::caller::{Caller, May, Way};
use super::password::Password;
use super::{Secret, digest, hex, unhex};
use crate::model::Stamp;

/// Maximum number of people.
pub const PEOPLE_MAX: usize = 1000;
/// Maximum number of tokens of a person.
pub const TOKENS_MAX: usize = 16;
/// Maximum number of bytes of a name.
pub const NAME_BYTES_MAX: usize = 64;

/// What a token begins with, so that scanners of leaked secrets know it.
const TOKEN_PREFIX: &str = "firmcast_";

/// Why the people were not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RosterError {
    /// Not a name.
    #[error(
        "{0:?} is not a name: take 1 to {NAME_BYTES_MAX} letters of a-z, A-Z, digits and . _ - @"
    )]
    Name(String),
    /// There already.
    #[error("there is a {what} {name} already; remove it first, or take another name")]
    Taken {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Not there.
    #[error("there is no {what} {name}: firmcast-fleet people list shows those there are")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Too many.
    #[error("there are {max} {what} already, which is the most; remove one first")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
}

/// A token of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it is for.
    pub label: String,
    /// SHA-256 of its secret, 64 hexadecimal digits.
    pub digest: String,
    /// What it may do.
    pub may: May,
    /// Until when it counts.
    pub until: Stamp,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The name that events have.
    pub name: String,
    /// The password.
    pub password: Password,
    /// Tokens of their programs.
    #[serde(default)]
    pub tokens: Vec<Token>,
}

/// The people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// All of them, in the order in which they came.
    pub people: Vec<Person>,
}

/// Says whether a text can be somebody's name.
pub fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

impl Roster {
    /// The person of a name.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.name == name)
    }

    /// Adds a person.
    ///
    /// # Errors
    /// When it is no name, it is taken, or there are too many.
    pub fn add(&mut self, name: &str, password: Password) -> Result<(), RosterError> {
        named(name)?;
        if self.person(name).is_some() {
            return Err(RosterError::Taken { what: "person", name: name.to_owned() });
        }
        if self.people.len() >= PEOPLE_MAX {
            return Err(RosterError::Full { what: "people", max: PEOPLE_MAX });
        }
        self.people.push(Person { name: name.to_owned(), password, tokens: Vec::new() });
        Ok(())
    }

    /// Gives a person another password, which ends their sessions.
    ///
    /// # Errors
    /// When there is no such person.
    pub fn set_password(&mut self, name: &str, password: Password) -> Result<(), RosterError> {
        self.person_mut(name)?.password = password;
        Ok(())
    }

    /// Removes a person, their sessions and tokens.
    ///
    /// # Errors
    /// When there is no such person.
    pub fn remove(&mut self, name: &str) -> Result<(), RosterError> {
        self.person_mut(name)?;
        self.people.retain(|person| person.name != name);
        Ok(())
    }

    /// Adds a token of a person, and returns it as the program shows it. Only its digest is kept.
    ///
    /// # Errors
    /// When there is no such person, the label is none or taken, or there are too many.
    pub fn add_token(
        &mut self,
        name: &str,
        label: &str,
        (may, until): (May, Stamp),
        secret: Secret,
    ) -> Result<String, RosterError> {
        named(label)?;
        let tokens = &mut self.person_mut(name)?.tokens;
        if tokens.iter().any(|token| token.label == label) {
            return Err(RosterError::Taken { what: "token", name: label.to_owned() });
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(RosterError::Full { what: "tokens", max: TOKENS_MAX });
        }
        let digest = hex(&digest(&secret));
        tokens.push(Token { label: label.to_owned(), digest, may, until });
        Ok(format!("{TOKEN_PREFIX}{}", hex(&secret)))
    }

    /// Removes a token of a person.
    ///
    /// # Errors
    /// When there is no such person or token.
    pub fn remove_token(&mut self, name: &str, label: &str) -> Result<(), RosterError> {
        let tokens = &mut self.person_mut(name)?.tokens;
        let before = tokens.len();
        tokens.retain(|token| token.label != label);
        match tokens.len() < before {
            true => Ok(()),
            false => Err(RosterError::Unknown { what: "token", name: label.to_owned() }),
        }
    }

    /// Whose token it is, if it counts at `now`.
    pub fn bearer(&self, token: &str, now: Stamp) -> Option<Caller> {
        let secret = unhex(token.strip_prefix(TOKEN_PREFIX)?)?;
        let digest = hex(&digest(&secret));
        let tokens = self
            .people
            .iter()
            .flat_map(|person| person.tokens.iter().map(move |token| (&person.name, token)));
        let mut known = tokens.filter(|(_, token)| token.digest == digest && now < token.until);
        let (name, token) = known.next()?;
        Some(Caller { name: name.clone(), may: token.may, way: Way::Token })
    }

    fn person_mut(&mut self, name: &str) -> Result<&mut Person, RosterError> {
        let unknown = || RosterError::Unknown { what: "person", name: name.to_owned() };
        self.people.iter_mut().find(|person| person.name == name).ok_or_else(unknown)
    }
}

fn named(name: &str) -> Result<(), RosterError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(RosterError::Name(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_for_its_person_until_its_time_or_its_removal() {
        let mut roster = Roster::default();
        let password = Password::new("correct horse", [1; 16]).expect("long enough");
        roster.add("anna", password.clone()).expect("added");
        let again = roster.add("anna", password.clone());
        assert_eq!(again, Err(RosterError::Taken { what: "person", name: "anna".into() }));
        assert!(matches!(roster.add("an na", password), Err(RosterError::Name(_))));
        let token = roster.add_token("anna", "ci", (May::Read, 100), [9; 32]).expect("a token");
        let written = serde_json::to_string(&roster).expect("JSON");
        assert!(!written.contains(token.strip_prefix(TOKEN_PREFIX).expect("a prefix")));
        let caller = roster.bearer(&token, 99).expect("counts");
        assert_eq!((caller.name.as_str(), caller.may, caller.way), ("anna", May::Read, Way::Token));
        assert_eq!(roster.bearer(&token, 100), None, "over");
        let other = format!("{TOKEN_PREFIX}{}", hex(&[8; 32]));
        for wrong in ["", "firmcast_", &token[1..], &token.to_uppercase(), &other, "firmcast_é"] {
            assert_eq!(roster.bearer(wrong, 1), None, "{wrong}");
        }
        roster.remove_token("anna", "ci").expect("removed");
        assert_eq!(roster.bearer(&token, 1), None);
        roster.add_token("anna", "ci", (May::Act, 100), [9; 32]).expect("a token");
        roster.remove("anna").expect("removed");
        assert_eq!(roster.bearer(&token, 1), None);
    }
}
