//! What a flash chip looks like, and the eraseblocks that can be made from it.

use serde::{Deserialize, Serialize};

/// Maximum number of eraseblocks that a chip may have: 16 GiB of 4 KiB blocks is far beyond any
/// firmware chip.
pub const BLOCKS_MAX: u64 = 1 << 22;

/// Maximum number of runs of equal eraseblocks that a chip may have (CFI allows 255).
pub const REGIONS_MAX: usize = 255;

/// What a write may do to bytes that are already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteRule {
    /// A write stores any bytes; nothing is ever erased (`MTD_NO_ERASE`: RAM, NVRAM).
    Overwrite,
    /// A write turns bits from 1 to 0, any number of times (`MTD_BIT_WRITEABLE`: NOR).
    ClearBits,
    /// A page takes one write after an erase (NAND, and NOR with internal ECC).
    PageOnce,
}

/// A run of eraseblocks of the same size, as a chip's description lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EraseRegion {
    /// Size of each block.
    pub block_bytes: u32,
    /// How many blocks.
    pub block_count: u64,
}

/// One eraseblock of a chip. Only [`Geometry`] makes these, so its offset and length are always
/// those of a whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EraseBlock {
    index: u32,
    offset_bytes: u64,
    length_bytes: u32,
}

impl EraseBlock {
    /// Number of the block, from the start of the chip.
    pub fn index(self) -> u32 {
        self.index
    }

    /// First byte, from the start of the chip.
    pub fn offset_bytes(self) -> u64 {
        self.offset_bytes
    }

    /// Length.
    pub fn length_bytes(self) -> u32 {
        self.length_bytes
    }

    /// First byte after the block, from the start of the chip.
    pub fn end_bytes(self) -> u64 {
        self.offset_bytes + u64::from(self.length_bytes)
    }
}

/// Size, eraseblocks and write rule of a chip, or of several that are one BIOS together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    size_bytes: u64,
    write_bytes: u32,
    rule: WriteRule,
    runs: Vec<Run>,
    joints: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first_block: u32,
    block_count: u32,
    offset_bytes: u64,
    block_bytes: u32,
}

/// A chip that the flash engine cannot work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// No byte on it.
    #[error("the flash device has size 0: is its driver loaded and the chip answering?")]
    Empty,
    /// A block or a write unit of zero bytes.
    #[error(
        "the flash device reports eraseblocks of {block_bytes:#x} and writes of {write_bytes:#x} \
        bytes: neither may be 0"
    )]
    ZeroUnit {
        /// Reported eraseblock size.
        block_bytes: u32,
        /// Reported smallest write.
        write_bytes: u32,
    },
    /// Eraseblocks that are not whole write units.
    #[error(
        "eraseblocks of {block_bytes:#x} bytes are not a multiple of the write size of \
        {write_bytes:#x} bytes"
    )]
    WriteUnit {
        /// Reported eraseblock size.
        block_bytes: u32,
        /// Reported smallest write.
        write_bytes: u32,
    },
    /// The blocks do not add up to the chip.
    #[error(
        "the flash device has {size_bytes:#x} bytes, but its eraseblocks cover {covered_bytes:#x}"
    )]
    Coverage {
        /// Reported size of the chip.
        size_bytes: u64,
        /// Sum of the reported blocks.
        covered_bytes: u64,
    },
    /// Chips that cannot be written in the same way.
    #[error(
        "the chips differ in how they are written ({first:?} in units of {first_write_bytes:#x} \
        bytes, {other:?} in units of {other_write_bytes:#x} bytes): such chips are not joined"
    )]
    Unlike {
        /// Write rule of the first chip.
        first: WriteRule,
        /// Its smallest write.
        first_write_bytes: u32,
        /// Write rule of a later one.
        other: WriteRule,
        /// Its smallest write.
        other_write_bytes: u32,
    },
    /// A chip that begins where none can.
    #[error("a chip cannot begin at {offset_bytes:#x}: no eraseblock begins there")]
    Joint {
        /// Where it should begin.
        offset_bytes: u64,
    },
    /// More blocks or regions than any firmware chip has.
    #[error(
        "the flash device reports {blocks} eraseblocks in {regions} regions; at most {BLOCKS_MAX} \
        in {REGIONS_MAX} are understood"
    )]
    TooMany {
        /// Reported blocks.
        blocks: u64,
        /// Reported regions.
        regions: usize,
    },
}

impl Geometry {
    /// Returns a chip whose eraseblocks all have the same size.
    ///
    /// # Errors
    /// As [`Geometry::new`].
    pub fn uniform(
        size_bytes: u64,
        block_bytes: u32,
        write_bytes: u32,
        rule: WriteRule,
    ) -> Result<Self, GeometryError> {
        if block_bytes == 0 {
            return Err(GeometryError::ZeroUnit { block_bytes, write_bytes });
        }
        let block_count = size_bytes / u64::from(block_bytes);
        Self::new(size_bytes, &[EraseRegion { block_bytes, block_count }], write_bytes, rule)
    }

