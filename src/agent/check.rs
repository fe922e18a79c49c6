//! The preconditions of an update, one by one: what `firmcastd check` prints and what the preflight
//! refuses for.

use std::fmt::{self, Display};

use serde_json::{Value, json};

use crate::order::sort_by_rank;
use crate::reason::{Reason, Refusal};
use crate::wire::finding::{Acceptance, FINDINGS_MAX, Finding};
pub use crate::wire::finding::{Subject, Verdict};

/// One precondition of an update on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it looks at.
    pub subject: Subject,
    /// What was found.
    pub verdict: Verdict,
    /// The reason that an update is refused for, or would be were it not accepted;
    /// [`Reason::None`] with other verdicts.
    pub reason: Reason,
    /// The facts.
    pub detail: String,
    /// What to do, where there is something to do.
    pub advice: &'static str,
}

/// Every precondition that was looked at, in the order in which an update would be refused for
/// them.
#[derive(Clone, Debug, Default)]
pub struct Checklist {
    checks: Vec<Check>,
    accepted: Acceptance,
}

impl Checklist {
    /// An empty list, in which what is `accepted` is not in the way.
    pub fn new(accepted: Acceptance) -> Self {
        Self { checks: Vec::new(), accepted }
    }

    /// Adds a precondition that is met.
    pub fn ok(&mut self, subject: Subject, detail: impl Display) {
        self.add(subject, Verdict::Ok, Reason::None, detail, "");
    }

    /// Adds a precondition that is met, with something that an operator should know.
    pub fn told(&mut self, subject: Subject, detail: impl Display, advice: &'static str) {
        self.add(subject, Verdict::Told, Reason::None, detail, advice);
    }

    /// Adds a precondition that cannot be told.
    pub fn unknown(&mut self, subject: Subject, detail: impl Display) {
        self.add(subject, Verdict::Unknown, Reason::None, detail, "");
    }

    /// Adds a precondition that is not met: an update is refused with `reason`, unless an operator
    /// accepts it.
    pub fn not_ok(
        &mut self,
        subject: Subject,
        reason: Reason,
        detail: impl Display,
        advice: &'static str,
    ) {
        let verdict = match self.accepted.contains(subject) {
            true => Verdict::Accepted,
            false => Verdict::NotOk,
        };
        self.add(subject, verdict, reason, detail, advice);
    }

    /// Adds a precondition that is met exactly if there is no error.
    pub fn result(
        &mut self,
        subject: Subject,
        reason: Reason,
        result: Result<impl Display, impl Display>,
        advice: &'static str,
    ) {
        match result {
            Ok(detail) => self.ok(subject, detail),
            Err(problem) => self.not_ok(subject, reason, problem, advice),
        }
    }

    /// Adds all of `other`.
    pub fn append(&mut self, other: Self) {
        self.checks.extend(other.checks);
    }

    fn add(
        &mut self,
        subject: Subject,
        verdict: Verdict,
        reason: Reason,
        detail: impl Display,
        advice: &'static str,
    ) {
        let detail = detail.to_string();
        self.checks.push(Check { subject, verdict, reason, detail, advice });
    }

    /// What a person should hear of although it is no reason to refuse, in words.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let is_told = |check: &&Check| matches!(check.verdict, Verdict::Told | Verdict::Accepted);
        let told = self.checks.iter().filter(is_told);
        told.map(|Check { subject, detail, .. }| format!("{}: {detail}", subject.name()))
    }

    /// What is not simply met, in short; what is in the way first.
    pub fn findings(&self) -> Vec<Finding> {
        let is_worth_it = |check: &&Check| check.verdict != Verdict::Ok;
        let mut findings: Vec<Finding> = (self.checks.iter().filter(is_worth_it))
            .map(|&Check { subject, verdict, reason, .. }| Finding { subject, verdict, reason })
            .collect();
        sort_by_rank(&mut findings, |finding| [u64::from(u8::MAX) - finding.verdict as u64]);
        findings.truncate(FINDINGS_MAX);
        findings
    }

    /// All checks, in order.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether an update could start.
    ///
    /// # Errors
    /// The first thing in the way.
    pub fn verdict(&self) -> Result<(), Refusal> {
        match self.checks.iter().find(|check| check.verdict == Verdict::NotOk) {
            Some(check) => Err(Refusal::new(check.reason, &check.detail)),
            None => Ok(()),
        }
    }

    /// `{"ready": bool, "checks": [{"name", "verdict", "reason", "detail", "advice"}]}`; the last
    /// three are null where there is nothing to say.
    pub fn to_json(&self) -> Value {
        let checks: Vec<Value> = self.checks.iter().map(check_json).collect();
        json!({ "ready": self.verdict().is_ok(), "checks": checks })
    }
}

