//! What stands in the cell of a host: a letter, a shape, a colour, and words. Letter and shape say
//! all of it; the colour helps those who can tell it, with Okabe and Ito's palette, whose colours
//! most people tell apart ("Color Universal Design", 2008).

use firmcast::reason::FlashState;
use firmcast_manager::campaign::Stage;
use serde::Serialize;

use super::words::SECOND_US;
use crate::model::{Attempt, AttemptState, DRAINING, Stamp, UNDRAINING};

/// How long after the end of its lease a host is called silent, in microseconds: a takeover needs
/// ten seconds, of which the lease is the larger part.
const SILENT_US: i64 = 3 * SECOND_US;

/// Where a host stands, what needs a person first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Failed, and no reset is known to be safe.
    Unsafe,
    /// Failed otherwise.
    Failed,
    /// Did not answer: nothing was begun with it.
    Unreachable,
    /// Begun, and no worker speaks for it.
    Silent,
    /// Writes its flash, or is told to.
    Flashing,
    /// Begun: it is asked, checked, and enters recovery.
    Begun,
    /// Its load leaves it, or comes back: a program of its rollout runs for it.
    Draining,
    /// Receives the image, or gives its backup.
    Receiving,
    /// Written; it reboots and is measured.
    Returning,
    /// Nobody has begun.
    Waiting,
    /// Will not be tried.
    Skipped,
    /// The new firmware was seen.
    Confirmed,
}

impl Mark {
    /// Every mark, in their order.
    pub const ALL: [Self; 12] = [
        Self::Unsafe,
        Self::Failed,
        Self::Unreachable,
        Self::Silent,
        Self::Flashing,
        Self::Begun,
        Self::Draining,
        Self::Receiving,
        Self::Returning,
        Self::Waiting,
        Self::Skipped,
        Self::Confirmed,
    ];

    /// Returns the mark of a host by its last attempt.
    pub fn of(attempt: &Attempt, now: Stamp) -> Self {
        match attempt.state {
            AttemptState::Planned => Self::Waiting,
            AttemptState::Confirmed => Self::Confirmed,
            AttemptState::Skipped => Self::Skipped,
            AttemptState::InFlight => {
                let until = attempt.lease_until.unwrap_or(Stamp::MAX);
                match until.saturating_add(SILENT_US) < now {
                    true => Self::Silent,
                    false => Self::of_stage(attempt.stage.as_deref().unwrap_or_default()),
                }
            }
            AttemptState::Failed if attempt.reason.as_deref() == Some(UNREACHABLE) => {
                Self::Unreachable
            }
            AttemptState::Failed => {
                let flash = attempt.flash.as_deref().map(FlashState::from_word);
                match flash.is_some_and(|flash| !flash.reboot_is_safe()) {
                    true => Self::Unsafe,
                    false => Self::Failed,
                }
            }
        }
    }

    /// Stages have the names of firmcast's table, but for those of drain programs; one that this
    /// version does not know is early.
    fn of_stage(name: &str) -> Self {
        if [DRAINING, UNDRAINING].contains(&name) {
            return Self::Draining;
        }
        let stage = Stage::ALL.into_iter().find(|stage| stage.name() == name);
        match stage.unwrap_or(Stage::Connect) {
            Stage::Connect
            | Stage::Recall
            | Stage::Manifest
            | Stage::Foresee
            | Stage::Begin
            | Stage::Reach
            | Stage::Enlist
            | Stage::RecoveryManifest
            | Stage::Join => Self::Begun,
            Stage::Transfer | Stage::Escrow => Self::Receiving,
            Stage::Commit | Stage::Flash => Self::Flashing,
            Stage::Release
            | Stage::Reboot
            | Stage::ConfirmManifest
            | Stage::Measure
            | Stage::Ended => Self::Returning,
        }
    }

    /// Returns the letter, which no other mark has.
    pub fn letter(self) -> char {
        match self {
            Self::Unsafe => '!',
            Self::Failed => 'X',
            Self::Unreachable => 'U',
            Self::Silent => '?',
            Self::Flashing => 'F',
            Self::Begun => 'B',
            Self::Draining => 'D',
            Self::Receiving => 'R',
            Self::Returning => 'H',
            Self::Waiting => '.',
            Self::Skipped => '-',
            Self::Confirmed => 'C',
        }
    }

    /// Returns the shape, which no other mark has.
    pub fn shape(self) -> char {
        match self {
            Self::Unsafe => '\u{25b2}',      // triangle
            Self::Failed => '\u{2715}',      // cross
            Self::Unreachable => '\u{25bd}', // hollow triangle, upside down
            Self::Silent => '\u{25cc}',      // dotted circle
            Self::Flashing => '\u{25c6}',    // diamond
            Self::Begun => '\u{25d4}',       // circle, a quarter full
            Self::Draining => '\u{25d2}',    // circle, its lower half full
            Self::Receiving => '\u{25d1}',   // circle, half full
            Self::Returning => '\u{25d5}',   // circle, three quarters full
            Self::Waiting => '\u{25cb}',     // hollow circle
            Self::Skipped => '\u{2013}',     // dash
            Self::Confirmed => '\u{25cf}',   // full circle
        }
    }

