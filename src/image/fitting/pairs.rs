//! Which region of a chip is which region of an image.

use std::ops::Range;

use crate::image::layout::{LayoutMismatch, LayoutRegion, RegionKind, is_told_by_descriptor};

/// The regions of an image, at their places on the chip, and those that the chip has now.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    pairs: Vec<Pair>,
    /// What the image does not have.
    pub(super) only_on_chip: Vec<LayoutRegion>,
}

/// A region of the image, at its place on the chip, and the same region on the chip now.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) image: LayoutRegion,
    pub(super) chip: Option<LayoutRegion>,
}

impl Pairs {
    /// Pairs by name; regions that are numbered as they were found, by their order.
    pub(super) fn of(image: Vec<LayoutRegion>, chip: Vec<LayoutRegion>) -> Self {
        let mut chip: Vec<Option<LayoutRegion>> = chip.into_iter().map(Some).collect();
        let find = |region: LayoutRegion| {
            let name = stem(&region);
            let same =
                chip.iter_mut().find(|other| other.as_ref().is_some_and(|o| stem(o) == name));
            Pair { chip: same.and_then(Option::take), image: region }
        };
        let pairs = image.into_iter().map(find).collect();
        Self { pairs, only_on_chip: chip.into_iter().flatten().collect() }
    }

    /// Returns the pair whose image side is exactly this range; of several, one that the chip has.
    pub(super) fn at(&self, range: &Range<u64>) -> Option<&Pair> {
        let mut same = self.pairs.iter().filter(|pair| pair.image.range() == *range);
        let first = same.clone().next();
        same.find(|pair| pair.chip.is_some()).or(first)
    }

    /// Returns whether the range lies in the same regions on both sides.
    pub(super) fn is_settled(&self, range: &Range<u64>) -> bool {
        let touches = |region: &LayoutRegion| {
            region.offset_bytes < range.end && range.start < region.range().end
        };
        let is_same = |pair: &Pair| match &pair.chip {
            Some(chip) => chip.range() == pair.image.range(),
            None => !touches(&pair.image),
        };
        let concerns =
            |pair: &&Pair| touches(&pair.image) || pair.chip.as_ref().is_some_and(touches);
        self.pairs.iter().filter(concerns).all(is_same) && !self.only_on_chip.iter().any(touches)
    }

    /// Returns where the two sides differ.
    pub(super) fn mismatch(&self) -> Option<LayoutMismatch> {
        let pairs = self.pairs.iter().map(|pair| (&pair.image, pair.chip.as_ref()));
        LayoutMismatch::of(pairs, &self.only_on_chip)
    }

    /// Returns where they differ in what their Intel flash descriptors say, if both sides have one.
    /// Areas of a flash map do not count.
    pub(super) fn descriptor_mismatch(&self) -> Option<LayoutMismatch> {
        let told = || self.pairs.iter().filter(|pair| is_told_by_descriptor(&pair.image));
        let is_own = |pair: &Pair| pair.image.offset_bytes == 0 && pair.chip.is_some();
        if !told().any(is_own) {
            return None;
        }
        let pairs = told().map(|pair| (&pair.image, pair.chip.as_ref()));
        let only = self.only_on_chip.iter().filter(|region| is_told_by_descriptor(region));
        LayoutMismatch::of(pairs, &only.cloned().collect::<Vec<_>>())
    }
}

/// Returns the name without the number that a region got when it was found.
fn stem(region: &LayoutRegion) -> &str {
    let is_numbered = matches!(region.kind, RegionKind::VariableStore | RegionKind::FirmwareData);
    match region.name.rsplit_once('-') {
        Some((stem, number)) if is_numbered && number.bytes().all(|b| b.is_ascii_digit()) => stem,
        _ => &region.name,
    }
}
