//! What the manager may state about one host's chip.

use firmcast::reason::{Condition, FlashState};
use firmcast::time::Time;
use firmcast::wire::answer::{End, Identity, Phase, Report};
use firmcast::wire::command::Command;
use firmcast::wire::help::{Finding, HelpRequest};

/// The word of whoever read the chip last in this campaign, as long as nothing can have changed it
/// since. No other place of a campaign states what a chip holds.
///
/// ```text
///             identity, report              told to write, or says that it writes
///  nobody said anything ─────► stands ────────────────────────────────────► unknown
///                                ▲    ends safely, has left, was measured      │ fails, may try again
///                                └───────────────────────────────◄─────────────┤
///                                                     holds at that moment ◄───┘
/// ```
/// A campaign speaks of its own work. What another manager has the same host write at the same time,
/// it does not see.
#[derive(Debug)]
pub(super) struct ChipKnowledge {
    word: Word,
    told: Told,
    /// The host has ended its part: it changes nothing any more.
    has_ended: bool,
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
    /// To upload a backup first, unless the contents are broken: then it writes without another word.
    WriteIfBroken,
    Write,
}

impl Default for ChipKnowledge {
    fn default() -> Self {
        Self { word: Word::Unknown, told: Told::Nothing, has_ended: false, found: Condition::Whole }
    }
}

impl ChipKnowledge {
    /// What is known of a dead host by its own request.
    pub(super) fn of_request(request: &HelpRequest) -> Self {
        // Of what is known nothing about, no reset is safe either.
        let found = match request.finding {
            Finding::Valid => request.identity.firmware,
            Finding::Invalid | Finding::Unknown => Condition::Broken,
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
        match report.phase {
            Phase::Writing | Phase::Verifying | Phase::Restoring => {
                (self.told, self.word) = (Told::Write, Word::Unknown);
            }
            Phase::Updated | Phase::Rebooting => (self.word, self.has_ended) = (said, true),
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
            Word::Stands(state @ (FlashState::Untouched(_) | FlashState::Restored(_))) => {
                Word::Stands(state)
            }
            // It was updated, or nobody knew: what else it holds, the measurement does not tell.
            _ => Word::Unknown,
        };
    }
}
