//! A preview says what an update will do, and does nothing.

use std::collections::BTreeSet;

use firmcast::flash::{Asked, Flash as _, Job, JobBackup, Step, WriteRule};

use super::log::Log;
use super::subject::{Refusal, Subject};
use super::trial::Trial;
use super::watch::Watch;
use crate::dump;
use crate::engine::Violation;

/// Runs a preview of the subject's update and compares its plan with the right one.
pub(crate) fn check(subject: &Subject, trial: &Trial<'_>, log: &mut Log) -> Result<(), Violation> {
    log.begin("preview".into());
    let mut chip = subject.chip.clone();
    let rules = trial.rules(&chip);
    let mut job = Job::preview(subject.new.clone());
    let step = {
        let mut watch = Watch::new(&mut chip, &rules, log);
        let steps_max = watch.steps_max();
        let last =
            (0..steps_max).map(|_| job.step(&mut watch)).find(|step| *step != Step::Continue);
        job.allow_change();
        if job.step(&mut watch) != last.unwrap_or(Step::Continue) || watch.changes > 0 {
            return Err("a preview goes on to change the chip".into());
        }
        last
    };
    if chip.history().contains(&Asked::Unlock) {
        return Err("a preview unlocks".into());
    }
    if let Some(backup) = job.backup() {
        check_backup(subject, backup)?;
    }
    dump::check(&subject.new, &subject.chip)?;
    match (step, job.plan(), subject.refusal) {
        (Some(Step::Ended), None, Some(Refusal::SharedBlock)) => Ok(()),
        (Some(Step::ReadyToChange), Some((_, _, 1..)), Some(Refusal::Locked)) => Ok(()),
        (Some(Step::ReadyToChange), Some((plan, placement, _)), None) => {
            let operations = plan.operations().iter();
            let planned: BTreeSet<u32> =
                operations.map(|operation| placement.block(operation.block).index()).collect();
            let right = (0..).zip(&rules.may_change).filter(|(_, changes)| **changes);
            let right: BTreeSet<u32> = right.map(|(index, _)| index).collect();
            match planned == right {
                true => Ok(()),
                false => Err(format!("{planned:?} are planned to change, expected {right:?}")),
            }
        }
        (step, plan, _) => {
            Err(format!("a preview ends with {step:?}, planned: {}", plan.is_some()))
        }
    }
}

/// The backup names what is closed to the host, and has nothing of it.
fn check_backup(subject: &Subject, backup: JobBackup<'_>) -> Result<(), Violation> {
    // On NAND the image does not lie where its bytes count, and what fails there may have decayed.
    if subject.chip.geometry().rule() == WriteRule::PageOnce {
        return Ok(());
    }
    let closed = subject.chip.closed();
    let is_closed = |at: usize| closed.covers(&(at as u64..at as u64 + 1));
    let expected = subject.live.iter().enumerate();
    let mut expected = expected.map(|(at, byte)| if is_closed(at) { 0xff } else { *byte });
    match backup.closed == closed
        && backup.digest().is_some()
        && backup.bytes.iter().all(|byte| expected.next() == Some(*byte))
    {
        true => Ok(()),
        false => Err(format!(
            "the backup is another than what the host may read; closed: {}",
            backup.closed
        )),
    }
}
