//! What a seed stands for: a chip, what is on it, and what shall come onto it. Worked out without the engine.

use std::ops::Range;

use firmcast::flash::{EraseBlock, EraseRegion, Flash as _, Geometry, SimulatedFlash, WriteRule};
use firmcast::image::{
    Description, Manifest, PayloadFormat, Region, RegionAction, SignedManifest, VerifiedImage,
};
use firmcast::keys::{ReleaseSecretKey, SecretKey as _};

use crate::chance::Chance;

/// Of so many seeds, one has a chip that takes the engine several batches and spans.
const LARGE_EVERY: u64 = 29;
/// Of so many seeds, one has a plan that must be refused.
const REFUSED_EVERY: u64 = 11;

/// How much of the image differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
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
            blocks.iter().filter(whole).take(1).for_each(|block| chip.decay(*block));
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
            "{:?}, writes of {:#x} bytes, blocks {blocks:x?}, image on {:?}, preserved {:x?}, differs: {:?}, refused for: {:?}",
            geometry.rule(),
            geometry.write_bytes(),
            self.blocks.iter().map(|block| block.index()).collect::<Vec<_>>(),
            self.preserved,
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

/// Marks bad blocks where there can be some, locks some chips as at power-up, and says on which blocks the image lies.
fn lay_out(chance: &mut Chance, chip: &mut SimulatedFlash) -> Vec<EraseBlock> {
    let mut blocks: Vec<EraseBlock> = chip.geometry().blocks().collect();
    if chip.geometry().rule() == WriteRule::PageOnce && chance.happens(0.7) {
        for _ in 0..chance.within(0..4) {
            let bad = chance.within(0..blocks.len() as u64) as usize;
            chip.mark_bad(blocks.remove(bad));
        }
        blocks.truncate(blocks.len() - chance.within(0..3) as usize);
    } else if chance.happens(0.3) {
        blocks.iter().for_each(|block| chip.lock(*block, false));
    }
    blocks
}

/// The image in the making.
struct Image<'a> {
    blocks: &'a [EraseBlock],
    bytes: Vec<u8>,
    regions: Vec<Region>,
    boot_offset_bytes: Option<u64>,
}

impl<'a> Image<'a> {
    fn draw(chance: &mut Chance, blocks: &'a [EraseBlock], live: &[u8], mood: Mood) -> Self {
        let mut bytes = Vec::new();
        let chosen = chance.within(0..blocks.len() as u64) as usize;
        for (nth, block) in blocks.iter().enumerate() {
            let old = &live[range(*block)];
            bytes.extend(match mood {
                Mood::Nothing => old.to_vec(),
                Mood::Everything => old.iter().map(|byte| byte ^ 0x5A).collect(),
                Mood::BitsDown => and(old, chance.bytes(old.len())),
                Mood::Sparse if nth != chosen => old.to_vec(),
                Mood::Sparse | Mood::Mixed => mix(chance, old),
            });
        }
        Self { blocks, bytes, regions: Vec::new(), boot_offset_bytes: None }
    }

    /// Where the bytes of a block are in the image.
    fn range(&self, nth: usize) -> Range<usize> {
        let start = self.blocks[..nth].iter().map(|block| block.length_bytes() as usize).sum();
        start..start + self.blocks[nth].length_bytes() as usize
    }

    /// Up to three regions: of whole blocks, or preserved inside one that does not change otherwise, or of any bytes.
    fn rule_regions(&mut self, chance: &mut Chance, live: &[u8]) {
        let mut next = 0;
        for _ in 0..chance.within(0..4) {
            let first = next + chance.within(0..self.blocks.len() as u64 / 2) as usize;
            let last = first + chance.within(0..2) as usize;
            if last >= self.blocks.len() {
                return;
            }
            let mut bytes = self.range(first).start..self.range(last).end;
            let action = *chance.pick(&[
                RegionAction::Preserve,
                RegionAction::Preserve,
                RegionAction::Reset,
                RegionAction::Replace,
            ]);
            if chance.happens(0.3) {
                bytes = bytes.start + 7..bytes.end - 9;
                if action == RegionAction::Preserve {
                    self.keep_outside(first..last + 1, &bytes, live);
                }
            }
            self.region(bytes, action);
            next = last + 1;
        }
        // A bundle that preserves everything cannot be made.
        if self.preserved().iter().map(Range::len).sum::<usize>() == self.bytes.len() {
            self.regions.clear();
        }
    }

    fn region(&mut self, bytes: Range<usize>, action: RegionAction) {
        self.regions.push(Region {
            name: format!("region {}", self.regions.len()),
            offset_bytes: bytes.start as u64,
            length_bytes: bytes.len() as u64,
            action,
        });
    }

