//! The rollout as one file in TOML, as an operator writes it; `fleet/examples/winter.toml` shows
//! every key.
//!
//! | key | what it says |
//! | --- | --- |
//! | `name` | the rollout's name |
//! | `release` | the bundle: its SHA-256, or its version |
//! | `hosts` | who at all, a [`Selector`] |
//! | `[[wave]]` | a part of them, in order: [`WaveEntry`] |
//! | `[limits]` | `in-flight` and `failures`, lists of limits; both must be there, if empty |
//! | `[[window]]` | when hosts of some sites may begin: [`WindowEntry`] |
//! | `[drain]`, `[undrain]` | programs of the worker's machine: [`Command`] |
//! | `[healthy]` | `within`: how late a host may be seen healthy after the soak time |

mod command;
mod limit;
mod problem;
mod section;
mod wave;
mod window;

use super::limits::Limits;
use super::selector::Selector;
use super::window::{Window, next_start};
use crate::model::Stamp;
pub use command::{
    ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, CONFIRMED, Command, CommandError, FAILED, GRACE_S, Occasion,
    UNTOUCHED, outcome_word,
};
pub use limit::per_word;
pub use limit::{LIMITS_MAX, SAMPLE_MAX};
use problem::Problems;
pub use problem::{FileError, PROBLEMS_MAX, Problem};
use section::{Section, Value};
pub use wave::{Members, WAVES_MAX, WaveEntry};
pub use window::{SITES_MAX, WINDOWS_MAX, WindowEntry};

/// Maximum length of a rollout file, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Maximum length of a name in a rollout file, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// How late a host may be seen healthy after the soak time, in seconds, unless the file says so.
pub const HEALTHY_WITHIN_S: u32 = 600;

/// What a rollout file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutFile {
    /// The rollout's name.
    pub name: String,
    /// The bundle's SHA-256 in hexadecimal digits, or its version.
    pub release: String,
    /// Who at all.
    pub hosts: Selector,
    /// The waves, in their order; at least one.
    pub waves: Vec<WaveEntry>,
    /// How much at a time, and how many failures are too many.
    pub limits: Limits,
    /// When hosts may begin.
    pub windows: Vec<WindowEntry>,
    /// What the worker runs before a host begins.
    pub drain: Option<Command>,
    /// What the worker runs when a host has ended.
    pub undrain: Option<Command>,
    /// How late a host may be seen healthy after the soak time, in seconds.
    pub healthy_within_s: u32,
}

impl RolloutFile {
    /// Reads a rollout file.
    ///
    /// # Errors
    /// All that is wrong in it, each with its line, its key and the reason.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let problems = Problems::new(text);
        if text.len() > FILE_BYTES_MAX {
            let got = text.len();
            problems.add(0, "", format!("the file has {got} bytes; at most {FILE_BYTES_MAX}"));
            return Err(problems.into_error());
        }
        let (document, syntax) = toml::de::DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            for error in syntax {
                problems.add(error.span().map_or(0, |span| span.start), "", error.message());
            }
            return Err(problems.into_error());
        }
        let file = read(Section::root(document.get_ref(), &problems));
        match file {
            Some(file) if problems.is_empty() => Ok(file),
            _ => Err(problems.into_error()),
        }
    }

    /// How long drain and undrain may take with each host, in seconds.
    pub fn around_s(&self) -> u32 {
        let commands = [&self.drain, &self.undrain].into_iter().flatten();
        commands.map(Command::longest_s).fold(0, u32::saturating_add)
    }

    /// The windows of a site; without any, hosts may begin at any time.
    pub fn windows_of(&self, site: &str) -> Vec<Window> {
        let entries = self.windows.iter().filter(|entry| entry.covers(site));
        entries.map(|entry| entry.window.clone()).collect()
    }

    /// Returns the first moment, `now` or later, at which a host of a site may begin that takes
    /// `takes_s` seconds; nothing when no window is long enough.
    pub fn next_start(&self, site: &str, takes_s: u32, now: Stamp) -> Option<Stamp> {
        next_start(&self.windows_of(site), now, takes_s)
    }
}

/// Reads all keys, so that all problems are told; nothing when a key is missing or wrong.
fn read(mut root: Section<'_>) -> Option<RolloutFile> {
    let name = root.need("name", Value::name);
    let release = root.need("release", Value::name);
    let hosts = root.need("hosts", |value| selector(&value));
    let limits = root.section("limits", true).map(limit::read);
    let waves = wave::read(&mut root);
    let windows = window::read(&mut root);
    let drain = root.section("drain", false);
    let drain = drain.map(|section| command::read(section, command::DRAIN));
    let undrain = root.section("undrain", false);
    let undrain = undrain.map(|section| command::read(section, command::UNDRAIN));
    if undrain.is_some() && drain.is_none() {
        root.problem_at("undrain", "would never run: it follows [drain], which is missing");
    }
    let within = root.section("healthy", false).map(|mut section| {
        let within = section.need("within", |value| match value.duration()? {
            0 => Err("must be longer than 0 s".to_owned()),
            within => Ok(within),
        });
        section.finish();
        within
    });
    root.finish();
    Some(RolloutFile {
        name: name?,
        release: release?,
        hosts: hosts?,
        waves,
        limits: limits?,
        windows,
        drain: drain.flatten(),
        undrain: undrain.flatten(),
        healthy_within_s: within.flatten().unwrap_or(HEALTHY_WITHIN_S),
    })
}

fn selector(value: &Value<'_>) -> Result<Selector, String> {
    Selector::parse(value.text()?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
