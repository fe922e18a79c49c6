//! How an image lies on one chip: which bytes of it go where, what stays, and from where what stays
//! is taken.
//!
//! An image covers the whole chip, or parts of it. What a bundle keeps is found by the name of its
//! region: where the *chip's* layout has it now, and where the *image's* has it from now on.

mod misfit;
mod pairs;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use self::pairs::{Pair, Pairs};
use super::layout::{DESCRIPTOR_BYTES, Layout, LayoutMismatch, LayoutRegion, RegionKind, Told};
use super::part::ranges_in_image;
use super::{ByteRanges, Manifest, Part, Region, RegionAction, preserved};
use crate::order::sort_by_rank;

pub use misfit::Misfit;

/// Name of what lies outside the parts that an image covers.
const REST: &str = "the rest of the chip";

/// How an image lies on one chip. All ranges are of the chip, unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitting {
    chip_bytes: u64,
    pieces: Vec<Piece>,
    regions: Vec<Region>,
    moved: Vec<Moved>,
    lost: Vec<LayoutRegion>,
}

/// Bytes of the image, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    name: String,
    image: Range<u64>,
    chip: Range<u64>,
}

impl Piece {
    fn has(&self, region: &Region) -> bool {
        let Range { start, end } = region.range64();
        self.chip.start <= start && end <= self.chip.end
    }
}

/// A kept region that has another place from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where the chip has it now.
    pub from: Range<u64>,
    /// Where the image has it: as long, or longer, then the rest becomes FFh.
    pub to: Range<u64>,
}

