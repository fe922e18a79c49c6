//! What a manifest says, and the rules that every manifest obeys.

use super::layout::{Layout, LayoutError};
use super::{Digest, Region, RegionAction, sha256};
use crate::keys::Fingerprint;

/// Largest firmware image, in bytes.
pub const IMAGE_MAX: usize = 256 << 20;
/// Largest payload, in bytes: compression is only used when it helps.
pub const PAYLOAD_MAX: usize = IMAGE_MAX;
/// Most regions with a rule of their own.
pub const REGIONS_MAX: usize = 64;
/// Most products that one bundle fits.
pub const PRODUCTS_MAX: usize = 64;
/// Most versions that a bundle may be limited to update from.
pub const UPDATE_FROM_MAX: usize = 64;
/// Longest text in a manifest, in bytes.
pub const TEXT_MAX: usize = 128;
/// Most blocks with a digest of their own.
pub const BLOCKS_MAX: usize = 1024;
/// Smallest block with a digest of its own, in bytes.
pub const BLOCK_BYTES_MIN: usize = 64 << 10;

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
        signer: crate::keys::Fingerprint,
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
        signer: crate::keys::Fingerprint,
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

/// How the payload is made from the image (RFC 9124, section 3.8, Payload Format).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFormat {
    /// The image itself.
    Raw = 0,
    /// The image as one Zstandard frame (RFC 8878).
    Zstd = 1,
}

/// What the maker of a bundle says about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Version, for people.
    pub version: String,
    /// Security version: a host never goes back to a lower one (RFC 9124, section 3.2, Monotonic
    /// Sequence Number).
    pub security_version: u64,
    /// DMI `sys_vendor` of the boards that it fits (RFC 9124, section 3.3, Vendor ID).
    pub vendor: String,
    /// DMI `product_name` of the boards that it fits (RFC 9124, section 3.4, Class ID).
    pub products: Vec<String>,
    /// DMI `bios_version` that must be running for the update to start; any if empty (RFC 9124,
    /// section 3.6, Required Image Version List).
    pub update_from: Vec<String>,
    /// DMI `bios_version` that the new firmware shows once it runs, when known.
    pub expect_version: Option<String>,
    /// Regions with a rule of their own, sorted by offset (RFC 9124, section 3.10, Storage
    /// Location).
    pub regions: Vec<Region>,
    /// The byte of the image at which the processor starts; the last one when not stated.
    pub boot_offset_bytes: Option<u64>,
    /// The only host that the image is for, when it was made from that host's backup.
    pub host: Option<Fingerprint>,
    /// Whether the image may have another layout than the chip.
    pub new_layout: bool,
}

/// A well-formed manifest; who made it is another question, see [`super::VerifiedManifest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub(super) description: Description,
    pub(super) payload_format: PayloadFormat,
    pub(super) payload_bytes: u64,
    pub(super) payload_digest: Digest,
    pub(super) image_bytes: u64,
    pub(super) image_digest: Digest,
    pub(super) block_bytes: u64,
    pub(super) block_digests: Vec<Digest>,
    pub(super) stable_digest: Digest,
    pub(super) layout: Layout,
}

impl Manifest {
    /// Returns the manifest for `image`, which travels as `payload` in the given format.
    ///
    /// # Errors
    /// When the description, the image or the payload break a rule that hosts check too.
    pub fn describe(
        description: Description,
        image: &[u8],
        payload_format: PayloadFormat,
        payload: &[u8],
    ) -> Result<Self, ManifestError> {
        check_size("image", IMAGE_MAX, image.len() as u64)?;
        let block_bytes = block_bytes_for(image.len());
        let mut manifest = Manifest {
            description,
            payload_format,
            payload_bytes: payload.len() as u64,
            payload_digest: sha256(payload),
            image_bytes: image.len() as u64,
            image_digest: sha256(image),
            block_bytes: block_bytes as u64,
            block_digests: image.chunks(block_bytes).map(sha256).collect(),
            stable_digest: Digest::default(),
            layout: Layout::read(image).map_err(ManifestError::Layout)?,
        };
        manifest.check()?;
        manifest.stable_digest = manifest.stable_digest_of(image);
        Ok(manifest)
    }

