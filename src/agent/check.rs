//! The preconditions of an update, one by one: what `firmcastd check` prints and what the preflight
//! refuses for.

use std::fmt::{self, Display};

use serde_json::{Value, json};

use crate::reason::{Reason, Refusal};

/// What was found about one precondition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Met.
    Ok,
    /// Not met: an update is refused.
    NotOk,
    /// Cannot be told from here; an update is not refused for it.
    Unknown,
}

impl Verdict {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotOk => "not-ok",
            Self::Unknown => "unknown",
        }
    }
}

macro_rules! subjects {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What a check looks at. docs/OPERATIONS.md has a line for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Subject {
            $($(#[$doc])* $variant,)*
        }

        impl Subject {
            /// Every subject, in the order in which an update would be refused for them.
            pub const ALL: &'static [Subject] = &[$(Subject::$variant,)*];

            /// The name, the same in every version.
            pub fn name(self) -> &'static str {
                match self { $(Subject::$variant => $name,)* }
            }
        }
    };
}

subjects! {
    /// The secret key of this host.
    HostKey = "host-key";
    /// Keys of managers.
    TrustedManagers = "trusted-managers";
    /// Keys that bundles are signed with.
    TrustedReleases = "trusted-releases";
    /// Where it listens, and whether discovery reaches it there.
    Listen = "listen";
    /// The folder for what outlives a reboot.
    StateDir = "state-dir";
    /// What the firmware calls its board.
    Board = "board";
    /// The floor of security versions.
    SecurityVersion = "security-version";
    /// The chip.
    Flash = "flash";
    /// What forbids writes to all of the chip or a range.
    FlashProtection = "flash-protection";
    /// Who else uses the chip.
    FlashUsers = "flash-users";
    /// Whether the bundle of an instruction is for this host.
    Bundle = "bundle";
    /// Locks of eraseblocks.
    FlashLocks = "flash-locks";
    /// Whether the chip reads the same twice.
    FlashReads = "flash-reads";
    /// What the chip holds.
    Firmware = "firmware";
    /// Whether the image of an instruction divides the chip as it is divided now.
    Layout = "layout";
    /// The recovery images that are kept, one for each kernel.
    RecoveryImages = "recovery-images";
    /// The kernel for recovery.
    RecoveryKernel = "recovery-kernel";
    /// The initramfs for recovery.
    RecoveryInitramfs = "recovery-initramfs";
    /// Whether that initramfs has the drivers in use.
    RecoveryDrivers = "recovery-drivers";
    /// Whether the kernel loads another one.
    Kexec = "kexec";
    /// Memory for loading it.
    Memory = "memory";
    /// Memory for its work.
    RecoveryMemory = "recovery-memory";
    /// Mains and batteries.
    Power = "power";
    /// The way to the manager of an instruction.
    Network = "network";
    /// Whether this machine could come into recovery by itself.
    Rescue = "rescue";
}

/// One precondition of an update on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it looks at.
    pub subject: Subject,
    /// What was found.
    pub verdict: Verdict,
    /// The reason that an update is refused for; [`Reason::None`] unless the verdict is
    /// [`Verdict::NotOk`].
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
}

impl Checklist {
    /// Adds a precondition that is met.
    pub fn ok(&mut self, subject: Subject, detail: impl Display) {
        self.add(subject, Verdict::Ok, Reason::None, detail, "");
    }

    /// Adds a precondition that cannot be told.
    pub fn unknown(&mut self, subject: Subject, detail: impl Display) {
        self.add(subject, Verdict::Unknown, Reason::None, detail, "");
    }

    /// Adds a precondition that is not met: an update is refused with `reason`.
    pub fn not_ok(
        &mut self,
        subject: Subject,
        reason: Reason,
        detail: impl Display,
        advice: &'static str,
    ) {
        self.add(subject, Verdict::NotOk, reason, detail, advice);
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

    /// What a person should hear of although it is no reason to refuse: builds of recovery images
    /// that failed. Empty when there is nothing.
    pub fn warning(&self) -> &str {
        let is_told = |check: &&Check| {
            (check.subject, check.verdict) == (Subject::RecoveryImages, Verdict::Unknown)
        };
        self.checks.iter().find(is_told).map_or("", |check| &check.detail)
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
            writeln!(f, "{verdict:<8}{:<20}{}", check.subject.name(), check.detail)?;
            if !check.advice.is_empty() {
                writeln!(f, "{:<28}-> {}", "", check.advice)?;
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

        assert_eq!(list.warning(), "");
        list.unknown(Subject::RecoveryImages, "the last build failed");
        assert_eq!((list.verdict(), list.warning()), (Ok(()), "the last build failed"));
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