/// What is known of how a chip is divided now.
#[derive(Clone, Copy, Debug)]
enum Division<'a> {
    /// The machine has started from it: this is how it is divided.
    Live(&'a Layout),
    /// Its firmware is broken: what these regions tell is used where it helps, and nothing is
    /// refused for it.
    Broken(&'a [LayoutRegion]),
}

impl Fitting {
    /// Lays the manifest's image on a chip from which the machine has started, and which holds
    /// `contents`.
    ///
    /// # Errors
    /// [`Misfit`]: the image does not belong on this chip, or something that is kept would be
    /// lost.
    pub fn on_live(manifest: &Manifest, contents: &[u8]) -> Result<Self, Misfit> {
        Self::on_told(manifest, &Told::by(contents))
    }

    /// The same for contents of which more is asked: what they tell is searched for once.
    ///
    /// # Errors
    /// As [`Fitting::on_live`].
    pub fn on_told(manifest: &Manifest, live: &Told<'_>) -> Result<Self, Misfit> {
        let chip_bytes = live.bytes().len() as u64;
        let keeps = |region: &Region| region.action.keeps_chip();
        let depends_on_chip = !manifest.may_change_layout()
            || !manifest.parts().is_empty()
            || manifest.regions().iter().any(keeps);
        match live.layout() {
            Ok(layout) => Self::new(manifest, Division::Live(&layout), chip_bytes),
            Err(_) if !depends_on_chip => Self::new(manifest, Division::Broken(&[]), chip_bytes),
            Err(error) => Err(Misfit::LiveLayout(error)),
        }
    }

    /// Lays it on a chip whose firmware is broken: its layouts are not compared. What a descriptor
    /// or flash map on it still tells is used to find what is kept.
    ///
    /// # Errors
    /// [`Misfit`]: a part's place is not known, or the flash descriptor stays and divides the chip
    /// otherwise than the image.
    pub fn on_broken(manifest: &Manifest, contents: &[u8]) -> Result<Self, Misfit> {
        let told = Layout::mapped_regions(contents);
        Self::new(manifest, Division::Broken(&told), contents.len() as u64)
    }

    /// Returns what stays on any chip whatever it holds, as far as that is known before the chip
    /// was read.
    pub fn untouched(manifest: &Manifest) -> ByteRanges {
        let fitting = Self::new(manifest, Division::Broken(&[]), u64::MAX);
        fitting.map(|fitting| preserved(fitting.regions())).unwrap_or_default()
    }

    fn new(manifest: &Manifest, chip: Division<'_>, chip_bytes: u64) -> Result<Self, Misfit> {
        let known = match chip {
            Division::Live(layout) => layout.regions(),
            Division::Broken(told) => told,
        };
        let pieces = pieces(manifest, known, chip_bytes)?;
        let image =
            manifest.layout().regions().iter().filter_map(|region| on_chip(region, &pieces));
        let is_whole = manifest.parts().is_empty();
        let within = known.iter().filter(|region| is_whole || is_inside(region, &pieces));
        let pairs = Pairs::of(image.collect(), within.cloned().collect());
        let regions = manifest.regions().iter().map(|region| placed(region, &pieces));
        let regions = regions.collect::<Result<_, _>>()?;
        let (moved, lost) = (Vec::new(), Vec::new());
        let mut fitting = Self { chip_bytes, regions, pieces, moved, lost };
        match chip {
            Division::Live(_) => fitting.keep(manifest, &pairs, known)?,
            Division::Broken(told) => fitting.keep_what_is_left(manifest, &pairs, told)?,
        }
        fitting.keep_rest(manifest);
        Ok(fitting)
    }

    /// Returns the regions with a rule of their own, sorted by offset: those that the bundle names,
    /// and what its parts leave out.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Returns those that the bundle names.
    pub fn named(&self) -> impl Iterator<Item = &Region> {
        let is_rest = |region: &Region| !self.pieces.iter().any(|piece| piece.has(region));
        self.regions.iter().filter(move |region| !is_rest(region))
    }

    /// Returns what is kept at another place than it has now.
    pub fn moved(&self) -> &[Moved] {
        &self.moved
    }

    /// Returns what the chip has of its own and the image has no place for: variables and the like,
    /// which other firmware makes for itself.
    pub fn lost(&self) -> &[LayoutRegion] {
        &self.lost
    }

    /// Returns what is kept at the place that it has.
    pub fn kept_in_place(&self) -> impl Iterator<Item = &Region> {
        let is_moved =
            |region: &Region| self.moved.iter().any(|moved| moved.to == region.range64());
        self.regions.iter().filter(move |region| region.action.keeps_chip() && !is_moved(region))
    }

    /// Has the image written also where something was to be kept in its place, if `is_lost` says so
    /// of the image's bytes and their place on the chip. Returns where.
    pub fn give_up(
        &mut self,
        is_lost: impl Fn(Range<usize>, Range<usize>) -> bool,
    ) -> Vec<Range<u64>> {
        let mut given_up = Vec::new();
        for region in &mut self.regions {
            let chip = region.range64();
            let is_moved = self.moved.iter().any(|moved| moved.to == chip);
            let piece = self.pieces.iter().find(|piece| piece.has(region));
            let piece = piece.filter(|_| region.action.keeps_chip());
            let Some(piece) = piece.filter(|_| !is_moved) else { continue };
            let start = (chip.start - piece.chip.start + piece.image.start) as usize;
            let length = (chip.end - chip.start) as usize;
            if is_lost(start..start + length, chip.start as usize..chip.end as usize) {
                region.action = RegionAction::Replace;
                given_up.push(chip);
            }
        }
        given_up
    }

    /// Returns where this byte of the image goes.
    pub fn on_chip(&self, image_offset_bytes: u64) -> Option<u64> {
        let piece = self.pieces.iter().find(|piece| piece.image.contains(&image_offset_bytes))?;
        Some(image_offset_bytes - piece.image.start + piece.chip.start)
    }

    /// Returns what the chip holds, or would hold, in the image's order; of a whole image all of
    /// it. `contents` are all of the chip.
    pub fn in_image_order<'a>(&self, contents: &'a [u8]) -> Cow<'a, [u8]> {
        let slice = |piece: &Piece| &contents[position(&piece.chip, contents.len())];
        match self.pieces.as_slice() {
            [one] => Cow::Borrowed(slice(one)),
            several => Cow::Owned(several.iter().flat_map(slice).copied().collect()),
        }
    }

    /// Returns where bytes of the image go.
    pub fn places_of(&self, image: &Range<u64>) -> Vec<Range<u64>> {
        let within = self.pieces.iter().map(|piece| {
            let start = image.start.clamp(piece.image.start, piece.image.end);
            let end = image.end.clamp(piece.image.start, piece.image.end);
            let to_chip = |at: u64| at - piece.image.start + piece.chip.start;
            to_chip(start)..to_chip(end)
        });
        within.filter(|range| !range.is_empty()).collect()
    }

    /// Returns what of the chip the image covers.
    pub fn covered(&self) -> ByteRanges {
        self.pieces.iter().map(|piece| piece.chip.clone()).collect()
    }

    /// Returns what the chip is to hold when `live` is what it holds now.
    pub fn target(&self, image: &[u8], live: &[u8]) -> Vec<u8> {
        let mut target = match self.covers_all(live.len()) {
            true => image.to_vec(),
            false => live.to_vec(),
        };
        for piece in &self.pieces {
            let (to, from) = (&piece.chip, &piece.image);
            target[position(to, live.len())].copy_from_slice(&image[position(from, image.len())]);
        }
        for region in &self.regions {
            match region.action {
                RegionAction::Preserve | RegionAction::Volatile => {
                    target[region.range()].copy_from_slice(&live[region.range()]);
                }
                RegionAction::Reset => target[region.range()].fill(0xFF),
                RegionAction::Replace => {}
            }
        }
        for Moved { from, to } in &self.moved {
            let to = position(to, live.len());
            target[to.clone()].fill(0xFF);
            let length = (from.end - from.start) as usize;
            target[to.start..to.start + length].copy_from_slice(&live[position(from, live.len())]);
        }
        target
    }

    /// Returns whether the target is the image, whatever the chip holds.
    pub fn is_image_alone(&self) -> bool {
        let is_replaced = |region: &Region| region.action == RegionAction::Replace;
        self.covers_all(self.chip_bytes as usize) && self.regions.iter().all(is_replaced)
    }

    fn covers_all(&self, chip_bytes: usize) -> bool {
        matches!(self.pieces.as_slice(), [one] if one.chip == (0..chip_bytes as u64))
    }

    /// Finds what is kept, on a chip whose division is known.
    fn keep(
        &mut self,
        manifest: &Manifest,
        pairs: &Pairs,
        known: &[LayoutRegion],
    ) -> Result<(), Misfit> {
        self.check_cuts(manifest, known)?;
        let Some(mismatch) = pairs.mismatch() else { return Ok(()) };
        if !manifest.may_change_layout() {
            return Err(Misfit::Layout(mismatch));
        }
        self.check_descriptor(pairs)?;
        let own = |region: &&LayoutRegion| region.kind.usual_action().is_some();
        let (settings, own): (Vec<_>, Vec<_>) =
            pairs.only_on_chip.iter().filter(own).cloned().partition(LayoutRegion::is_remade);
        if let Some(chip) = own.into_iter().next() {
            return Err(Misfit::Lost { chip });
        }
        self.lost = settings;
        let mut moved = Vec::new();
        for region in self.regions.iter_mut().filter(|region| region.action.keeps_chip()) {
            moved.extend(source(region, pairs, &mismatch)?);
        }
        self.moved = moved;
        Ok(())
    }

    /// On a broken chip, what its regions still tell is better than the image's places. What the
    /// image has more room for is brought there if an update could have begun to, which had to have
    /// the two apart; a map that is half right tells regions that are too short.
    fn keep_what_is_left(
        &mut self,
        manifest: &Manifest,
        pairs: &Pairs,
        told: &[LayoutRegion],
    ) -> Result<(), Misfit> {
        let are_apart = |a: &Range<u64>, b: &Range<u64>| a.end <= b.start || b.end <= a.start;
        self.check_descriptor(pairs)?;
        for region in self.regions.iter().filter(|region| region.action.keeps_chip()) {
            let to = region.range64();
            let Some(Pair { chip: Some(chip), image }) = pairs.at(&to) else { continue };
            let from = chip.range();
            let leaves_it = |other: &LayoutRegion| {
                let range = other.range();
                let is_around = range.start <= from.start && from.end <= range.end;
                let has_parts = other.kind.usual_action().is_none();
                range == from || are_apart(&range, &from) || is_around && has_parts
            };
            let may_have_begun = || {
                manifest.may_change_layout()
                    && may_grow(image)
                    && are_apart(&from, &to)
                    && told.iter().all(leaves_it)
            };
            let fits = match chip.length_bytes.cmp(&region.length_bytes) {
                Ordering::Equal => from != to,
                Ordering::Less => may_have_begun(),
                Ordering::Greater => false,
            };
            if fits {
                self.moved.push(Moved { from, to });
            }
        }
        Ok(())
    }

    /// A descriptor of which something stays must divide the chip as the image's does: by it the
    /// chipset finds everything, wherever the image has it.
    fn check_descriptor(&self, pairs: &Pairs) -> Result<(), Misfit> {
        const END_BYTES: u64 = DESCRIPTOR_BYTES as u64;
        let keeps_some = |kept: &Region| kept.action.keeps_chip() && kept.offset_bytes < END_BYTES;
        match pairs.descriptor_mismatch() {
            Some(mismatch) if self.regions.iter().any(keeps_some) => {
                Err(Misfit::KeepsDescriptor(mismatch))
            }
            _ => Ok(()),
        }
    }

    /// A part that ends inside something that is kept would replace half of it.
    fn check_cuts(&self, manifest: &Manifest, known: &[LayoutRegion]) -> Result<(), Misfit> {
        if manifest.parts().is_empty() {
            return Ok(());
        }
        for piece in &self.pieces {
            let is_cut = |region: &&LayoutRegion| {
                let Range { start, end } = region.range();
                let overlaps = start < piece.chip.end && piece.chip.start < end;
                let is_inside = piece.chip.start <= start && end <= piece.chip.end;
                let is_around = start <= piece.chip.start && piece.chip.end <= end;
                region.kind.usual_action().is_some() && overlaps && !is_inside && !is_around
            };
            if let Some(chip) = known.iter().find(is_cut) {
                return Err(Misfit::Cut { part: piece.name.clone(), chip: chip.clone() });
            }
        }
        Ok(())
    }

    /// What the parts leave out stays.
    fn keep_rest(&mut self, manifest: &Manifest) {
        if manifest.parts().is_empty() {
            return;
        }
        let whole: ByteRanges = std::iter::once(0..self.chip_bytes).collect();
        for rest in whole.without(&self.covered()).iter() {
            self.regions.push(Region {
                name: REST.to_owned(),
                offset_bytes: rest.start,
                length_bytes: rest.end - rest.start,
                action: RegionAction::Preserve,
            });
        }
        sort_by_rank(&mut self.regions, |region| [region.offset_bytes]);
    }
}