    /// Returns a chip of `size_bytes` made of `regions`, in order from its first byte.
    /// `write_bytes` is the smallest write (`writesize` of MTD).
    ///
    /// # Errors
    /// A size or unit of zero, blocks that do not add up to the size, or more blocks than are
    /// understood.
    pub fn new(
        size_bytes: u64,
        regions: &[EraseRegion],
        write_bytes: u32,
        rule: WriteRule,
    ) -> Result<Self, GeometryError> {
        if size_bytes == 0 {
            return Err(GeometryError::Empty);
        }
        let blocks =
            regions.iter().fold(0u64, |sum, region| sum.saturating_add(region.block_count));
        if blocks > BLOCKS_MAX || regions.len() > REGIONS_MAX {
            return Err(GeometryError::TooMany { blocks, regions: regions.len() });
        }
        let mut runs: Vec<Run> = Vec::with_capacity(regions.len());
        let mut next = Run { first_block: 0, block_count: 0, offset_bytes: 0, block_bytes: 0 };
        for region in regions {
            check_units(region.block_bytes, write_bytes)?;
            next.block_bytes = region.block_bytes;
            // Fits: the sum of all counts is at most BLOCKS_MAX.
            next.block_count = region.block_count as u32;
            runs.push(next);
            next.first_block += next.block_count;
            next.offset_bytes += u64::from(region.block_bytes) * region.block_count;
        }
        if next.offset_bytes != size_bytes {
            return Err(GeometryError::Coverage { size_bytes, covered_bytes: next.offset_bytes });
        }
        runs.retain(|run| run.block_count > 0);
        Ok(Self { size_bytes, write_bytes, rule, runs, joints: Vec::new() })
    }

    /// Returns these chips one behind the other, in this order.
    ///
    /// # Errors
    /// There is none, they are written in different ways, or they have more blocks than are
    /// understood.
    pub fn join(chips: &[&Self]) -> Result<Self, GeometryError> {
        let (first, others) = chips.split_first().ok_or(GeometryError::Empty)?;
        let (mut size_bytes, mut joints) = (first.size_bytes, Vec::with_capacity(others.len()));
        for other in others {
            if (first.rule, first.write_bytes) != (other.rule, other.write_bytes) {
                return Err(GeometryError::Unlike {
                    first: first.rule,
                    first_write_bytes: first.write_bytes,
                    other: other.rule,
                    other_write_bytes: other.write_bytes,
                });
            }
            joints.push(size_bytes);
            size_bytes = size_bytes.saturating_add(other.size_bytes);
        }
        let regions: Vec<_> = chips.iter().flat_map(|chip| chip.regions()).collect();
        Self::new(size_bytes, &regions, first.write_bytes, first.rule)?.joined_at(&joints)
    }

    /// Returns the same eraseblocks on several chips, of which the second and so on begin at these
    /// offsets, in bytes.
    ///
    /// # Errors
    /// One of them is inside an eraseblock, not behind the one before, or beyond the end.
    pub fn joined_at(self, joints: &[u64]) -> Result<Self, GeometryError> {
        let mut before = 0;
        for &offset_bytes in joints {
            let block = self.block_at(offset_bytes);
            let begins_block = block.is_some_and(|block| block.offset_bytes() == offset_bytes);
            if offset_bytes <= before || !begins_block {
                return Err(GeometryError::Joint { offset_bytes });
            }
            before = offset_bytes;
        }
        Ok(Self { joints: joints.to_vec(), ..self })
    }

    fn regions(&self) -> impl Iterator<Item = EraseRegion> + '_ {
        self.runs.iter().map(|run| EraseRegion {
            block_bytes: run.block_bytes,
            block_count: run.block_count.into(),
        })
    }

    /// Where each further chip begins, in bytes from the start of the first; empty where there is
    /// one.
    pub fn joints(&self) -> &[u64] {
        &self.joints
    }

    /// Size of the chip.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Smallest write; every write starts and ends at a multiple of it.
    pub fn write_bytes(&self) -> u32 {
        self.write_bytes
    }

    /// Returns what a write may do.
    pub fn rule(&self) -> WriteRule {
        self.rule
    }

    /// Returns whether all eraseblocks have the same size.
    pub fn is_uniform(&self) -> bool {
        self.runs.windows(2).all(|pair| pair[0].block_bytes == pair[1].block_bytes)
    }

    /// Number of eraseblocks.
    pub fn block_count(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.first_block + run.block_count)
    }

    /// Returns all eraseblocks, from the start of the chip.
    pub fn blocks(&self) -> impl Iterator<Item = EraseBlock> + '_ {
        self.runs.iter().flat_map(|run| (0..run.block_count).map(|nth| run.block(nth)))
    }

    /// Returns the eraseblock that holds the byte at `offset_bytes`; `None` beyond the chip.
    pub fn block_at(&self, offset_bytes: u64) -> Option<EraseBlock> {
        if offset_bytes >= self.size_bytes {
            return None;
        }
        let run = self.runs.iter().rfind(|run| run.offset_bytes <= offset_bytes)?;
        Some(run.block(((offset_bytes - run.offset_bytes) / u64::from(run.block_bytes)) as u32))
    }
}

