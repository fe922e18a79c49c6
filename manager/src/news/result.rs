//! How a campaign ended for one host.

use firmcast::reason::{Condition, Ending, LESS_PROTECTED, MORE_PROTECTED, Reason};
use firmcast::wire::answer::Programs;
use firmcast::wire::finding::Finding;
use firmcast::wire::foresight::Foresight;
use serde::{Deserialize, Serialize};

use super::facts::Kind;
use super::hex;
use crate::campaign::{Host, Outcome};

/// What to do about a confirmed host that could not keep something.
const NOT_KEPT_ADVICE: &str = "mend the host's state_dir (free space, permissions), then update \
                               the host again: its flash is not written twice";
/// What to do about a confirmed host whose chip is not locked as it was.
const LOCKS_ADVICE: &str = "set the chip's locks by hand (flash_lock, flash_unlock), as \"Locks\" \
                            in OPERATIONS.md says";
/// What to do about a host that has the new firmware and disks that were sealed to the old one.
const BIND_AGAIN: &str = "bind its disks to the new firmware, as \"Disks sealed to the firmware\" \
                          in OPERATIONS.md says: until then they ask for a passphrase";
/// What to do about a host that has the new firmware and may still be drained.
const UNDO_BY_HAND: &str = "a program in post-update.d failed: see what it left undone on the host";
/// What may be the matter with such a host that does not come back.
const TYPE_THE_KEY: &str = "its disks were sealed to the old firmware: look at its console or BMC, \
                            and type the recovery key where it asks for one";

/// How long a host was in a stage, all times together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// Name of the stage.
    pub stage: String,
    /// Time in seconds, to the millisecond.
    pub seconds: f64,
}

/// What an update would come to, as a host's agent foresees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// Eraseblocks that change, at most.
    pub changed_blocks_max: u32,
    /// Eraseblocks of the chip.
    pub blocks: u32,
    /// How long that takes on a typical chip, in milliseconds.
    pub typical_ms: u32,
    /// How long on a slow one, in milliseconds.
    pub longest_ms: u32,
}

impl From<&Foresight> for Foreseen {
    fn from(foresight: &Foresight) -> Self {
        let Foresight { changed_blocks_max, blocks, typical_ms, longest_ms, .. } = *foresight;
        Self { changed_blocks_max, blocks, typical_ms, longest_ms }
    }
}

/// How it ended for one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostResult {
    /// What the campaign is for.
    #[serde(default)]
    pub kind: Kind,
    /// Host name.
    pub host: String,
    /// Whether it ended well: it was seen running the new firmware, or could be updated in a dry
    /// run, or came home from a drill, or was dead and repaired itself.
    pub confirmed: bool,
    /// Name of the reason.
    pub reason: String,
    /// Code of the reason.
    pub code: u16,
    /// The reason in words.
    pub message: String,
    /// What to do next.
    pub advice: String,
    /// What more is known, maybe empty. Of a confirmed host: what it could not keep.
    pub detail: String,
    /// `untouched`, `updated`, `restored`, `mixed` or `unknown`.
    pub flash: String,
    /// `doubtful` or `broken`, where what it still holds is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Whether the host may be reset: the chip holds all of the old or all of the new image.
    pub reboot_safe: bool,
    /// Why the condition is not whole, as the host says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// What an update would come to, of a host that was asked in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen: Option<Foreseen>,
    /// DMI BIOS version: after the boot, or of a host that was asked in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios_version: Option<String>,
    /// How long it was in each stage, in the order in which it first came there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTime>,
    /// SHA-256 of the whole chip before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_before: Option<String>,
    /// SHA-256 of the whole chip after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256_after: Option<String>,
    /// What the administrator's programs on the host came to, each with its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<String>,
    /// Whether one of them failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub programs_failed: bool,
}

impl HostResult {
    /// Returns the result of `host` in a campaign of this kind.
    pub fn new(kind: Kind, host: &str, outcome: &Outcome) -> Self {
        let Outcome { ending, bios_version, digests, programs } = outcome;
        let Ending { reason, flash, detail } = ending;
        let condition = flash.condition().filter(|condition| *condition != Condition::Whole);
        let fell_short = *reason == Reason::Confirmed && !detail.is_empty();
        let advice = match programs {
            _ if fell_short && is_about_locks(detail) => LOCKS_ADVICE,
            _ if fell_short => NOT_KEPT_ADVICE,
            Some(Programs { failed: true, .. }) if *reason == Reason::Confirmed => UNDO_BY_HAND,
            _ => reason.advice(),
        };
        Self {
            kind,
            host: host.to_owned(),
            confirmed: outcome.is_confirmed(),
            reason: reason.name().to_owned(),
            code: reason.code(),
            message: reason.sentence().to_owned(),
            advice: advice.to_owned(),
            detail: detail.clone(),
            flash: flash.name().to_owned(),
            condition: condition.map(|condition| condition.name().to_owned()),
            reboot_safe: flash.reboot_is_safe(),
            doubt: None,
            foreseen: None,
            bios_version: bios_version.clone(),
            stages: Vec::new(),
            sha256_before: digests.map(|(before, _)| hex(&before)),
            sha256_after: digests.map(|(_, after)| hex(&after)),
            programs: programs.as_ref().map(|programs| programs.told.clone()),
            programs_failed: programs.as_ref().is_some_and(|programs| programs.failed),
        }
    }

