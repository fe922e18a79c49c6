//! The policy file: whom `firmcast serve` helps, and with which version.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use firmcast::keys::Fingerprint;
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

/// Largest policy file that is read, in bytes.
pub const POLICY_SIZE_MAX: usize = 8 * 1024 * 1024;

/// Most rules.
pub const RULES_MAX: usize = 32_768;

/// How often a host may be let fail.
const ATTEMPTS_MAX: u32 = 100;

/// How long the first dead host may be let wait for others.
const GATHER_S_MAX: u16 = 60;

/// Why there is no policy.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file could not be read.
    #[error("cannot read the policy {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Longer than any policy.
    #[error("the policy {path} is longer than {POLICY_SIZE_MAX} bytes: is it the right file?")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Something in it is not understood.
    #[error("{path}: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        problem: String,
    },
}

/// What the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether hosts are answered that are not in the inventory.
    pub unknown_hosts: bool,
    /// Whether hosts give their backup into keeping before their flash is changed. Only those do
    /// whose firmware is whole and that are forced to be repaired; what is damaged already is not
    /// kept.
    pub escrow: bool,
    /// How often a host may fail before it is left alone.
    pub attempts_max: u32,
    /// How long the first host that joined waits for others, in seconds.
    pub gather_s: u16,
    /// The first that matches a host says what it gets; without one it gets the newest version.
    pub rules: Vec<Rule>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            unknown_hosts: false,
            escrow: false,
            attempts_max: 3,
            gather_s: 5,
            rules: Vec::new(),
        }
    }
}

/// What hosts get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Only hosts of this vendor.
    pub vendor: Option<String>,
    /// Only this product.
    pub product: Option<String>,
    /// Only the host with this name or key fingerprint.
    pub host: Option<String>,
    /// What they get.
    pub choice: BundleChoice,
}

/// Which bundle a host gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleChoice {
    /// The highest security version, and of those the highest version.
    Newest,
    /// This version and no other.
    Pinned(String),
    /// Nothing.
    Hold,
}

/// The file as it is written. What is in range one by one, is checked together when it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyText {
    #[serde(default)]
    unknown_hosts: bool,
    #[serde(default)]
    escrow: bool,
    #[serde(default = "attempts_default")]
    attempts_max: Spanned<u32>,
    #[serde(default = "gather_default")]
    gather_s: Spanned<u16>,
    #[serde(default)]
    rule: Vec<Spanned<RuleText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    vendor: Option<String>,
    product: Option<String>,
    host: Option<String>,
    version: Option<String>,
    #[serde(default)]
    hold: bool,
}

impl TryFrom<RuleText> for Rule {
    type Error = String;

    fn try_from(text: RuleText) -> Result<Self, String> {
        let RuleText { vendor, product, host, version, hold } = text;
        if let Some(host) = &host
            && host.starts_with("SHA256:")
            && host.parse::<Fingerprint>().is_err()
        {
            return Err(format!("host = {host:?} is not a whole fingerprint"));
        }
        let choice = match (version, hold) {
            (Some(_), true) => return Err("a rule has either version or hold = true".into()),
            (Some(version), false) => BundleChoice::Pinned(version),
            (None, true) => BundleChoice::Hold,
            (None, false) => BundleChoice::Newest,
        };
        Ok(Self { vendor, product, host, choice })
    }
}