impl Run {
    fn block(&self, nth: u32) -> EraseBlock {
        EraseBlock {
            index: self.first_block + nth,
            offset_bytes: self.offset_bytes + u64::from(nth) * u64::from(self.block_bytes),
            length_bytes: self.block_bytes,
        }
    }
}

fn check_units(block_bytes: u32, write_bytes: u32) -> Result<(), GeometryError> {
    if block_bytes == 0 || write_bytes == 0 {
        return Err(GeometryError::ZeroUnit { block_bytes, write_bytes });
    }
    if !block_bytes.is_multiple_of(write_bytes) {
        return Err(GeometryError::WriteUnit { block_bytes, write_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOR: WriteRule = WriteRule::ClearBits;

    /// A "bottom boot" CFI chip: eight small blocks, then large ones.
    fn bottom_boot() -> Geometry {
        let regions = [
            EraseRegion { block_bytes: 0x2000, block_count: 8 },
            EraseRegion { block_bytes: 0x10000, block_count: 31 },
        ];
        Geometry::new(0x20_0000, &regions, 1, NOR).unwrap()
    }

    #[test]
    fn blocks_of_a_chip_with_two_sizes_cover_it_exactly() {
        let chip = bottom_boot();
        assert!(!chip.is_uniform());
        let mut end = 0;
        for (index, block) in chip.blocks().enumerate() {
            assert_eq!((block.index() as usize, block.offset_bytes()), (index, end));
            end = block.end_bytes();
            for offset in [block.offset_bytes(), block.end_bytes() - 1] {
                assert_eq!(chip.block_at(offset), Some(block));
            }
        }
        assert_eq!((end, chip.block_count()), (0x20_0000, 39));
        assert_eq!(chip.block_at(0x20_0000), None);
    }

    #[test]
    fn sizes_above_4_gib_work() {
        let chip = Geometry::uniform(9 << 30, 0x20000, 2048, WriteRule::PageOnce).unwrap();
        let last = chip.block_at((9 << 30) - 1).unwrap();
        assert_eq!(
            (last.offset_bytes(), u64::from(last.index())),
            ((9 << 30) - 0x20000, (9 << 13) - 1)
        );
    }

    #[test]
    fn joined_chips_are_one_behind_the_other() {
        let (low, high) = (bottom_boot(), Geometry::uniform(0x10_0000, 0x1000, 1, NOR).unwrap());
        let both = Geometry::join(&[&low, &high]).unwrap();
        assert_eq!((both.size_bytes(), both.joints()), (0x30_0000, &[0x20_0000][..]));
        let blocks: Vec<_> = both.blocks().collect();
        assert_eq!(blocks[..39], low.blocks().collect::<Vec<_>>());
        let first = blocks[39];
        assert_eq!(
            (first.index(), first.offset_bytes(), first.length_bytes()),
            (39, 0x20_0000, 0x1000)
        );
        assert_eq!(Geometry::join(&[&low]).unwrap(), low);
        assert_eq!(Geometry::join(&[]), Err(GeometryError::Empty));
        for wrong in [&[0][..], &[0x100], &[0x30_0000], &[0x20_0000, 0x1_0000]] {
            let refused = both.clone().joined_at(wrong);
            assert!(matches!(refused, Err(GeometryError::Joint { .. })), "{wrong:x?}");
        }
        let ram = Geometry::uniform(0x10_0000, 0x1000, 1, WriteRule::Overwrite).unwrap();
        let unlike = Geometry::join(&[&low, &ram]).unwrap_err();
        assert!(matches!(unlike, GeometryError::Unlike { other: WriteRule::Overwrite, .. }));
    }

    #[test]
    fn chips_that_make_no_sense_are_refused() {
        let bad = |size, block, write| Geometry::uniform(size, block, write, NOR).unwrap_err();
        assert_eq!(bad(0, 4096, 1), GeometryError::Empty);
        assert_eq!(bad(4096, 0, 1), GeometryError::ZeroUnit { block_bytes: 0, write_bytes: 1 });
        assert_eq!(
            bad(4096, 4096, 0),
            GeometryError::ZeroUnit { block_bytes: 4096, write_bytes: 0 }
        );
        assert_eq!(
            bad(4096, 4096, 7),
            GeometryError::WriteUnit { block_bytes: 4096, write_bytes: 7 }
        );
        assert_eq!(
            bad(5000, 4096, 1),
            GeometryError::Coverage { size_bytes: 5000, covered_bytes: 4096 }
        );
        assert_eq!(
            bad(100, 4096, 1),
            GeometryError::Coverage { size_bytes: 100, covered_bytes: 0 }
        );
        assert!(matches!(bad(u64::MAX, 1, 1), GeometryError::TooMany { regions: 1, .. }));
        let huge = [EraseRegion { block_bytes: 1, block_count: u64::MAX }; 2];
        assert!(matches!(
            Geometry::new(1, &huge, 1, NOR),
            Err(GeometryError::TooMany { regions: 2, .. })
        ));
    }
}
