//! Why an image cannot be laid on a chip.

use crate::image::layout::{LayoutError, LayoutMismatch, LayoutRegion};

/// Why an image cannot be laid on a chip, with both sides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The layouts differ, and the bundle does not say that they may.
    #[error(
        "the image and the flash chip have different layouts: {0}; use the image for this board"
    )]
    Layout(LayoutMismatch),
    /// The chip's layout contradicts itself.
    #[error(
        "the layout on the flash chip cannot be relied on, so what the bundle keeps cannot be \
        found: {0}; restore a backup of this host first"
    )]
    LiveLayout(LayoutError),
    /// The chip has something to keep for which the image has no place.
    #[error(
        "the chip has {chip}, which belongs to this machine, and the image has no place for it; \
        use an image that has one"
    )]
    Lost {
        /// On the chip.
        chip: LayoutRegion,
    },
    /// The bundle keeps what the chip does not have.
    #[error(
        "the bundle keeps {image}, and the chip has no {}; use an image for this board, or replace \
        this region on purpose (--replace)",
        image.name
    )]
    NotOnChip {
        /// In the image, at its place on the chip.
        image: LayoutRegion,
    },
    /// A kept region does not fit into its new place.
    #[error(
        "the chip has {chip} ({:#x} bytes), and the image's place for it is {image} ({:#x} bytes), \
        which it does not fit; use an image whose region has the same size",
        chip.length_bytes, image.length_bytes
    )]
    Resized {
        /// On the chip.
        chip: LayoutRegion,
        /// In the image, at its place on the chip.
        image: LayoutRegion,
    },
    /// A kept range that no layout names, on a chip that is divided otherwise.
    #[error(
        "the bundle keeps {name:?} at {offset_bytes:#x}, which is a range and no region of the \
        image, and the chip is divided otherwise, so where it lies there is not known: {mismatch}; \
        name a region of the image instead"
    )]
    Unplaced {
        /// Its name in the bundle.
        name: String,
        /// Where it would be.
        offset_bytes: u64,
        /// How the layouts differ.
        mismatch: LayoutMismatch,
    },
    /// The descriptor that stays says something else than the image that comes.
    #[error(
        "the bundle keeps the chip's flash descriptor, which divides the chip otherwise than the \
        image: {0}; use the image for this board, or have the descriptor replaced, too \
        (--replace descriptor)"
    )]
    KeepsDescriptor(LayoutMismatch),
    /// A region that does not lie in the image.
    #[error("region {name:?} is not inside the image: make a bundle whose regions are")]
    RegionOutside {
        /// Its name in the bundle.
        name: String,
    },
    /// The chip has no region of a part's name.
    #[error(
        "the bundle is for region {name:?}, which the chip's layout does not have; it has: {known}"
    )]
    NoPart {
        /// The part.
        name: String,
        /// What the chip has.
        known: String,
    },
    /// The chip has several.
    #[error(
        "the bundle is for region {name:?}, of which the chip has several: {found}; make a bundle \
        for one of them"
    )]
    SeveralParts {
        /// The part.
        name: String,
        /// What the chip has.
        found: String,
    },
    /// A part has another size on the chip.
    #[error(
        "the bundle has {length_bytes:#x} bytes for region {name:?}, and the chip has {chip} \
        ({:#x} bytes); use the image for this board",
        chip.length_bytes
    )]
    PartSize {
        /// The part.
        name: String,
        /// Its length in the image.
        length_bytes: u64,
        /// On the chip.
        chip: LayoutRegion,
    },
    /// A part ends behind the chip.
    #[error(
        "the bundle's part {name:?} is {length_bytes:#x} bytes at {offset_bytes:#x}, and the chip \
        has {chip_bytes:#x} bytes; use the image for this board"
    )]
    PartOutside {
        /// The part.
        name: String,
        /// Where it would start.
        offset_bytes: u64,
        /// Its length.
        length_bytes: u64,
        /// Size of the chip.
        chip_bytes: u64,
    },
    /// Two parts are the same bytes of the chip.
    #[error("the bundle's parts {first:?} and {second:?} overlap on this chip; use one of them")]
    PartsOverlap {
        /// The part that starts first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A part ends inside something to keep.
    #[error(
        "the bundle's part {part:?} would replace only a piece of {chip}, which belongs to this \
        machine; use a part that leaves it out or has it whole"
    )]
    Cut {
        /// The part.
        part: String,
        /// On the chip.
        chip: LayoutRegion,
    },
}
