//! The image of a subject, and what it makes of the chip: worked out without the engine.

use std::ops::Range;

use firmcast::flash::{EraseBlock, SimulatedFlash};
use firmcast::image::{
    Description, Manifest, PayloadFormat, Region, RegionAction, SignedManifest, VerifiedImage,
};
use firmcast::keys::{ReleaseSecretKey, SecretKey as _};

use super::subject::{Mood, Refusal, range};
use crate::chance::Chance;

/// The image in the making.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) blocks: &'a [EraseBlock],
    pub(crate) bytes: Vec<u8>,
    pub(crate) regions: Vec<Region>,
    pub(crate) boot_offset_bytes: Option<u64>,
}

impl<'a> Image<'a> {
    pub(crate) fn draw(
        chance: &mut Chance,
        blocks: &'a [EraseBlock],
        live: &[u8],
        mood: Mood,
    ) -> Self {
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

    /// Returns where the bytes of a block are in the image.
    fn range(&self, nth: usize) -> Range<usize> {
        let start = self.blocks[..nth].iter().map(|block| block.length_bytes() as usize).sum();
        start..start + self.blocks[nth].length_bytes() as usize
    }

    /// Up to three regions: of whole blocks, or preserved inside one that does not change
    /// otherwise, or of any bytes.
    pub(crate) fn rule_regions(&mut self, chance: &mut Chance, live: &[u8]) {
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
    pub(crate) fn of_preserved(&self) -> Self {
        let preserved = |region: &&Region| region.action == RegionAction::Preserve;
        Self {
            bytes: self.bytes.clone(),
            regions: self.regions.iter().filter(preserved).cloned().collect(),
            ..*self
        }
    }

    pub(crate) fn boot_block(&self) -> EraseBlock {
        let top = self.bytes.len() - 1;
        let boot = self.boot_offset_bytes.map_or(top, |offset| offset as usize);
        let nth = (0..self.blocks.len()).find(|nth| self.range(*nth).contains(&boot));
        self.blocks[nth.unwrap_or_default()]
    }

    /// Makes the plan one that must be refused.
    pub(crate) fn spoil(
        &mut self,
        chance: &mut Chance,
        chip: &mut SimulatedFlash,
        live: &[u8],
    ) -> Refusal {
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

    /// Returns where the preserved bytes are on the chip.
    pub(crate) fn preserved(&self) -> Vec<Range<usize>> {
        self.placed(RegionAction::Preserve)
    }

    /// Returns where the bytes of the regions with this rule are on the chip.
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

    pub(crate) fn target(&self, live: &[u8]) -> Vec<u8> {
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

    /// Returns a bundle's way from bytes to a verified image.
    pub(crate) fn sign(&self, key: &ReleaseSecretKey) -> VerifiedImage {
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