/// Returns from where a kept region comes if not from its own place. What the firmware writes
/// itself and the chip does not have comes from the image.
fn source(
    region: &mut Region,
    pairs: &Pairs,
    mismatch: &LayoutMismatch,
) -> Result<Option<Moved>, Misfit> {
    let to = region.range64();
    let Some(Pair { image, chip }) = pairs.at(&to) else {
        return match pairs.is_settled(&to) {
            true => Ok(None),
            false => Err(Misfit::Unplaced {
                name: region.name.clone(),
                offset_bytes: region.offset_bytes,
                mismatch: mismatch.clone(),
            }),
        };
    };
    let Some(chip) = chip else {
        if image.is_remade() {
            region.action = RegionAction::Replace;
            return Ok(None);
        }
        return Err(Misfit::NotOnChip { image: image.clone() });
    };
    match chip.length_bytes.cmp(&image.length_bytes) {
        Ordering::Equal if chip.range() == to => Ok(None),
        Ordering::Equal => Ok(Some(Moved { from: chip.range(), to })),
        Ordering::Less if may_grow(image) => Ok(Some(Moved { from: chip.range(), to })),
        _ => Err(Misfit::Resized { chip: chip.clone(), image: image.clone() }),
    }
}

/// Whether what a chip has of this may be shorter; the rest becomes FFh then.
fn may_grow(image: &LayoutRegion) -> bool {
    matches!(
        image.kind,
        RegionKind::Gbe | RegionKind::PlatformData | RegionKind::Vpd | RegionKind::Identity
    )
}

