//! How much memory a host in recovery needs for the image, phase by phase.
//!
//! | phase | held at once |
//! | --- | --- |
//! | receiving | payload, working memory of the erasure code |
//! | opening | payload, image, working memory of the decompressor |
//! | flashing | image, backup, target where regions are preserved |
//! | escrow | the same, repair fragments of the backup, working memory of the erasure code |
//!
//! `tests/memory.rs` measures the phases and fails when one of them takes more than stated here.

/// A stretch of a host's stay, and the memory that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPhase {
    /// The payload arrives, and is decoded.
    Receiving,
    /// The payload is decompressed and verified.
    Opening,
    /// The chip is backed up, written and compared.
    Flashing,
    /// The backup is on its way to the manager.
    Escrow,
}

impl MemoryPhase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Receiving, Self::Opening, Self::Flashing, Self::Escrow];

    /// Returns the most that the phase takes for an image of this size, in bytes. At most
    /// [`MARGIN_PERCENT`] of the image were not seen in use.
    pub const fn peak_bytes(self, image_bytes: u64) -> u64 {
        match self {
            Self::Receiving => percent(image_bytes, 145),
            Self::Opening => percent(image_bytes, 200).saturating_add(DECOMPRESSOR_BYTES),
            Self::Flashing => percent(image_bytes, 320),
            Self::Escrow => percent(image_bytes, 435),
        }
    }
}

/// Largest part of a phase's figure that was not seen in use, in percent of the image's size.
pub const MARGIN_PERCENT: u64 = 25;

/// Largest working memory of the decompressor in bytes: the buffer of its window, which is at most
/// 8 MiB, while it is moved to one of twice that size.
const DECOMPRESSOR_BYTES: u64 = 25 << 20;

/// Returns what an image of this size takes at most during a stay, in bytes.
pub fn peak_bytes(image_bytes: u64) -> u64 {
    MemoryPhase::ALL.iter().map(|phase| phase.peak_bytes(image_bytes)).max().unwrap_or(0)
}

const fn percent(image_bytes: u64, percent: u64) -> u64 {
    image_bytes.saturating_mul(percent) / 100
}
