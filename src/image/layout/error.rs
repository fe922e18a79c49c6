//! Why a layout cannot be used.

use super::LayoutRegion;
use super::REGIONS_MAX;

/// Layout that contradicts itself or the size of what it describes. Nothing may be written by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A region ends outside.
    #[error("region {region} does not fit into 0x{size_bytes:x} bytes")]
    OutOfRange {
        /// The region.
        region: LayoutRegion,
        /// Size of the image or chip.
        size_bytes: u64,
    },
    /// Two regions share bytes and neither lies inside the other.
    #[error(
        "region {first} overlaps region {second}, expected them apart or one inside the other; \
        no update is possible by such a layout"
    )]
    Overlap {
        /// The one that begins first.
        first: LayoutRegion,
        /// The one that begins inside it and ends outside.
        second: LayoutRegion,
    },
    /// Two regions of different kinds are the same bytes.
    #[error(
        "region {first} is {} and region {second} is {}, expected one kind for the same bytes",
        first.kind, second.kind
    )]
    TwoKinds {
        /// One name for the bytes.
        first: LayoutRegion,
        /// The other one.
        second: LayoutRegion,
    },
    /// Two regions of the same name.
    #[error(
        "region {first} has the same name as the one at 0x{:x}, expected each name once",
        second.offset_bytes
    )]
    SameName {
        /// The one that begins first.
        first: LayoutRegion,
        /// The other one.
        second: LayoutRegion,
    },
    /// A region without bytes.
    #[error("region {name} at 0x{offset_bytes:x} has no bytes, expected at least one")]
    Empty {
        /// Its name.
        name: String,
        /// Its first byte.
        offset_bytes: u64,
    },
    /// A name that cannot be shown or typed.
    #[error(
        "name {name:?} of the region at 0x{offset_bytes:x}: expected 1 to 32 printable ASCII \
        characters without space around them"
    )]
    Name {
        /// The name as found.
        name: String,
        /// The region's first byte.
        offset_bytes: u64,
    },
    /// More regions than [`REGIONS_MAX`].
    #[error("{count} regions, expected at most {REGIONS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The Intel flash descriptor refers to bytes outside itself.
    #[error(
        "intel flash descriptor: its {what} would lie at 0x{offset_bytes:x}, expected it in the \
        first 0x1000 bytes"
    )]
    DescriptorPointer {
        /// The part.
        what: &'static str,
        /// Where it would lie.
        offset_bytes: u64,
    },
    /// The Intel flash descriptor does not describe the region that it is itself.
    #[error("intel flash descriptor: its own region is {found}, expected it to begin at 0x0")]
    DescriptorRegion {
        /// What the descriptor says.
        found: String,
    },
    /// A flash map without areas.
    #[error("flash map at 0x{offset_bytes:x} has 0 areas, expected at least 1")]
    FlashMapEmpty {
        /// Where the flash map lies.
        offset_bytes: u64,
    },
    /// A flash map whose areas do not end before the image does.
    #[error(
        "flash map at 0x{offset_bytes:x} announces {count} areas, expected no more than fit into \
        the image"
    )]
    FlashMapTruncated {
        /// Where the flash map lies.
        offset_bytes: u64,
        /// How many areas it announces.
        count: usize,
    },
    /// A flash map of something larger.
    #[error(
        "flash map at 0x{offset_bytes:x} describes 0x{described_bytes:x} bytes, expected \
        0x{size_bytes:x}"
    )]
    FlashMapSize {
        /// Where the flash map lies.
        offset_bytes: u64,
        /// What it describes.
        described_bytes: u64,
        /// Size of the image or chip.
        size_bytes: u64,
    },
    /// Two flash maps that fit and do not say the same.
    #[error("flash maps at 0x{first_bytes:x} and 0x{second_bytes:x} disagree, expected them equal")]
    FlashMapsDisagree {
        /// Where the first one lies.
        first_bytes: u64,
        /// Where the other one lies.
        second_bytes: u64,
    },
    /// A line of a layout file that cannot be understood.
    #[error("layout line {line}: {text:?}, expected `start:end name` in hexadecimal, end included")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

impl LayoutError {
    /// Returns where in the image the contradiction lies; 0 where it has no place.
    pub fn offset_bytes(&self) -> u64 {
        match self {
            Self::OutOfRange { region, .. } => region.offset_bytes,
            Self::Overlap { second, .. }
            | Self::TwoKinds { second, .. }
            | Self::SameName { second, .. } => second.offset_bytes,
            Self::Empty { offset_bytes, .. }
            | Self::Name { offset_bytes, .. }
            | Self::DescriptorPointer { offset_bytes, .. }
            | Self::FlashMapEmpty { offset_bytes }
            | Self::FlashMapTruncated { offset_bytes, .. }
            | Self::FlashMapSize { offset_bytes, .. } => *offset_bytes,
            Self::FlashMapsDisagree { second_bytes, .. } => *second_bytes,
            Self::TooMany { .. } | Self::DescriptorRegion { .. } | Self::Line { .. } => 0,
        }
    }
}
