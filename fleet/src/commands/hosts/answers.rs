//! What hosts said in a dry run, for a person and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use firmcast::reason::Reason;
use firmcast_fleet::model::Host;
use firmcast_fleet::rollout::duration::duration_words;
use firmcast_manager::news::{Foreseen, HostResult};
use serde::Serialize;

use crate::commands::terminal::shown;

/// Maximum number of names that stand behind a reason.
const NAMES_MAX: usize = 10;

/// What came of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Possible,
    Refused,
    Silent,
    NotAsked,
}

/// What a host said.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Answer {
    host: String,
    answer: Word,
    /// Name of the reason; empty of one that was not asked.
    reason: String,
    /// The reason in words.
    why: String,
    detail: String,
    advice: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    foreseen: Option<Foreseen>,
}

impl Answer {
    /// Returns what a dry run came to.
    pub(super) fn of(host: &Host, result: &HostResult) -> Self {
        let is_silent = result.code == Reason::HostUnreachable.code();
        let answer = match result.confirmed {
            true => Word::Possible,
            false if is_silent => Word::Silent,
            false => Word::Refused,
        };
        Self {
            host: host.name.clone(),
            answer,
            reason: result.reason.clone(),
            why: result.message.clone(),
            detail: result.detail.clone(),
            advice: result.advice.clone(),
            foreseen: result.foreseen,
        }
    }

    /// Returns that a host was not asked.
    pub(super) fn not_asked(host: &Host, why: &str) -> Self {
        Self {
            host: host.name.clone(),
            answer: Word::NotAsked,
            reason: String::new(),
            why: why.to_owned(),
            detail: String::new(),
            advice: String::new(),
            foreseen: None,
        }
    }
}

/// What all hosts said of a release.
#[derive(Debug)]
pub(super) struct Answers {
    version: String,
    all: Vec<Answer>,
}

impl Answers {
    pub(super) fn new(version: &str) -> Self {
        Self { version: version.to_owned(), all: Vec::new() }
    }

    pub(super) fn add(&mut self, answer: Answer) {
        self.all.push(answer);
    }

    /// Whether every host that was asked could be updated, and one was asked.
    pub(super) fn are_all_possible(&self) -> bool {
        let mut asked = self.all.iter().filter(|each| each.answer != Word::NotAsked).peekable();
        asked.peek().is_some() && asked.all(|each| each.answer == Word::Possible)
    }

    pub(super) fn to_json(&self) -> impl Iterator<Item = String> {
        self.all.iter().filter_map(|answer| serde_json::to_string(answer).ok())
    }

    fn writing(&self) -> String {
        let foreseen = || self.all.iter().filter_map(|answer| answer.foreseen.as_ref());
        let longest = |ms: fn(&Foreseen) -> u32| foreseen().map(ms).max();
        let words = |ms: u32| duration_words(u64::from(ms.div_ceil(1000)));
        match (longest(|each| each.typical_ms), longest(|each| each.longest_ms)) {
            (Some(typical), Some(longest)) => format!(
                "; writing takes {} on the slowest of them, {} at most",
                words(typical),
                words(longest)
            ),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let possible = self.all.iter().filter(|each| each.answer == Word::Possible).count();
        let version = shown(&self.version);
        let (of, writing) = (self.all.len(), self.writing());
        writeln!(f, "{possible} of {of} hosts could be updated to {version}{writing}")?;
        let mut groups: BTreeMap<(Word, &str, &str), Vec<&Answer>> = BTreeMap::new();
        for each in self.all.iter().filter(|each| each.answer != Word::Possible) {
            groups.entry((each.answer, &each.reason, &each.why)).or_default().push(each);
        }
        for ((word, reason, why), answers) in groups {
            let count = answers.len();
            match word {
                Word::NotAsked => writeln!(f, "{count} not asked: {why}")?,
                Word::Silent => writeln!(f, "{count} did not answer: {reason}: {why}")?,
                Word::Refused | Word::Possible => writeln!(f, "{count} refuse: {reason}: {why}")?,
            }
            let names: Vec<_> =
                answers.iter().take(NAMES_MAX).map(|each| shown(&each.host)).collect();
            let more = count.saturating_sub(NAMES_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(f, "  {}{more}", names.join(", "))?;
            let Some(first) = answers.first() else { continue };
            if !first.detail.is_empty() {
                writeln!(f, "  {} says: {}", shown(&first.host), shown(&first.detail))?;
            }
            if !first.advice.is_empty() {
                writeln!(f, "  {}", first.advice)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(host: &str, answer: Word, why: &str) -> Answer {
        Answer {
            host: host.to_owned(),
            answer,
            reason: "a-reason".to_owned(),
            why: why.to_owned(),
            detail: String::new(),
            advice: String::new(),
            foreseen: None,
        }
    }

    #[test]
    fn hosts_that_could_not_are_told_by_reason_with_some_of_their_names() {
        let mut answers = Answers::new("2.0");
        assert!(!answers.are_all_possible(), "nobody was asked");
        let foreseen = |typical_ms, longest_ms| {
            Some(Foreseen { changed_blocks_max: 1, blocks: 2, typical_ms, longest_ms })
        };
        let well = answer("a", Word::Possible, "");
        answers.add(Answer { foreseen: foreseen(59_001, 60_000), ..well.clone() });
        answers.add(Answer { foreseen: foreseen(1000, 120_000), ..well });
        answers.add(answer("c", Word::NotAsked, "it is in flight in a rollout"));
        assert!(answers.are_all_possible());
        for number in 0..12 {
            answers.add(answer(&format!("\u{1b}{number}"), Word::Refused, "its chip is locked"));
        }
        answers.add(answer("d", Word::Silent, "it did not answer"));
        assert!(!answers.are_all_possible());
        let text = "\
2 of 16 hosts could be updated to 2.0; writing takes 1 min on the slowest of them, 2 min at most
12 refuse: a-reason: its chip is locked
  \\u{1b}0, \\u{1b}1, \\u{1b}2, \\u{1b}3, \\u{1b}4, \\u{1b}5, \\u{1b}6, \\u{1b}7, \\u{1b}8, \
\\u{1b}9 and 2 more
1 did not answer: a-reason: it did not answer
  d
1 not asked: it is in flight in a rollout
  c
";
        assert_eq!(answers.to_string(), text);
        assert_eq!(answers.to_json().count(), 16);
    }
}
