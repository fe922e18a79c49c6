//! How the chips of a world are divided, and what of them its bundles cover.

use std::ops::Range;

use firmcast::image::{Description, Part, Region, RegionAction};

use crate::chance::Chance;
use crate::chip::{BLOCK_BYTES, equal_outside, inside};

/// What tells how a chip is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    /// Nothing; bundles are of the whole chip.
    None,
    /// Nothing; bundles are of explicit ranges.
    Ranges,
    /// A flash descriptor; bundles are of the BIOS region.
    Bios,
    /// A flash map; bundles are of two of its areas.
    Areas,
    /// A flash descriptor, and bundles bring another one, by which the GbE region moves.
    Moves,
}

impl Map {
    /// Half of the worlds have chips without any.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 300_000);
        use Map::{Areas, Bios, Moves, None, Ranges};
        *chance.pick(&[None, None, None, None, None, Ranges, Bios, Areas, Moves, Moves])
    }
}

/// The division of a chip, without what its bytes tell of it.
#[derive(Clone, Debug)]
pub(crate) struct Division {
    map: Map,
    chip_bytes: usize,
    /// What stays in its place, sorted.
    pub(crate) preserve: Vec<Range<usize>>,
    /// What each host has of its own there.
    pub(crate) own: Vec<Range<usize>>,
}

/// Where the GbE region was, and where bundles bring it.
const MOVED: [Range<usize>; 2] = [BLOCK_BYTES..2 * BLOCK_BYTES, 3 * BLOCK_BYTES..4 * BLOCK_BYTES];

impl Division {
    /// `drawn` are up to two regions, one in each half of the chip.
    pub(crate) fn new(map: Map, drawn: Vec<Range<usize>>, chip_bytes: usize) -> Self {
        let half = chip_bytes / 2;
        let in_upper_half = || drawn.iter().filter(|region| region.start >= half).cloned();
        let (preserve, own) = match map {
            Map::None | Map::Ranges => (drawn.clone(), drawn),
            Map::Bios => {
                let with = |lower| std::iter::once(lower).chain(in_upper_half()).collect();
                (with(0..half), with(BLOCK_BYTES..half))
            }
            Map::Areas => {
                let only = |range| std::iter::once(range).collect();
                (only(0..half), only(BLOCK_BYTES..half))
            }
            Map::Moves => (in_upper_half().collect(), in_upper_half().collect()),
        };
        Self { map, chip_bytes, preserve, own }
    }

    /// Returns what the firmware, or somebody else, may write at any time. What bundles leave out
    /// is recorded as it is, unless the chip tells what it is for.
    pub(crate) fn written(&self) -> &[Range<usize>] {
        let left_out = usize::from(self.map == Map::Ranges).min(self.own.len());
        &self.own[left_out..]
    }

    /// Returns of what a chipset may close something. Where bundles do not say what stays in bytes
    /// of the chip, that has to be what a descriptor tells.
    pub(crate) fn closable(&self) -> &[Range<usize>] {
        match self.map {
            Map::None | Map::Moves => &self.own,
            Map::Ranges => self.written(),
            Map::Bios => &self.own[..1],
            Map::Areas => &[],
        }
    }

    /// Returns the same chip before anything has moved, of which bundles cover everything.
    pub(crate) fn before(&self) -> Self {
        Self { map: Map::None, preserve: self.kept(0), ..self.clone() }
    }

    /// Returns what bundles must find as it is when firmware is made to look wrong.
    pub(crate) fn reserved(&self) -> Vec<Range<usize>> {
        let lower = (self.map == Map::Moves).then_some(0..self.chip_bytes / 2);
        lower.into_iter().chain(self.preserve.iter().cloned()).collect()
    }

    /// Returns how many blocks at the end of the chip anything may damage.
    pub(crate) fn fragile_blocks(&self) -> usize {
        let blocks = self.chip_bytes / BLOCK_BYTES;
        if matches!(self.map, Map::None | Map::Ranges) { blocks } else { blocks / 2 }
    }

