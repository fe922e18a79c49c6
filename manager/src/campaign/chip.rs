//! What the manager may state about one host's chip.

use firmcast::reason::{Condition, FlashState, Reason};
use firmcast::time::Time;
use firmcast::wire::answer::{End, Identity, Phase, Report};
use firmcast::wire::command::Command;
use firmcast::wire::help::{Finding, HelpRequest};

/// The word of whoever read the chip last in this campaign, as long as nothing can have changed it
/// since. No other place of a campaign states what a chip holds.
///
/// ```text
///             identity, report            told to write, or says that it writes
///  nobody said anything ─────► stands ──────────────────────────────────► unknown
///                                ▲  ends safely, has left, was measured      │ fails, and may
///                                └─────────────────────────────◄─────────────┤ try again
///                                                   holds at that moment ◄───┘
/// ```
/// A campaign speaks of its own work. What another manager has the same host write at the same
/// time, it does not see.
#[derive(Debug)]
pub(super) struct ChipKnowledge {
    word: Word,
    told: Told,
    /// The host has ended its part: it changes nothing any more.
    has_ended: bool,
    /// The host was told to go on with the verified image, even if only to give its backup first.
    was_committed: bool,
    /// The host was told to rehearse: that its backup is stored then allows no write.
    rehearses: bool,
    /// The host said that its chip holds the image.
    said_updated: bool,
    /// What the host found wrong with its contents when it asked for help.
    found: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Nobody has read the chip since it may have changed.
    Unknown,
    /// Somebody read it, and nothing changes it before the host is told to.
    Stands(FlashState),
    /// Its host failed and may try again by itself: true when it was said, and not for long.
    AtMoment(FlashState, Time),
}

/// What this campaign has told the host about its chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    /// To upload a backup first, unless the contents are broken: then it writes without another
    /// word.
    WriteIfBroken,
    Write,
}

/// Whether nothing else than success is meant.
pub(super) fn is_update(reason: Reason) -> bool {
    matches!(reason, Reason::Updated | Reason::AlreadyCurrent)
}

impl Default for ChipKnowledge {
    fn default() -> Self {
        Self {
            word: Word::Unknown,
            told: Told::Nothing,
            has_ended: false,
            was_committed: false,
            rehearses: false,
            said_updated: false,
            found: Condition::Whole,
        }
    }
}

impl ChipKnowledge {
    /// What is known of a dead host by its own request.
    pub(super) fn of_request(request: &HelpRequest) -> Self {
        // Of what is known nothing about, no reset is safe either.
        let found = match (request.finding, request.identity.firmware) {
            (Finding::Valid, found) | (_, found @ Condition::Doubtful) => found,
            (Finding::Invalid | Finding::Unknown, _) => Condition::Broken,
        };
        Self { word: Word::Stands(FlashState::Untouched(found)), found, ..Self::default() }
    }

    /// Returns what may be stated now.
    pub(super) fn state(&self, now: Time) -> FlashState {
        let state = match self.word {
            Word::Stands(state) => state,
            Word::AtMoment(state, at) if at == now => state,
            Word::AtMoment(..) | Word::Unknown => FlashState::Unknown,
        };
        match (state, self.found) {
            (FlashState::Untouched(_), Condition::Broken) => {
                FlashState::Untouched(Condition::Broken)
            }
            (FlashState::Restored(_), Condition::Broken) => FlashState::Restored(Condition::Broken),
            (state, _) => state,
        }
    }

    /// Whether the host has said how its part ended, and changes nothing any more.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The agent speaks from the normal OS and was told nothing yet.
    pub(super) fn seen_at_home(&mut self, identity: &Identity) {
        let word = Word::Stands(FlashState::Untouched(identity.firmware));
        *self = Self { word, ..Self::default() };
    }

    /// The host is told this now.
    pub(super) fn handle_command(&mut self, command: &Command) {
        self.rehearses |= matches!(command, Command::Rehearse { .. });
        if self.rehearses {
            return;
        }
        self.was_committed |= matches!(
            command,
            Command::Commit { .. }
                | Command::BackupStored { .. }
                | Command::CommitWithEscrow { .. }
        );
        let told = match command {
            Command::Commit { .. } | Command::BackupStored { .. } => Told::Write,
            Command::CommitWithEscrow { unless_broken: true, .. } => Told::WriteIfBroken,
            _ => return,
        };
        // An end that was said before this belongs to an earlier attempt of the same campaign.
        if told > self.told || self.has_ended {
            (self.told, self.word, self.has_ended) = (told, Word::Unknown, false);
        }
    }

