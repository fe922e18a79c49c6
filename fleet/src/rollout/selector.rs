//! Which hosts: a small language over the fields and labels of a host.
//!
//! ```text
//! site=berlin role!=db rack~"r1*" version<2.1 and not (board="ACME S1" or power=b)
//! ```
//!
//! Tests side by side must all hold, as with `and`. `not` binds closest, then `and`, then `or`.
//!
//! | written | holds when |
//! | --- | --- |
//! | `all` | always |
//! | `a=b`, `a!=b` | the value is, or is not, the text; a missing value is the empty text |
//! | `a~b`, `a!~b` | the value matches, or does not; `*` is any text, `?` one character |
//! | `a<b`, `a<=b`, `a>b`, `a>=b` | the value is known and in this order; digits are numbers |
//!
//! The fields are `name`, `vendor`, `product`, `board` (vendor, space, product), `version`, `agent`
//! and `security`. Any other name is a label; a name in quotes is always one.

mod parser;
mod text;

use std::cmp::Ordering;
use std::fmt;

use thiserror::Error;

use self::text::{compare_versions, matches_glob};
use crate::model::Host;

/// Maximum length of a written selector, in bytes.
pub const SELECTOR_BYTES_MAX: usize = 4096;

/// How deep `not` and parentheses may be nested.
pub const SELECTOR_DEPTH_MAX: usize = 32;

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// Too long.
    #[error("the selector has {0} bytes, at most {SELECTOR_BYTES_MAX} are allowed: use a label")]
    TooLong(usize),
    /// Nested too deeply.
    #[error("the selector is nested deeper than {SELECTOR_DEPTH_MAX}: use fewer parentheses")]
    TooDeep,
    /// Not understood.
    #[error("at character {at}: expected {expected}, found {found}")]
    Unexpected {
        /// Where, from 1.
        at: usize,
        /// What would be understood.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The host's name.
    Name,
    /// DMI vendor.
    Vendor,
    /// DMI product.
    Product,
    /// DMI vendor, a space, DMI product.
    Board,
    /// The firmware's version.
    Version,
    /// The agent's version.
    Agent,
    /// The security version that is known to have been confirmed.
    Security,
    /// A label.
    Label(String),
}

/// Names of the fields, as written.
const FIELDS: [(&str, Subject); 7] = [
    ("name", Subject::Name),
    ("vendor", Subject::Vendor),
    ("product", Subject::Product),
    ("board", Subject::Board),
    ("version", Subject::Version),
    ("agent", Subject::Agent),
    ("security", Subject::Security),
];

/// Words that mean something by themselves.
const KEYWORDS: [&str; 4] = ["all", "and", "or", "not"];

impl Subject {
    /// The field of a bare name, else the label.
    fn named(name: String) -> Self {
        let field = FIELDS.into_iter().find(|(known, _)| *known == name);
        field.map_or(Self::Label(name), |(_, subject)| subject)
    }

    fn value(&self, host: &Host) -> String {
        match self {
            Self::Name => host.name.clone(),
            Self::Vendor => host.vendor.clone(),
            Self::Product => host.product.clone(),
            Self::Board => format!("{} {}", host.vendor, host.product),
            Self::Version => host.bios_version.clone(),
            Self::Agent => host.agent_version.clone(),
            Self::Security => host.security_version_floor.to_string(),
            Self::Label(label) => host.label(label).to_owned(),
        }
    }
}

/// How it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `~`
    Like,
    /// `!~`
    NotLike,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// Comparisons as written. Whoever reads tries them in this order: the longer ones go first.
const COMPARISONS: [(&str, Comparison); 8] = [
    ("!=", Comparison::IsNot),
    ("!~", Comparison::NotLike),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("=", Comparison::Is),
    ("~", Comparison::Like),
    ("<", Comparison::Below),
    (">", Comparison::Above),
];

impl Comparison {
    fn holds(self, value: &str, wanted: &str) -> bool {
        let order = || (!value.is_empty()).then(|| compare_versions(value, wanted));
        match self {
            Self::Is => value == wanted,
            Self::IsNot => value != wanted,
            Self::Like => matches_glob(wanted, value),
            Self::NotLike => !matches_glob(wanted, value),
            Self::Below => order().is_some_and(Ordering::is_lt),
            Self::AtMost => order().is_some_and(Ordering::is_le),
            Self::Above => order().is_some_and(Ordering::is_gt),
            Self::AtLeast => order().is_some_and(Ordering::is_ge),
        }
    }

    fn sign(self) -> &'static str {
        COMPARISONS.iter().find(|(_, known)| *known == self).map_or("", |(sign, _)| sign)
    }
}

/// A set of hosts, by what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Every host.
    All,
    /// Hosts for which one comparison holds.
    Test(Subject, Comparison, String),
    /// All others.
    Not(Box<Selector>),
    /// Hosts in every one of these; two or more.
    And(Vec<Selector>),
    /// Hosts in any of these; two or more.
    Or(Vec<Selector>),
}