impl Policy {
    /// The policy in the file `path`.
    ///
    /// # Errors
    /// When it cannot be read, or for anything in it that is not understood, with the line.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let failed = |source| PolicyError::Read { path: path.into(), source };
        let mut bytes = Vec::new();
        let limit = POLICY_SIZE_MAX as u64 + 1;
        File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(failed)?;
        if bytes.len() > POLICY_SIZE_MAX {
            return Err(PolicyError::TooLong { path: path.into() });
        }
        let invalid = |problem: String| PolicyError::Invalid { path: path.into(), problem };
        let text = String::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
        Self::parse(&text).map_err(invalid)
    }

    /// The policy in `text`.
    ///
    /// # Errors
    /// Line, column and reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: PolicyText =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let at = |span: Range<usize>, why: String| {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            format!("line {line}, {why}")
        };
        let (attempts_max, gather_s) = (&written.attempts_max, &written.gather_s);
        in_range("attempts_max", *attempts_max.get_ref(), 1..=ATTEMPTS_MAX)
            .map_err(|why| at(attempts_max.span(), why))?;
        in_range("gather_s", *gather_s.get_ref(), 0..=GATHER_S_MAX)
            .map_err(|why| at(gather_s.span(), why))?;
        if let Some(rule) = written.rule.get(RULES_MAX) {
            return Err(at(rule.span(), format!("more than {RULES_MAX} rules")));
        }
        let rule = |rule: Spanned<RuleText>| {
            let span = rule.span();
            Rule::try_from(rule.into_inner()).map_err(|why| at(span, why))
        };
        Ok(Self {
            unknown_hosts: written.unknown_hosts,
            escrow: written.escrow,
            attempts_max: *attempts_max.get_ref(),
            gather_s: *gather_s.get_ref(),
            rules: written.rule.into_iter().map(rule).collect::<Result<_, _>>()?,
        })
    }

    /// Returns which bundle a host gets.
    pub fn choice(
        &self,
        vendor: &str,
        product: &str,
        name: &str,
        key: &Fingerprint,
    ) -> &BundleChoice {
        let is = |wanted: &Option<String>, got: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.trim() == got.trim())
        };
        let rule = self.rules.iter().find(|rule| {
            let is_host = is(&rule.host, name) || is(&rule.host, &key.to_string());
            is(&rule.vendor, vendor) && is(&rule.product, product) && is_host
        });
        rule.map_or(&BundleChoice::Newest, |rule| &rule.choice)
    }

    /// How long the first host that joined waits for others.
    pub fn gather(&self) -> Duration {
        Duration::from_secs(self.gather_s.into())
    }
}

fn attempts_default() -> Spanned<u32> {
    Spanned::new(0..0, Policy::default().attempts_max)
}

fn gather_default() -> Spanned<u16> {
    Spanned::new(0..0, Policy::default().gather_s)
}

fn in_range<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), String> {
    let (min, max) = (range.start(), range.end());
    match range.contains(&value) {
        true => Ok(()),
        false => Err(format!("{key}: expected {min} to {max}, got {value}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = r#"
unknown_hosts = true
attempts_max = 2

[[rule]]
host = "web1"
hold = true

[[rule]]
vendor = "V"
product = "P"
version = "1.2"

[[rule]]
host = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"#;

    #[test]
    fn the_commented_example_shows_the_defaults() {
        let example = include_str!("../../../docs/policy.toml");
        assert_eq!(Policy::parse(example).unwrap(), Policy::default());
        let uncommented: String = example
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.starts_with(' '))
            .flat_map(|line| [line, "\n"])
            .collect();
        let policy = Policy::parse(&uncommented).unwrap();
        assert_eq!(policy.rules.len(), 1);
        assert_eq!(Policy { rules: Vec::new(), ..policy }, Policy::default());
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = Policy::parse(TEXT).unwrap();
        assert_eq!((policy.attempts_max, policy.gather_s, policy.escrow), (2, 5, false));
        let key = Fingerprint::from_bytes([0; 32]);
        let choice = |vendor, product, name| policy.choice(vendor, product, name, &key);
        assert_eq!(choice("V", "P", "web1"), &BundleChoice::Hold);
        assert_eq!(choice("V ", "P", "web2"), &BundleChoice::Pinned("1.2".into()));
        assert_eq!(choice("V", "Q", "web2"), &BundleChoice::Newest);
        let zeros = &policy.rules[2];
        assert_eq!(zeros.host.as_deref(), Some(key.to_string().as_str()));
        assert_eq!(Policy::parse("").unwrap(), Policy::default());
    }

    #[test]
    fn errors_name_the_line_and_the_reason() {
        for (text, line, reason) in [
            ("escrow = true\nunknown_host = true", 2, "unknown field `unknown_host`"),
            ("\n\nattempts_max = 0", 3, "expected 1 to 100, got 0"),
            ("gather_s = 61", 1, "expected 0 to 60, got 61"),
            ("[[rule]]\nversion = 1", 2, "expected a string"),
            (
                "[[rule]]\nhost = \"a\"\n[[rule]]\nversion = \"1\"\nhold = true",
                3,
                "either version or hold",
            ),
            ("[[rule]]\nhost = \"SHA256:AA\"", 1, "whole fingerprint"),
            ("[[rule]]\nhots = \"a\"", 2, "unknown field `hots`"),
            ("escrow = yes", 1, "must be quoted"),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(error.contains(&format!("line {line},")), "{text}: {error}");
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_policy_or_an_error(text in "\\PC{0,60}", cut in 0usize..200) {
            let _ = Policy::parse(&text);
            let _ = Policy::parse(&TEXT[..cut.min(TEXT.len())]);
        }
    }
}
