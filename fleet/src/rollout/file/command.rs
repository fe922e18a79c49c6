//! `[drain]` and `[undrain]`: programs of the worker's machine, for each host.
//!
//! What runs on the host itself is what its administrator put into `/etc/firmcast/pre-update.d` and
//! `post-update.d`: no program comes to a host from the network, and so none comes from here. These
//! commands are for what can be done from elsewhere: a load balancer, a cluster's control plane, an
//! alert. The worker runs `drain` before a host begins; when that fails, or takes too long, the
//! host is not touched. It runs `undrain` for each host for which `drain` was started, when the
//! host has ended, whatever it came to. A worker that takes a host over may run either again. A
//! program that the worker itself ends, as its leases are over or as it is to stop, has not failed.
//!
//! A command is a program and its arguments, without a shell. `{host}`, `{site}`, `{version}` and
//! `{rollout}` stand for what they say. In `undrain`, `{outcome}` is *confirmed*, *untouched* when
//! nothing was written to the host, or *failed*: then it may not run.

use thiserror::Error;

use super::section::{Section, Value};

/// Maximum number of words of a command, the program among them.
pub const ARGUMENTS_MAX: usize = 64;

/// Maximum length of a word of a command, in bytes.
pub const ARGUMENT_BYTES_MAX: usize = 4096;

/// How long a program may take to end when its time is over, in seconds: from SIGTERM to SIGKILL.
pub const GRACE_S: u32 = 10;

/// A program of the worker's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program's path, and its arguments; at least one.
    pub run: Vec<String>,
    /// How long it may take, in seconds; then it is ended within [`GRACE_S`] and has failed.
    pub within_s: u32,
}

/// Returns what `{outcome}` stands for, of a host that ended so.
pub fn outcome_word(confirmed: bool, flash: &str) -> &'static str {
    match confirmed {
        true => CONFIRMED,
        false if flash.starts_with(UNTOUCHED) => UNTOUCHED,
        false => FAILED,
    }
}

/// What the words in braces stand for.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// `{host}`: the host's name.
    pub host: &'a str,
    /// `{site}`: where it stands.
    pub site: &'a str,
    /// `{version}`: the release's version.
    pub version: &'a str,
    /// `{rollout}`: the rollout's name.
    pub rollout: &'a str,
    /// `{outcome}`: what the host came to; of `undrain` alone.
    pub outcome: &'a str,
}

/// Why a command cannot be run for a host.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// A value would be read as an option.
    #[error("{{{word}}} is {value:?} here, which the program would take for an option: rename it")]
    Option {
        /// The word in braces.
        word: &'static str,
        /// What it stands for.
        value: String,
    },
    /// A value cannot be part of an argument.
    #[error("{{{word}}} is {value:?} here, with a NUL, which no argument can have: rename it")]
    Nul {
        /// The word in braces.
        word: &'static str,
        /// What it stands for.
        value: String,
    },
}

/// What `{outcome}` is of a confirmed host.
pub const CONFIRMED: &str = "confirmed";
/// What `{outcome}` is of a host to which nothing was written.
pub const UNTOUCHED: &str = "untouched";
/// What `{outcome}` is of any other host.
pub const FAILED: &str = "failed";

const WORDS: [&str; 5] = ["host", "site", "version", "rollout", "outcome"];

/// The words that `drain` knows, and those that `undrain` knows.
pub(super) const DRAIN: &[&str] = WORDS.split_at(4).0;
pub(super) const UNDRAIN: &[&str] = &WORDS;

impl Occasion<'_> {
    fn value(&self, word: &str) -> &str {
        match word {
            "host" => self.host,
            "site" => self.site,
            "version" => self.version,
            "rollout" => self.rollout,
            _ => self.outcome,
        }
    }
}

impl Command {
    /// Returns how long it takes at most, until its end, in seconds.
    pub fn longest_s(&self) -> u32 {
        self.within_s.saturating_add(GRACE_S)
    }

    /// Returns the program and its arguments for one host.
    ///
    /// # Errors
    /// A value begins with `-` where an argument begins, or has a NUL.
    pub fn argv(&self, occasion: &Occasion<'_>) -> Result<Vec<String>, CommandError> {
        self.run.iter().map(|argument| filled(argument, occasion)).collect()
    }
}

/// Puts the values in, in one pass: braces in a value stay what they are.
fn filled(argument: &str, occasion: &Occasion<'_>) -> Result<String, CommandError> {
    let mut filled = String::new();
    let mut rest = argument;
    while let Some((before, word, after)) = next_word(rest) {
        filled.push_str(before);
        match WORDS.into_iter().find(|known| *known == word) {
            None => filled.push_str(&rest[before.len()..rest.len() - after.len()]),
            Some(word) => {
                let value = occasion.value(word);
                if filled.is_empty() && value.starts_with('-') {
                    return Err(CommandError::Option { word, value: value.to_owned() });
                }
                if value.contains('\0') {
                    return Err(CommandError::Nul { word, value: value.to_owned() });
                }
                filled.push_str(value);
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Splits at the first word of small letters in braces: what stands before it, it, and after it.
fn next_word(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text[from..].find('{')?;
        let inner = &text[open + 1..];
        let letters = inner.bytes().take_while(u8::is_ascii_lowercase).count();
        if letters > 0 && inner[letters..].starts_with('}') {
            return Some((&text[..open], &inner[..letters], &inner[letters + 1..]));
        }
        from = open + 1;
    }
}

/// Reads a command that knows these words.
pub(super) fn read(mut section: Section<'_>, words: &[&str]) -> Option<Command> {
    let run = section.need("run", |value| {
        let run = value.list(ARGUMENTS_MAX, |value| argument(value, words))?;
        match run.first().is_some_and(|program| program.starts_with('/')) {
            true if next_word(&run[0]).is_none() => Ok(run),
            _ => Err("the first word must be the full path of a program".to_owned()),
        }
    });
    let within = section.need("within", |value| match value.duration()? {
        0 => Err("must be longer than 0 s".to_owned()),
        within => Ok(within),
    });
    section.finish();
    Some(Command { run: run?, within_s: within? })
}

fn argument(value: Value<'_>, words: &[&str]) -> Result<String, String> {
    let text = value.text()?;
    if text.len() > ARGUMENT_BYTES_MAX || text.contains('\0') {
        return Err(format!("a word has more than {ARGUMENT_BYTES_MAX} bytes, or a NUL"));
    }
    let mut rest = text;
    while let Some((_, word, after)) = next_word(rest) {
        if !words.contains(&word) {
            let known: Vec<_> = words.iter().map(|word| format!("{{{word}}}")).collect();
            return Err(format!("{{{word}}} is unknown: there are {}", known.join(", ")));
        }
        rest = after;
    }
    Ok(text.to_owned())
}