    /// Puts into an image what tells the division: of old ones 0, of new ones 1.
    pub(crate) fn put_map(&self, image: &mut [u8], version: usize) {
        let page = |at: usize| (at / BLOCK_BYTES) as u32;
        let (half, end) = (page(self.chip_bytes / 2), page(self.chip_bytes));
        let gbe = page(MOVED[version].start);
        match self.map {
            Map::None | Map::Ranges => return,
            Map::Bios => put_descriptor(image, &[(0, 1), (half, end), (2, half), (1, 2)]),
            Map::Moves => put_descriptor(image, &[(0, 1), (half, end), (0, 0), (gbe, gbe + 1)]),
            Map::Areas => put_flash_map(image),
        }
        let top = image.len() - 16;
        image[top..top + 3].copy_from_slice(&[0xe9, 0, 0xff]);
    }

    /// Returns where a host's bytes are that move, in old contents and in new ones.
    pub(crate) fn moved(&self) -> Option<&[Range<usize>; 2]> {
        (self.map == Map::Moves).then_some(&MOVED)
    }

    /// Returns whether contents hold an image (old ones 0, new ones 1) outside of what is kept.
    pub(crate) fn holds(&self, contents: &[u8], image: &[u8], version: usize) -> bool {
        equal_outside(&self.kept(version), contents, image)
    }

    fn kept(&self, version: usize) -> Vec<Range<usize>> {
        let moved = self.moved().map(|moved| moved[version].clone());
        moved.into_iter().chain(self.preserve.iter().cloned()).collect()
    }

    /// Returns whether what tells the division is that of the old or the new image.
    pub(crate) fn is_told(&self, contents: &[u8], images: [&[u8]; 2]) -> bool {
        let told = 0..BLOCK_BYTES;
        self.moved().is_none()
            || images.iter().any(|image| contents[told.clone()] == image[told.clone()])
    }

    /// Returns whether `contents` have what moves, as it was in `carried`, at one of its places.
    pub(crate) fn is_carried(&self, carried: &[u8], contents: &[u8]) -> bool {
        let is_at = |place: &Range<usize>| contents[place.clone()] == *carried;
        self.moved().is_none_or(|places| places.iter().any(is_at))
    }

    /// Returns whether `contents` have what stays as it was in `before`, and what moves as it was
    /// in `carried` at one of its places: the right one, where they hold one of the images.
    pub(crate) fn is_kept(
        &self,
        before: &[u8],
        carried: &[u8],
        contents: &[u8],
        images: [&[u8]; 2],
    ) -> bool {
        let is_right = self.moved().is_none_or(|places| {
            let mut held =
                [0, 1].into_iter().filter(|held| self.holds(contents, images[*held], *held));
            held.next().is_none_or(|held| contents[places[held].clone()] == *carried)
        });
        is_right
            && self.is_carried(carried, contents)
            && inside(&self.preserve, before) == inside(&self.preserve, contents)
    }

    /// Fills what each host has of its own. Returns what moves of it. Old contents are 0, new 1.
    pub(crate) fn fill(&self, contents: &mut [u8], version: usize, chance: &mut Chance) -> Vec<u8> {
        for region in &self.own {
            contents[region.clone()].copy_from_slice(&chance.bytes(region.len()));
        }
        let Some(place) = self.moved().map(|moved| moved[version].clone()) else {
            return Vec::new();
        };
        let carried = chance.bytes(place.len());
        contents[place].copy_from_slice(&carried);
        carried
    }

    /// Returns what a bundle's image has of a whole one.
    pub(crate) fn image(&self, whole: &[u8]) -> Vec<u8> {
        self.covered().into_iter().flat_map(|range| whole[range].iter().copied()).collect()
    }

