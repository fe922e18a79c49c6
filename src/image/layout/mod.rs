//! Layouts: which bytes of a flash chip are for what.
//!
//! Read from what the bytes themselves say (Intel flash descriptor, FMAP, UEFI variable stores), or
//! given explicitly. A layout that contradicts itself is an error: nothing may be written by it.

mod amd;
mod boot;
mod descriptor;
mod error;
mod fields;
mod fit;
mod fmap;
mod guid;
mod kind;
mod mismatch;
#[cfg(test)]
pub(crate) mod samples;
mod text;
mod told;
mod variables;
mod volume;
mod words;

use std::fmt;
use std::ops::Range;

use super::ByteRanges;
pub(in crate::image) use amd::{
    AmdDirectory, AmdEntry, amd_directories, has_amd_firmware_structure,
};
pub use boot::{BootEvidence, BootOffset, boot_offset, boot_offset_reason};
pub(in crate::image) use boot::{RESET_VECTOR_BYTES, begins_with_arm_branch, has_x86_reset_vector};
pub(crate) use descriptor::DESCRIPTOR_BYTES;
pub use descriptor::HostAccess;
pub(in crate::image) use descriptor::{Descriptor, is_told_by_descriptor};
pub use error::LayoutError;
pub(in crate::image) use fields::{array, u16_at, u24_at, u32_at, u64_at};
pub use fit::{FIT_ENTRIES_MAX, Fit, FitEntry, FitFlaw, FitFlawKind, fit_type};
pub(in crate::image) use fmap::FlashMap;
pub use guid::Guid;
pub use kind::{RegionKind, UnknownRegionKind};
pub use mismatch::{DIFFERENCES_SHOWN_MAX, LayoutMismatch};
pub use told::Told;
use variables::variable_stores;
pub(in crate::image) use volume::{FFS_GUIDS, FFS1, FFS2, FFS3};
pub use volume::{FirmwareVolume, FoundVolume, VolumeFlaw, Volumes};
pub(in crate::image) use words::find_word;

/// Most regions that a layout may have.
pub const REGIONS_MAX: usize = 128;
/// Name of a variable store that only its own bytes tell, with a number from the second one on.
const VARIABLE_STORE: &str = "variable-store";
/// Longest name of a region, that of an FMAP area.
pub const NAME_BYTES_MAX: usize = 32;

/// A named part of the flash. Shown as `gbe at 0x1000-0x2fff`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutRegion {
    /// What it is for.
    pub kind: RegionKind,
    /// Its name in the format that it was read from.
    pub name: String,
    /// First byte, from the start of the chip.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
}

impl LayoutRegion {
    /// Returns the bytes from the start of the chip.
    pub fn range(&self) -> Range<u64> {
        self.offset_bytes..self.end_bytes()
    }

    fn end_bytes(&self) -> u64 {
        self.offset_bytes.saturating_add(self.length_bytes)
    }

    fn last_byte(&self) -> u64 {
        self.end_bytes().saturating_sub(1)
    }

    /// Returns whether firmware of another kind makes it for itself: its variables, and what else
    /// it writes. Nothing of the machine is lost with it but settings.
    pub(in crate::image) fn is_remade(&self) -> bool {
        matches!(self.kind, RegionKind::VariableStore | RegionKind::FirmwareData)
    }

    fn contains(&self, other: &Self) -> bool {
        self.offset_bytes <= other.offset_bytes && other.end_bytes() <= self.end_bytes()
    }
}

impl fmt::Display for LayoutRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at 0x{:x}-0x{:x}", self.name, self.offset_bytes, self.last_byte())
    }
}

/// The regions of an image or chip: inside it, each name once, any two apart or one whole inside
/// the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    regions: Vec<LayoutRegion>,
}

impl Layout {
    /// Reads the layout that `bytes`, a whole chip or its image, have in themselves: the regions of
    /// the Intel flash descriptor, the areas of the FMAP, and the UEFI variable stores. Other
    /// firmware volumes are no part of it: they are replaced as a whole and nothing depends on
    /// where they lie. Empty when there is nothing of all that.
    ///
    /// # Errors
    /// [`LayoutError`] when these contradict themselves or one another.
    pub fn read(bytes: &[u8]) -> Result<Self, LayoutError> {
        Told::by(bytes).layout()
    }

