//! Work under way, which an update would cut off. Packages that are being installed and locks of
//! logind are in the way; the rest is told.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::agent::check::{Checklist, Subject};
use crate::helper;
use crate::host::work::{Found, State, Work};
use crate::reason::Reason;

/// Looks, or has the helper look: the agent's service sees no other process and not /run.
pub(super) fn work(list: &mut Checklist, root: &Path) {
    match look(root) {
        Ok(work) => told(list, work),
        Err(error) => {
            for subject in SUBJECTS {
                list.unknown(subject, &error);
            }
        }
    }
}

const SUBJECTS: [Subject; 5] = [
    Subject::PackageManager,
    Subject::Inhibitors,
    Subject::Workloads,
    Subject::Sessions,
    Subject::ScheduledShutdown,
];

fn look(root: &Path) -> io::Result<Work> {
    match helper::ask("work", &[]) {
        Some(answer) => Work::from_text(&answer?.text).ok_or_else(|| ErrorKind::InvalidData.into()),
        None => Ok(Work::look(root)),
    }
}

fn told(list: &mut Checklist, work: Work) {
    let Work { package_manager, inhibitors, workloads, sessions, scheduled_shutdown } = work;
    refused(list, Subject::PackageManager, Reason::PackageManagerBusy, package_manager);
    refused(list, Subject::Inhibitors, Reason::ShutdownInhibited, inhibitors);
    only_told(list, Subject::Workloads, workloads, "stop or move them, by hand or in pre-update.d");
    only_told(list, Subject::Sessions, sessions, "");
    only_told(list, Subject::ScheduledShutdown, scheduled_shutdown, "shutdown -c cancels it");
}

fn refused(list: &mut Checklist, subject: Subject, reason: Reason, found: Found) {
    match found.state {
        State::Clear => list.ok(subject, found.detail),
        State::Busy => list.not_ok(subject, reason, found.detail, reason.advice()),
        State::Unknown => list.unknown(subject, found.detail),
    }
}

fn only_told(list: &mut Checklist, subject: Subject, found: Found, advice: &'static str) {
    match found.state {
        State::Clear => list.ok(subject, found.detail),
        State::Busy => list.told(subject, found.detail, advice),
        State::Unknown => list.unknown(subject, found.detail),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::finding::{Acceptance, Verdict};

    fn verdicts(list: &Checklist) -> Vec<(Subject, Verdict)> {
        list.checks().iter().map(|check| (check.subject, check.verdict)).collect()
    }

    fn all(state: State) -> Work {
        let found = || Found { state, detail: "detail".into() };
        Work {
            package_manager: found(),
            inhibitors: found(),
            workloads: found(),
            sessions: found(),
            scheduled_shutdown: found(),
        }
    }

    #[test]
    fn packages_and_locks_are_in_the_way_and_the_rest_is_told() {
        let mut list = Checklist::default();
        told(&mut list, all(State::Busy));
        let refused = Verdict::NotOk;
        let expected = [refused, refused, Verdict::Told, Verdict::Told, Verdict::Told];
        assert_eq!(verdicts(&list), SUBJECTS.into_iter().zip(expected).collect::<Vec<_>>());
        assert_eq!(list.verdict().unwrap_err().reason, Reason::PackageManagerBusy);

        let accepted = Acceptance::of_names(["package-manager", "inhibitors"]).unwrap();
        let mut list = Checklist::new(accepted);
        told(&mut list, all(State::Busy));
        assert_eq!(list.verdict(), Ok(()));
        assert_eq!(list.warnings().count(), 5);
    }

    #[test]
    fn what_is_not_known_is_never_called_ok() {
        let mut list = Checklist::default();
        told(&mut list, all(State::Unknown));
        work(&mut list, tempfile::tempdir().unwrap().path());
        assert!(list.checks().iter().all(|check| check.verdict == Verdict::Unknown));
        assert_eq!(list.checks().len(), 10);
    }
}
