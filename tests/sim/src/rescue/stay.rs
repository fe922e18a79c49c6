//! One stay of a dead host in the recovery environment, as its invariants see it.

use std::time::Duration;

use firmcast::environment::stay::{Situation, Stay as HostStay};
use firmcast::image::VerifiedImage;
use firmcast::reason::{FlashState, Reason};
use firmcast::recovery::flashing::Flashing;
use firmcast::rescue::search::SearchSituation;
use firmcast::rescue::seek::Source;
use firmcast::time::Time;
use firmcast::wire::answer::Phase;

use super::claims::Beginning;
use super::computer::Computer;
use crate::engine::Violation;

/// How long a host that was put off says nothing: the shortest pause that a manager names, less
/// the jitter.
const HELD_SILENCE: Duration = Duration::from_secs(5);

/// One stay in the recovery environment.
pub(crate) struct Stay {
    pub(super) rescue: HostStay,
    /// Its firmware was known to be broken when it came up.
    pub(super) was_broken: bool,
    pub(super) attempt: Option<Attempt>,
    pub(super) job: Option<(Flashing, Time)>,
    /// It was told to write in this attempt.
    pub(super) flashed: bool,
    /// The job is for a chip that was broken before: of that no backup is kept.
    pub(super) is_rescue_job: bool,
    /// What the job goes by.
    pub(super) job_flash: FlashState,
    /// The chip could still fail when that job began, and so in the middle of it.
    pub(super) job_may_fail: bool,
    /// The chip was written to in this stay, and not known to hold all of an image since.
    pub(super) is_changing: bool,
    pub(super) group_joined: bool,
    /// What it began with.
    pub(super) began: Beginning,
    /// Since when it is put off.
    pub(super) held: Option<Time>,
    /// The places that it wants looked up.
    pub(crate) lookups: Vec<Source>,
    /// When it said its first word, and how long after that it first received an image.
    pub(super) first_word: Option<Time>,
    pub(super) joined_after: Option<Duration>,
}

/// The campaign that it takes part in.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    pub(super) campaign: u64,
    pub(super) was_verified: bool,
}

impl Stay {
    /// Notes what is going on in the campaign, if any. True when one began.
    pub(super) fn look(&mut self, now: Time) -> Result<bool, Violation> {
        let Some(recovery) = self.rescue.recovery() else { return Ok(false) };
        let report = recovery.report();
        let (campaign, phase) = (report.campaign, report.phase);
        if matches!(phase, Phase::Failed | Phase::Updated | Phase::Rebooting)
            && report.ending.reason == Reason::None
        {
            return Err(format!("{phase:?} without a reason"));
        }
        let begins = self.attempt.is_none_or(|attempt| attempt.campaign != campaign)
            || phase == Phase::Ready;
        if begins {
            self.flashed = false;
            // The same campaign may enlist it again.
            let is_new = self.attempt.replace(Attempt { campaign, was_verified: false });
            return Ok(
                is_new.is_none_or(|before| before.campaign != campaign || before.was_verified)
            );
        }
        if let (None, Some(first), Phase::Receiving) = (self.joined_after, self.first_word, phase) {
            self.joined_after = Some(now.since(first));
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.was_verified |= phase == Phase::Verified;
        }
        Ok(false)
    }

    /// Somebody who is told to wait waits.
    pub(super) fn watch_silence(&mut self, now: Time, said: usize) -> Result<(), Violation> {
        let is_held = matches!(
            self.rescue.situation(),
            Situation::Searching(SearchSituation::Asking { held: Some(_), .. })
        );
        match (self.held, is_held) {
            (None, true) => self.held = Some(now),
            (Some(_), false) => self.held = None,
            (Some(since), true) if said > 0 && now.since(since) < HELD_SILENCE => {
                return Err("it was put off, and asks again at once".into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Only the right board's signed image, only after verification and commit.
pub(super) fn check_image(
    computer: &Computer,
    attempt: Attempt,
    is_told: bool,
    image: &VerifiedImage,
) -> Result<(), Violation> {
    let board = computer.board_truth();
    if image.bytes() != board.division.image(&board.new) {
        return Err("an image shall be written that is not the right one".into());
    }
    match attempt.was_verified && is_told {
        true => Ok(()),
        false => Err("an image shall be written without verification or commit".into()),
    }
}
