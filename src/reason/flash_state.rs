//! What was done to a chip, and whether the machine may be reset.

use std::fmt;

use super::condition::Condition;

/// What a stay has done to the flash chip, as far as anybody has read it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlashState {
    /// Nothing was erased or written; the contents were in this condition before.
    Untouched(Condition),
    /// All new: the image, read back and compared as a whole.
    Updated,
    /// All old: the backup was written back, read back and compared as a whole.
    Restored(Condition),
    /// Neither all new nor all old.
    Mixed,
    /// Nobody has read the chip since it may have changed.
    Unknown,
}

impl FlashState {
    /// Every state, in the order of the codes.
    pub const ALL: [Self; 9] = [
        Self::Untouched(Condition::Whole),
        Self::Updated,
        Self::Restored(Condition::Whole),
        Self::Mixed,
        Self::Unknown,
        Self::Untouched(Condition::Doubtful),
        Self::Untouched(Condition::Broken),
        Self::Restored(Condition::Doubtful),
        Self::Restored(Condition::Broken),
    ];

    /// Nothing was done to a chip that nothing speaks against.
    pub const UNTOUCHED: Self = Self::Untouched(Condition::Whole);

    /// Returns the state with this code. What a newer version may mean by another one is unknown,
    /// so no reboot is safe with it.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Unknown)
    }

    /// Returns the code in datagrams (docs/PROTOCOL.md, section "Flash states").
    pub fn code(self) -> u8 {
        match self {
            Self::Untouched(Condition::Whole) => 0,
            Self::Updated => 1,
            Self::Restored(Condition::Whole) => 2,
            Self::Mixed => 3,
            Self::Unknown => 4,
            Self::Untouched(Condition::Doubtful) => 5,
            Self::Untouched(Condition::Broken) => 6,
            Self::Restored(Condition::Doubtful) => 7,
            Self::Restored(Condition::Broken) => 8,
        }
    }

    /// Whether the machine may be reset: the chip holds all of the new image, or all of contents
    /// that are not broken. What nobody has read is never safe.
    pub fn reboot_is_safe(self) -> bool {
        match self {
            Self::Updated => true,
            Self::Untouched(condition) | Self::Restored(condition) => {
                condition != Condition::Broken
            }
            Self::Mixed | Self::Unknown => false,
        }
    }

    /// Whether the contents differ from those at the start; none when nobody knows.
    pub fn contents_changed(self) -> Option<bool> {
        match self {
            Self::Untouched(_) | Self::Restored(_) => Some(false),
            Self::Updated | Self::Mixed => Some(true),
            Self::Unknown => None,
        }
    }

    /// Whether a stay that says this of its own work has begun to change the chip, and neither
    /// finished nor taken it back as far as it could read.
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Mixed | Self::Unknown)
    }

    /// Returns the name in JSON and in the manager's table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untouched(_) => "untouched",
            Self::Updated => "updated",
            Self::Restored(_) => "restored",
            Self::Mixed => "mixed",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the state as one word, from which [`FlashState::from_word`] makes it again: the
    /// name, and the condition where it is not whole, as in `untouched-broken`.
    pub fn word(self) -> String {
        match self.condition() {
            None | Some(Condition::Whole) => self.name().to_owned(),
            Some(condition) => format!("{}-{}", self.name(), condition.name()),
        }
    }

    /// Returns the state of a word. What a newer version may mean by another one is unknown, so no
    /// reboot is safe with it.
    pub fn from_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.word() == word).unwrap_or(Self::Unknown)
    }

    /// Returns what the chip holds, for an operator.
    pub fn holds(self) -> &'static str {
        match self {
            Self::Untouched(_) => "what it held; nothing was erased or written",
            Self::Updated => "the new image, compared as a whole",
            Self::Restored(_) => {
                "what it held; the backup was written back and compared as a whole"
            }
            Self::Mixed => "neither all of the old nor all of the new",
            Self::Unknown => "nobody has read it since it may have changed",
        }
    }

    /// Returns whether the machine may be reset, for an operator.
    pub fn reset_advice(self) -> &'static str {
        match self {
            _ if self.reboot_is_safe() => "safe",
            Self::Mixed => "not safe: leave the host on",
            Self::Unknown => "not known to be safe: look at the host first",
            _ => "with broken contents no reboot is safe",
        }
    }

    /// Returns the condition of the old contents, where the chip still holds them.
    pub fn condition(self) -> Option<Condition> {
        match self {
            Self::Untouched(condition) | Self::Restored(condition) => Some(condition),
            Self::Updated | Self::Mixed | Self::Unknown => None,
        }
    }
}

impl Default for FlashState {
    fn default() -> Self {
        Self::UNTOUCHED
    }
}

impl fmt::Display for FlashState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flash {}", self.name())?;
        match self.condition() {
            Some(Condition::Doubtful) => write!(f, ", its firmware doubtful")?,
            Some(Condition::Broken) => write!(f, ", its firmware broken")?,
            Some(Condition::Whole) | None => {}
        }
        write!(f, ", reboot {}", if self.reboot_is_safe() { "safe" } else { "NOT safe" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_is_safe_only_with_contents_that_were_read_and_are_not_broken() {
        use Condition::{Broken, Doubtful, Whole};
        for (code, state) in FlashState::ALL.into_iter().enumerate() {
            assert_eq!(
                (usize::from(state.code()), FlashState::from_code(state.code())),
                (code, state)
            );
            assert_eq!(FlashState::from_word(&state.word()), state);
        }
        assert_eq!(FlashState::from_code(9), FlashState::Unknown);
        let safe: Vec<_> =
            FlashState::ALL.into_iter().filter(|state| state.reboot_is_safe()).collect();
        assert_eq!(
            safe,
            [
                FlashState::Untouched(Whole),
                FlashState::Updated,
                FlashState::Restored(Whole),
                FlashState::Untouched(Doubtful),
                FlashState::Restored(Doubtful),
            ]
        );
        let broken = FlashState::Untouched(Broken);
        assert_eq!(broken.to_string(), "flash untouched, its firmware broken, reboot NOT safe");
        assert_eq!(FlashState::Unknown.to_string(), "flash unknown, reboot NOT safe");
        assert_eq!(broken.word(), "untouched-broken");
        assert_eq!(FlashState::from_word("gilded"), FlashState::Unknown);
    }
}
