//! What a manifest says; `rules` are those that every manifest obeys.

use super::boot_guard::BootGuard;
use super::layout::{FFS_GUIDS, FlashMap, FoundVolume, Layout, RegionKind, Volumes};
use super::part::layout_of;
use super::{Digest, Part, Region, RegionAction, sha256};
use crate::keys::Fingerprint;

mod error;
mod rules;

pub use error::ManifestError;

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
    /// Whether the image may have other components of Boot Guard than the chip, or none.
    pub new_boot_guard: bool,
    /// The parts of the chip that the image covers, in its order; none where it is the whole chip.
    pub parts: Vec<Part>,
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
    pub(super) boot_guard: BootGuard,
    pub(super) lacks_variable_store: bool,
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
        rules::check_size("image", IMAGE_MAX, image.len() as u64)?;
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
            layout: Layout::default(),
            boot_guard: BootGuard::default(),
            lacks_variable_store: false,
        };
        manifest.check_parts()?;
        manifest.layout = layout_of(image, manifest.parts()).map_err(ManifestError::Layout)?;
        if manifest.parts().len() <= 1 {
            manifest.boot_guard = BootGuard::read(image);
        }
        manifest.lacks_variable_store = is_uefi(image) && !manifest.knows_variables();
        manifest.let_firmware_write_its_variables();
        manifest.check()?;
        manifest.stable_digest = manifest.stable_digest_of(image);
        Ok(manifest)
    }

    /// Returns the parts of the chip that the image covers, in its order; none where it is the
    /// whole chip.
    pub fn parts(&self) -> &[Part] {
        &self.description.parts
    }

    /// Returns whether the image is of UEFI firmware, and neither its layout nor the maker of the
    /// bundle knows where that keeps its variables: an update may overwrite them.
    pub fn lacks_variable_store(&self) -> bool {
        self.lacks_variable_store
    }

    /// A store of the image, a place that the maker has named, or a host's own backup.
    fn knows_variables(&self) -> bool {
        let regions = self.layout.regions();
        let is_own = |named: &Region| {
            let range = named.offset_bytes..named.offset_bytes.saturating_add(named.length_bytes);
            !regions.iter().any(|region| region.range() == range)
        };
        regions.iter().any(|region| region.kind == RegionKind::VariableStore)
            || self.regions().iter().any(is_own)
            || self.host().is_some()
    }

    /// A variable store that stays is volatile, whoever made the bundle.
    pub(super) fn let_firmware_write_its_variables(&mut self) {
        let mut regions = std::mem::take(&mut self.description.regions);
        for region in &mut regions {
            if region.action == RegionAction::Preserve && self.is_variable_store(region) {
                region.action = RegionAction::Volatile;
            }
        }
        self.description.regions = regions;
    }

    /// Returns whether a region is a variable store by the image's own layout.
    pub(super) fn is_variable_store(&self, region: &Region) -> bool {
        let range = region.offset_bytes..region.offset_bytes.saturating_add(region.length_bytes);
        let stores = self.layout.regions().iter();
        stores.filter(|store| store.kind == RegionKind::VariableStore).any(|s| s.range() == range)
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

    /// Returns where in the image the processor starts: the eraseblock with this byte makes the
    /// firmware bootable. `None` where the image covers parts, and none of them is known to have
    /// it.
    pub fn boot_offset_bytes(&self) -> Option<u64> {
        let last = self.parts().is_empty().then(|| self.image_bytes.saturating_sub(1));
        self.description.boot_offset_bytes.or(last)
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

    /// Returns whether the last bytes of a chip of this size are those of the image.
    pub fn covers_end_of(&self, chip_bytes: usize) -> bool {
        match self.parts() {
            [] => true,
            // The kind of region at the end of the chip, by its name.
            [only] => match only.offset_bytes {
                Some(offset) => offset.checked_add(only.length_bytes) == Some(chip_bytes as u64),
                None => RegionKind::of_name(&only.name) == RegionKind::Bios,
            },
            _ => false,
        }
    }

    /// Returns what Boot Guard finds in the image; a chip that has other things is not written,
    /// unless [`Manifest::may_change_boot_guard`].
    pub fn boot_guard(&self) -> &BootGuard {
        &self.boot_guard
    }

    /// Returns whether the image may have other components of Boot Guard than the chip.
    pub fn may_change_boot_guard(&self) -> bool {
        self.description.new_boot_guard
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

    /// A manifest that may break the rules.
    #[cfg(test)]
    pub(super) fn for_tests(image: &[u8], description: Description) -> Self {
        Self {
            layout: layout_of(image, &description.parts).unwrap_or_default(),
            description,
            payload_format: PayloadFormat::Raw,
            payload_bytes: image.len() as u64,
            payload_digest: sha256(image),
            image_bytes: image.len() as u64,
            image_digest: sha256(image),
            block_bytes: BLOCK_BYTES_MIN as u64,
            block_digests: Vec::new(),
            stable_digest: Digest::default(),
            boot_guard: BootGuard::default(),
            lacks_variable_store: false,
        }
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
}

/// Whether there are programs of UEFI in it, and no flash map, which would tell where all data is.
fn is_uefi(image: &[u8]) -> bool {
    let is_of_programs = |found| match found {
        FoundVolume::Whole(volume) => FFS_GUIDS.contains(&volume.file_system),
        FoundVolume::Damaged { .. } => false,
    };
    Volumes::of(image).any(is_of_programs) && !matches!(FlashMap::find(image), Ok(Some(_)))
}

/// Returns the smallest power of two that divides the image into at most [`BLOCKS_MAX`] blocks.
fn block_bytes_for(image_bytes: usize) -> usize {
    image_bytes.div_ceil(BLOCKS_MAX).next_power_of_two().max(BLOCK_BYTES_MIN)
}