    /// The host reports in this campaign.
    pub(super) fn handle_report(&mut self, now: Time, report: &Report) {
        if self.has_ended {
            return;
        }
        let said = Word::Stands(report.ending.flash);
        let is_updated = report.phase == Phase::Updated || is_update(report.ending.reason);
        self.said_updated |= is_updated;
        match report.phase {
            // Nobody told it to: what it did, or why it says so, nobody knows.
            Phase::Updated | Phase::Failed | Phase::Rebooting
                if is_updated && !self.was_committed && self.told == Told::Nothing =>
            {
                (self.word, self.has_ended) = (Word::Unknown, true);
            }
            Phase::Other(_) if self.told == Told::Nothing => self.word = said,
            // What a newer host calls otherwise may be writing.
            Phase::Writing | Phase::Verifying | Phase::Restoring | Phase::Other(_) => {
                (self.told, self.word) = (Told::Write, Word::Unknown);
            }
            Phase::Updated | Phase::Drilled | Phase::Rebooting => {
                (self.word, self.has_ended) = (said, true);
            }
            Phase::Failed if self.told == Told::Nothing || report.ending.flash.reboot_is_safe() => {
                (self.word, self.has_ended) = (said, true);
            }
            Phase::Failed => self.word = Word::AtMoment(report.ending.flash, now),
            // It waits until its backup is in keeping.
            Phase::Escrow if self.told < Told::Write => self.word = said,
            Phase::Idle
            | Phase::Accepted
            | Phase::Refused
            | Phase::Ready
            | Phase::Receiving
            | Phase::Verified
            | Phase::BackingUp
                if self.told == Told::Nothing =>
            {
                self.word = said;
            }
            _ => {}
        }
    }

    /// The host is further than this campaign remembers to have told it, and says so in `report`.
    pub(super) fn was_told_before(&mut self, report: &Report) {
        self.told = Told::Write;
        if report.phase == Phase::Updated {
            self.word = Word::Stands(report.ending.flash);
        }
    }

