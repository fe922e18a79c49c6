//! The Intel flash descriptor: the first 4 KiB of a chip behind an Intel chipset, which say where
//! the regions lie and which of them the host's processor may read and write.
//!
//! | offset | field | contents |
//! | --- | --- | --- |
//! | 10h (00h before 5 series) | FLVALSIG | 0FF0A55Ah |
//! | +4 | FLMAP0 | bits 0-7 FCBA, 16-23 FRBA (regions), 24-26 NR |
//! | +8 | FLMAP1 | bits 0-7 FMBA (masters), 16-23 FISBA (straps), 24-31 ISL |
//! | +12 | FLMAP2 | bits 0-7 FMSBA, 16-23 ICCRIBA |
//! | FRBA + 4 n | FLREGn | bits 0-14 base, 16-30 limit |
//! | FMBA | FLMSTR1 | what the host may do, see [`MasterFormat`] |
//! | EFCh | FLUMAP1 | bits 24-31 MDTBA |
//!
//! Each base address is in units of 16 bytes. Base and limit of a region are in units of 4 KiB,
//! limit included; a region is unused when its limit is below its base.
//!
//! Sources: Intel's SPI programming guides as flashrom has them (`ich_descriptors.h`,
//! `ich_descriptors.c`), and coreboot's `util/ifdtool`.

use std::ops::Range;

use super::fields::u32_at;
use super::{LayoutError, LayoutRegion, RegionKind};

const SIGNATURE: u32 = 0x0ff0_a55a;
/// Length of the descriptor.
pub(crate) const DESCRIPTOR_BYTES: usize = 0x1000;
const PAGE_BYTES: u64 = 0x1000;
const UPPER_MAP_OFFSET: usize = 0xefc;
/// Pages in the fields of FLREGn.
const PAGE_MASK: u32 = 0x7fff;

/// The regions by their number, with the names that ifdtool and flashrom use.
const NAMES: [&str; 16] = [
    "fd", "bios", "me", "gbe", "pd", "devexp", "bios2", "res7", "ec", "devexp2", "ie", "10gbe_0",
    "10gbe_1", "res13", "res14", "ptt",
];

/// Ranges that the host's processor may not access, from the master section of the Intel flash
/// descriptor. Empty where there is no descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAccess {
    /// Bytes that cannot be read, in the order of the regions.
    pub no_read: Vec<Range<u64>>,
    /// Bytes that cannot be written, in the order of the regions.
    pub no_write: Vec<Range<u64>>,
}

/// How FLMSTRn says what a master may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MasterFormat {
    /// Before Skylake: bits 16-23 read, 24-31 write, a bit for each of the regions 0 to 7.
    EightRegions,
    /// From Skylake on: bits 8-19 read, 20-31 write for the regions 0 to 11; bits 0-3 read, 4-7
    /// write for 12 to 15.
    SixteenRegions,
}

impl MasterFormat {
    /// The rule of flashrom (`guess_ich_chipset_from_content`): the descriptor has no version, but
    /// the places and lengths of its parts tell the generation. ifdtool's older rule, the clock for
    /// reading, fails from 300 series on, where these bits have another meaning.
    fn of(map1: u32, map2: u32, upper_map: u32) -> Self {
        let strap_words = map1 >> 24;
        let (processor_straps, clock_base) = (map2 & 0xff, map2 >> 16 & 0xff);
        let device_table = upper_map >> 24;
        let before_skylake = if clock_base == 0 {
            // Apollo Lake and Gemini Lake have no FLMAP2; C740 series has 50h words of straps.
            strap_words <= 16 || (map2 != 0 && strap_words != 0x50)
        } else {
            device_table == 0 && clock_base < 0x31 && processor_straps < 0x30
        };
        if before_skylake { Self::EightRegions } else { Self::SixteenRegions }
    }

    /// Returns whether the master may read and may write region `number`.
    fn access(self, master: u32, number: usize) -> (bool, bool) {
        let (read_bit, write_bit) = match (self, number) {
            (Self::EightRegions, 0..=7) => (16 + number, 24 + number),
            (Self::SixteenRegions, 0..=11) => (8 + number, 20 + number),
            (Self::SixteenRegions, 12..=15) => (number - 12, number - 12 + 4),
            _ => return (false, false),
        };
        (master >> read_bit & 1 == 1, master >> write_bit & 1 == 1)
    }
}

/// A parsed Intel flash descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) struct Descriptor {
    /// Number and place of each region in use; the descriptor's own is the first.
    regions: Vec<(usize, Range<u64>)>,
    host_master: u32,
    master_format: MasterFormat,
    /// Apollo Lake and Gemini Lake, which have no FLMAP2, begin in the middle of what they call the
    /// BIOS region.
    begins_at_end: bool,
}

impl Descriptor {
    /// The descriptor at the start of `bytes`; `None` without its signature, and for a dummy:
    /// boards of other makers have the signature, and nothing behind it.
    pub(in crate::image) fn find(bytes: &[u8]) -> Result<Option<Self>, LayoutError> {
        let has_signature = |&offset: &usize| u32_at(bytes, offset) == Some(SIGNATURE);
        let Some(start) = [0x10, 0].into_iter().find(has_signature) else { return Ok(None) };
        if is_dummy(bytes, start) {
            return Ok(None);
        }
        let page = bytes.get(..DESCRIPTOR_BYTES).ok_or(outside("end", DESCRIPTOR_BYTES))?;
        let word = |what, offset| u32_at(page, offset).ok_or(outside(what, offset));

        let map0 = word("flash map 0", start + 4)?;
        let map1 = word("flash map 1", start + 8)?;
        let map2 = word("flash map 2", start + 12)?;
        let upper_map = word("upper map", UPPER_MAP_OFFSET)?;
        let master_format = MasterFormat::of(map1, map2, upper_map);
        let bases = [map0, map0 >> 16, map1, map1 >> 16].map(|field| (field as usize & 0xff) << 4);
        let [_, region_base, master_base, _] = bases;

        let mut regions = Vec::new();
        for number in 0..region_count(map0, region_base, &bases, master_format) {
            let register = word("region section", region_base + 4 * number)?;
            if let Some(range) = region_range(number, register) {
                regions.push((number, range));
            }
        }
        let host_master = word("master section", master_base)?;
        let descriptor = Self { regions, host_master, master_format, begins_at_end: map2 != 0 };
        descriptor.check_own_region()?;
        Ok(Some(descriptor))
    }

