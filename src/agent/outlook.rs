//! How much an update would change, foreseen by an agent that has only the manifest: `firmcast
//! update --dry-run`.

use sha2::{Digest as _, Sha256};

use crate::flash::{Estimate, Geometry, Workload};
use crate::image::boot_guard::{BootGuard, ComponentKind};
use crate::image::{ByteRanges, Contents, Fitting, Manifest, Region};
use crate::reason::{Reason, Refusal};
use crate::wire::finding::Finding;
use crate::wire::foresight::Foresight;

/// How much of a chip an update may change, as far as the manifest alone tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Eraseblocks of the chip.
    pub blocks: u32,
    /// Eraseblocks that change, at most: the manifest's digests are of larger pieces.
    pub changed_blocks_max: u32,
    /// How long that takes.
    pub estimate: Estimate,
    /// Why the firmware that runs looks doubtful.
    pub doubt: Option<String>,
}

impl Outlook {
    /// The answer for a manager.
    pub(super) fn tell(
        foreseen: Result<Self, Refusal>,
        campaign: u64,
        findings: Vec<Finding>,
    ) -> Foresight {
        let (outlook, refusal) = match foreseen {
            Ok(outlook) => {
                let doubt = outlook.doubt.clone().unwrap_or_default();
                (outlook, Refusal::new(Reason::None, doubt))
            }
            Err(refusal) => (Self::default(), refusal),
        };
        let saturated = |ms| u32::try_from(ms).unwrap_or(u32::MAX);
        Foresight {
            campaign,
            reason: refusal.reason,
            blocks: outlook.blocks,
            changed_blocks_max: outlook.changed_blocks_max,
            typical_ms: saturated(outlook.estimate.typical_ms),
            longest_ms: saturated(outlook.estimate.longest_ms),
            detail: refusal.detail,
            findings,
        }
    }
}

/// Returns how the manifest's image lies on the chip, which holds `contents`.
///
/// # Errors
/// [`Reason::LayoutMismatch`], with both sides: it does not belong on this chip, or something that
/// is kept would be lost. [`Reason::FlashLocked`]: it covers what is closed to the host.
pub fn check_layout(contents: &Contents, manifest: &Manifest) -> Result<Fitting, Refusal> {
    let fitting = Fitting::on_live(manifest, contents.bytes())
        .map_err(|misfit| Refusal::new(Reason::LayoutMismatch, misfit))?;
    let kept: ByteRanges = fitting.kept_in_place().map(Region::range64).collect();
    let written = fitting.covered().without(&kept);
    let closed: ByteRanges =
        contents.closed().iter().filter(|range| written.overlaps(range)).cloned().collect();
    match closed.is_empty() {
        true => Ok(fitting),
        false => Err(Refusal::new(
            Reason::FlashLocked,
            format_args!(
                "the host may not read {closed}, and the bundle does not leave it as it is: make a \
                 bundle that preserves it"
            ),
        )),
    }
}

/// Fails when the chip, which holds `contents`, has what Intel Boot Guard needs and the manifest's
/// image has not. Returns the kinds of which that is not known.
///
/// # Errors
/// [`Reason::BootGuardMismatch`], with both sides.
pub fn check_boot_guard(
    contents: &Contents,
    manifest: &Manifest,
) -> Result<Vec<ComponentKind>, Refusal> {
    if manifest.may_change_boot_guard() {
        return Ok(Vec::new());
    }
    let live = BootGuard::read(contents.bytes());
    // What Boot Guard needs is found from the end of the chip.
    if !manifest.covers_end_of(contents.bytes().len()) {
        return Ok(Vec::new());
    }
    let found = manifest.boot_guard().check_against(&live);
    found.map_err(|mismatch| Refusal::new(Reason::BootGuardMismatch, mismatch.to_string()))
}

