//! What the bytes of a chip or image tell of their own division, each of it searched for once.

use std::cell::OnceCell;
use std::ops::Range;

use super::{
    Descriptor, FlashMap, ForeignRanges, Layout, LayoutError, LayoutRegion, add_amd_data,
    add_variable_stores, variable_stores,
};

/// What is found in some bytes. Good for several questions about the same ones: each search passes
/// over all of them.
#[derive(Debug)]
pub struct Told<'a> {
    bytes: &'a [u8],
    descriptor: Result<Option<Descriptor>, LayoutError>,
    map: OnceCell<Result<Option<FlashMap>, LayoutError>>,
    variable_stores: OnceCell<Vec<Range<usize>>>,
}

impl<'a> Told<'a> {
    /// Of a whole chip, or the image for one.
    pub fn by(bytes: &'a [u8]) -> Self {
        let descriptor = Descriptor::find(bytes);
        Self { bytes, descriptor, map: OnceCell::new(), variable_stores: OnceCell::new() }
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
        self.variable_stores.get_or_init(|| variable_stores(self.bytes))
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
