//! One host: its attempts, what its flash holds, and what to do next.

use firmcast::reason::{FlashState, Reason};
use serde::Serialize;

use super::mark::Mark;
use super::words::{SECOND_US, command, span, work_command};
use crate::model::{Attempt, AttemptState, Drain, Host, Stamp};

/// What is shown of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostPicture {
    /// The host as it is known.
    pub host: Host,
    /// Where it stands in its last attempt; none when no rollout has it.
    pub mark: Option<Mark>,
    /// What its flash holds.
    pub flash: FlashPicture,
    /// What to do, in words; empty when there is nothing to do.
    pub advice: String,
    /// What a person may type next.
    pub command: Option<String>,
    /// Its attempts in all rollouts, the last one first.
    pub attempts: Vec<AttemptPicture>,
}

/// What is known of a chip, as far as this fleet had to do with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlashPicture {
    /// What it holds, in words.
    pub holds: String,
    /// Whether a reset is known to be safe; none when no rollout has changed anything.
    pub reset_is_safe: Option<bool>,
    /// The same in words, with what to do instead.
    pub reset: String,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptPicture {
    /// Name of the rollout.
    pub rollout: String,
    /// The attempt as the store has it.
    pub attempt: Attempt,
    /// Where the host stands, or stood at its end.
    pub mark: Mark,
    /// What the reason means, in words; empty while there is none.
    pub means: String,
    /// What the flash held at its end, in words; empty when nobody said so.
    pub holds: String,
}

/// An attempt of a host, with the name of its rollout.
pub type Tried = (String, Attempt);

impl HostPicture {
    /// Returns the picture of a host. Its attempts come the last one first.
    pub fn new(host: Host, tried: Vec<Tried>, now: Stamp) -> Self {
        let flash = flash(&tried);
        let advice = tried.first().map_or(String::new(), |(_, last)| advice(last));
        let attempts = tried.into_iter().map(|tried| attempt(tried, now));
        let attempts: Vec<AttemptPicture> = attempts.collect();
        let last = attempts.first();
        let mark = last.map(|last| last.mark);
        let command = last.and_then(|last| typed(last, &host));
        Self { host, mark, flash, advice, command, attempts }
    }

    /// Says why the host does not begin: it is planned, and no window of its site is long enough.
    pub fn that_never_begins(mut self) -> Self {
        if let Some(last) = self.attempts.first() {
            self.advice = format!(
                "it never begins: no window of its site is long enough for the {} that it may \
                 take; create a rollout for it with longer windows",
                span(i64::from(last.attempt.predicted_s) * SECOND_US)
            );
        }
        self
    }
}

/// Returns what a reason means, by its name; of one that this version does not know the name.
pub fn means(name: &str) -> &str {
    let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
    reason.map_or(name, |reason| reason.sentence())
}

/// What to do about a host whose `undrain` failed.
const NOT_UNDRAINED: &str = "its undrain program failed, so it may get no load: its rollout says \
                             what to type";

fn attempt((rollout, attempt): Tried, now: Stamp) -> AttemptPicture {
    let name = attempt.reason.as_deref().unwrap_or_default();
    let holds = attempt.flash.as_deref().map_or("", |word| FlashState::from_word(word).holds());
    AttemptPicture {
        rollout,
        mark: Mark::of(&attempt, now),
        means: means(name).to_owned(),
        holds: holds.to_owned(),
        attempt,
    }
}

/// What to do about an attempt; empty when there is nothing to do.
fn advice(attempt: &Attempt) -> String {
    let name = attempt.reason.as_deref().unwrap_or_default();
    let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
    let is_ill = attempt.state == AttemptState::Failed;
    let about_reason = reason.filter(|_| is_ill).map_or("", |reason| reason.advice());
    let about_drain = match attempt.drain {
        Drain::UndrainFailed => NOT_UNDRAINED,
        _ => "",
    };
    let told = [about_reason, about_drain].into_iter().filter(|advice| !advice.is_empty());
    told.collect::<Vec<_>>().join("; ")
}

/// What the chip holds by the last attempt that says so.
fn flash(tried: &[Tried]) -> FlashPicture {
    // What is told of its stages comes late.
    if tried.first().is_some_and(|(_, last)| last.state == AttemptState::InFlight) {
        return FlashPicture {
            holds: "a worker has the host: it is written, or may be at any moment".to_owned(),
            reset_is_safe: Some(false),
            reset: "not safe: leave the host on until it has ended".to_owned(),
        };
    }
    let mut words = tried.iter().filter_map(|(_, attempt)| attempt.flash.as_deref());
    let Some(state) = words.next().map(FlashState::from_word) else {
        return FlashPicture {
            holds: "what it held: no rollout has ended on this host".to_owned(),
            reset_is_safe: None,
            reset: "nothing here speaks against it".to_owned(),
        };
    };
    let condition = state.condition().map(|condition| condition.name());
    let condition = condition.filter(|name| *name != "whole");
    let doubt = condition.map(|name| format!("; its firmware is {name}")).unwrap_or_default();
    FlashPicture {
        holds: format!("{}{doubt}", state.holds()),
        reset_is_safe: Some(state.reboot_is_safe()),
        reset: state.reset_advice().to_owned(),
    }
}

/// What a person may type about the last attempt.
fn typed(last: &AttemptPicture, host: &Host) -> Option<String> {
    match last.attempt.state {
        AttemptState::Failed => Some(command("rollout retry", &[&last.rollout])),
        AttemptState::InFlight if last.mark == Mark::Silent => Some(work_command(host.site())),
        AttemptState::Planned | AttemptState::InFlight => {
            Some(command("rollout show", &[&last.rollout]))
        }
        _ if last.attempt.drain == Drain::UndrainFailed => {
            Some(command("rollout show", &[&last.rollout]))
        }
        AttemptState::Confirmed | AttemptState::Skipped => None,
    }
}
