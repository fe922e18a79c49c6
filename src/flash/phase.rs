//! What a job is for, and what it does.

use crate::reason::Condition;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Update,
    Rescue,
    Preview,
}

impl Mode {
    /// What is known of the contents because of the order.
    pub(super) fn condition(self) -> Condition {
        match self {
            Mode::Rescue => Condition::Broken,
            Mode::Update | Mode::Preview => Condition::Whole,
        }
    }
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asks which eraseblocks the image lies on.
    Surveying,
    /// Reads the chip into memory.
    BackingUp,
    /// Works out what has to change.
    Planning,
    /// Reads what will change a second time and unlocks it.
    Checking,
    /// Waits for [`Job::allow_change`](super::Job::allow_change): the chip is untouched until then.
    ReadyToChange,
    /// Erases, writes and reads back the blocks that differ.
    Writing,
    /// Reads everything and compares it with the target.
    Verifying,
    /// Writes the backup over the blocks that were touched.
    Restoring,
    /// Reads everything to say what the chip holds after the restore.
    Confirming,
    /// Nothing more to do.
    Ended,
}