impl Selector {
    /// Returns the selector that `text` says.
    ///
    /// # Errors
    /// Where and why it is not one.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text)
    }

    /// Whether `host` is one of them.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::All => true,
            Self::Test(subject, how, wanted) => how.holds(&subject.value(host), wanted),
            Self::Not(inner) => !inner.matches(host),
            Self::And(parts) => parts.iter().all(|part| part.matches(host)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(host)),
        }
    }
}

/// Whether `letter` may stand in a word without quotes.
fn is_bare(letter: char) -> bool {
    !letter.is_whitespace() && !"()\"=!<>~\\".contains(letter)
}

/// Writes `word`, in quotes when it would be read as something else.
fn write_word(f: &mut fmt::Formatter<'_>, word: &str, bare: bool) -> fmt::Result {
    if bare && !word.is_empty() && word.chars().all(is_bare) && !KEYWORDS.contains(&word) {
        return f.write_str(word);
    }
    write!(f, "\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

impl fmt::Display for Selector {
    /// Writes what [`Selector::parse`] reads as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
            let binds = matches!(self, Self::Or(_));
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(f, " {word} ")?;
                }
                match part {
                    Self::Or(_) => write!(f, "({part})")?,
                    Self::And(_) if !binds => write!(f, "({part})")?,
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All => f.write_str("all"),
            Self::Test(subject, how, wanted) => {
                match FIELDS.iter().find(|(_, field)| field == subject) {
                    Some((name, _)) => f.write_str(name)?,
                    None => {
                        let Subject::Label(label) = subject else { return Ok(()) };
                        let is_field = FIELDS.iter().any(|(name, _)| name == label);
                        write_word(f, label, !is_field)?;
                    }
                }
                f.write_str(how.sign())?;
                write_word(f, wanted, true)
            }
            Self::Not(inner) => match **inner {
                Self::And(_) | Self::Or(_) => write!(f, "not ({inner})"),
                _ => write!(f, "not {inner}"),
            },
            Self::And(parts) => list(f, parts, "and"),
            Self::Or(parts) => list(f, parts, "or"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::rollout::samples::host;

    fn matches(text: &str, host: &Host) -> bool {
        Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(host)
    }

    #[test]
    fn selects_as_the_page_says() {
        let host = host("db-1", "berlin", "r12", "a");
        for holds in [
            "all",
            "site=berlin role!=web rack~\"r1*\" version<2.1 board=\"ACME S1\"",
            "site=riga or name=db-1",
            "site=riga and all or rack=r12",
            "not (site=riga or power=b)",
            "version<1.10 version>=1.9 version>1.8.9",
            "\"name\"=\"\" missing=\"\" rack!~r2?",
            "role=and or all",
        ] {
            assert!(matches(holds, &host), "{holds}");
        }
        for fails in ["not all", "site=riga or power=b and all", "missing<9", "rack~r1", "role=db"]
        {
            assert!(!matches(fails, &host), "{fails}");
        }
    }

    #[test]
    fn says_where_it_is_wrong() {
        for (text, wanted) in [
            ("site=", "at character 6: expected a value, found the end"),
            ("site berlin", "at character 6: expected = != ~ !~ < <= > or >=, found \"b\""),
            ("(site=a", "at character 8: expected \")\", found the end"),
            ("site=\"a", "at character 8: expected a closing quote, found the end"),
            ("", "at character 1: expected a test such as site=berlin, found the end"),
            ("all )", "at character 5: expected and, or, or the end, found \")\""),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().to_string(), wanted, "{text}");
        }
        assert_eq!(Selector::parse(&"(".repeat(4000)), Err(SelectorError::TooDeep));
        assert_eq!(Selector::parse(&"not ".repeat(1000)), Err(SelectorError::TooDeep));
        assert_eq!(Selector::parse(&" ".repeat(4097)), Err(SelectorError::TooLong(4097)));
    }

    fn selectors() -> impl Strategy<Value = Selector> {
        let word = prop_oneof!["[a-z0-9*.-]{1,6}", "\\PC{0,6}", Just("and".to_owned())];
        let subject = prop_oneof![
            (0..FIELDS.len()).prop_map(|index| FIELDS[index].1.clone()),
            word.clone().prop_map(Subject::Label),
            (0..FIELDS.len()).prop_map(|index| Subject::Label(FIELDS[index].0.to_owned())),
        ];
        let how = (0..COMPARISONS.len()).prop_map(|index| COMPARISONS[index].1);
        let leaf = prop_oneof![
            1 => Just(Selector::All),
            9 => (subject, how, word).prop_map(|(subject, how, word)| {
                Selector::Test(subject, how, word)
            }),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|inner| Selector::Not(Box::new(inner))),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Selector::And),
                prop::collection::vec(inner, 2..4).prop_map(Selector::Or),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(selector in selectors()) {
            prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
        }

        #[test]
        fn any_text_is_answered(
            text in "[ a-c()\"\\\\=!<>~]{0,60}|\\PC{0,60}|(not |\\(|a=b ){0,9}",
        ) {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
