//! The parts of a chip that an image covers, where it is not the whole chip.

use std::ops::Range;

use super::layout::{Layout, LayoutError};

/// Most parts that one image covers.
pub const PARTS_MAX: usize = 16;

/// A part of a chip. Its bytes follow those of the part before it in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the region in the chip's layout, or any name where the place is given.
    pub name: String,
    /// Length, in the image and on the chip.
    pub length_bytes: u64,
    /// First byte on the chip; `None` where the chip's own layout has a region of this name.
    pub offset_bytes: Option<u64>,
}

/// Returns the layout that an image has in itself; where it covers parts, what each of them says.
///
/// # Errors
/// As [`Layout::read`].
pub fn layout_of(image: &[u8], parts: &[Part]) -> Result<Layout, LayoutError> {
    match parts {
        [] => Layout::read(image),
        parts => Layout::read_parts(image, &ranges_in_image(parts)),
    }
}

/// Returns where each part's bytes are in the image.
pub(super) fn ranges_in_image(parts: &[Part]) -> Vec<Range<u64>> {
    let mut end_bytes = 0u64;
    let following = parts.iter().map(|part| {
        let start_bytes = end_bytes;
        end_bytes = end_bytes.saturating_add(part.length_bytes);
        start_bytes..end_bytes
    });
    following.collect()
}
