//! What a person does with a rollout that was created.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use firmcast::keys;
use firmcast_fleet::model::{AttemptState, Rollout, RolloutState, WaveState};
use firmcast_fleet::rollout::approval::Question;
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::{
    Changed, RolloutWaves, SignedApproval, StateChange, WaveChange,
};

use super::named;
use crate::commands::now;
use crate::commands::people::who;
use crate::commands::terminal::say;

/// A change of a rollout's state.
pub(super) struct Deed<'a> {
    /// The states in which it may be done.
    pub(super) from: &'a [RolloutState],
    /// The state that the rollout gets.
    pub(super) to: RolloutState,
    /// What is then told of it.
    pub(super) done: &'static str,
}

impl Deed<'_> {
    /// Does it, or says that all is so already.
    pub(super) fn carry_out(
        &self,
        store: &mut dyn Store,
        name: &str,
        reason: &str,
    ) -> anyhow::Result<()> {
        let id = named(store, name)?.rollout.id;
        let (by, at) = (who(), now());
        let Self { from, to, done } = *self;
        let change = StateChange { from, to, reason, by: &by, at, revision: None };
        let already = match store.change_state(id, &change)? {
            Changed::Now => "",
            Changed::Before => " already: nothing was changed",
        };
        say(&format!("rollout {name} {done}{already}"));
        Ok(())
    }
}

/// Starts what was frozen. One that has been started stays as it is.
pub(super) fn start(store: &mut dyn Store, name: &str) -> anyhow::Result<()> {
    let RolloutWaves { rollout, .. } = named(store, name)?;
    match rollout.state {
        RolloutState::Ready | RolloutState::Scheduled => {}
        RolloutState::Error => bail!(
            "rollout {name} was ended ({}): create another one from its file, with another name",
            rollout.reason
        ),
        RolloutState::Paused => bail!(
            "rollout {name} is paused ({}): firmcast-fleet rollout resume lets it go on",
            rollout.reason
        ),
        RolloutState::Running | RolloutState::Finished => {
            say(&format!("rollout {name} was started already: nothing was changed"));
            return Ok(());
        }
    }
    let from = &[RolloutState::Ready];
    Deed { from, to: RolloutState::Scheduled, done: "is started" }.carry_out(store, name, "")
}

/// Signs that a wave may begin.
pub(super) fn approve(
    store: &mut dyn Store,
    name: &str,
    wave: &str,
    key: &Path,
) -> anyhow::Result<()> {
    let RolloutWaves { rollout, waves, .. } = named(store, name)?;
    let Some(wave) = waves.iter().find(|known| known.name == wave) else {
        let known: Vec<&str> = waves.iter().map(|wave| wave.name.as_str()).collect();
        bail!("rollout {name} has no wave {wave:?}: its waves are {}", known.join(", "));
    };
    let by = who();
    ensure!(
        by != rollout.created_by,
        "{by} created rollout {name}: somebody else has to approve its waves"
    );
    let secret = keys::load_secret(key)?;
    let Rollout { plan_digest, created_by, .. } = &rollout;
    let (key, signature) = Question { plan_digest, wave: &wave.name, created_by }.sign(&secret);
    let approval = SignedApproval { wave: wave.number, key, signature, by, at: now() };
    let already = match store.approve(rollout.id, &approval)? {
        Changed::Now => "",
        Changed::Before => " already: nothing was changed",
    };
    say(&format!("wave {} of rollout {name} is approved{already}", wave.name));
    Ok(())
}

/// Plans the hosts again that failed, and opens their waves again.
pub(super) fn retry(store: &mut dyn Store, name: &str) -> anyhow::Result<()> {
    let RolloutWaves { rollout, waves, .. } = named(store, name)?;
    if matches!(rollout.state, RolloutState::Error | RolloutState::Ready) {
        bail!("rollout {name} is not under way: retry is for one that was started and not aborted");
    }
    let (by, at) = (who(), now());
    let planned = store.retry_failed(rollout.id, &by, at)?;
    // Also after a retry that did not come to this.
    let counts = store.counts(rollout.id)?;
    let is_open = |number: u32| {
        let of_wave = counts.iter().filter(|count| count.wave == number);
        of_wave.into_iter().any(|count| count.state == AttemptState::Planned && count.attempts > 0)
    };
    let was_over =
        |state| matches!(state, WaveState::Soaking | WaveState::Looking | WaveState::Finished);
    for wave in waves.iter().filter(|wave| was_over(wave.state) && is_open(wave.number)) {
        let from = &[WaveState::Soaking, WaveState::Looking, WaveState::Finished];
        let change = WaveChange { from, to: WaveState::Running, by: &by, at, revision: None };
        store.change_wave(rollout.id, wave.number, &change)?;
    }
    if rollout.state == RolloutState::Finished && waves.iter().any(|wave| is_open(wave.number)) {
        let (from, to) = (&[RolloutState::Finished], RolloutState::Running);
        let reason = "hosts that failed are tried again";
        let change = StateChange { from, to, reason, by: &by, at, revision: None };
        store.change_state(rollout.id, &change).context("the hosts are planned again, but")?;
    }
    say(&format!("{planned} hosts of rollout {name} are planned again"));
    Ok(())
}
