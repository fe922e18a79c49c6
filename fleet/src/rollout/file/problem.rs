//! What is wrong in a rollout file, and where.

use std::cell::RefCell;
use std::fmt;

/// Maximum number of problems that are told of one file.
pub const PROBLEMS_MAX: usize = 50;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The key, such as `wave 2: percent`; empty when the file is not TOML.
    pub key: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, reason } = self;
        match key.as_str() {
            "" => write!(f, "line {line}: {reason}"),
            key => write!(f, "line {line}: {key}: {reason}"),
        }
    }
}

/// Why a text is no rollout file: at least one problem, in the order of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// What is wrong, at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for FileError {}

/// Gathers problems while a file is read.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    text: &'a str,
    found: RefCell<Vec<(usize, Problem)>>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Adds what is wrong at an offset in bytes.
    pub(super) fn add(&self, offset_bytes: usize, key: &str, reason: impl Into<String>) {
        let mut found = self.found.borrow_mut();
        if found.len() >= PROBLEMS_MAX {
            return;
        }
        let before = self.text.bytes().take(offset_bytes);
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        found.push((offset_bytes, Problem { line, key: key.to_owned(), reason: reason.into() }));
    }

    /// All that was found, in the order of the text.
    pub(super) fn into_error(self) -> FileError {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(offset_bytes, _)| *offset_bytes);
        FileError { problems: found.into_iter().map(|(_, problem)| problem).collect() }
    }
}
