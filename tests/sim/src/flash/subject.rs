//! What a seed stands for: a chip, what is on it, and what shall come onto it. Worked out without
//! the engine.

use std::ops::Range;

use firmcast::flash::{
    EraseBlock, EraseRegion, Flash as _, Geometry, Locking, SimulatedFlash, WriteRule,
};
use firmcast::image::VerifiedImage;
use firmcast::keys::ReleaseSecretKey;

use super::image::Image;
use crate::chance::Chance;

/// Of so many seeds, one has a chip that takes the engine several batches and spans.
const LARGE_EVERY: u64 = 29;
/// Of so many seeds, one has a plan that must be refused.
const REFUSED_EVERY: u64 = 11;

/// How much of the image differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Nothing,
    Everything,
    Mixed,
    /// Bits only go from 1 to 0.
    BitsDown,
    Sparse,
}

/// Why a job must leave the chip alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A preserved region inside a block that would have to change.
    SharedBlock,
    /// A block that has to change is locked for good.
    Locked,
}

#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) seed: u64,
    pub(crate) chip: SimulatedFlash,
    /// The blocks on which the image lies, in its order.
    pub(crate) blocks: Vec<EraseBlock>,
    pub(crate) new: VerifiedImage,
    /// The bundle that the machine was made with.
    pub(crate) old: VerifiedImage,
    /// What the whole chip holds at first.
    pub(crate) live: Vec<u8>,
    /// What the whole chip holds after an update.
    pub(crate) target: Vec<u8>,
    /// Ranges of the chip that never change.
    pub(crate) preserved: Vec<Range<usize>>,
    /// The block that makes the firmware bootable.
    pub(crate) boot: EraseBlock,
    pub(crate) refusal: Option<Refusal>,
    /// Too large for every fault at every operation: each operation has one.
    pub(crate) large: bool,
    mood: Mood,
}

impl Subject {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 20);
        let large = seed % LARGE_EVERY == LARGE_EVERY - 1;
        let geometry = geometry(&mut chance, large);
        let live = first_contents(&mut chance, &geometry);
        let mut chip = SimulatedFlash::new(geometry.clone(), live.clone());
        let blocks = lay_out(&mut chance, &mut chip);
        let mood = *chance.pick(&[
            Mood::Nothing,
            Mood::Everything,
            Mood::Mixed,
            Mood::Mixed,
            Mood::Mixed,
            Mood::BitsDown,
            Mood::Sparse,
        ]);
        let mut image = Image::draw(&mut chance, &blocks, &live, mood);
        image.rule_regions(&mut chance, &live);
        image.boot_offset_bytes =
            chance.happens(0.4).then(|| chance.within(0..image.bytes.len() as u64));
        let refused = seed % REFUSED_EVERY == REFUSED_EVERY - 1;
        let refusal = refused.then(|| image.spoil(&mut chance, &mut chip, &live));
        let release = ReleaseSecretKey::generate(chance.rng());
        let old: Vec<u8> = blocks.iter().flat_map(|block| live[range(*block)].to_vec()).collect();
        let preserved = image.preserved();
        if refusal.is_none() && chance.happens(0.3) {
            // Preserved blocks that cannot be read are left alone.
            let whole = |block: &&EraseBlock| preserved.contains(&range(**block));
            let mut kept = blocks.iter().filter(whole);
            match geometry.rule() {
                WriteRule::PageOnce => kept.take(1).for_each(|block| chip.decay(*block)),
                _ if chance.happens(0.5) => {
                    kept.for_each(|block| chip.close(block.offset_bytes()..block.end_bytes()));
                }
                _ => kept.by_ref().take(1).for_each(|block| {
                    chip.close(block.offset_bytes()..block.end_bytes());
                }),
            }
        }
        Self {
            seed,
            target: image.target(&live),
            preserved,
            new: image.sign(&release),
            old: Image { bytes: old, ..image.of_preserved() }.sign(&release),
            boot: image.boot_block(),
            chip,
            refusal,
            large,
            mood,
            live,
            blocks,
        }
    }

    /// One line for a person.
    pub(crate) fn describe(&self) -> String {
        let geometry = self.chip.geometry();
        let blocks: Vec<u32> = geometry.blocks().map(EraseBlock::length_bytes).collect();
        format!(
            "{:?}, writes of {:#x} bytes, blocks {blocks:x?}, image on {:?}, preserved {:x?}, \
            closed to the host: {}, locked: {:?}, differs: {:?}, refused for: {:?}",
            geometry.rule(),
            geometry.write_bytes(),
            self.blocks.iter().map(|block| block.index()).collect::<Vec<_>>(),
            self.preserved,
            self.chip.closed(),
            self.chip.locked(),
            self.mood,
            self.refusal,
        )
    }
}

