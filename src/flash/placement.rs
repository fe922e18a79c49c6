//! On which eraseblocks an image lies.

use std::ops::Range;

use super::{EraseBlock, Flash, FlashError, WriteRule};

/// The eraseblocks that hold an image, in the image's order.
///
/// On a chip without bad blocks the image covers the whole chip. On one with pages that are written
/// once (NAND) it is laid over the good blocks in order, as `nandwrite` does; good blocks that are
/// left over at the end stay as they are.
#[derive(Clone, Debug)]
pub struct Placement {
    blocks: Vec<EraseBlock>,
    /// Image offset of each block's first byte.
    image_offsets: Vec<usize>,
    image_bytes: usize,
}

/// Eraseblocks of a placement that follow one another on the chip, to be read or changed at once.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Their numbers in the placement.
    pub(super) blocks: Range<usize>,
    /// Where they start on the chip.
    pub(super) chip_offset_bytes: u64,
    /// Where their bytes are in the image.
    pub(super) image: Range<usize>,
}

impl Placement {
    /// Finds the blocks for an image of `image_bytes`, asking the chip which ones are bad.
    ///
    /// # Errors
    /// An image of another size than the chip; on NAND: one that ends inside a block, or more
    /// blocks needed than are good. A bad block on a chip that the image must cover. An answer that
    /// the chip does not give.
    pub fn survey(flash: &mut dyn Flash, image_bytes: usize) -> Result<Self, FlashError> {
        let geometry = flash.geometry().clone();
        let skips_bad = geometry.rule() == WriteRule::PageOnce;
        let chip_bytes = geometry.size_bytes();
        if image_bytes == 0
            || image_bytes as u64 > chip_bytes
            || (!skips_bad && image_bytes as u64 != chip_bytes)
        {
            return Err(FlashError::ImageSize { image_bytes: image_bytes as u64, chip_bytes });
        }
        let mut placement = Self { blocks: Vec::new(), image_offsets: Vec::new(), image_bytes };
        let (mut placed_bytes, mut bad_blocks) = (0, 0);
        for block in geometry.blocks() {
            if placed_bytes >= image_bytes {
                break;
            }
            let offset_bytes = block.offset_bytes();
            if flash.is_bad(block).map_err(|source| FlashError::Survey {
                offset_bytes,
                asked: "is bad",
                source,
            })? {
                if !skips_bad {
                    return Err(FlashError::BadBlock { offset_bytes });
                }
                bad_blocks += 1;
                continue;
            }
            placement.blocks.push(block);
            placement.image_offsets.push(placed_bytes);
            placed_bytes += block.length_bytes() as usize;
        }
        match placed_bytes {
            placed if placed < image_bytes => Err(FlashError::TooFewGoodBlocks {
                image_bytes: image_bytes as u64,
                good_bytes: placed as u64,
                bad_blocks,
            }),
            placed if placed > image_bytes => Err(FlashError::PartialBlock {
                image_bytes: image_bytes as u64,
                block_bytes: placement.blocks.last().map_or(0, |block| block.length_bytes()),
            }),
            _ => Ok(placement),
        }
    }

    /// Returns how many eraseblocks the image takes.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the eraseblock with this number in the image's order.
    pub fn block(&self, nth: usize) -> EraseBlock {
        self.blocks[nth]
    }

    /// Number of the eraseblock that holds this byte of the image; `None` beyond the image.
    pub fn block_of(&self, image_offset_bytes: u64) -> Option<usize> {
        let inside = image_offset_bytes < self.image_bytes as u64;
        let after = self.image_offsets.partition_point(|start| *start as u64 <= image_offset_bytes);
        inside.then(|| after - 1)
    }

    /// Returns where in the image this eraseblock's bytes are.
    pub fn range(&self, nth: usize) -> Range<usize> {
        let start = self.image_offsets[nth];
        start..start + self.blocks[nth].length_bytes() as usize
    }

    /// Length of the image.
    pub fn image_bytes(&self) -> usize {
        self.image_bytes
    }

    /// As many of these blocks as lie in one piece on the chip and have at most `length_max` bytes;
    /// at least the first, if there is one.
    pub(super) fn span(&self, blocks: impl IntoIterator<Item = usize>, length_max: usize) -> Span {
        let mut blocks = blocks.into_iter();
        let Some(first) = blocks.next() else {
            return Span { blocks: 0..0, chip_offset_bytes: 0, image: 0..0 };
        };
        let mut last = first;
        for next in blocks {
            let adjacent = next == last + 1
                && self.blocks[next].offset_bytes() == self.blocks[last].end_bytes();
            if !adjacent || self.range(next).end - self.range(first).start > length_max {
                break;
            }
            last = next;
        }
        Span {
            blocks: first..last + 1,
            chip_offset_bytes: self.blocks[first].offset_bytes(),
            image: self.range(first).start..self.range(last).end,
        }
    }
}
