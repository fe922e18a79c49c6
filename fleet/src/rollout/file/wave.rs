//! `[[wave]]`: a part of the rollout's hosts.

use std::collections::BTreeSet;

use super::section::{Section, Value};
use super::selector;
use crate::model::Approval;
use crate::rollout::selector::Selector;

/// Maximum number of waves of a rollout.
pub const WAVES_MAX: usize = 100;

/// Maximum of `count`.
const COUNT_MAX: u32 = 1_000_000;

/// Which hosts a wave takes, of those that no wave before it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// `select`: all that match.
    Select(Selector),
    /// `count`: this many.
    Count(u32),
    /// `percent`: this part of all hosts of the rollout, rounded up.
    Percent(u32),
    /// `rest = true`: all that are left.
    Rest,
}

/// A wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaveEntry {
    /// Its name, unique in the file.
    pub name: String,
    /// Who is in it.
    pub members: Members,
    /// How it begins; by itself unless the file says so.
    pub approval: Approval,
    /// How long it is watched after its last host ended, in seconds; 0 unless the file says so.
    pub soak_s: u32,
}

const APPROVALS: [(&str, Approval); 2] =
    [("automatic", Approval::Automatic), ("person", Approval::Person)];

const MEMBERS: [&str; 4] = ["select", "count", "percent", "rest"];

/// Reads all waves.
pub(super) fn read(root: &mut Section<'_>) -> Vec<WaveEntry> {
    if !root.has("wave") {
        root.problem_at("wave", "is missing: write at least one [[wave]]");
    }
    let mut names = BTreeSet::new();
    let mut is_rest_taken = false;
    let mut waves = Vec::new();
    let sections = root.sections("wave", WAVES_MAX);
    if sections.is_empty() && root.has("wave") {
        root.problem_at("wave", "write at least one [[wave]]");
    }
    for mut section in sections {
        let name = section.need("name", Value::name);
        if let Some(name) = name.as_ref().filter(|name| !names.insert((*name).clone())) {
            section.problem_at("name", format!("another wave is called {name:?}"));
        }
        if is_rest_taken {
            section.problem("stands after rest = true, which leaves no host: put it before");
        }
        let members = members(&mut section);
        is_rest_taken |= members == Some(Members::Rest);
        let approval = section.take("approval", |value| value.word(&APPROVALS));
        let soak = section.take("soak", Value::duration);
        section.finish();
        if let (Some(name), Some(members)) = (name, members) {
            let approval = approval.unwrap_or(Approval::Automatic);
            waves.push(WaveEntry { name, members, approval, soak_s: soak.unwrap_or(0) });
        }
    }
    waves
}

fn members(section: &mut Section<'_>) -> Option<Members> {
    let given: Vec<_> = MEMBERS.into_iter().filter(|key| section.has(key)).collect();
    if given.len() != 1 {
        let given = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        section.problem(format!("write one of {}; there is {given}", MEMBERS.join(", ")));
    }
    let select = section.take("select", |value| selector(&value).map(Members::Select));
    let count = section.take("count", |value| value.number(1..=COUNT_MAX).map(Members::Count));
    let percent = section.take("percent", |value| value.number(1..=100).map(Members::Percent));
    let rest = section.take("rest", |value| match value.flag()? {
        true => Ok(Members::Rest),
        false => Err("leave it out, or write true".to_owned()),
    });
    select.or(count).or(percent).or(rest)
}
