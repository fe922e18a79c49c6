//! `[limits]`: how many hosts at a time, and how many failures are too many.

use super::section::{Section, Value};
use crate::model::{LABEL_BYTES_MAX, POWER, RACK, ROLE, SITE};
use crate::rollout::limits::{Action, Amount, FailureLimit, InFlightLimit, Limits, Scope};

/// Maximum number of limits of each kind.
pub const LIMITS_MAX: usize = 16;

/// Maximum of `hosts` in a limit.
const HOSTS_MAX: u32 = 1_000_000;

/// Maximum of `sample` in a limit.
pub const SAMPLE_MAX: u32 = 1_000_000;

/// Labels with a word of their own.
const LABELS: [&str; 4] = [SITE, RACK, POWER, ROLE];

/// What stands before the name of any other label.
const LABEL_PREFIX: &str = "label:";

const ACTIONS: [(&str, Action); 2] = [("pause", Action::Pause), ("stop", Action::Stop)];

/// Reads `[limits]`.
pub(super) fn read(mut section: Section<'_>) -> Limits {
    for key in ["in-flight", "failures"] {
        if !section.has(key) {
            section.problem_at(key, format!("is missing: write {key} = [] for no limit"));
        }
    }
    let in_flight = section.sections("in-flight", LIMITS_MAX);
    let in_flight = in_flight.into_iter().filter_map(read_in_flight).collect();
    let failures = section.sections("failures", LIMITS_MAX);
    let failures = failures.into_iter().filter_map(read_failures).collect();
    section.finish();
    Limits { in_flight, failures }
}

fn read_in_flight(mut section: Section<'_>) -> Option<InFlightLimit> {
    let scope = section.need("per", |value| match scope(value)? {
        Scope::Wave => Err("one wave runs at a time: write \"all\"".to_owned()),
        scope => Ok(scope),
    });
    let amount = amount(&mut section);
    section.finish();
    Some(InFlightLimit { scope: scope?, amount: amount? })
}

fn read_failures(mut section: Section<'_>) -> Option<FailureLimit> {
    let scope = section.need("per", scope);
    let amount = amount(&mut section);
    let read_sample = |value: Value<'_>| value.number(1..=SAMPLE_MAX);
    let sample = if section.has("percent") {
        section.need("sample", read_sample)
    } else {
        let sample = section.take("sample", read_sample);
        if sample.is_some() {
            section.problem_at("sample", "belongs to percent: leave it out");
        }
        Some(0)
    };
    let unreachable = section.take("unreachable", Value::flag).unwrap_or(true);
    let action = section.take("action", |value| value.word(&ACTIONS)).unwrap_or(Action::Pause);
    section.finish();
    Some(FailureLimit { scope: scope?, amount: amount?, sample: sample?, unreachable, action })
}

fn amount(section: &mut Section<'_>) -> Option<Amount> {
    if section.has("hosts") == section.has("percent") {
        section.problem("write either hosts or percent");
    }
    let hosts = section.take("hosts", |value| value.number(1..=HOSTS_MAX).map(Amount::Hosts));
    let percent = section.take("percent", |value| value.number(1..=100).map(Amount::Percent));
    hosts.or(percent)
}

fn scope(value: Value<'_>) -> Result<Scope, String> {
    let text = value.text()?;
    if let Some(label) = text.strip_prefix(LABEL_PREFIX) {
        let is_label = !label.is_empty() && label.len() <= LABEL_BYTES_MAX;
        return if is_label { Ok(Scope::Label(label.to_owned())) } else { Err(wrong_scope(text)) };
    }
    match text {
        "all" => Ok(Scope::All),
        "wave" => Ok(Scope::Wave),
        label if LABELS.contains(&label) => Ok(Scope::Label(label.to_owned())),
        _ => Err(wrong_scope(text)),
    }
}

fn wrong_scope(text: &str) -> String {
    let labels = LABELS.join(", ");
    format!("{text:?} is unknown: write one of all, wave, {labels}, or label:NAME")
}

/// Returns the word that a file has for a scope.
pub fn per_word(scope: &Scope) -> String {
    match scope {
        Scope::All => "all".to_owned(),
        Scope::Wave => "wave".to_owned(),
        Scope::Label(label) if LABELS.contains(&label.as_str()) => label.clone(),
        Scope::Label(label) => format!("{LABEL_PREFIX}{label}"),
    }
}
