//! What a rollout would do, and freezing just that.

use std::path::Path;

use anyhow::Context as _;
use firmcast_fleet::deeds::{self, DeedError, Draft};
use firmcast_fleet::store::Store;

use crate::commands::now;
use crate::commands::people::who;
use crate::commands::terminal::say;

/// Shows what `file` would do.
pub(super) fn show(store: &mut dyn Store, file: &Path, json: bool) -> anyhow::Result<()> {
    let Draft { plan, .. } = draft(store, file)?;
    match json {
        true => say(&serde_json::to_string(&plan)?),
        false => say(plan.to_string().trim_end()),
    }
    Ok(())
}

/// Freezes what `file` would do; with `expected` only if that has this digest.
pub(super) fn create(
    store: &mut dyn Store,
    file: &Path,
    expected: Option<&str>,
) -> anyhow::Result<()> {
    let draft = draft(store, file)?;
    deeds::create(store, &draft, expected, (&who(), now()))?;
    let plan = &draft.plan;
    say(&format!(
        "rollout {} is ready: {} hosts in {} waves, plan {}\nstart it with: firmcast-fleet rollout \
         start {}",
        plan.name,
        plan.touched(),
        plan.waves.len(),
        plan.digest,
        plan.name
    ));
    Ok(())
}

fn draft(store: &mut dyn Store, path: &Path) -> anyhow::Result<Draft> {
    let cannot = || format!("cannot read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(cannot)?;
    deeds::draft(store, text, now()).map_err(|error| match error {
        DeedError::File(error) => anyhow::Error::new(error).context(path.display().to_string()),
        other => other.into(),
    })
}
