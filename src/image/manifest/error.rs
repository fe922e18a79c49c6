//! Why bytes are not an acceptable manifest.

use super::TEXT_MAX;
use crate::image::layout::LayoutError;
use crate::keys::Fingerprint;

/// Why bytes are not an acceptable manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than any manifest.
    #[error("the manifest has {got_bytes} bytes, expected at most {max_bytes}")]
    TooLarge {
        /// The limit.
        max_bytes: usize,
        /// What was given.
        got_bytes: usize,
    },
    /// Not CBOR, or CBOR of another shape.
    #[error("the manifest is damaged: {what}")]
    Malformed {
        /// What was expected where.
        what: &'static str,
    },
    /// Not the one encoding that the manifest's contents have.
    #[error(
        "the manifest is damaged or was not made by firmcast: it is not in its deterministic \
        encoding"
    )]
    NotDeterministic,
    /// A field or structure version that this program does not know.
    #[error(
        "the bundle was made by a newer firmcast (manifest {what} {value}): update firmcast here \
        first"
    )]
    Newer {
        /// What is unknown: `field`, `version` or `payload format`.
        what: &'static str,
        /// Its number.
        value: i128,
    },
    /// A field that every manifest has is not there.
    #[error("the manifest is damaged: field {label} ({name}) is missing")]
    Missing {
        /// The field's label.
        label: u8,
        /// The field's name.
        name: &'static str,
    },
    /// The signature was made by a key that is not trusted here.
    #[error(
        "the bundle is signed by release key {signer}, which is not trusted here: expected one of \
        {trusted} trusted keys; check who made the bundle, or add that key to the trusted \
        releases"
    )]
    UntrustedSigner {
        /// The key that the manifest names.
        signer: Fingerprint,
        /// How many keys are trusted.
        trusted: usize,
    },
    /// The signature does not fit the manifest.
    #[error(
        "the bundle's signature is wrong for release key {signer}: the bundle was altered or \
        damaged, get it again from its maker"
    )]
    BadSignature {
        /// The trusted key that the manifest names.
        signer: Fingerprint,
    },
    /// A text is empty, too long, or not printable ASCII.
    #[error(
        "{name} must be 1 to {TEXT_MAX} printable ASCII characters without space at either end, \
        got {got:?}"
    )]
    BadText {
        /// Which text.
        name: &'static str,
        /// The text.
        got: String,
    },
    /// More entries than a list may have, or none where one is needed.
    #[error("the manifest has {got} {name}, expected {min} to {max}")]
    BadCount {
        /// Which list.
        name: &'static str,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
        /// What was given.
        got: usize,
    },
    /// An image or payload of a size that is not supported.
    #[error("the {name} has {got_bytes} bytes, expected 1 to {max_bytes}")]
    BadSize {
        /// `image` or `payload`.
        name: &'static str,
        /// The limit.
        max_bytes: usize,
        /// What was given.
        got_bytes: u64,
    },
    /// The digests do not divide the image as they should.
    #[error(
        "the manifest has {got} block digests of {block_bytes} bytes each for an image of \
        {image_bytes} bytes"
    )]
    BadBlocks {
        /// Size of one block.
        block_bytes: u64,
        /// Size of the image.
        image_bytes: u64,
        /// How many digests.
        got: usize,
    },
    /// A region is empty or not inside the image.
    #[error(
        "region {name:?} is {length_bytes:#x} bytes at {offset_bytes:#x}, expected 1 byte or more \
        inside the image of {image_bytes:#x} bytes"
    )]
    RegionOutside {
        /// Its name.
        name: String,
        /// Where it starts.
        offset_bytes: u64,
        /// How long it is.
        length_bytes: u64,
        /// Size of the image.
        image_bytes: u64,
    },
    /// Regions overlap or are not sorted.
    #[error(
        "region {second:?} at {second_offset_bytes:#x} starts before the end of {first:?} at \
        {first_end_bytes:#x}: regions must be sorted by offset and not overlap"
    )]
    RegionOverlap {
        /// The region before.
        first: String,
        /// Where it ends.
        first_end_bytes: u64,
        /// The region behind.
        second: String,
        /// Where it starts.
        second_offset_bytes: u64,
    },
    /// A part of the chip that cannot be.
    #[error("part {name:?} is wrong: {why}; name each part of the chip once")]
    BadPart {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The parts are not the image.
    #[error(
        "the parts have {parts_bytes:#x} bytes, the image {image_bytes:#x}: they must be equal"
    )]
    PartsSize {
        /// Sum of the parts.
        parts_bytes: u64,
        /// Size of the image.
        image_bytes: u64,
    },
    /// A region that is not in one part.
    #[error("region {name:?} does not lie in one part of the image: give a range in one of them")]
    RegionAcross {
        /// Its name.
        name: String,
    },
    /// Two regions have one name.
    #[error("two regions are named {name:?}: give each its own name")]
    RegionNameTwice {
        /// The name.
        name: String,
    },
    /// The image's layout contradicts itself.
    #[error("the image has no usable layout: {0}")]
    Layout(LayoutError),
    /// The processor would start outside the image.
    #[error(
        "the firmware starts at {offset_bytes:#x}, expected an offset inside the image of \
        {image_bytes:#x} bytes"
    )]
    BootOutside {
        /// Where.
        offset_bytes: u64,
        /// Size of the image.
        image_bytes: u64,
    },
    /// Nothing would be written.
    #[error("the preserved regions cover the whole image: nothing would be updated")]
    NothingToWrite,
}
