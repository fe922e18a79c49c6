//! What a rollout would do, and freezing just that.

use std::path::Path;

use anyhow::{Context as _, bail};
use firmcast_fleet::model::Release;
use firmcast_fleet::rollout::file::RolloutFile;
use firmcast_fleet::rollout::plan::{Given, Plan, plan};
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::NewRollout;

use crate::commands::people::who;
use crate::commands::terminal::say;
use crate::commands::{hosts, now, release};

/// A rollout file, and what it would do now.
struct Planned {
    text: String,
    file: RolloutFile,
    plan: Plan,
}

/// Shows what `file` would do.
pub(super) fn show(store: &mut dyn Store, file: &Path, json: bool) -> anyhow::Result<()> {
    let planned = planned(store, file)?;
    match json {
        true => say(&serde_json::to_string(&planned.plan)?),
        false => say(planned.plan.to_string().trim_end()),
    }
    Ok(())
}

/// Freezes what `file` would do; with `expected` only if that has this digest.
pub(super) fn create(
    store: &mut dyn Store,
    file: &Path,
    expected: Option<&str>,
) -> anyhow::Result<()> {
    let Planned { text, file, plan } = planned(store, file)?;
    if let Some(expected) = expected.filter(|digest| !plan.digest.eq_ignore_ascii_case(digest)) {
        bail!(
            "nothing was created: the plan has the digest {} now, and not {expected}; look at it \
             again with firmcast-fleet rollout plan",
            plan.digest
        );
    }
    if file.drain.is_some() || file.undrain.is_some() {
        bail!(
            "nothing was created: workers run no programs yet; take [drain] and [undrain] out, and \
             let pre-update.d and post-update.d on the hosts do it"
        );
    }
    if plan.touched() == 0 {
        bail!("nothing was created: the rollout would touch no host, see the plan");
    }
    store.create_rollout(&NewRollout::of(&text, &file, &plan, who(), now()))?;
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

fn planned(store: &mut dyn Store, path: &Path) -> anyhow::Result<Planned> {
    let cannot = || format!("cannot read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(cannot)?;
    let file = RolloutFile::parse(&text).with_context(|| path.display().to_string())?;
    let release = named_release(store, &file.release)?;
    let hosts = hosts::all(store)?;
    let nothing_foreseen = |_: &_| None;
    let plan = plan(&Given {
        file: &file,
        release: &release,
        hosts: &hosts,
        predicted: &nothing_foreseen,
        now: now(),
    })?;
    Ok(Planned { text, file, plan })
}

/// The release of a digest or version, of which there must be one.
fn named_release(store: &mut dyn Store, wanted: &str) -> anyhow::Result<Release> {
    let mut releases = release::all(store)?;
    releases
        .retain(|release| release.digest.eq_ignore_ascii_case(wanted) || release.version == wanted);
    match releases.len() {
        1 => Ok(releases.remove(0)),
        0 => {
            bail!("there is no release {wanted:?}: add its bundle with firmcast-fleet release add")
        }
        _ => bail!(
            "there are {} releases of version {wanted:?}: write the digest of one of them, see \
             firmcast-fleet release list",
            releases.len()
        ),
    }
}