    /// Version, for people.
    pub fn version(&self) -> &str {
        &self.description.version
    }

    /// Security version: a host never goes back to a lower one.
    pub fn security_version(&self) -> u64 {
        self.description.security_version
    }

    /// DMI `sys_vendor` of the boards that the image fits.
    pub fn vendor(&self) -> &str {
        &self.description.vendor
    }

    /// DMI `product_name` of the boards that the image fits; at least one.
    pub fn products(&self) -> &[String] {
        &self.description.products
    }

    /// DMI `bios_version` that must be running for the update to start; any if empty.
    pub fn update_from(&self) -> &[String] {
        &self.description.update_from
    }

    /// DMI `bios_version` that the new firmware shows once it runs, when known.
    pub fn expect_version(&self) -> Option<&str> {
        self.description.expect_version.as_deref()
    }

    /// Regions with a rule of their own: inside the image, sorted by offset, not overlapping.
    pub fn regions(&self) -> &[Region] {
        &self.description.regions
    }

    /// Returns where the processor starts: the eraseblock with this byte makes the firmware
    /// bootable.
    pub fn boot_offset_bytes(&self) -> u64 {
        self.description.boot_offset_bytes.unwrap_or(self.image_bytes - 1)
    }

    /// Returns the layout that the image has in itself; a chip with another one is not written,
    /// unless [`Manifest::may_change_layout`].
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns whether the image may have another layout than the chip.
    pub fn may_change_layout(&self) -> bool {
        self.description.new_layout
    }

    /// Returns the only host that the image is for, if there is such a host.
    pub fn host(&self) -> Option<&Fingerprint> {
        self.description.host.as_ref()
    }

    /// Returns how the payload is made from the image.
    pub fn payload_format(&self) -> PayloadFormat {
        self.payload_format
    }

    /// Size of the payload: 1 to [`PAYLOAD_MAX`].
    pub fn payload_size_bytes(&self) -> usize {
        self.payload_bytes as usize
    }

    /// SHA-256 of the payload.
    pub fn payload_digest(&self) -> &Digest {
        &self.payload_digest
    }

    /// Size of the image: 1 to [`IMAGE_MAX`].
    pub fn image_size_bytes(&self) -> usize {
        self.image_bytes as usize
    }

    /// SHA-256 of the image.
    pub fn image_digest(&self) -> &Digest {
        &self.image_digest
    }

    /// Size of the blocks that have a digest of their own; the last block may be shorter.
    pub fn block_size_bytes(&self) -> usize {
        self.block_bytes as usize
    }

    /// SHA-256 of each block of the image: 1 to [`BLOCKS_MAX`].
    pub fn block_digests(&self) -> &[Digest] {
        &self.block_digests
    }

    /// SHA-256 of the image outside [`Manifest::regions`]: what a chip still holds after the
    /// firmware has run ([`Manifest::stable_hasher`]).
    pub fn stable_digest(&self) -> &Digest {
        &self.stable_digest
    }

    /// Returns whether the image is for a board with these DMI strings (`sys_vendor`,
    /// `product_name`).
    ///
    /// They must be equal but for space at the ends, which some boards add.
    pub fn fits_board(&self, vendor: &str, product: &str) -> bool {
        vendor.trim() == self.vendor() && self.products().iter().any(|p| p == product.trim())
    }

    /// Returns whether the update may start from this running version (DMI `bios_version`).
    pub fn updates_from(&self, version: &str) -> bool {
        self.update_from().is_empty() || self.update_from().iter().any(|v| v == version.trim())
    }