    /// Reads what each part of an image says of itself: the UEFI variable stores in it. A flash map
    /// or descriptor describes the whole chip, which a part is not.
    ///
    /// # Errors
    /// As [`Layout::read`].
    pub(in crate::image) fn read_parts(
        bytes: &[u8],
        parts: &[Range<u64>],
    ) -> Result<Self, LayoutError> {
        let mut regions = Vec::new();
        for part in parts {
            let range = part.start as usize..part.end as usize;
            let Some(own) = bytes.get(range) else { continue };
            add_variable_stores(&variable_stores(own, Volumes::of(own)), part.start, &mut regions);
        }
        Self::new(regions, bytes.len() as u64)
    }

    /// Returns the regions that descriptor, flash map and variable stores tell, however these
    /// contradict one another. Good for leaving bytes out, never for writing.
    pub(in crate::image) fn told_regions(bytes: &[u8]) -> Vec<LayoutRegion> {
        Told::by(bytes).regions()
    }

    /// Returns those of them that descriptor and flash map tell.
    pub(in crate::image) fn mapped_regions(bytes: &[u8]) -> Vec<LayoutRegion> {
        Told::by(bytes).mapped_regions()
    }

    /// Returns a layout of these regions for a chip of `size_bytes`.
    ///
    /// # Errors
    /// [`LayoutError`] for a region out of range, without bytes, or with a bad name; for the same
    /// name twice; for regions that overlap without one being inside the other, or are the same
    /// bytes as different kinds (any kind may lie in an [`RegionKind::Other`]); for more than
    /// [`REGIONS_MAX`].
    pub fn new(mut regions: Vec<LayoutRegion>, size_bytes: u64) -> Result<Self, LayoutError> {
        if regions.len() > REGIONS_MAX {
            return Err(LayoutError::TooMany { count: regions.len() });
        }
        regions.iter().try_for_each(|region| check_region(region, size_bytes))?;
        regions.sort_by(|a, b| {
            let order = a.offset_bytes.cmp(&b.offset_bytes);
            order.then(b.length_bytes.cmp(&a.length_bytes)).then_with(|| a.name.cmp(&b.name))
        });
        for (index, second) in regions.iter().enumerate() {
            regions[..index].iter().try_for_each(|first| check_pair(first, second))?;
        }
        Ok(Self { regions })
    }

    /// Returns the regions, sorted by offset, of those with the same offset the longer one first.
    pub fn regions(&self) -> &[LayoutRegion] {
        &self.regions
    }

    /// Returns whether nothing is known about the bytes.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// Returns the regions with this name, or of the kind with this name ([`RegionKind::name`]).
    /// Those that lie in another one of the selection are left out, so the selected regions are
    /// apart from one another.
    pub fn select(&self, name_or_kind: &str) -> Vec<&LayoutRegion> {
        let mut selected: Vec<&LayoutRegion> = Vec::new();
        for region in &self.regions {
            let is_meant = region.name == name_or_kind || region.kind.name() == name_or_kind;
            // Sorted as they are, a region can only lie in the one that was selected last.
            if is_meant && !selected.last().is_some_and(|last| last.contains(region)) {
                selected.push(region);
            }
        }
        selected
    }
}

/// Returns what the host's processor may not access, by the Intel flash descriptor at the start of
/// `bytes`.
///
/// # Errors
/// [`LayoutError`] for a descriptor that refers to bytes outside itself.
pub fn host_access(bytes: &[u8]) -> Result<HostAccess, LayoutError> {
    Ok(Descriptor::find(bytes)?.map(|descriptor| descriptor.host_access()).unwrap_or_default())
}

/// Returns where descriptor and flash map stand in `bytes`: what says how the chip is divided.
pub(crate) fn map_places(bytes: &[u8]) -> ByteRanges {
    let descriptor = Descriptor::find(bytes).ok().flatten().map(|_| 0..DESCRIPTOR_BYTES);
    let map = FlashMap::find(bytes).ok().flatten();
    let places = FlashMap::places(bytes).filter(|_| map.is_some());
    places.chain(descriptor).map(|place| place.start as u64..place.end as u64).collect()
}