fn check_json(check: &Check) -> Value {
    let reason = (check.reason != Reason::None).then_some(check.reason);
    json!({
        "name": check.subject.name(),
        "verdict": check.verdict.name(),
        "reason": reason.map(Reason::name),
        "detail": (!check.detail.is_empty()).then_some(&check.detail),
        "advice": (!check.advice.is_empty()).then_some(check.advice),
    })
}

impl Display for Checklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let verdict = match check.verdict {
                Verdict::NotOk => "NOT OK",
                other => other.name(),
            };
            writeln!(f, "{verdict:<9}{:<20}{}", check.subject.name(), check.detail)?;
            if !check.advice.is_empty() {
                writeln!(f, "{:<29}-> {}", "", check.advice)?;
            }
        }
        let in_the_way = self.checks.iter().filter(|check| check.verdict == Verdict::NotOk).count();
        match in_the_way {
            0 => writeln!(f, "\nAn update of this machine could start."),
            1 => writeln!(f, "\nThis machine cannot be updated: one thing is in the way."),
            more => writeln!(f, "\nThis machine cannot be updated: {more} things are in the way."),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_thing_in_the_way_is_the_verdict_and_all_are_shown() {
        let mut list = Checklist::default();
        list.ok(Subject::Flash, "mtd0");
        list.unknown(Subject::Power, "");
        assert_eq!(list.verdict(), Ok(()));
        assert!(list.to_string().ends_with("could start.\n"));

        assert_eq!(list.warnings().count(), 0);
        list.told(Subject::RecoveryImages, "the last build failed", "build it again");
        assert_eq!(list.verdict(), Ok(()));
        let warnings: Vec<String> = list.warnings().collect();
        assert_eq!(warnings, ["recovery-images: the last build failed"]);
        let mut list = Checklist::default();
        list.ok(Subject::Flash, "mtd0");
        list.unknown(Subject::Power, "");

        let locked = Err::<&str, _>("3 of 512 eraseblocks");
        list.result(Subject::FlashLocks, Reason::FlashLocked, locked, "unlock them");
        list.not_ok(Subject::Memory, Reason::MemoryTooLow, "", "");
        let refusal = list.verdict().unwrap_err();
        assert_eq!(refusal, Refusal::new(Reason::FlashLocked, "3 of 512 eraseblocks"));
        assert!(list.to_string().ends_with("2 things are in the way.\n"));
        assert_eq!(
            list.to_json(),
            json!({ "ready": false, "checks": [
                { "name": "flash", "verdict": "ok", "reason": null,
                  "detail": "mtd0", "advice": null },
                { "name": "power", "verdict": "unknown", "reason": null,
                  "detail": null, "advice": null },
                { "name": "flash-locks", "verdict": "not-ok", "reason": "flash-locked",
                  "detail": "3 of 512 eraseblocks", "advice": "unlock them" },
                { "name": "memory", "verdict": "not-ok", "reason": "memory-too-low",
                  "detail": null, "advice": null },
            ]})
        );
    }

    #[test]
    fn what_is_accepted_is_shown_and_not_in_the_way() {
        let accepted = Acceptance::of_names(["sealed-disks"]).unwrap();
        let mut list = Checklist::new(accepted);
        list.ok(Subject::Flash, "mtd0");
        list.not_ok(Subject::SealedDisks, Reason::DisksSealed, "vda3", "");
        assert_eq!(list.verdict(), Ok(()));
        assert_eq!(list.findings()[0].to_string(), "sealed-disks accepted (disks-sealed)");
        list.not_ok(Subject::Inhibitors, Reason::ShutdownInhibited, "backup", "");
        assert_eq!(list.verdict().unwrap_err().reason, Reason::ShutdownInhibited);
        let findings: Vec<String> = list.findings().iter().map(ToString::to_string).collect();
        let first =
            ["inhibitors not-ok (shutdown-inhibited)", "sealed-disks accepted (disks-sealed)"];
        assert_eq!(findings, first);
    }

    #[test]
    fn the_operations_manual_has_a_line_for_each_check() {
        let manual = include_str!("../../docs/OPERATIONS.md");
        let (_, chapter) = manual.split_once("\n## What `firmcastd check` looks at\n").unwrap();
        let chapter = chapter.split("\n## ").next().unwrap();
        let rows = chapter.lines().filter_map(|line| line.strip_prefix("| `"));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
        let names: Vec<&str> = rows.iter().map(|row| row[0].trim_end_matches('`')).collect();
        let expected: Vec<&str> = Subject::ALL.iter().map(|subject| subject.name()).collect();
        assert_eq!(names, expected);
        for row in &rows {
            assert!(row[1].len() > 20, "what {} looks at", row[0]);
            let reasons = row[2].trim_end_matches(" |");
            for reason in reasons.split(", ").filter(|reason| *reason != "none") {
                let reason = reason.trim_matches('`');
                assert!(Reason::ALL.iter().any(|known| known.name() == reason), "{reason}");
            }
        }
    }
}