    /// Returns the colour: red, green and blue.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Unsafe => [0xd5, 0x5e, 0x00], // vermillion
            Self::Failed => [0xcc, 0x79, 0xa7], // reddish purple
            Self::Unreachable | Self::Silent => [0xf0, 0xe4, 0x42], // yellow
            Self::Flashing => [0xe6, 0x9f, 0x00], // orange
            Self::Begun | Self::Draining | Self::Returning => [0x56, 0xb4, 0xe9], // sky blue
            Self::Receiving => [0x00, 0x72, 0xb2], // blue
            Self::Waiting | Self::Skipped => [0x99, 0x99, 0x99], // grey
            Self::Confirmed => [0x00, 0x9e, 0x73], // bluish green
        }
    }

    /// Returns the name for style sheets and JSON, as serde has it.
    pub fn class(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Flashing => "flashing",
            Self::Begun => "begun",
            Self::Draining => "draining",
            Self::Receiving => "receiving",
            Self::Returning => "returning",
            Self::Waiting => "waiting",
            Self::Skipped => "skipped",
            Self::Confirmed => "confirmed",
        }
    }

    /// Returns what it means, for the legend and for who cannot see the cell.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unsafe => "failed, and not known to be safe to reset",
            Self::Failed => "failed",
            Self::Unreachable => "did not answer",
            Self::Silent => "begun, and its worker is silent",
            Self::Flashing => "writes its flash: leave it on",
            Self::Begun => "begun",
            Self::Draining => "its load leaves it, or comes back",
            Self::Receiving => "receives the image",
            Self::Returning => "written: it reboots and is measured",
            Self::Waiting => "waits",
            Self::Skipped => "will not be tried",
            Self::Confirmed => "confirmed",
        }
    }
}

/// Name of [`Reason::HostUnreachable`].
const UNREACHABLE: &str = "host-unreachable";

/// How many hosts have which mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u32; Mark::ALL.len()]);

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// Counts all of another.
    pub fn add_all(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Returns how many have this mark.
    pub fn of(&self, mark: Mark) -> u32 {
        self.0[mark as usize]
    }

    /// Returns how many there are.
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// Returns the marks that there are, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Mark, u32)> {
        Mark::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// Returns at most `width` marks in place of all: in the same parts as far as that goes, and
    /// each mark at least once, what needs a person first.
    pub fn strip(&self, width: usize) -> Vec<Mark> {
        let total = u64::from(self.total());
        if total <= width as u64 {
            return self
                .iter()
                .flat_map(|(mark, n)| std::iter::repeat_n(mark, n as usize))
                .collect();
        }
        let kinds = self.iter().count();
        // What is left for parts when each mark has one cell.
        let spare = width.saturating_sub(kinds) as u64;
        let share = |count: u32| 1 + (u64::from(count) * spare / total) as usize;
        let marks = self.iter().flat_map(|(mark, n)| std::iter::repeat_n(mark, share(n)));
        marks.take(width).collect()
    }
}

impl Serialize for Tally {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(mark, count)| (mark.class(), count)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firmcast::reason::Reason;

    use super::super::words::word;
    use super::*;

    #[test]
    fn no_two_marks_look_the_same_without_colour() {
        let letters: BTreeSet<char> = Mark::ALL.into_iter().map(Mark::letter).collect();
        let shapes: BTreeSet<char> = Mark::ALL.into_iter().map(Mark::shape).collect();
        assert_eq!((letters.len(), shapes.len()), (Mark::ALL.len(), Mark::ALL.len()));
        for (index, mark) in Mark::ALL.into_iter().enumerate() {
            assert_eq!((mark as usize, mark.class()), (index, word(mark).as_str()));
        }
        assert_eq!(UNREACHABLE, Reason::HostUnreachable.name());
    }

    #[test]
    fn a_strip_leaves_no_mark_out() {
        let mut tally = Tally::default();
        (0..9_996).for_each(|_| tally.add(Mark::Confirmed));
        for mark in [Mark::Unsafe, Mark::Failed, Mark::Flashing, Mark::Waiting] {
            tally.add(mark);
        }
        let strip = tally.strip(20);
        assert!(strip.len() <= 20 && strip.len() >= 19, "{strip:?}");
        assert_eq!(strip[..4], [Mark::Unsafe, Mark::Failed, Mark::Flashing, Mark::Waiting]);
        assert_eq!(tally.strip(2), [Mark::Unsafe, Mark::Failed]);
        assert_eq!(tally.total(), 10_000);
    }
}
