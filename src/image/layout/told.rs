//! What the bytes of a chip or image tell of their own division, each of it searched for once.

use std::cell::OnceCell;
use std::ops::Range;

use super::volume::ALIGNMENT as VOLUME_ALIGNMENT;
use super::{
    Descriptor, FlashMap, ForeignRanges, FoundVolume, Layout, LayoutError, LayoutRegion, Volumes,
    add_amd_data, add_variable_stores, variable_stores,
};

/// Most firmware volumes that are kept for the next question. Real firmware has some ten.
const VOLUMES_KEPT_MAX: usize = 1024;

/// What is found in some bytes. Good for several questions about the same ones: each search passes
/// over all of them.
#[derive(Debug)]
pub struct Told<'a> {
    bytes: &'a [u8],
    descriptor: Result<Option<Descriptor>, LayoutError>,
    map: OnceCell<Result<Option<FlashMap>, LayoutError>>,
    volumes: OnceCell<Vec<FoundVolume>>,
    variable_stores: OnceCell<Vec<Range<usize>>>,
}

impl<'a> Told<'a> {
    /// Of a whole chip, or the image for one.
    pub fn by(bytes: &'a [u8]) -> Self {
        let descriptor = Descriptor::find(bytes);
        let (map, volumes, variable_stores) = Default::default();
        Self { bytes, descriptor, map, volumes, variable_stores }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the Intel flash descriptor.
    ///
    /// # Errors
    /// [`LayoutError`] where it contradicts itself.
    pub(in crate::image) fn descriptor(&self) -> Result<Option<&Descriptor>, LayoutError> {
        self.descriptor.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Returns the flash map.
    ///
    /// # Errors
    /// As [`Told::descriptor`].
    pub(in crate::image) fn map(&self) -> Result<Option<&FlashMap>, LayoutError> {
        let map = self.map.get_or_init(|| FlashMap::find(self.bytes));
        map.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    fn variable_stores(&self) -> &[Range<usize>] {
        self.variable_stores.get_or_init(|| match self.volumes() {
            Some(volumes) => variable_stores(self.bytes, volumes.iter().cloned()),
            None => variable_stores(self.bytes, Volumes::of(self.bytes)),
        })
    }

    /// Returns the firmware volumes that lie in no other one; `None` where they are too many to
    /// keep.
    fn volumes(&self) -> Option<&[FoundVolume]> {
        let search = || Volumes::of(self.bytes).take(VOLUMES_KEPT_MAX + 1).collect();
        Some(self.volumes.get_or_init(search).as_slice())
            .filter(|volumes| volumes.len() <= VOLUMES_KEPT_MAX)
    }

    /// Returns the first firmware volume that a search of this part alone finds, offset from the
    /// start of all bytes.
    pub(in crate::image) fn first_volume(&self, part: Range<usize>) -> Option<FoundVolume> {
        self.kept_volume(&part).unwrap_or_else(|| {
            let (start, part) = (part.start, self.bytes.get(part)?);
            Volumes::of(part).next().map(|found| found.behind(start))
        })
    }

    /// Returns the same where the search of all bytes has found it: up to their end, and not from
    /// inside a volume on.
    fn kept_volume(&self, part: &Range<usize>) -> Option<Option<FoundVolume>> {
        let volumes = self.volumes()?;
        let nth = volumes.partition_point(|volume| volume.range().start < part.start);
        let ended = volumes[..nth].last().is_none_or(|volume| volume.range().end <= part.start);
        let is_the_rest =
            part.end == self.bytes.len() && part.start.is_multiple_of(VOLUME_ALIGNMENT);
        (ended && is_the_rest).then(|| volumes.get(nth).cloned())
    }

    /// Returns the layout, as [`Layout::read`] does.
    ///
    /// # Errors
    /// As there.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        let size_bytes = self.bytes.len() as u64;
        let mut regions = Vec::new();
        if let Some(descriptor) = self.descriptor()? {
            regions.extend(descriptor.regions_within(size_bytes));
        }
        if let Some(map) = self.map()? {
            regions.extend(map.areas.iter().cloned());
        }
        self.add_unmapped(&mut regions);
        Layout::new(regions, size_bytes)
    }

    /// Returns the regions that descriptor, flash map and variable stores tell, however these
    /// contradict one another. Good for leaving bytes out, never for writing.
    pub(in crate::image) fn regions(&self) -> Vec<LayoutRegion> {
        let mut regions = self.mapped_regions();
        self.add_unmapped(&mut regions);
        regions.retain(|region| region.end_bytes() <= self.bytes.len() as u64);
        regions
    }

    /// Returns those of them that descriptor and flash map tell.
    pub(in crate::image) fn mapped_regions(&self) -> Vec<LayoutRegion> {
        let size_bytes = self.bytes.len() as u64;
        let descriptor = self.descriptor().ok().flatten();
        let descriptor = descriptor.iter();
        let mut regions: Vec<_> =
            descriptor.flat_map(|descriptor| descriptor.regions_within(size_bytes)).collect();
        let map = self.map().ok().flatten();
        regions.extend(map.into_iter().flat_map(|map| map.areas.iter().cloned()));
        regions.retain(|region| region.end_bytes() <= size_bytes);
        regions
    }

    /// Returns what descriptor and flash map say of others than the host. One that contradicts
    /// itself says nothing.
    pub(in crate::image) fn foreign(&self) -> ForeignRanges {
        let mut found = ForeignRanges::default();
        if let Ok(Some(descriptor)) = self.descriptor() {
            for (range, may_read) in descriptor.foreign() {
                found.all.insert(range.clone());
                if !may_read {
                    found.no_read.push(range);
                }
            }
        }
        if let Ok(Some(map)) = self.map() {
            let areas = map.areas.iter().filter(|area| area.kind.is_foreign());
            areas.for_each(|area| found.all.insert(area.range()));
        }
        found
    }

    /// Adds what neither descriptor nor flash map needs to tell.
    fn add_unmapped(&self, regions: &mut Vec<LayoutRegion>) {
        add_variable_stores(self.variable_stores(), 0, regions);
        add_amd_data(self.bytes, regions);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::volume;
    use super::super::volume::{FFS1, NV_DATA};
    use super::*;
    use proptest::prelude::*;

    fn piece(kind: u8) -> Vec<u8> {
        let mut whole = volume(if kind < 3 { FFS1 } else { NV_DATA }, 0x1000, &[]);
        match kind % 3 {
            // A header that lies in another volume, too.
            0 => whole[0x80..0xc8].copy_from_slice(&volume(FFS1, 0x1000, &[])[..0x48]),
            1 => whole[40] ^= 1,
            _ => whole.rotate_right(3),
        }
        whole
    }

    proptest! {
        #[test]
        fn a_volume_that_was_kept_is_what_a_search_finds(
            kinds in proptest::collection::vec(0u8..6, 0..8),
            ends in (0usize..0x400, 0usize..0x8000, 0usize..9),
        ) {
            let bytes: Vec<u8> = kinds.into_iter().flat_map(piece).collect();
            let start = (ends.0 * 8 + ends.2 / 8).min(bytes.len());
            let end = if ends.2 % 2 == 0 { bytes.len() } else { ends.1.clamp(start, bytes.len()) };
            let found = Volumes::of(&bytes[start..end]).next().map(|found| found.behind(start));
            prop_assert_eq!(Told::by(&bytes).first_volume(start..end), found);
        }
    }
}