/// The bytes of a block on the chip.
pub(crate) fn range(block: EraseBlock) -> Range<usize> {
    block.offset_bytes() as usize..block.end_bytes() as usize
}

/// NOR with equal blocks, with small blocks at either end, with an ECC of its own; NAND; RAM.
fn geometry(chance: &mut Chance, large: bool) -> Geometry {
    let most = *chance.pick(&[12, 12, 16, 24, 64]);
    let (count, scale) = match large {
        true => (chance.within(8..20), 64),
        false => (chance.within(8..most + 1), *chance.pick(&[1, 1, 2])),
    };
    let region = |block_bytes: u32, block_count| EraseRegion { block_bytes, block_count };
    let size = *chance.pick(&[512, 1024, 512]) * scale;
    let (regions, write_bytes, rule) = match chance.within(0..8) {
        0 | 1 => (vec![region(size, count)], *chance.pick(&[1, 2, 4]), WriteRule::ClearBits),
        2 => (vec![region(size / 4, 8), region(size, count - 2)], 1, WriteRule::ClearBits),
        3 => (vec![region(size, count - 2), region(size / 4, 8)], 2, WriteRule::ClearBits),
        4 => (vec![region(size, count)], 16, WriteRule::PageOnce),
        5 | 6 => (vec![region(size, count)], size / 4, WriteRule::PageOnce),
        _ => (vec![region(size, count)], 1, WriteRule::Overwrite),
    };
    let size_bytes = regions.iter().map(|r| u64::from(r.block_bytes) * r.block_count).sum();
    Geometry::new(size_bytes, &regions, write_bytes, rule).expect("whole blocks")
}

fn first_contents(chance: &mut Chance, geometry: &Geometry) -> Vec<u8> {
    let mut live = chance.bytes(geometry.size_bytes() as usize);
    for block in geometry.blocks() {
        let bytes = &mut live[range(block)];
        let half = bytes.len() / 2;
        match chance.within(0..8) {
            0 => bytes.fill(0xFF),
            1 => bytes.fill(0),
            2 => bytes[..half].fill(0xFF),
            3 => bytes[half..].fill(0xFF),
            _ => {}
        }
    }
    live
}

/// Locks a chip as at power-up: all blocks, any, or a range at either end.
fn lock(chance: &mut Chance, chip: &mut SimulatedFlash, blocks: &[EraseBlock]) {
    let count = blocks.len();
    let range = match chance.within(0..4) {
        0 => 0..count,
        1 => {
            let any = blocks.iter().filter(|_| chance.happens(0.4)).collect::<Vec<_>>();
            any.into_iter().for_each(|block| chip.lock(*block, false));
            return;
        }
        ends => {
            let at_bottom = ends == 3;
            chip.lock_by(Locking::Range { at_bottom });
            let locked = 1 << chance.within(0..u64::from(count.ilog2()) + 1);
            match at_bottom && chance.happens(0.5) {
                true => 0..locked,
                false => count - locked..count,
            }
        }
    };
    blocks[range].iter().for_each(|block| chip.lock(*block, false));
}

/// Marks bad blocks where there can be some, locks some chips as at power-up, and says on which
/// blocks the image lies.
fn lay_out(chance: &mut Chance, chip: &mut SimulatedFlash) -> Vec<EraseBlock> {
    let mut blocks: Vec<EraseBlock> = chip.geometry().blocks().collect();
    if chip.geometry().rule() == WriteRule::PageOnce && chance.happens(0.7) {
        for _ in 0..chance.within(0..4) {
            let bad = chance.within(0..blocks.len() as u64) as usize;
            chip.mark_bad(blocks.remove(bad));
        }
        blocks.truncate(blocks.len() - chance.within(0..3) as usize);
    } else if chance.happens(0.4) {
        lock(chance, chip, &blocks);
    }
    blocks
}