    /// The host is in its normal OS again, with or without word from recovery about this campaign.
    pub(super) fn came_home(&mut self, identity: &Identity, end: Option<&End>) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        self.word =
            match end.map(|end| end.ending.flash).filter(|flash| *flash != FlashState::Unknown) {
                Some(flash) => Word::Stands(flash),
                None if self.told == Told::Nothing => {
                    Word::Stands(FlashState::Untouched(identity.firmware))
                }
                None => Word::Unknown,
            };
    }

    /// The agent has compared the chip with the image.
    pub(super) fn measured(&mut self, matches: bool) {
        self.word = match self.word {
            _ if matches => Word::Stands(FlashState::Updated),
            Word::Stands(state @ (FlashState::Untouched(_) | FlashState::Restored(_)))
                if !self.said_updated =>
            {
                Word::Stands(state)
            }
            // It was updated, or said so, or nobody knew: what else it holds, the measurement does
            // not tell.
            _ => Word::Unknown,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firmcast::reason::Ending;
    use firmcast::wire::samples;

    const WHOLE: FlashState = FlashState::UNTOUCHED;

    fn report(phase: Phase, flash: FlashState) -> Report {
        let ending = Ending::new(Reason::None, flash, "");
        Report { campaign: 1, phase, ending, done: 0, total: 0, digests: None, lacking: None }
    }

    fn end(flash: FlashState) -> End {
        End { campaign: 1, ending: Ending::new(Reason::None, flash, "") }
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + std::time::Duration::from_secs(seconds)
    }

    /// A host that was seen at home and is told to write.
    fn told() -> ChipKnowledge {
        let mut chip = ChipKnowledge::default();
        chip.seen_at_home(&samples::identity());
        chip.handle_command(&Command::Commit { campaign: 1 });
        chip
    }

    #[test]
    fn a_dead_host_is_broken_unless_it_says_itself_that_it_only_looks_wrong() {
        use Condition::{Broken, Doubtful, Whole};
        for (finding, firmware, stated) in [
            (Finding::Valid, Whole, Whole),
            (Finding::Valid, Doubtful, Doubtful),
            (Finding::Invalid, Whole, Broken),
            (Finding::Invalid, Doubtful, Doubtful),
            (Finding::Invalid, Broken, Broken),
            (Finding::Unknown, Whole, Broken),
            (Finding::Unknown, Doubtful, Doubtful),
        ] {
            let identity = Identity { firmware, ..samples::identity() };
            let why = String::new();
            let (wants_image, rescues) = (true, None);
            let request =
                HelpRequest { wants_image, finding, offset_bytes: 0, why, identity, rescues };
            let chip = ChipKnowledge::of_request(&request);
            assert_eq!(chip.state(at(1)), FlashState::Untouched(stated), "{request:?}");
        }
    }

    #[test]
    fn what_nobody_said_is_unknown_and_what_was_said_stands_until_the_host_is_told_to_write() {
        let mut chip = ChipKnowledge::default();
        assert_eq!(chip.state(at(0)), FlashState::Unknown);
        chip.seen_at_home(&samples::identity());
        chip.handle_report(at(1), &report(Phase::Verified, WHOLE));
        assert_eq!(chip.state(at(9)), WHOLE);
        let (rate_kbit_s, digest) = (1, [0; 32]);
        let command =
            |unless_broken| Command::CommitWithEscrow { campaign: 1, rate_kbit_s, unless_broken };
        chip.handle_command(&command(false));
        assert_eq!(chip.state(at(9)), WHOLE, "it waits for its backup to be stored");
        chip.handle_command(&command(true));
        assert_eq!(chip.state(at(9)), FlashState::Unknown, "it writes if its chip is broken");
        chip.handle_report(at(10), &report(Phase::Escrow, WHOLE));
        assert_eq!(chip.state(at(19)), WHOLE, "its chip is whole: it uploads");
        chip.handle_command(&Command::BackupStored { campaign: 1, digest });
        assert_eq!(chip.state(at(19)), FlashState::Unknown);
    }

    #[test]
    fn a_host_that_rehearses_is_told_to_write_nothing() {
        let mut chip = ChipKnowledge::default();
        chip.seen_at_home(&samples::identity());
        let escrow_rate_kbit_s = std::num::NonZeroU32::new(1);
        chip.handle_command(&Command::Rehearse { campaign: 1, escrow_rate_kbit_s });
        chip.handle_command(&Command::BackupStored { campaign: 1, digest: [0; 32] });
        chip.came_home(&samples::identity(), None);
        assert_eq!(chip.state(at(9)), WHOLE);
    }

    #[test]
    fn a_safe_end_stands_and_an_unsafe_one_is_true_only_when_it_is_said() {
        let mut chip = told();
        chip.handle_report(at(5), &report(Phase::Failed, FlashState::Mixed));
        assert_eq!(chip.state(at(5)), FlashState::Mixed);
        assert_eq!(chip.state(at(6)), FlashState::Unknown, "it tries again by itself");
        chip.handle_report(at(7), &report(Phase::Updated, FlashState::Updated));
        chip.handle_report(at(8), &report(Phase::Writing, WHOLE));
        assert_eq!(chip.state(at(99)), FlashState::Updated, "a late report changes nothing");
    }

    #[test]
    fn a_host_that_comes_home_by_itself_is_known_only_by_word_from_recovery_or_a_measurement() {
        let (identity, restored) = (samples::identity(), FlashState::Restored(Condition::Whole));
        for (word, state) in [
            (None, FlashState::Unknown),
            (Some(end(FlashState::Unknown)), FlashState::Unknown),
            (Some(end(restored)), restored),
        ] {
            let mut chip = told();
            chip.came_home(&identity, word.as_ref());
            assert_eq!(chip.state(at(1)), state);
            chip.measured(false);
            assert_eq!(chip.state(at(1)), state, "not the image");
            chip.measured(true);
            assert_eq!(chip.state(at(1)), FlashState::Updated);
        }
        let mut chip = ChipKnowledge::default();
        chip.seen_at_home(&identity);
        chip.came_home(&identity, None);
        assert_eq!(chip.state(at(1)), WHOLE, "it was never told to write");
    }

    #[test]
    fn an_update_that_is_not_believed_leaves_nothing_known() {
        // Nobody told it to.
        let mut chip = ChipKnowledge::default();
        chip.seen_at_home(&samples::identity());
        chip.handle_report(at(1), &report(Phase::Updated, WHOLE));
        assert_eq!(chip.state(at(2)), FlashState::Unknown);
        // It says that nothing had to be changed, and measures another image.
        let mut chip = told();
        chip.handle_report(at(1), &report(Phase::Updated, WHOLE));
        assert_eq!(chip.state(at(2)), WHOLE);
        chip.measured(false);
        assert_eq!(chip.state(at(3)), FlashState::Unknown);
        // With escrow it is asked for its backup first, and may have nothing to change.
        let mut chip = ChipKnowledge::default();
        let (rate_kbit_s, unless_broken) = (1, false);
        chip.handle_command(&Command::CommitWithEscrow { campaign: 1, rate_kbit_s, unless_broken });
        chip.handle_report(at(1), &report(Phase::Updated, FlashState::Updated));
        assert_eq!(chip.state(at(2)), FlashState::Updated);
    }

    #[test]
    fn of_an_updated_chip_that_is_measured_to_be_another_nothing_is_known() {
        let mut chip = told();
        chip.handle_report(at(1), &report(Phase::Updated, FlashState::Updated));
        chip.measured(false);
        assert_eq!(chip.state(at(2)), FlashState::Unknown);
    }
}
