//! A table of a rollout file: each key is asked for once, and what nobody asked for is a problem.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::NAME_BYTES_MAX;
use super::problem::Problems;
use crate::rollout::duration::parse_duration;

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    problems: &'a Problems<'a>,
    /// What stands before its keys in a problem; empty for the file itself.
    path: String,
    offset_bytes: usize,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The file.
    pub(super) fn root(table: &'a DeTable<'a>, problems: &'a Problems<'a>) -> Self {
        Self { table, problems, path: String::new(), offset_bytes: 0, asked: Vec::new() }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}: {key}", self.path) }
    }

    /// Adds a problem with the section as a whole.
    pub(super) fn problem(&self, reason: impl Into<String>) {
        self.problems.add(self.offset_bytes, &self.path, reason);
    }

    /// Adds a problem with a key.
    pub(super) fn problem_at(&self, key: &str, reason: impl Into<String>) {
        let offset = self.table.get(key).map_or(self.offset_bytes, |value| value.span().start);
        self.problems.add(offset, &self.path_of(key), reason);
    }

    /// Returns what a key says; nothing when it is missing, or wrong, which is then a problem.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(key)?;
        match read(Value(value.get_ref())) {
            Ok(read) => Some(read),
            Err(reason) => {
                self.problem_at(key, reason);
                None
            }
        }
    }

    /// As [`Self::take`]; that the key is missing is a problem, too.
    pub(super) fn need<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.asked.push(key);
            self.problem_at(key, "is missing");
            return None;
        }
        self.take(key, read)
    }

    /// Whether the key is there, whatever it says.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Returns a table in this one.
    pub(super) fn section(&mut self, key: &'static str, is_needed: bool) -> Option<Self> {
        let Some(value) = self.get(key) else {
            if is_needed {
                self.problem_at(key, format!("is missing: write [{key}]"));
            }
            return None;
        };
        let inner = self.inner(value, self.path_of(key));
        if inner.is_none() {
            self.problem_at(key, format!("is no table: write [{key}]"));
        }
        inner
    }

    /// Returns the tables of a list, at most `max`.
    pub(super) fn sections(&mut self, key: &'static str, max: usize) -> Vec<Self> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(list) = value.get_ref() else {
            self.problem_at(key, format!("is no list of tables: write [[{key}]]"));
            return Vec::new();
        };
        if list.len() > max {
            self.problem_at(key, format!("there are {} of these, at most {max}", list.len()));
            return Vec::new();
        }
        let mut found = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let path = format!("{} {}", self.path_of(key), index + 1);
            match self.inner(value, path.clone()) {
                Some(inner) => found.push(inner),
                None => self.problems.add(value.span().start, &path, "is no table"),
            }
        }
        found
    }

    fn inner(&self, value: &'a Spanned<DeValue<'a>>, path: String) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else { return None };
        let (problems, offset_bytes) = (self.problems, value.span().start);
        Some(Self { table, problems, path, offset_bytes, asked: Vec::new() })
    }

    /// Ends the reading: keys that nobody asked for are problems.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(&name) {
                let known = self.asked.join(", ");
                let path = self.path_of(&name.escape_debug().to_string());
                self.problems.add(key.span().start, &path, format!("unknown; there are: {known}"));
            }
        }
    }
}

/// What a key says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a>(&'a DeValue<'a>);

impl<'a> Value<'a> {
    pub(super) fn text(self) -> Result<&'a str, String> {
        self.0.as_str().ok_or_else(|| self.wants("text in quotes"))
    }

    /// A text that is shown and kept: not empty, not too long, without control characters.
    pub(super) fn name(self) -> Result<String, String> {
        let text = self.text()?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("must not be empty, nor have control characters".to_owned());
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(format!("has {} bytes, at most {NAME_BYTES_MAX}", text.len()));
        }
        Ok(text.to_owned())
    }

    pub(super) fn flag(self) -> Result<bool, String> {
        self.0.as_bool().ok_or_else(|| self.wants("true or false"))
    }

    pub(super) fn duration(self) -> Result<u32, String> {
        parse_duration(self.text()?)
    }

    pub(super) fn number(self, range: RangeInclusive<u32>) -> Result<u32, String> {
        let (from, to) = (range.start(), range.end());
        let wanted = || self.wants(&format!("a whole number from {from} to {to}"));
        let written = self.0.as_integer().ok_or_else(wanted)?;
        let number = u32::from_str_radix(written.as_str(), written.radix());
        number.ok().filter(|number| range.contains(number)).ok_or_else(wanted)
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(self, words: &[(&str, T)]) -> Result<T, String> {
        let known = || words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>();
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("{text:?} is unknown: write one of {}", known().join(", ")))
    }

    /// A list of 1 to `max` entries.
    pub(super) fn list<T>(
        self,
        max: usize,
        read: impl Fn(Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let list = self.0.as_array().ok_or_else(|| self.wants("a list"))?;
        if list.is_empty() || list.len() > max {
            return Err(format!("has {} entries, 1 to {max} are allowed", list.len()));
        }
        list.iter().map(|value| read(Self(value.get_ref()))).collect()
    }

    fn wants(self, wanted: &str) -> String {
        let got = match self.0 {
            DeValue::Integer(number) => number.as_str().to_owned(),
            other => format!("a value of type {}", other.type_str()),
        };
        format!("expected {wanted}, found {got}")
    }
}
