//! Learning what the firmware of a board writes itself: what differs between two boots without an
//! update in between.
//!
//! A snapshot has a checksum of each page of 4 KiB, the smallest eraseblock of firmware chips. A
//! page that changed stands for the place that the firmware writes to, which is larger: the area
//! of the flash map that it lies in, or the erased pages around it, where a log grows. Programs
//! are never learned: firmware does not write there, so somebody else has.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::layout::{FFS_GUIDS, FoundVolume, Layout, LayoutRegion, RegionKind, Volumes, u64_at};
use super::validity::{Verdict, validate_contents};
use super::{ByteRanges, Contents, KnownGood};

/// A chip is compared in pages of this size.
const PAGE_BYTES: usize = 4096;

/// A place that is learned reaches over at most so many erased bytes on each side of what changed.
const MARGIN_BYTES: u64 = 128 << 10;

/// Most ranges that are learned on one board.
pub const LEARNED_MAX: usize = 32;

/// What a chip held when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The boot in which it was made, in hexadecimal (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// DMI `bios_version` then.
    pub bios_version: String,
    /// Digest of the record of good firmware then ([`KnownGood::digest`]).
    pub record: String,
    /// CRC-32 of each 4 KiB.
    pub pages: Vec<u32>,
}

/// What two looks tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Nothing: there was no look before.
    First,
    /// Nothing: the machine was not restarted since the last look.
    SameBoot,
    /// Nothing: the firmware was replaced since.
    Replaced,
    /// Nothing: the firmware's structure is damaged.
    Damaged(Verdict),
    /// More places changed than firmware has for its data: [`LEARNED_MAX`].
    TooMany(usize),
    /// The firmware writes these places itself.
    Written {
        /// Where, in addition to what is known.
        places: ByteRanges,
        /// What changed in programs, where firmware does not write.
        programs: ByteRanges,
    },
}

impl Snapshot {
    /// Takes one of `contents`, a whole chip.
    pub fn of(contents: &Contents, boot_id: &str, bios_version: &str, good: &KnownGood) -> Self {
        Self {
            boot_id: boot_id.to_owned(),
            bios_version: bios_version.to_owned(),
            record: good.digest.clone(),
            pages: contents.bytes().chunks(PAGE_BYTES).map(crc32fast::hash).collect(),
        }
    }

    /// Compares `now`, a snapshot of `contents`, with what was there `before`. `good` is the
    /// record of the firmware.
    pub fn lesson(&self, before: Option<&Self>, contents: &Contents, good: &KnownGood) -> Lesson {
        let Some(before) = before else { return Lesson::First };
        if before.boot_id == self.boot_id {
            return Lesson::SameBoot;
        }
        let same_firmware =
            before.bios_version == self.bios_version && before.record == self.record;
        if !same_firmware || before.pages.len() != self.pages.len() {
            return Lesson::Replaced;
        }
        match validate_contents(contents) {
            damaged @ Verdict::Invalid { .. } => return Lesson::Damaged(damaged),
            // A machine with doubtful firmware runs, and writes like any other.
            Verdict::Valid { .. } | Verdict::Unknown { .. } | Verdict::Doubtful { .. } => {}
        }
        let pages = self.pages.iter().zip(&before.pages).enumerate();
        let changed = pages.filter(|(_, (now, before))| now != before).map(|(nth, _)| page(nth));
        let known = good.left_out.union(contents.closed());
        let changed: ByteRanges = changed.collect::<ByteRanges>().without(&known);
        let map = Map::of(contents.bytes());
        let beside = changed.without(&map.programs);
        let programs = changed.without(&beside);
        let places: ByteRanges = beside.iter().map(|range| map.place(range)).collect();
        let places = places.without(&known);
        let count = places.iter().count() + good.learned.iter().count();
        if count > LEARNED_MAX {
            return Lesson::TooMany(count);
        }
        Lesson::Written { places, programs }
    }
}

/// What a chip shows of its division.
struct Map<'a> {
    bytes: &'a [u8],
    programs: ByteRanges,
    /// Areas without programs, and without others inside, sorted.
    areas: Vec<Range<u64>>,
    /// Where something begins that the firmware's data does not reach into.
    named: ByteRanges,
}

