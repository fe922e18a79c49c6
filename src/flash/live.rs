//! What a plan starts from.

use super::WriteRule;
use crate::image::ByteRanges;
use crate::reason::Condition;

/// What is on the chip now.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// Contents of the placement's blocks, one after the other; zeros in blocks that cannot
    /// be read, FFh where they are closed.
    pub contents: &'a [u8],
    /// For each block of the placement whether it can be read, but for what is closed in it.
    pub readable: &'a [bool],
    /// Which of the contents the host may not read.
    pub closed: &'a ByteRanges,
    /// What a write may do.
    pub rule: WriteRule,
    /// Smallest write.
    pub write_bytes: u32,
    /// What the contents are known to be, apart from what their structure looks like.
    pub condition: Condition,
}
