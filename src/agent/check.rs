//! The preconditions of an update, one by one: what `firmcastd check` prints and what the preflight refuses for.

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

/// One precondition of an update on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Short name, the same in every version.
    pub name: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// The reason that an update is refused for; [`Reason::None`] unless the verdict is [`Verdict::NotOk`].
    pub reason: Reason,
    /// The facts.
    pub detail: String,
    /// What to do, where there is something to do.
    pub advice: &'static str,
}

/// Every precondition that was looked at, in the order in which an update would be refused for them.
#[derive(Clone, Debug, Default)]
pub struct Checklist {
    checks: Vec<Check>,
}

impl Checklist {
    /// Adds a precondition that is met.
    pub fn ok(&mut self, name: &'static str, detail: impl Display) {
        self.add(name, Verdict::Ok, Reason::None, detail, "");
    }

    /// Adds a precondition that cannot be told.
    pub fn unknown(&mut self, name: &'static str, detail: impl Display) {
        self.add(name, Verdict::Unknown, Reason::None, detail, "");
    }

    /// Adds a precondition that is not met: an update is refused with `reason`.
    pub fn not_ok(
        &mut self,
        name: &'static str,
        reason: Reason,
        detail: impl Display,
        advice: &'static str,
    ) {
        self.add(name, Verdict::NotOk, reason, detail, advice);
    }

    /// Adds a precondition that is met exactly if there is no error.
    pub fn result(
        &mut self,
        name: &'static str,
        reason: Reason,
        result: Result<impl Display, impl Display>,
        advice: &'static str,
    ) {
        match result {
            Ok(detail) => self.ok(name, detail),
            Err(problem) => self.not_ok(name, reason, problem, advice),
        }
    }

    /// Adds all of `other`.
    pub fn append(&mut self, other: Self) {
        self.checks.extend(other.checks);
    }

    fn add(
        &mut self,
        name: &'static str,
        verdict: Verdict,
        reason: Reason,
        detail: impl Display,
        advice: &'static str,
    ) {
        let detail = detail.to_string();
        self.checks.push(Check { name, verdict, reason, detail, advice });
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

    /// `{"ready": bool, "checks": [{"name", "verdict", "reason", "detail", "advice"}]}`; the last three are null where
    /// there is nothing to say.
    pub fn to_json(&self) -> Value {
        let checks: Vec<Value> = self.checks.iter().map(check_json).collect();
        json!({ "ready": self.verdict().is_ok(), "checks": checks })
    }
}

fn check_json(check: &Check) -> Value {
    let reason = (check.reason != Reason::None).then_some(check.reason);
    json!({
        "name": check.name,
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
            writeln!(f, "{verdict:<8}{:<20}{}", check.name, check.detail)?;
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
        list.ok("flash", "mtd0");
        list.unknown("power", "");
        assert_eq!(list.verdict(), Ok(()));
        assert!(list.to_string().ends_with("could start.\n"));

        let locked = Err::<&str, _>("3 of 512 eraseblocks");
        list.result("flash-locks", Reason::FlashLocked, locked, "unlock them");
        list.not_ok("memory", Reason::MemoryTooLow, "", "");
        let refusal = list.verdict().unwrap_err();
        assert_eq!(refusal, Refusal::new(Reason::FlashLocked, "3 of 512 eraseblocks"));
        assert!(list.to_string().ends_with("2 things are in the way.\n"));
        assert_eq!(
            list.to_json(),
            json!({ "ready": false, "checks": [
                { "name": "flash", "verdict": "ok", "reason": null, "detail": "mtd0", "advice": null },
                { "name": "power", "verdict": "unknown", "reason": null, "detail": null, "advice": null },
                { "name": "flash-locks", "verdict": "not-ok", "reason": "flash-locked",
                  "detail": "3 of 512 eraseblocks", "advice": "unlock them" },
                { "name": "memory", "verdict": "not-ok", "reason": "memory-too-low",
                  "detail": null, "advice": null },
            ]})
        );
    }
}