    fn keep_outside(&mut self, blocks: Range<usize>, kept: &Range<usize>, live: &[u8]) {
        for nth in blocks {
            let whole = self.range(nth);
            for at in whole.clone().filter(|at| !kept.contains(at)) {
                self.bytes[at] = live[range(self.blocks[nth]).start + at - whole.start];
            }
        }
    }

    /// With the preserved regions only.
    fn of_preserved(&self) -> Self {
        let preserved = |region: &&Region| region.action == RegionAction::Preserve;
        Self {
            bytes: self.bytes.clone(),
            regions: self.regions.iter().filter(preserved).cloned().collect(),
            ..*self
        }
    }

    fn boot_block(&self) -> EraseBlock {
        let top = self.bytes.len() - 1;
        let boot = self.boot_offset_bytes.map_or(top, |offset| offset as usize);
        let nth = (0..self.blocks.len()).find(|nth| self.range(*nth).contains(&boot));
        self.blocks[nth.unwrap_or_default()]
    }

    /// Makes the plan one that must be refused.
    fn spoil(&mut self, chance: &mut Chance, chip: &mut SimulatedFlash, live: &[u8]) -> Refusal {
        let nth = self.blocks.len() - 1;
        let (bytes, first) = (self.range(nth), range(self.blocks[nth]).start);
        self.regions
            .retain(|region| region.offset_bytes + region.length_bytes <= bytes.start as u64);
        self.bytes[bytes.start] = !live[first];
        match chance.happens(0.5) {
            true => {
                self.region(bytes.start + 8..bytes.start + 14, RegionAction::Preserve);
                Refusal::SharedBlock
            }
            false => {
                chip.lock(self.blocks[nth], true);
                Refusal::Locked
            }
        }
    }

    /// Where the preserved bytes are on the chip.
    fn preserved(&self) -> Vec<Range<usize>> {
        self.placed(RegionAction::Preserve)
    }

    /// Where the bytes of the regions with this rule are on the chip.
    fn placed(&self, action: RegionAction) -> Vec<Range<usize>> {
        let mut placed = Vec::new();
        for region in self.regions.iter().filter(|region| region.action == action) {
            let kept =
                region.offset_bytes as usize..(region.offset_bytes + region.length_bytes) as usize;
            for (nth, block) in self.blocks.iter().enumerate() {
                let (bytes, chip) = (self.range(nth), range(*block));
                let (start, end) = (kept.start.max(bytes.start), kept.end.min(bytes.end));
                if start < end {
                    placed.push(chip.start + start - bytes.start..chip.start + end - bytes.start);
                }
            }
        }
        placed
    }

    fn target(&self, live: &[u8]) -> Vec<u8> {
        let mut target = live.to_vec();
        for (nth, block) in self.blocks.iter().enumerate() {
            target[range(*block)].copy_from_slice(&self.bytes[self.range(nth)]);
        }
        for kept in self.preserved() {
            target[kept.clone()].copy_from_slice(&live[kept]);
        }
        for reset in self.placed(RegionAction::Reset) {
            target[reset].fill(0xFF);
        }
        target
    }

    /// A bundle's way from bytes to a verified image.
    fn sign(&self, key: &ReleaseSecretKey) -> VerifiedImage {
        let description = Description {
            version: "1".into(),
            security_version: 1,
            vendor: "Simulated".into(),
            products: vec!["Board".into()],
            regions: self.regions.clone(),
            boot_offset_bytes: self.boot_offset_bytes,
            ..Description::default()
        };
        let image = &self.bytes[..];
        let manifest = Manifest::describe(description, image, PayloadFormat::Raw, image)
            .expect("a description by the rules");
        let signed = SignedManifest::sign(&manifest, key).expect("a manifest by the rules");
        let verified = SignedManifest::parse(&signed).and_then(|one| one.verify(&[key.public()]));
        let verified = verified.expect("signed a moment ago");
        verified.open_payload(image).expect("the image that was described")
    }
}

fn and(old: &[u8], new: Vec<u8>) -> Vec<u8> {
    old.iter().zip(new).map(|(old, new)| old & new).collect()
}

fn mix(chance: &mut Chance, old: &[u8]) -> Vec<u8> {
    let half = old.len() / 2;
    let mut new = old.to_vec();
    match chance.within(0..10) {
        0 | 1 => {}
        2 => new.fill(0xFF),
        3 => new = and(old, chance.bytes(old.len())),
        4 => new[half..].fill(0),
        5 => new[half..].fill(0xFF),
        6 => new[chance.within(0..old.len() as u64) as usize] ^= 1 << chance.within(0..8),
        7 => new[..half].copy_from_slice(&chance.bytes(half)),
        // As an unfilled buffer, for reads that are short.
        8 => new.fill(0),
        _ => new = chance.bytes(old.len()),
    }
    new
}