    /// Fails unless every rule holds; parsing and describing both end here.
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let d = &self.description;
        check_text("the version", &d.version)?;
        check_text("the vendor", &d.vendor)?;
        check_texts("products", "a product", 1, PRODUCTS_MAX, &d.products)?;
        check_texts("versions to update from", "a version", 0, UPDATE_FROM_MAX, &d.update_from)?;
        d.expect_version.iter().try_for_each(|v| check_text("the expected version", v))?;
        check_size("payload", PAYLOAD_MAX, self.payload_bytes)?;
        check_size("image", IMAGE_MAX, self.image_bytes)?;
        if let Some(offset_bytes) = d.boot_offset_bytes
            && offset_bytes >= self.image_bytes
        {
            return Err(ManifestError::BootOutside { offset_bytes, image_bytes: self.image_bytes });
        }
        self.check_blocks()?;
        self.check_regions()
    }

    fn check_blocks(&self) -> Result<(), ManifestError> {
        let (image_bytes, block_bytes) = (self.image_bytes, self.block_bytes);
        let got = self.block_digests.len();
        let size_fits = block_bytes.is_power_of_two() && block_bytes >= BLOCK_BYTES_MIN as u64;
        let count_fits = size_fits && got as u64 == image_bytes.div_ceil(block_bytes);
        if count_fits && got <= BLOCKS_MAX {
            Ok(())
        } else {
            Err(ManifestError::BadBlocks { block_bytes, image_bytes, got })
        }
    }

    fn check_regions(&self) -> Result<(), ManifestError> {
        let regions = self.regions();
        check_count("regions", 0, REGIONS_MAX, regions.len())?;
        let mut previous: Option<(&Region, u64)> = None;
        for region in regions {
            let end_bytes = self.check_region(region)?;
            if let Some((first, first_end_bytes)) = previous
                && region.offset_bytes < first_end_bytes
            {
                return Err(ManifestError::RegionOverlap {
                    first: first.name.clone(),
                    first_end_bytes,
                    second: region.name.clone(),
                    second_offset_bytes: region.offset_bytes,
                });
            }
            previous = Some((region, end_bytes));
        }
        for (index, region) in regions.iter().enumerate() {
            if regions[..index].iter().any(|before| before.name == region.name) {
                return Err(ManifestError::RegionNameTwice { name: region.name.clone() });
            }
        }
        let preserved = regions.iter().filter(|region| region.action == RegionAction::Preserve);
        let preserved_bytes: u64 = preserved.map(|region| region.length_bytes).sum();
        if preserved_bytes == self.image_bytes {
            return Err(ManifestError::NothingToWrite);
        }
        Ok(())
    }

    /// Returns the end of `region`, which lies inside the image.
    fn check_region(&self, region: &Region) -> Result<u64, ManifestError> {
        check_text("a region's name", &region.name)?;
        let end_bytes = region.offset_bytes.checked_add(region.length_bytes);
        end_bytes.filter(|&end| end <= self.image_bytes && region.length_bytes > 0).ok_or_else(
            || ManifestError::RegionOutside {
                name: region.name.clone(),
                offset_bytes: region.offset_bytes,
                length_bytes: region.length_bytes,
                image_bytes: self.image_bytes,
            },
        )
    }
}

/// Returns the smallest power of two that divides the image into at most [`BLOCKS_MAX`] blocks.
fn block_bytes_for(image_bytes: usize) -> usize {
    image_bytes.div_ceil(BLOCKS_MAX).next_power_of_two().max(BLOCK_BYTES_MIN)
}

fn check_size(name: &'static str, max_bytes: usize, got_bytes: u64) -> Result<(), ManifestError> {
    if (1..=max_bytes as u64).contains(&got_bytes) {
        Ok(())
    } else {
        Err(ManifestError::BadSize { name, max_bytes, got_bytes })
    }
}

fn check_count(
    name: &'static str,
    min: usize,
    max: usize,
    got: usize,
) -> Result<(), ManifestError> {
    if (min..=max).contains(&got) {
        Ok(())
    } else {
        Err(ManifestError::BadCount { name, min, max, got })
    }
}

fn check_text(name: &'static str, text: &str) -> Result<(), ManifestError> {
    let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if printable && text.trim() == text && (1..=TEXT_MAX).contains(&text.len()) {
        Ok(())
    } else {
        Err(ManifestError::BadText { name, got: text.chars().take(TEXT_MAX).collect() })
    }
}

fn check_texts(
    list: &'static str,
    name: &'static str,
    min: usize,
    max: usize,
    texts: &[String],
) -> Result<(), ManifestError> {
    check_count(list, min, max, texts.len())?;
    texts.iter().try_for_each(|text| check_text(name, text))
}