/// Compares the pieces of the chip with the digests that the manifest has for them.
pub fn outlook(
    contents: &[u8],
    manifest: &Manifest,
    fitting: &Fitting,
    geometry: &Geometry,
) -> Outlook {
    let differing = differing(contents, manifest, fitting);
    let kept: ByteRanges = fitting.kept_in_place().map(Region::range64).collect();
    let mut work = Workload { read_bytes: 2 * contents.len() as u64, ..Workload::default() };
    for block in geometry.blocks() {
        let range = block.offset_bytes()..block.end_bytes();
        if differing.overlaps(&range) && !kept.covers(&range) {
            let length_bytes = u64::from(block.length_bytes());
            work.erases += 1;
            work.erase_bytes += length_bytes;
            work.write_bytes += length_bytes;
            work.read_bytes += 2 * length_bytes;
        }
    }
    Outlook {
        blocks: geometry.block_count(),
        changed_blocks_max: work.erases as u32,
        estimate: Estimate::of(work, geometry),
        doubt: None,
    }
}

/// Returns the pieces of the chip that are not the image's.
fn differing(contents: &[u8], manifest: &Manifest, fitting: &Fitting) -> ByteRanges {
    let in_image_order = fitting.in_image_order(contents);
    let piece_bytes = manifest.block_size_bytes();
    let pieces = in_image_order.chunks(piece_bytes).zip(manifest.block_digests()).enumerate();
    let differing =
        pieces.filter(|(_, (piece, digest))| Sha256::digest(piece).as_slice() != *digest);
    let ranges = differing.flat_map(|(nth, (piece, _))| {
        let start = (nth * piece_bytes) as u64;
        fitting.places_of(&(start..start + piece.len() as u64))
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::flash::WriteRule;
    use crate::image::{Description, PayloadFormat, Region, RegionAction};

    #[test]
    fn a_manifest_tells_what_boot_guard_would_not_start() {
        use crate::image::boot_guard::samples;
        let description = |new_boot_guard| Description {
            version: "1".into(),
            vendor: "V".into(),
            products: vec!["P".into()],
            new_boot_guard,
            ..Description::default()
        };
        let acm = |chipset| samples::image(0x1_0000, &[(2, samples::acm(chipset, 0))]);
        let chip = Contents::whole(acm(1));
        let checked = |image: &[u8], is_meant| {
            let description = description(is_meant);
            let manifest = Manifest::describe(description, image, PayloadFormat::Raw, image);
            check_boot_guard(&chip, &manifest.unwrap())
        };
        assert_eq!(checked(&acm(1), false).unwrap(), []);
        let odd = samples::image(0x1_0000, &[(2, vec![0; 64])]);
        assert_eq!(checked(&odd, false).unwrap(), [ComponentKind::Acm]);
        for other in [acm(2), vec![0x5a; 0x1_0000]] {
            let refusal = checked(&other, false).unwrap_err();
            assert_eq!(refusal.reason, Reason::BootGuardMismatch);
            assert_eq!(checked(&other, true).unwrap(), []);
        }
    }

    #[test]
    fn pieces_that_differ_count_all_their_blocks_but_the_preserved_ones() {
        let image: Vec<u8> = (0..0x8_0000u32).map(|n| (n >> 12) as u8 | 1).collect();
        let region = Region {
            name: "vars".into(),
            offset_bytes: 0,
            length_bytes: 0x8000,
            action: RegionAction::Preserve,
        };
        let description = Description {
            version: "1".into(),
            vendor: "V".into(),
            products: vec!["P".into()],
            regions: vec![region],
            ..Description::default()
        };
        let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image).unwrap();
        assert_eq!(manifest.block_size_bytes(), 0x1_0000);
        let chip = Geometry::uniform(0x8_0000, 0x1000, 1, WriteRule::ClearBits).unwrap();
        let changed = |at: &[usize]| {
            let mut contents = image.clone();
            at.iter().for_each(|at| contents[*at] ^= 0x10);
            let fitting = check_layout(&Contents::whole(contents.clone()), &manifest).unwrap();
            outlook(&contents, &manifest, &fitting, &chip).changed_blocks_max
        };
        assert_eq!(changed(&[]), 0);
        // Half of the first piece is preserved.
        assert_eq!(changed(&[0x9000]), 8);
        assert_eq!(changed(&[0x1_0000, 0x1_ffff, 0x7_0000]), 32);
    }
}