impl<'a> Map<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let layout = Layout::read(bytes).unwrap_or_default();
        let mut programs: ByteRanges =
            Volumes::of(bytes).filter_map(|found| of_programs(bytes, found)).collect();
        let regions = layout.regions();
        for region in regions.iter().filter(|region| holds_programs(region, bytes)) {
            programs.insert(region.range());
        }
        let holds_other = |area: &LayoutRegion| {
            regions.iter().any(|other| {
                other.name != area.name
                    && area.range().start <= other.range().start
                    && other.range().end <= area.range().end
            })
        };
        let areas = regions.iter().filter(|region| {
            region.kind == RegionKind::Other
                && !holds_other(region)
                && !programs.overlaps(&region.range())
        });
        let areas: Vec<_> = areas.map(LayoutRegion::range).collect();
        let is_leaf = |region: &&LayoutRegion| !holds_other(region);
        let is_whole_bios = |region: &&LayoutRegion| region.kind == RegionKind::Bios;
        let named = regions.iter().filter(is_leaf).filter(|region| !is_whole_bios(region));
        let named = named.map(LayoutRegion::range).collect::<ByteRanges>().union(&programs);
        Self { bytes, programs, areas, named }
    }

    /// Returns the place that the firmware writes to, of which it has written `range`.
    fn place(&self, range: &Range<u64>) -> Range<u64> {
        let holds = |area: &&Range<u64>| area.start <= range.start && range.end <= area.end;
        if let Some(area) = self.areas.iter().find(holds) {
            return area.clone();
        }
        let is_free = |page: &Range<u64>| {
            let bytes = self.bytes.get(page.start as usize..page.end as usize);
            let is_erased = bytes.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0xff));
            is_erased && !self.named.overlaps(page)
        };
        let (page_bytes, mut place) = (PAGE_BYTES as u64, range.clone());
        while place.start >= page_bytes
            && range.start - place.start < MARGIN_BYTES
            && is_free(&(place.start - page_bytes..place.start))
        {
            place.start -= page_bytes;
        }
        while place.end - range.end < MARGIN_BYTES && is_free(&(place.end..place.end + page_bytes))
        {
            place.end += page_bytes;
        }
        place
    }
}

fn page(nth: usize) -> Range<u64> {
    let start = (nth * PAGE_BYTES) as u64;
    start..start + PAGE_BYTES as u64
}

/// A volume of files, but for those of variables, which the layout knows.
fn of_programs(bytes: &[u8], found: FoundVolume) -> Option<Range<u64>> {
    match found {
        // Its length may be what is damaged.
        FoundVolume::Damaged { offset_bytes, .. } => {
            let start = offset_bytes as u64;
            let room = bytes.len() as u64 - start;
            let length = u64_at(bytes, offset_bytes + 32).unwrap_or(0);
            Some(start..start + length.clamp(PAGE_BYTES as u64, room.max(PAGE_BYTES as u64)))
        }
        FoundVolume::Whole(volume) if FFS_GUIDS.contains(&volume.file_system) => {
            let start = volume.offset_bytes as u64;
            Some(start..start + volume.length_bytes as u64)
        }
        _ => None,
    }
}

