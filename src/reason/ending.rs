//! How something ended, or why it never began.

use std::fmt;

use super::Reason;
use super::flash_state::FlashState;

/// How a remark begins about locks that did not come back.
pub const LESS_PROTECTED: &str = "the chip is less protected than before";
/// How a remark begins about locks that were not there.
pub const MORE_PROTECTED: &str = "the chip is more protected than before";

/// How something ended: why, and what the flash holds since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: Reason,
    /// What was done to the flash.
    pub flash: FlashState,
    /// The facts behind it, maybe empty.
    pub detail: String,
}

impl Ending {
    /// An end for `reason` with what it means for the flash, and the facts.
    pub fn new(reason: Reason, flash: FlashState, detail: impl fmt::Display) -> Self {
        Self { reason, flash, detail: detail.to_string() }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", Refusal::new(self.reason, &self.detail), self.flash)
    }
}

/// Why a host does not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason's code.
    pub reason: Reason,
    /// The facts behind it.
    pub detail: String,
}

impl Refusal {
    /// A refusal for `reason`, with the facts.
    pub fn new(reason: Reason, detail: impl fmt::Display) -> Self {
        Self { reason, detail: detail.to_string() }
    }

    /// Returns the end that the refusal leads to, with what it means for the flash.
    pub fn ending(self, flash: FlashState) -> Ending {
        Ending { reason: self.reason, flash, detail: self.detail }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => self.reason.fmt(f),
            detail => write!(f, "{}: {detail}", self.reason),
        }
    }
}