/// Returns where the parts of the image go.
fn pieces(
    manifest: &Manifest,
    known: &[LayoutRegion],
    chip_bytes: u64,
) -> Result<Vec<Piece>, Misfit> {
    let parts = manifest.parts();
    if parts.is_empty() {
        let whole = 0..manifest.image_size_bytes() as u64;
        return Ok(vec![Piece { name: String::new(), image: whole.clone(), chip: whole }]);
    }
    let mut pieces = Vec::with_capacity(parts.len());
    for (part, image) in parts.iter().zip(ranges_in_image(parts)) {
        let chip = place(part, known, chip_bytes)?;
        pieces.push(Piece { name: part.name.clone(), image, chip });
    }
    for (index, second) in pieces.iter().enumerate() {
        let overlaps = |first: &&Piece| {
            first.chip.start < second.chip.end && second.chip.start < first.chip.end
        };
        if let Some(first) = pieces[..index].iter().find(overlaps) {
            let (first, second) = (first.name.clone(), second.name.clone());
            return Err(Misfit::PartsOverlap { first, second });
        }
    }
    Ok(pieces)
}

fn place(part: &Part, known: &[LayoutRegion], chip_bytes: u64) -> Result<Range<u64>, Misfit> {
    let (name, length_bytes) = (part.name.clone(), part.length_bytes);
    if let Some(offset_bytes) = part.offset_bytes {
        let end_bytes = offset_bytes.checked_add(length_bytes).filter(|end| *end <= chip_bytes);
        return match end_bytes {
            Some(end_bytes) => Ok(offset_bytes..end_bytes),
            None => Err(Misfit::PartOutside { name, offset_bytes, length_bytes, chip_bytes }),
        };
    }
    let texts = |regions: &[&LayoutRegion]| {
        let texts: Vec<String> = regions.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
    };
    let named: Vec<&LayoutRegion> = known.iter().filter(|region| region.name == name).collect();
    let of_kind = || known.iter().filter(|region| region.kind.name() == name).collect();
    let found: Vec<&LayoutRegion> = if named.is_empty() { of_kind() } else { named };
    match found.as_slice() {
        [] => Err(Misfit::NoPart { name, known: texts(&known.iter().collect::<Vec<_>>()) }),
        [chip] if chip.length_bytes != length_bytes => {
            Err(Misfit::PartSize { name, length_bytes, chip: (*chip).clone() })
        }
        [chip] => Ok(chip.range()),
        several => Err(Misfit::SeveralParts { name, found: texts(several) }),
    }
}

