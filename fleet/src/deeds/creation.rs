use super::DeedError;
use super::prediction::predictions;
use crate::model::{Host, Release, RolloutId, Stamp};
use crate::rollout::file::RolloutFile;
use crate::rollout::plan::{Given, Plan, plan};
use crate::store::requests::NewRollout;
use crate::store::{Store, all_hosts, all_releases};

/// A rollout file, and what it would do.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The file as it was written.
    pub text: String,
    /// What it says.
    pub file: RolloutFile,
    /// What it would do.
    pub plan: Plan,
}

/// Plans what a rollout file would do if it started at `now`. Nothing is kept.
///
/// # Errors
/// The file has mistakes, there is no such release, or there is no plan; and those of the store.
pub fn draft(store: &mut dyn Store, text: String, now: Stamp) -> Result<Draft, DeedError> {
    let file = RolloutFile::parse(&text)?;
    let release = named_release(store, &file.release)?;
    let hosts = all_hosts(store)?;
    let predictions = predictions(store, &release.digest)?;
    let predicted = |host: &Host| predictions.of(host);
    let given = Given { file: &file, release: &release, hosts: &hosts, predicted: &predicted, now };
    let plan = plan(&given)?;
    Ok(Draft { text, file, plan })
}

/// Freezes what was planned; with `expected` only if the plan has this digest.
///
/// # Errors
/// The plan has another digest, or is none that workers could follow; and those of the store.
pub fn create(
    store: &mut dyn Store,
    draft: &Draft,
    expected: Option<&str>,
    (by, at): (&str, Stamp),
) -> Result<RolloutId, DeedError> {
    let Draft { text, file, plan } = draft;
    if let Some(expected) = expected.filter(|digest| !plan.digest.eq_ignore_ascii_case(digest)) {
        let (now, expected) = (plan.digest.clone(), expected.to_owned());
        return Err(DeedError::OtherPlan { now, expected });
    }
    if plan.touched() == 0 {
        return Err(DeedError::TouchesNobody);
    }
    Ok(store.create_rollout(&NewRollout::of(text, file, plan, by.to_owned(), at))?)
}

/// Returns the release of a digest or version, of which there must be one.
///
/// # Errors
/// There is none, or more than one; and those of the store.
pub fn named_release(store: &mut dyn Store, wanted: &str) -> Result<Release, DeedError> {
    let mut releases = all_releases(store)?;
    releases
        .retain(|release| release.digest.eq_ignore_ascii_case(wanted) || release.version == wanted);
    let wanted = wanted.to_owned();
    match releases.len() {
        1 => Ok(releases.remove(0)),
        0 => Err(DeedError::NoRelease { wanted }),
        count => Err(DeedError::SeveralReleases { wanted, count }),
    }
}
