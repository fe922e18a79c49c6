//! The order of changes when something that is kept moves on the chip: whenever the power fails,
//! the next job finds it whole. So it does after a restore, which goes back the same way and stops
//! where it cannot.
//!
//! 1. Its new place. The chip's own layout still tells the old one, which is untouched.
//! 2. The descriptor and the flash map, old and new ones. Both places are whole meanwhile,
//!    whichever is told; of a chip that tells neither, a rescue takes what is at the image's place:
//!    the new one.
//! 3. Everything else, the old place among it.

use super::{FlashError, Live, Placement};
use crate::image::layout::map_places;
use crate::image::{ByteRanges, Moved};

/// When each eraseblock has its turn.
#[derive(Clone, Debug, Default)]
pub(super) struct MoveOrder {
    /// Eraseblocks of new places.
    targets: Vec<usize>,
    /// Eraseblocks that say how the chip is divided, now or in the end.
    maps: Vec<usize>,
    /// Eraseblocks of old places.
    sources: Vec<usize>,
}

impl MoveOrder {
    /// The step of all that is neither a new place nor tells how the chip is divided.
    pub(super) const REST: u32 = 3;

    /// Returns the order for what moves. `target` is what the chip is to hold.
    ///
    /// # Errors
    /// [`FlashError::UnsafeMove`] where no order is safe: a new place shares an eraseblock with an
    /// old one, or one of them with what tells it; or the processor starts in such an eraseblock,
    /// which is to change last.
    pub(super) fn new(
        moved: &[Moved],
        placement: &Placement,
        live: Live<'_>,
        target: &[u8],
        boot_block: Option<usize>,
    ) -> Result<Self, FlashError> {
        if moved.is_empty() {
            return Ok(Self::default());
        }
        let blocks_of = |ranges: &ByteRanges| -> Vec<usize> {
            let holds = |block: &usize| {
                let range = placement.range(*block);
                ranges.overlaps(&(range.start as u64..range.end as u64))
            };
            (0..placement.block_count()).filter(holds).collect()
        };
        let from: ByteRanges = moved.iter().map(|moved| moved.from.clone()).collect();
        let told = [map_places(live.contents), map_places(target)];
        let maps = blocks_of(&told.iter().flat_map(ByteRanges::iter).cloned().collect());
        let sources = blocks_of(&from);
        for moved in moved {
            let targets = blocks_of(&std::iter::once(moved.to.clone()).collect());
            let own = blocks_of(&std::iter::once(moved.from.clone()).collect());
            let is_unreadable =
                live.closed.overlaps(&moved.from) || own.iter().any(|block| !live.readable[*block]);
            let meet = |some: &[usize], others: &[usize]| some.iter().any(|b| others.contains(b));
            let in_boot_block = |blocks: &[usize]| boot_block.is_some_and(|b| blocks.contains(&b));
            let why = if is_unreadable {
                "the host cannot read it"
            } else if meet(&targets, &sources) {
                "the new place shares an eraseblock with an old one"
            } else if meet(&targets, &maps) {
                "the new place shares an eraseblock with what says how the chip is divided"
            } else if meet(&own, &maps) {
                "the old place shares an eraseblock with what says how the chip is divided"
            } else if [&targets, &maps, &own].into_iter().any(|blocks| in_boot_block(blocks)) {
                "the processor starts in one of the eraseblocks"
            } else {
                continue;
            };
            let (from_bytes, to_bytes) = (moved.from.start, moved.to.start);
            return Err(FlashError::UnsafeMove { from_bytes, to_bytes, why });
        }
        let to: ByteRanges = moved.iter().map(|moved| moved.to.clone()).collect();
        Ok(Self { targets: blocks_of(&to), maps, sources })
    }

    /// Returns the step in which this block changes, from 1 on.
    pub(super) fn rank(&self, block: usize) -> u32 {
        if self.targets.contains(&block) {
            1
        } else if self.maps.contains(&block) {
            2
        } else {
            Self::REST
        }
    }

    /// Whether something that moves cannot be found at its old place without this block.
    pub(super) fn is_way_back(&self, block: usize) -> bool {
        self.sources.contains(&block) || self.maps.contains(&block)
    }

    /// Whether something comes here from elsewhere.
    pub(super) fn is_new_place(&self, block: usize) -> bool {
        self.targets.contains(&block)
    }

    /// Whether something that moves cannot be found at its new place without this block.
    pub(super) fn is_way_there(&self, block: usize) -> bool {
        self.is_new_place(block) || self.maps.contains(&block)
    }

    /// Returns the blocks from which something moves.
    pub(super) fn sources(&self) -> &[usize] {
        &self.sources
    }
}
