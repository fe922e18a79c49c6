//! What a sender has sent.

use super::geometry::Geometry;

/// How many fragments were sent, in all and of each block.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// In all; it wraps.
    pub(super) total: u32,
    of_blocks: Vec<u32>,
}

impl Sent {
    pub(super) fn none(geometry: &Geometry) -> Self {
        Self { total: 0, of_blocks: vec![0; usize::from(geometry.block_count())] }
    }

    pub(super) fn count(&mut self, block: u16) {
        self.total = self.total.wrapping_add(1);
        if let Some(count) = self.of_blocks.get_mut(usize::from(block)) {
            *count = count.wrapping_add(1);
        }
    }

    /// How many of a block were sent since `before`.
    pub(super) fn since(&self, before: &Self, block: usize) -> u32 {
        let count = |sent: &Self| sent.of_blocks.get(block).copied().unwrap_or_default();
        count(self).wrapping_sub(count(before))
    }
}