/// Ranges that belong to others than the host's processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForeignRanges {
    /// All of them.
    pub(crate) all: ByteRanges,
    /// The regions that the Intel flash descriptor does not let the host read, one by one.
    pub(crate) no_read: Vec<Range<u64>>,
}

/// Returns what descriptor and flash map in `bytes`, a whole chip or the beginning of one, say of
/// others than the host. One that contradicts itself says nothing.
pub(crate) fn foreign_ranges(bytes: &[u8]) -> ForeignRanges {
    Told::by(bytes).foreign()
}

/// Adds the `stores` of variables in bytes that begin at `start_bytes`, but for those that already
/// have a region of exactly their bytes.
fn add_variable_stores(stores: &[Range<usize>], start_bytes: u64, regions: &mut Vec<LayoutRegion>) {
    let mut count = regions.iter().filter(|region| region.name.starts_with(VARIABLE_STORE)).count();
    for store in stores {
        let range = start_bytes + store.start as u64..start_bytes + store.end as u64;
        let is_known = regions.iter().any(|region| region.range() == range);
        if is_known || regions.len() > REGIONS_MAX {
            continue;
        }
        count += 1;
        let suffix = if count == 1 { String::new() } else { format!("-{count}") };
        regions.push(LayoutRegion {
            kind: RegionKind::VariableStore,
            name: format!("{VARIABLE_STORE}{suffix}"),
            offset_bytes: range.start,
            length_bytes: range.end - range.start,
        });
    }
}

/// Adds what AMD's firmware writes itself, but for what overlaps a region that is more exact.
fn add_amd_data(bytes: &[u8], regions: &mut Vec<LayoutRegion>) {
    for (name, range) in amd::firmware_data(bytes) {
        let named = |region: &&LayoutRegion| region.name.starts_with(name);
        let region = LayoutRegion {
            kind: RegionKind::FirmwareData,
            name: match regions.iter().filter(named).count() {
                0 => name.to_owned(),
                count => format!("{name}-{}", count + 1),
            },
            offset_bytes: range.start as u64,
            length_bytes: range.len() as u64,
        };
        let is_new = |other: &LayoutRegion| {
            let is_apart = other.end_bytes() <= region.offset_bytes
                || region.end_bytes() <= other.offset_bytes;
            is_apart || other.contains(&region) && other.range() != region.range()
        };
        if regions.len() < REGIONS_MAX && regions.iter().all(is_new) {
            regions.push(region);
        }
    }
}

fn check_region(region: &LayoutRegion, size_bytes: u64) -> Result<(), LayoutError> {
    let LayoutRegion { name, offset_bytes, length_bytes, .. } = region;
    let printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !printable || name.trim() != name {
        return Err(LayoutError::Name { name: name.clone(), offset_bytes: *offset_bytes });
    }
    if *length_bytes == 0 {
        return Err(LayoutError::Empty { name: name.clone(), offset_bytes: *offset_bytes });
    }
    match offset_bytes.checked_add(*length_bytes) {
        Some(end_bytes) if end_bytes <= size_bytes => Ok(()),
        _ => Err(LayoutError::OutOfRange { region: region.clone(), size_bytes }),
    }
}

/// `first` comes before `second` in the order of the regions.
fn check_pair(first: &LayoutRegion, second: &LayoutRegion) -> Result<(), LayoutError> {
    let both = || (first.clone(), second.clone());
    if first.name == second.name {
        let (first, second) = both();
        return Err(LayoutError::SameName { first, second });
    }
    let is_apart = first.end_bytes() <= second.offset_bytes;
    if !is_apart && !first.contains(second) {
        let (first, second) = both();
        return Err(LayoutError::Overlap { first, second });
    }
    let any_other = [first.kind, second.kind].contains(&RegionKind::Other);
    if first.range() == second.range() && first.kind != second.kind && !any_other {
        let (first, second) = both();
        return Err(LayoutError::TwoKinds { first, second });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