    /// Returns the result of `host`, whose campaign ended with `outcome`, with what the host said
    /// about its firmware.
    pub fn of(kind: Kind, host: &Host, outcome: &Outcome) -> Self {
        let result = Self::new(kind, &host.target().name, outcome);
        let doubt = host.identity().map(|identity| identity.doubt.clone());
        let doubt = doubt.filter(|doubt| result.condition.is_some() && !doubt.is_empty());
        let findings = host.identity().map_or(&[][..], |identity| &identity.findings);
        let advice = match result.shortfall() {
            None => advice_on_disks(outcome.ending.reason, findings).map(str::to_owned),
            Some(_) => None,
        };
        let advice = advice.unwrap_or(result.advice);
        let foreseen = host.foresight().map(Foreseen::from);
        let asked = host.identity().filter(|_| kind == Kind::DryRun);
        let bios_version = asked.map(|identity| identity.bios_version.clone());
        let bios_version = result.bios_version.or(bios_version);
        Self { doubt, advice, foreseen, bios_version, ..result }
    }

    /// Returns what is left to do for a confirmed host that could keep everything.
    pub fn left_to_do(&self) -> Option<&str> {
        let is_done = self.code != Reason::Confirmed.code() || self.shortfall().is_some();
        let advice = (!is_done).then_some(self.advice.as_str());
        advice.filter(|advice| *advice != Reason::Confirmed.advice())
    }

    /// Returns what a confirmed host could not keep, such as its security version floor.
    pub fn shortfall(&self) -> Option<&str> {
        let fell_short = self.code == Reason::Confirmed.code() && !self.detail.is_empty();
        fell_short.then_some(&self.detail)
    }
}

fn is_about_locks(detail: &str) -> bool {
    [LESS_PROTECTED, MORE_PROTECTED].iter().any(|remark| detail.contains(remark))
}

/// What there is to do about a host whose disks were sealed to the firmware that it had.
fn advice_on_disks(reason: Reason, findings: &[Finding]) -> Option<&'static str> {
    let are_sealed = findings.iter().any(|finding| finding.reason == Reason::DisksSealed);
    match reason {
        Reason::Confirmed if are_sealed => Some(BIND_AGAIN),
        Reason::NoAgentAfterReboot if are_sealed => Some(TYPE_THE_KEY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmcast::reason::FlashState;
    use firmcast::wire::finding::{Subject, Verdict};

    #[test]
    fn a_host_whose_locks_did_not_come_back_gets_advice_on_them() {
        let advice = |detail: &str| {
            let ending = Ending::new(Reason::Confirmed, FlashState::Updated, detail);
            let outcome = Outcome { ending, bios_version: None, digests: None, programs: None };
            HostResult::new(Kind::Update, "a", &outcome).advice
        };
        let remark = "the chip is less protected than before, not locked: 0x0-0xfff";
        assert_eq!(advice(remark), LOCKS_ADVICE);
        assert_eq!(advice("security version floor not raised to 2"), NOT_KEPT_ADVICE);
    }

    #[test]
    fn what_is_left_to_do_about_sealed_disks_is_told_and_is_no_failure() {
        let (subject, reason) = (Subject::SealedDisks, Reason::DisksSealed);
        let sealed = [Finding { subject, verdict: Verdict::Accepted, reason }];
        assert_eq!(advice_on_disks(Reason::Confirmed, &[]), None);
        assert_eq!(advice_on_disks(Reason::WrongDigest, &sealed), None);
        assert_eq!(advice_on_disks(Reason::NoAgentAfterReboot, &sealed), Some(TYPE_THE_KEY));

        let ending = Ending::new(Reason::Confirmed, FlashState::Updated, "");
        let outcome = Outcome { ending, bios_version: None, digests: None, programs: None };
        let plain = HostResult::new(Kind::Update, "a", &outcome);
        assert_eq!((plain.left_to_do(), plain.shortfall()), (None, None));
        let programs = Some(Programs { failed: true, told: "10-undrain 3".to_owned() });
        let after_programs = Outcome { programs, ..outcome };
        let result = HostResult::new(Kind::Update, "a", &after_programs);
        assert_eq!((result.left_to_do(), result.shortfall()), (Some(UNDO_BY_HAND), None));
        let said = "confirmed, BIOS version unknown (10-undrain 3); a program in post-update.d";
        assert!(result.to_text().starts_with(said), "{}", result.to_text());
        let advice = advice_on_disks(Reason::Confirmed, &sealed).expect("the disks are sealed");
        let result = HostResult { advice: advice.to_owned(), ..plain };
        assert_eq!((result.left_to_do(), result.shortfall()), (Some(BIND_AGAIN), None));
        assert!(result.to_text().contains("; bind its disks to the new firmware"));
    }
}