/// Returns a region of the image's layout as it lies on the chip.
fn on_chip(region: &LayoutRegion, pieces: &[Piece]) -> Option<LayoutRegion> {
    let offset_bytes = moved_offset(&region.range(), pieces)?;
    Some(LayoutRegion { offset_bytes, ..region.clone() })
}

/// Returns a region of the bundle as it lies on the chip.
fn placed(region: &Region, pieces: &[Piece]) -> Result<Region, Misfit> {
    let Some(offset_bytes) = moved_offset(&region.range64(), pieces) else {
        return Err(Misfit::RegionOutside { name: region.name.clone() });
    };
    Ok(Region { offset_bytes, ..region.clone() })
}

fn moved_offset(image: &Range<u64>, pieces: &[Piece]) -> Option<u64> {
    let contains =
        |piece: &&Piece| piece.image.start <= image.start && image.end <= piece.image.end;
    let piece = pieces.iter().find(contains)?;
    Some(image.start - piece.image.start + piece.chip.start)
}

/// Returns whether a region of the chip is inside a part, and not the part itself.
fn is_inside(region: &LayoutRegion, pieces: &[Piece]) -> bool {
    let Range { start, end } = region.range();
    pieces.iter().any(|piece| {
        piece.chip.start <= start && end <= piece.chip.end && piece.chip != (start..end)
    })
}

/// Returns the place of a range in `length` bytes.
fn position(range: &Range<u64>, length: usize) -> Range<usize> {
    let at = |bytes: u64| usize::try_from(bytes).unwrap_or(length).min(length);
    at(range.start)..at(range.end)
}