    /// A descriptor that does not cover itself is not one that the chipset would take.
    fn check_own_region(&self) -> Result<(), LayoutError> {
        match self.regions.first() {
            Some((0, range)) if range.start == 0 => Ok(()),
            Some((0, range)) => Err(LayoutError::DescriptorRegion {
                found: format!("at 0x{:x}-0x{:x}", range.start, range.end - 1),
            }),
            _ => Err(LayoutError::DescriptorRegion { found: "unused".to_owned() }),
        }
    }

    pub(in crate::image) fn regions(&self) -> impl Iterator<Item = LayoutRegion> {
        self.regions.iter().map(|(number, range)| LayoutRegion {
            kind: RegionKind::of_name(NAMES[*number]),
            name: NAMES[*number].to_owned(),
            offset_bytes: range.start,
            length_bytes: range.end - range.start,
        })
    }

    /// The regions of a chip of `size_bytes`: some boards have a limit behind its end.
    pub(in crate::image) fn regions_within(
        &self,
        size_bytes: u64,
    ) -> impl Iterator<Item = LayoutRegion> {
        self.regions().filter_map(move |mut region| {
            let room_bytes =
                size_bytes.checked_sub(region.offset_bytes).filter(|room| *room > 0)?;
            region.length_bytes = region.length_bytes.min(room_bytes);
            Some(region)
        })
    }

    /// Whether the host's processor begins at the end of a chip of `size_bytes`, so that a reset
    /// vector has to be there.
    pub(in crate::image) fn needs_reset_vector(&self, size_bytes: u64) -> bool {
        let ends_chip = |region: LayoutRegion| {
            region.kind == RegionKind::Bios && region.range().end >= size_bytes
        };
        self.begins_at_end && self.regions().any(ends_chip)
    }

    /// Regions that belong to others than the host's processor, and whether it may read them. The
    /// descriptor's own was read when this is asked, and the BIOS region is the processor's own,
    /// which its chipset never closes.
    pub(in crate::image) fn foreign(&self) -> impl Iterator<Item = (Range<u64>, bool)> {
        let is_foreign = |number: usize| !matches!(NAMES[number], "fd" | "bios" | "bios2");
        let foreign = self.regions.iter().filter(move |(number, _)| is_foreign(*number));
        foreign.map(|(number, range)| {
            (range.clone(), self.master_format.access(self.host_master, *number).0)
        })
    }

    pub(in crate::image) fn host_access(&self) -> HostAccess {
        let mut access = HostAccess::default();
        for (number, range) in &self.regions {
            let (may_read, may_write) = self.master_format.access(self.host_master, *number);
            if !may_read {
                access.no_read.push(range.clone());
            }
            if !may_write {
                access.no_write.push(range.clone());
            }
        }
        access
    }
}

/// Returns whether the region has a name that only descriptors give: areas of a flash map have
/// others (`SI_GBE`).
pub(in crate::image) fn is_told_by_descriptor(region: &LayoutRegion) -> bool {
    NAMES.contains(&region.name.as_str())
}

/// Returns whether the flash maps behind the signature are erased or zeros.
fn is_dummy(bytes: &[u8], start: usize) -> bool {
    const MAPS_BYTES: usize = 12;
    let maps = bytes.get(start + 4..).and_then(|maps| maps.get(..MAPS_BYTES));
    maps.is_some_and(|maps| matches!(maps[0], 0x00 | 0xff) && maps.iter().all(|&b| b == maps[0]))
}

/// Returns how many region registers there are: as many as fit before the next part (ifdtool,
/// `max_regions_from_fdbar`), at most 16. Before Skylake they were 5, then 7; NR tells, but some
/// vendors left it too small, which is why 5 are always looked at.
fn region_count(map0: u32, base: usize, bases: &[usize], format: MasterFormat) -> usize {
    let next = bases.iter().copied().filter(|&other| other > base).min();
    let room = next.unwrap_or(UPPER_MAP_OFFSET).saturating_sub(base) / 4;
    let announced = (map0 >> 24 & 7) as usize + 1;
    let known = match format {
        MasterFormat::EightRegions => announced.max(5),
        MasterFormat::SixteenRegions => NAMES.len(),
    };
    room.min(known)
}

/// Returns where a region lies; `None` for an unused one: limit before base, the erased register,
/// or, but for the descriptor itself, a register of zeros.
fn region_range(number: usize, register: u32) -> Option<Range<u64>> {
    let (base, limit) = (register & PAGE_MASK, register >> 16 & PAGE_MASK);
    let unused = limit < base || base == PAGE_MASK || (number > 0 && register == 0);
    (!unused).then(|| u64::from(base) * PAGE_BYTES..(u64::from(limit) + 1) * PAGE_BYTES)
}

fn outside(what: &'static str, offset: usize) -> LayoutError {
    LayoutError::DescriptorPointer { what, offset_bytes: offset as u64 }
}
