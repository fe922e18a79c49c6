//! One stay of a running host in the recovery environment, as its invariants see it.

use firmcast::image::VerifiedImage;
use firmcast::reason::{Condition, FlashState, Reason};
use firmcast::recovery::flashing::Flashing;
use firmcast::recovery::machine::{RESCUE_ATTEMPTS_MAX, Recovery};
use firmcast::time::Time;
use firmcast::wire::answer::{End, Phase};

use super::computer::Computer;
use super::truth::{Holds, Truth};
use crate::engine::Violation;

/// One stay in the recovery environment.
pub(crate) struct Stay {
    pub(super) recovery: Recovery,
    pub(crate) campaign: u64,
    pub(crate) job: Option<(Flashing, Time)>,
    /// What stood on the chip when it began.
    pub(super) held: Holds,
    pub(super) contents: Vec<u8>,
    /// What the agent said of that.
    pub(super) firmware: Condition,
    /// Erases and bytes written on the chip when it was last looked at.
    pub(super) changes: (u64, u64),
    pub(super) was_verified: bool,
    /// From the first change on, until the chip is known to hold all of an image.
    pub(super) changing: bool,
    pub(super) group_joined: bool,
    /// It was told to write once.
    pub(super) flashed: bool,
    /// Its broken contents were replaced on the word of a manager of another campaign.
    pub(super) is_finished_by_another: bool,
    /// Flash jobs that left the chip mixed.
    pub(super) damages: u32,
}

impl Stay {
    /// Nobody can repair its chip, and it stays.
    pub(super) fn needs_rescue(&self) -> bool {
        let ending = &self.recovery.report().ending;
        let is_broken = ending.reason != Reason::None && !ending.flash.reboot_is_safe();
        let gives_up = self.damages > RESCUE_ATTEMPTS_MAX || is_broken && !self.changing;
        self.flashed && self.job.is_none() && gives_up
    }

    /// It holds the image, and its contents, which are not worth a backup, keep it in recovery.
    pub(super) fn may_be_finished_by_another(&self) -> bool {
        self.flashed && self.firmware == Condition::Broken
    }

    /// Notes what was reported.
    pub(super) fn look(&mut self) -> Result<(), Violation> {
        let report = self.recovery.report();
        self.was_verified |= report.phase == Phase::Verified;
        let ended = matches!(report.phase, Phase::Failed | Phase::Updated | Phase::Rebooting);
        match ended && report.ending.reason == Reason::None {
            true => Err(format!("{:?} without a reason", report.phase)),
            false => Ok(()),
        }
    }
}

/// Checks that only the signed image is written, only after verification and commit.
pub(super) fn check_image(
    stay: &Stay,
    truth: &Truth,
    is_told: bool,
    image: &VerifiedImage,
    flash: FlashState,
) -> Result<(), Violation> {
    if image.bytes() != truth.genuine.payload {
        return Err("an image shall be written that is not the signed one".into());
    }
    if !stay.was_verified || !is_told {
        return Err("an image shall be written without verification or commit".into());
    }
    // A host ends with what it has not changed: it is neither told again nor does it write by
    // itself. One with broken contents stays, and follows a second commit.
    let is_broken = stay.firmware == Condition::Broken;
    if stay.flashed && !stay.changing && !is_broken {
        return Err("an unchanged chip shall be written again".into());
    }
    match flash.reboot_is_safe() != (stay.changing || is_broken) {
        true => Ok(()),
        false => Err(format!(
            "it goes by {flash:?}, the chip was left changed: {}, and was {:?}",
            stay.changing, stay.firmware
        )),
    }
}

/// What the host says of its chip is what stands there.
pub(super) fn check_end(
    stay: &Stay,
    computer: &Computer,
    flash: FlashState,
) -> Result<(), Violation> {
    let holds = computer.holds();
    let expected = match flash {
        FlashState::Updated => Holds::New,
        FlashState::Untouched(condition) | FlashState::Restored(condition) => {
            if !computer.may_be(condition) {
                return Err(format!("the chip is as it was, and called {condition:?}"));
            }
            stay.held
        }
        FlashState::Mixed | FlashState::Unknown => return Ok(()),
    };
    if holds != expected {
        return Err(format!("it says {flash:?}, but the chip holds {holds:?}, not {expected:?}"));
    }
    if !computer.preserves(&stay.contents) {
        return Err(format!("it says {flash:?}, but the preserved regions changed"));
    }
    Ok(())
}

pub(super) fn check_reboot(stay: &Stay, computer: &Computer, end: &End) -> Result<(), Violation> {
    if end.ending.reason == Reason::None || end.campaign != stay.campaign {
        return Err(format!("it ends with {end:?} in campaign {:x}", stay.campaign));
    }
    if stay.changing || stay.job.is_some() || end.ending.flash.is_unfinished() {
        return Err(format!("it reboots while its chip is being changed or is mixed: {end:?}"));
    }
    if stay.is_finished_by_another && !end.ending.detail.contains("no backup was stored") {
        return Err(format!("it does not say that nobody has its backup: {end:?}"));
    }
    check_end(stay, computer, end.ending.flash)
}
