//! What work an update of this machine would cut off: packages that are being installed, locks of
//! logind, virtual machines and containers, sessions, a scheduled shutdown.
//!
//! Root alone sees all of it, and the agent's service sees none. So the agent asks its helper, and
//! what was found goes over in text: a line for each [`Found`].

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

mod locks;
mod logind;
mod workloads;

pub use locks::write_locks;
pub use logind::{inhibitor, scheduled, session};
pub use workloads::{is_machine, workload};

/// Maximum length of a file that is read, in bytes. `/proc/locks` has about 60 bytes for each lock.
const FILE_SIZE_MAX: u64 = 1 << 20;
/// Maximum length of what is said about one kind of work, in bytes. All of it goes into one answer
/// of the helper.
const DETAIL_SIZE_MAX: usize = 1000;
/// Maximum number that is named; the others are counted.
const NAMED_MAX: usize = 5;
/// Maximum number of files of a folder of logind's.
const FILES_MAX: usize = 1000;

/// How much work of one kind there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// None.
    Clear,
    /// Some.
    Busy,
    /// Not to be told from here.
    Unknown,
}

/// What was found of one kind of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether there is any.
    pub state: State,
    /// What, or why it cannot be told: one line.
    pub detail: String,
}

impl Found {
    fn new(state: State, detail: &str) -> Self {
        Self { state, detail: one_line(detail) }
    }

    fn clear(detail: &str) -> Self {
        Self::new(State::Clear, detail)
    }

    fn unknown(detail: &str) -> Self {
        Self::new(State::Unknown, detail)
    }

    /// Of what was found and what could not be understood. The first few are named.
    fn of(found: &[String], problems: &[String], none: &str) -> Self {
        let mut said = named(found);
        match (found.is_empty(), problems.is_empty()) {
            (true, true) => Self::clear(none),
            (true, false) => Self::unknown(&named(problems)),
            (false, true) => Self::new(State::Busy, &said),
            (false, false) => {
                said += "; not understood: ";
                said += &named(problems);
                Self::new(State::Busy, &said)
            }
        }
    }

    fn to_line(&self) -> String {
        let state = match self.state {
            State::Clear => "clear",
            State::Busy => "busy",
            State::Unknown => "unknown",
        };
        format!("{state} {}", self.detail)
    }

    fn from_line(line: &str) -> Option<Self> {
        let (state, detail) = line.split_once(' ')?;
        let state = match state {
            "clear" => State::Clear,
            "busy" => State::Busy,
            "unknown" => State::Unknown,
            _ => return None,
        };
        Some(Self::new(state, detail))
    }
}

/// The work on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Who changes packages.
    pub package_manager: Found,
    /// Who forbids a shutdown.
    pub inhibitors: Found,
    /// Virtual machines and containers.
    pub workloads: Found,
    /// Who is logged in.
    pub sessions: Found,
    /// When the machine is shut down anyway.
    pub scheduled_shutdown: Found,
}

impl Work {
    /// Looks at the machine whose file system begins at `root`.
    pub fn look(root: &Path) -> Self {
        Self {
            package_manager: locks::package_manager(root),
            inhibitors: logind::inhibitors(root),
            workloads: workloads::workloads(root),
            sessions: logind::sessions(root),
            scheduled_shutdown: logind::scheduled_shutdown(root),
        }
    }

    /// One line for each kind.
    pub fn to_text(&self) -> String {
        let Self { package_manager, inhibitors, workloads, sessions, scheduled_shutdown } = self;
        [package_manager, inhibitors, workloads, sessions, scheduled_shutdown]
            .map(Found::to_line)
            .join("\n")
    }

    /// What [`Work::to_text`] says; none of anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.split('\n').map(Found::from_line);
        let mut next = || lines.next().flatten();
        let work = Self {
            package_manager: next()?,
            inhibitors: next()?,
            workloads: next()?,
            sessions: next()?,
            scheduled_shutdown: next()?,
        };
        lines.next().is_none().then_some(work)
    }
}

/// The first of `all`, and how many more there are.
fn named(all: &[String]) -> String {
    let mut said = all.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED_MAX {
        said += &format!(" and {} more", all.len() - NAMED_MAX);
    }
    said
}

/// Text of programs and users, of any content, as a part of one line.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if line.len() + character.len_utf8() > DETAIL_SIZE_MAX {
            break;
        }
        line.push(if character.is_control() { ' ' } else { character });
    }
    line
}

/// Reads a file, not a FIFO or a device, from which a read might not return.
fn read(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    if File::open(path)?.take(FILE_SIZE_MAX).read_to_end(&mut bytes)? as u64 == FILE_SIZE_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of `name` in lines of `NAME=VALUE`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// The program of a process; empty where it cannot be told.
fn program(root: &Path, pid: u32) -> String {
    super::read_line(&root.join(format!("proc/{pid}/comm"))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(super) fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_was_found_goes_over_in_text() {
        let long = "é".repeat(DETAIL_SIZE_MAX);
        let work = Work {
            package_manager: Found::new(State::Busy, "apt\n(process 7)"),
            inhibitors: Found::clear("none"),
            workloads: Found::unknown(&long),
            sessions: Found::of(&vec!["ada".to_owned(); 7], &["session 3".into()], "none"),
            scheduled_shutdown: Found::clear(""),
        };
        assert_eq!(work.package_manager.detail, "apt (process 7)");
        assert_eq!(work.workloads.detail.len(), DETAIL_SIZE_MAX);
        let said = "ada, ada, ada, ada, ada and 2 more; not understood: session 3";
        assert_eq!(work.sessions.detail, said);
        let text = work.to_text();
        assert_eq!(Work::from_text(&text), Some(work));
        for odd in ["", "clear none", &format!("{text}\nclear none"), &text.replace("busy", "Busy")]
        {
            assert_eq!(Work::from_text(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn on_a_machine_that_shows_nothing_nothing_is_called_clear() {
        let root = tempfile::tempdir().unwrap();
        let work = Work::look(root.path());
        let Work { package_manager, inhibitors, workloads, sessions, scheduled_shutdown } = work;
        for found in [package_manager, inhibitors, workloads, sessions, scheduled_shutdown] {
            assert_eq!(found.state, State::Unknown, "{}", found.detail);
        }
    }
}
