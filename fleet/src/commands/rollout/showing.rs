//! What rollouts there are, and where they stand.

use std::collections::BTreeMap;

use firmcast_fleet::deeds::named;
use firmcast_fleet::model::{Attempt, AttemptState, Rollout, RolloutId, WaveState};
use firmcast_fleet::picture::gather::{self, Racks};
use firmcast_fleet::picture::host::means;
use firmcast_fleet::picture::rollout::RolloutPicture;
use firmcast_fleet::picture::seen::last_of_each;
use firmcast_fleet::rollout::duration::duration_words;
use firmcast_fleet::store::requests::{Count, RolloutWaves};
use firmcast_fleet::store::{Store, all_attempts, all_rollouts};
use serde::Serialize;
use serde_json::json;

use crate::commands::now;
use crate::commands::terminal::{columns, say, shown};

/// Maximum number of failed hosts that are shown in lines.
const FAILED_SHOWN_MAX: usize = 20;

/// Attempts in the order in which they are shown.
const STATES: [AttemptState; 5] = [
    AttemptState::Planned,
    AttemptState::InFlight,
    AttemptState::Confirmed,
    AttemptState::Failed,
    AttemptState::Skipped,
];

/// A state as the store and JSON have it.
fn word(state: impl Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Lists all rollouts, in the order in which they were created.
pub(super) fn list(store: &mut dyn Store, json: bool) -> anyhow::Result<()> {
    let rollouts = all_rollouts(store)?;
    if json {
        for rollout in &rollouts {
            say(&serde_json::to_string(rollout)?);
        }
        return Ok(());
    }
    let head = ["NAME", "STATE", "CREATED BY", "WHY"].map(str::to_owned).to_vec();
    let row = |rollout: &Rollout| {
        let cells = [&rollout.name, &word(rollout.state), &rollout.created_by, &rollout.reason];
        cells.map(|cell| shown(cell)).to_vec()
    };
    let rows: Vec<_> = std::iter::once(head).chain(rollouts.iter().map(row)).collect();
    say(&columns(&rows));
    Ok(())
}

/// Shows one rollout.
pub(super) fn show(store: &mut dyn Store, name: &str, json: bool) -> anyhow::Result<()> {
    let RolloutWaves { rollout, waves, .. } = named(store, name)?;
    let counts = store.counts(rollout.id)?;
    let failed = failed(store, rollout.id)?;
    let of = |wave: u32, state: AttemptState| -> u64 {
        let same = |count: &&Count| count.wave == wave && count.state == state;
        counts.iter().filter(same).map(|count| count.attempts).sum()
    };
    if json {
        let wave = |wave: &firmcast_fleet::model::Wave| {
            let attempts = STATES.map(|state| (word(state), of(wave.number, state)));
            let attempts = BTreeMap::from(attempts);
            json!({ "wave": wave, "attempts": attempts })
        };
        let waves: Vec<_> = waves.iter().map(wave).collect();
        say(&json!({ "rollout": rollout, "waves": waves, "failed": failed }).to_string());
        return Ok(());
    }
    let why =
        if rollout.reason.is_empty() { String::new() } else { format!(": {}", rollout.reason) };
    say(&format!("rollout {} is {}{}", shown(&rollout.name), word(rollout.state), shown(&why)));
    say(&format!("release {}, plan {}", rollout.release, rollout.plan_digest));
    let head = ["WAVE", "STATE"].into_iter().map(str::to_owned);
    let head = head.chain(STATES.map(|state| word(state).to_uppercase())).collect();
    let row = |wave: &firmcast_fleet::model::Wave| {
        let state = match wave.state {
            WaveState::Soaking => {
                format!("soaking for {}", duration_words(u64::from(wave.soak_s)))
            }
            state => word(state),
        };
        let counts = STATES.map(|state| of(wave.number, state).to_string());
        [shown(&wave.name), state].into_iter().chain(counts).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(waves.iter().map(row)).collect();
    say(&columns(&rows));
    show_failed(&failed);
    let now = now();
    let seen = gather::rollout(store, name, &Racks::new(), now)?;
    for next in seen.map(|seen| RolloutPicture::new(&seen, now).next).into_iter().flatten() {
        say(&format!("next: {}", shown(&next.words)));
        if let Some(command) = next.command {
            say(&format!("      {}", shown(&command)));
        }
    }
    Ok(())
}

/// The hosts whose last attempt failed, by wave and position.
fn failed(store: &mut dyn Store, rollout: RolloutId) -> anyhow::Result<Vec<Attempt>> {
    let attempts = last_of_each(all_attempts(store, rollout)?).into_iter();
    Ok(attempts.filter(|attempt| attempt.state == AttemptState::Failed).collect())
}

/// Shows which hosts failed, and why.
fn show_failed(failed: &[Attempt]) {
    if failed.is_empty() {
        return;
    }
    let head = ["FAILED", "SITE", "FLASH", "WHY"].map(str::to_owned).to_vec();
    let row = |attempt: &Attempt| {
        let detail = match attempt.detail.as_str() {
            "" => String::new(),
            detail => format!(" ({detail})"),
        };
        let why = format!("{}{detail}", means(attempt.reason.as_deref().unwrap_or_default()));
        let flash = attempt.flash.as_deref().unwrap_or("unknown");
        [&attempt.host, &attempt.site, flash, &why].map(shown).to_vec()
    };
    let rows = failed.iter().take(FAILED_SHOWN_MAX).map(row);
    say(&columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    let others = failed.len().saturating_sub(FAILED_SHOWN_MAX);
    if others > 0 {
        say(&format!("and {others} more: --json has all of them"));
    }
}
