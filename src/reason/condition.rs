//! What the contents of a chip look like.

use serde::{Deserialize, Serialize};

/// What the contents of a chip look like to whoever reads them: a judgement of the bytes, whatever
/// was done to them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Condition {
    /// Nothing speaks against them: valid, or of a format that nobody here understands.
    #[default]
    Whole = 0,
    /// Something about them looks wrong, yet a machine has started from them.
    Doubtful = 1,
    /// No machine can be expected to start from them.
    Broken = 2,
}

impl Condition {
    /// Every condition, in the order of the codes.
    pub const ALL: [Self; 3] = [Self::Whole, Self::Doubtful, Self::Broken];

    /// Returns the condition with this code. What a newer version may mean by another one is at
    /// least a doubt.
    pub fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Doubtful)
    }

    /// Returns the name in JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Doubtful => "doubtful",
            Self::Broken => "broken",
        }
    }
}
