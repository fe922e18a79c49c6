//! Walks the firmware volumes of an image, the files in them, and the volumes in these.

use std::ops::Range;

use super::cbfs::Area;
use super::ffs::{Files, FirmwareFile};
use super::section::{Inside, check_sections};
use super::{Damage, Evidence, reaches_into};
use crate::image::ByteRanges;
use crate::image::layout::{FirmwareVolume, FoundVolume, Volumes, begins_with_arm_branch, u32_at};

/// Volumes lie in volumes at most so deep, sections in sections as well.
const NESTING_MAX: usize = 16;

/// A header that reaches into a closed range has at most this many bytes before it.
const HEADER_BYTES_MAX: usize = 512;

/// What was found whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    volumes: usize,
    files: usize,
    checksums: usize,
    /// Whether a volume that lies in no other one has files, so the image is not of variables only.
    has_programs: bool,
    /// Whether the image begins with a volume.
    begins_with_volume: bool,
}

impl Found {
    pub(super) fn evidence(&self) -> Option<Evidence> {
        let Self { volumes, files, checksums, .. } = *self;
        (volumes > 0).then_some(Evidence::Volumes { volumes, files, checksums })
    }

    /// Returns whether an x86 processor has to find a jump at the end of the image. Not where
    /// another one begins at the start: the first bytes of a volume are zeros unless a processor
    /// begins there. Nor on AMD platforms, where a security processor copies the firmware to where
    /// the other one begins.
    pub(super) fn needs_reset_vector(&self, image: &[u8]) -> bool {
        let vector = &image[..image.len().min(16)];
        let begins_at_start = begins_with_arm_branch(image)
            || (self.begins_with_volume && vector.iter().any(|&byte| byte != 0));
        self.has_programs && !begins_at_start && !has_amd_firmware_structure(image)
    }
}

/// Returns the Embedded Firmware Structure of AMD, at one of its places in each 16 MiB (coreboot,
/// `util/amdfwtool`).
fn has_amd_firmware_structure(image: &[u8]) -> bool {
    const SIGNATURE: u32 = 0x55aa_55aa;
    const BANK_BYTES: usize = 0x100_0000;
    const PLACES: [usize; 6] = [0x2_0000, 0x82_0000, 0xc2_0000, 0xe2_0000, 0xf2_0000, 0xfa_0000];
    (0..image.len())
        .step_by(BANK_BYTES)
        .any(|bank| PLACES.iter().any(|place| u32_at(image, bank + place) == Some(SIGNATURE)))
}

/// Checks every volume outside of `file_systems`, in which coreboot files may contain anything, and
/// outside of what is closed.
pub(super) fn check(
    image: &[u8],
    file_systems: &[Area],
    closed: &ByteRanges,
) -> Result<Found, Damage> {
    let is_closed = |start: usize, length: usize| reaches_into(closed, start..start + length);
    let mut found = Found::default();
    for gap in gaps(image.len(), file_systems) {
        let bytes = &image[gap.clone()];
        for volume in Volumes::of(bytes) {
            match volume {
                FoundVolume::Whole(FirmwareVolume { offset_bytes, length_bytes, .. })
                    if is_closed(gap.start + offset_bytes, length_bytes) => {}
                FoundVolume::Damaged { offset_bytes, .. }
                    if is_closed(gap.start + offset_bytes, HEADER_BYTES_MAX) => {}
                FoundVolume::Whole(volume) => {
                    let files_before = found.files;
                    check_volume(bytes, &volume, gap.start, 0, &mut found)?;
                    found.has_programs |= found.files > files_before;
                    found.begins_with_volume |= gap.start + volume.offset_bytes == 0;
                }
                FoundVolume::Damaged { offset_bytes, flaw } => {
                    return Err(Damage::new(gap.start + offset_bytes, flaw.to_string()));
                }
            }
        }
    }
    Ok(found)
}

/// Returns the bytes that belong to no area.
fn gaps(image_bytes: usize, areas: &[Area]) -> Vec<Range<usize>> {
    let mut taken: Vec<_> = areas.iter().map(|area| area.range.clone()).collect();
    taken.sort_by_key(|range| range.start);
    let mut gaps = Vec::new();
    let mut start = 0;
    for range in taken {
        if start < range.start {
            gaps.push(start..range.start);
        }
        start = start.max(range.end);
    }
    if start < image_bytes {
        gaps.push(start..image_bytes);
    }
    gaps
}

/// Checks the files of `volume`, which was parsed from `bytes`; these begin at `base` in the image.
fn check_volume(
    bytes: &[u8],
    volume: &FirmwareVolume,
    base: usize,
    depth: usize,
    found: &mut Found,
) -> Result<(), Damage> {
    found.volumes += 1;
    for file in Files::of(bytes, volume).into_iter().flatten() {
        let file =
            file.map_err(|damaged| Damage::new(base + damaged.offset_bytes, damaged.to_string()))?;
        found.files += 1;
        found.checksums += usize::from(file.has_checksum);
        if has_sections(&file) {
            let start = file.offset_bytes + file.header_bytes;
            let contents = &bytes[start..file.offset_bytes + file.length_bytes];
            check_contents(contents, base + start, depth, found)?;
        }
    }
    Ok(())
}

/// Every type of the specification but raw (01h); padding, and what vendors define, may be
/// anything.
fn has_sections(file: &FirmwareFile) -> bool {
    matches!(file.kind, 0x02..=0x0f) && !file.is_deleted
}

fn check_contents(
    contents: &[u8],
    base: usize,
    depth: usize,
    found: &mut Found,
) -> Result<(), Damage> {
    if depth > NESTING_MAX {
        return Err(Damage::new(
            base,
            format!("sections in sections, expected at most {NESTING_MAX} deep"),
        ));
    }
    check_sections(contents, base, |offset, inside| match inside {
        Inside::Nothing => Ok(()),
        Inside::Sections(sections) => check_contents(sections, offset, depth + 1, found),
        Inside::Volume(bytes) => {
            let volume = FirmwareVolume::parse(bytes, 0)
                .map_err(|flaw| Damage::new(offset, flaw.to_string()))?;
            check_volume(bytes, &volume, offset, depth + 1, found)
        }
    })
}