    /// Adds regions and parts to a bundle.
    pub(crate) fn describe(&self, description: &mut Description) {
        let covered = self.covered();
        let region = |name: String, range: &Range<usize>, action| {
            let piece = covered
                .iter()
                .position(|piece| piece.start <= range.start && range.end <= piece.end)?;
            let before: usize = covered[..piece].iter().map(Range::len).sum();
            Some(Region {
                name,
                offset_bytes: (before + range.start - covered[piece].start) as u64,
                length_bytes: range.len() as u64,
                action,
            })
        };
        let actions = [RegionAction::Volatile, RegionAction::Preserve];
        let gbe = self.moved().and_then(|[_, to]| region("gbe".into(), to, actions[1]));
        let kept = self.preserve.iter().enumerate().filter_map(|(index, range)| {
            region(format!("region {index}"), range, actions[index % 2])
        });
        description.regions = gbe.into_iter().chain(kept).collect();
        description.new_layout = self.map == Map::Moves;
        if matches!(self.map, Map::None | Map::Moves) {
            return;
        }
        let part = |(nth, range): (usize, &Range<usize>)| Part {
            name: match self.map {
                Map::Bios => "bios".into(),
                Map::Areas => AREAS[nth].into(),
                _ => format!("range {nth}"),
            },
            length_bytes: range.len() as u64,
            offset_bytes: (self.map == Map::Ranges).then_some(range.start as u64),
        };
        description.parts = covered.iter().enumerate().map(part).collect();
        let image_bytes: usize = covered.iter().map(Range::len).sum();
        description.boot_offset_bytes = Some(image_bytes as u64 - 1);
    }

    /// What the image of a bundle covers, up to the end of the chip.
    fn covered(&self) -> Vec<Range<usize>> {
        let (half, end) = (self.chip_bytes / 2, self.chip_bytes);
        let bounds = match self.map {
            Map::None | Map::Moves => vec![0, end],
            Map::Bios => vec![half, end],
            Map::Areas => vec![half, half + half / 2, half + half / 2, end],
            // The first region is left out, a second one is in a part and kept.
            Map::Ranges => match self.preserve.first() {
                Some(first) if first.start > 0 => vec![0, first.start, first.end, end],
                Some(first) => vec![first.end, end],
                None => vec![0, end],
            },
        };
        bounds.chunks(2).map(|bounds| bounds[0]..bounds[1]).collect()
    }
}

/// The areas of a flash map that bundles are of.
const AREAS: [&str; 2] = ["RW_SECTION_A", "RW_SECTION_B"];

fn put(image: &mut [u8], offset: usize, word: u32) {
    image[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
}

/// The flash descriptor of a Sky Lake machine, with the first page and the end of each region:
/// descriptor, BIOS, ME, GbE. The host may access all of them.
fn put_descriptor(image: &mut [u8], regions: &[(u32, u32); 4]) {
    const UNUSED: u32 = 0x7fff;
    image[..BLOCK_BYTES].fill(0xff);
    let maps = [0x0ff0_a55a, 0x0004_0003, 0x4510_0208, 0x0031_0330];
    (0x10..).step_by(4).zip(maps).for_each(|(at, word)| put(image, at, word));
    put(image, 0xefc, 0x04df);
    put(image, 0x80, 0xffff_ff00);
    for number in 0..16 {
        let region = regions.get(number).filter(|(start, end)| start < end);
        let word = region.map_or(UNUSED, |(start, end)| (end - 1) << 16 | start);
        put(image, 0x40 + 4 * number, word);
    }
}

/// A flash map in the first block, and what belongs to others up to the middle of the chip.
fn put_flash_map(image: &mut [u8]) {
    let (size, half) = (image.len() as u32, image.len() as u32 / 2);
    let page = BLOCK_BYTES as u32;
    let areas = [
        (0, page, "FMAP"),
        (page, half - page, "SI_ME"),
        (half, half / 2, AREAS[0]),
        (half + half / 2, half / 2, AREAS[1]),
    ];
    let mut map = b"__FMAP__\x01\x01".to_vec();
    let name = |map: &mut Vec<u8>, text: &str| {
        map.extend(text.as_bytes());
        map.resize(map.len() + 32 - text.len(), 0);
    };
    map.extend(u64::from(size).wrapping_neg().to_le_bytes());
    map.extend(size.to_le_bytes());
    name(&mut map, "FLASH");
    map.extend((areas.len() as u16).to_le_bytes());
    for (offset, size, text) in areas {
        map.extend(offset.to_le_bytes());
        map.extend(size.to_le_bytes());
        name(&mut map, text);
        map.extend([0, 0]);
    }
    image[..BLOCK_BYTES].fill(0xff);
    image[..map.len()].copy_from_slice(&map);
}
