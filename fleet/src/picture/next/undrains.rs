//! Hosts that may get no load, as their `undrain` failed.

use super::super::seen::Seen;
use super::super::words::{hosts, program};
use super::Next;
use crate::model::{Attempt, AttemptState};
use crate::rollout::file::{Occasion, RolloutFile, UNTOUCHED, outcome_word};

/// Maximum number of hosts that are told one by one.
const HOSTS_MAX: usize = 20;

/// Which hosts these are, with the program that a person may run for each.
pub(super) fn undrains(seen: &Seen) -> Vec<Next> {
    let failed = seen.not_undrained.iter();
    let mut next: Vec<Next> = failed.take(HOSTS_MAX).map(|attempt| of(seen, attempt)).collect();
    let others = seen.not_undrained.len().saturating_sub(HOSTS_MAX);
    if others > 0 {
        let others = hosts(others as u64);
        next.push(Next::said(format!(
            "undrain failed for {others} more: firmcast-fleet events has them as undrain-failed"
        )));
    }
    next
}

fn of(seen: &Seen, attempt: &Attempt) -> Next {
    let Attempt { host, worker, .. } = attempt;
    let words = format!("undrain failed for {host}, which may get no load");
    match seen.file.as_ref().and_then(|file| typed(seen, file, attempt)) {
        Some(command) => {
            let worker = worker.as_deref().unwrap_or("its site");
            Next::said(format!("{words}; on the machine of worker {worker}")).typed(command)
        }
        None => Next::said(words),
    }
}

/// The program with its arguments, as the worker ran it.
fn typed(seen: &Seen, file: &RolloutFile, attempt: &Attempt) -> Option<String> {
    let confirmed = attempt.state == AttemptState::Confirmed;
    let argv = file.undrain.as_ref()?.argv(&Occasion {
        host: &attempt.host,
        site: &attempt.site,
        version: &seen.version,
        rollout: &seen.found.rollout.name,
        outcome: outcome_word(confirmed, attempt.flash.as_deref().unwrap_or(UNTOUCHED)),
    });
    argv.ok().map(|argv| program(&argv))
}