/// Areas of a flash map with coreboot's files, what starts them, and what signs them.
fn holds_programs(region: &LayoutRegion, bytes: &[u8]) -> bool {
    let start = region.range().start as usize;
    let is_file_system = bytes.get(start..).is_some_and(|rest| rest.starts_with(b"LARCHIVE"));
    let is_named = ["BOOTBLOCK", "VBLOCK", "FMAP", "FWID", "FRID"];
    region.kind == RegionKind::Descriptor
        || region.kind == RegionKind::Other
            && (is_file_system || is_named.iter().any(|name| region.name.contains(name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::image::layout::samples;
    use proptest::prelude::*;

    const LOG: usize = 0x1_0000;
    const CHIP_BYTES: usize = 0x8_0000;

    /// A chip with programs at both ends and a log between them that nothing names.
    fn chip() -> Vec<u8> {
        let programs =
            || samples::file_volume(0x1_0000, &[samples::file(7, 0x01, true, b"program")]);
        let mut chip = vec![0xff; CHIP_BYTES];
        samples::put(&mut chip, 0, &programs());
        samples::put(&mut chip, LOG, b"started once.");
        samples::put(&mut chip, CHIP_BYTES - 0x1_0000, &programs());
        samples::put(&mut chip, CHIP_BYTES - 16, &[0xe9, 0, 0]);
        chip
    }

    fn good(chip: &[u8]) -> KnownGood {
        KnownGood::of_chip(&Contents::whole(chip.to_vec()), "B").unwrap()
    }

    fn lesson(before: &[u8], now: &[u8], boot: &str, version: &str) -> Lesson {
        let (before, now) = (Contents::whole(before.to_vec()), Contents::whole(now.to_vec()));
        let good = good(before.bytes());
        let first = Snapshot::of(&before, "1", "B", &good);
        Snapshot::of(&now, boot, version, &good).lesson(Some(&first), &now, &good)
    }

    #[test]
    fn a_log_is_learned_with_its_room_and_programs_are_not() {
        let before = chip();
        let mut now = before.clone();
        samples::put(&mut now, LOG + 13, b"started twice.");
        let place: ByteRanges =
            std::iter::once(LOG as u64..LOG as u64 + 0x1000 + MARGIN_BYTES).collect();
        let written = |places, programs| Lesson::Written { places, programs };
        let nothing = ByteRanges::default;
        assert_eq!(lesson(&before, &now, "2", "B"), written(place.clone(), nothing()));
        assert_eq!(lesson(&before, &now, "1", "B"), Lesson::SameBoot);
        assert_eq!(lesson(&before, &now, "2", "C"), Lesson::Replaced);
        let program = ByteRanges::from(vec![(0x8000, 0x1000)]);
        now[0x8000] = 0;
        assert_eq!(lesson(&before, &now, "2", "B"), written(place, program));
        let (contents, good) = (Contents::whole(before.clone()), good(&before));
        let first = Snapshot::of(&contents, "1", "B", &good);
        assert_eq!(first.lesson(None, &contents, &good), Lesson::First);
    }

    /// What was learned is left out of the record, so the next boots agree with it.
    #[test]
    fn a_learned_log_may_grow_at_ten_boots() {
        let mut chip = chip();
        let mut good = good(&chip);
        let mut before: Option<Snapshot> = None;
        for boot in 0..10usize {
            let contents = Contents::whole(chip.clone());
            let now = Snapshot::of(&contents, &boot.to_string(), "B", &good);
            if let Lesson::Written { places, programs } =
                now.lesson(before.as_ref(), &contents, &good)
            {
                assert!(programs.is_empty() && places.is_empty() == (boot > 1), "{places}");
                good = good.without_learned(&places, &contents);
            }
            before = Some(Snapshot::of(&contents, &boot.to_string(), "B", &good));
            if boot > 0 {
                let verdict = good.judge(&contents, "B").unwrap().to_string();
                assert!(verdict.starts_with("valid"), "{boot}: {verdict}");
            }
            samples::put(&mut chip, LOG + 0x1000 * boot, b"started again.");
        }
        assert_eq!(good.learned.iter().count(), 1);
    }

    #[test]
    fn an_area_of_a_flash_map_is_learned_as_a_whole() {
        let mut before = chip();
        let areas = [(0x2_0000, 0x2000, "OWN_LOG"), (0x2_2000, 0x1000, "FMAP")];
        let map = samples::flash_map(CHIP_BYTES as u32, &areas);
        samples::put(&mut before, 0x2_2000, &map);
        let mut now = before.clone();
        now[0x2_1800] = 0;
        let place = ByteRanges::from(vec![(0x2_0000, 0x2000)]);
        let expected = Lesson::Written { places: place, programs: ByteRanges::default() };
        assert_eq!(lesson(&before, &now, "2", "B"), expected);
    }

    #[test]
    fn too_many_places_are_no_data_of_firmware() {
        let mut before = chip();
        (0x1_1000..0x7_0000).step_by(0x1000).for_each(|at| before[at] = 0);
        let mut now = before.clone();
        (0x1_1000..0x7_0000).step_by(0x2000).for_each(|at| now[at] = 1);
        assert!(matches!(lesson(&before, &now, "2", "B"), Lesson::TooMany(48)));
    }

    proptest! {
        /// Whatever changes is learned or told, nothing else is, and programs never are.
        #[test]
        fn every_change_is_learned_or_told(at in proptest::collection::vec(0..CHIP_BYTES, 1..8)) {
            let before = chip();
            let mut now = before.clone();
            at.iter().for_each(|at| now[*at] ^= 0x10);
            let (places, programs) = match lesson(&before, &now, "2", "B") {
                Lesson::Written { places, programs } => (places, programs),
                Lesson::Damaged(_) => return Ok(()),
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            let program = |at: u64| at < 0x1_0000 || at >= CHIP_BYTES as u64 - 0x1_0000;
            let differs = (0..CHIP_BYTES).filter(|at| now[*at] != before[*at]);
            for at in differs.map(|at| at as u64) {
                let told = if program(at) { &programs } else { &places };
                prop_assert!(told.covers(&(at..at + 1)));
            }
            let of_programs = |place: &Range<u64>| program(place.start) || program(place.end - 1);
            prop_assert!(!places.iter().any(of_programs));
        }
    }
}
