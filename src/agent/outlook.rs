//! How much an update would change, foreseen by an agent that has only the manifest: `firmcast
//! update --dry-run`.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::flash::{EraseBlock, Estimate, FlashError, Geometry, Workload};
use crate::image::boot_guard::{BootGuard, ComponentKind};
use crate::image::layout::host_access;
use crate::image::{ByteRanges, Contents, Fitting, Manifest, Region, RegionAction};
use crate::reason::{Reason, Refusal};
use crate::wire::excerpt::PieceSet;
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

/// Fails when something has to change that the chip's flash descriptor does not let the host write,
/// as far as the manifest tells: where a whole piece that differs lies in it. Recovery finds the
/// rest.
///
/// # Errors
/// As the flash job would refuse it, with the same reason and words.
pub fn check_host_may_write(
    contents: &Contents,
    manifest: &Manifest,
    fitting: &Fitting,
) -> Result<(), Refusal> {
    let no_write = host_access(contents.bytes()).map(|access| access.no_write).unwrap_or_default();
    if no_write.is_empty() {
        return Ok(());
    }
    let no_write: ByteRanges = no_write.into_iter().collect();
    let ruled = ruled(fitting);
    let is_out_of_reach = |part: &Range<u64>| no_write.covers(part) && !ruled.overlaps(part);
    let is_asked = |piece: &ByteRanges| !piece.is_empty() && piece.iter().all(is_out_of_reach);
    match differing_pieces(contents.bytes(), manifest, fitting, is_asked).first() {
        None => Ok(()),
        Some(piece) => {
            let offset_bytes = piece.iter().next().map_or(0, |part| part.start);
            Err((&FlashError::NotForHost { offset_bytes }).into())
        }
    }
}

/// Where the bundle has another rule than the image's bytes.
fn ruled(fitting: &Fitting) -> ByteRanges {
    let ruled = fitting.regions().iter().filter(|region| region.action != RegionAction::Replace);
    ruled.map(Region::range64).collect()
}

/// Fails when an eraseblock has to be rewritten of which the bundle keeps some bytes: a power cut
/// meanwhile would lose them. Returns those of which that is not known: the manifest has digests of
/// larger pieces, in which kept bytes count, too.
///
/// # Errors
/// As the flash job would refuse it, with the same reason and words.
pub fn check_shared_eraseblocks(
    contents: &Contents,
    manifest: &Manifest,
    fitting: &Fitting,
    geometry: &Geometry,
) -> Result<ByteRanges, Refusal> {
    let kept: ByteRanges = fitting.kept_in_place().map(Region::range64).collect();
    let ruled = ruled(fitting);
    let moved: ByteRanges = fitting.moved().iter().map(|moved| moved.to.clone()).collect();
    let is_shared = |block: &EraseBlock| {
        let range = block.offset_bytes()..block.end_bytes();
        kept.overlaps(&range) && !kept.covers(&range)
    };
    let blocks: Vec<EraseBlock> = geometry.blocks().filter(is_shared).collect();
    let of_blocks: ByteRanges =
        blocks.iter().map(|block| block.offset_bytes()..block.end_bytes()).collect();
    let is_asked = |piece: &ByteRanges| piece.iter().any(|part| of_blocks.overlaps(part));
    let pieces = differing_pieces(contents.bytes(), manifest, fitting, is_asked);
    let mut unknown = ByteRanges::default();
    for block in blocks {
        let range = block.offset_bytes()..block.end_bytes();
        // Nothing but bytes of this block that the image decides.
        let is_own = |piece: &ByteRanges| {
            !piece.is_empty()
                && piece.iter().all(|part| {
                    range.start <= part.start && part.end <= range.end && !ruled.overlaps(part)
                })
        };
        let touches = |piece: &ByteRanges| piece.without(&ruled).overlaps(&range);
        if is_reset(fitting, contents.bytes(), &range) || pieces.iter().any(is_own) {
            return Err((&shared(block, fitting, contents)).into());
        }
        if moved.overlaps(&range) || pieces.iter().any(touches) {
            unknown.insert(range);
        }
    }
    Ok(unknown)
}

/// Returns whether something in the block is to be erased and is not.
fn is_reset(fitting: &Fitting, contents: &[u8], block: &Range<u64>) -> bool {
    let resets = fitting.regions().iter().filter(|region| region.action == RegionAction::Reset);
    resets.map(Region::range64).any(|reset| {
        let at = |bytes: u64| bytes.clamp(block.start, block.end) as usize;
        contents.get(at(reset.start)..at(reset.end)).is_some_and(|b| b.iter().any(|b| *b != 0xff))
    })
}

/// Returns what a flash job says of this block.
fn shared(block: EraseBlock, fitting: &Fitting, contents: &Contents) -> FlashError {
    let (offset_bytes, length_bytes) = (block.offset_bytes(), block.length_bytes());
    let range: ByteRanges = std::iter::once(offset_bytes..block.end_bytes()).collect();
    let closed = range.without(&range.without(contents.closed()));
    let region = fitting.kept_in_place().find(|region| range.overlaps(&region.range64()));
    match region.filter(|_| closed.is_empty()) {
        Some(region) => FlashError::PreserveShares {
            name: region.name.clone(),
            region_offset_bytes: region.offset_bytes,
            offset_bytes,
            length_bytes,
        },
        None => FlashError::ClosedChanges { offset_bytes, length_bytes, closed },
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
    let pieces = differing_pieces(contents, manifest, fitting, |_| true);
    let differing: ByteRanges = pieces.iter().flat_map(ByteRanges::iter).cloned().collect();
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

/// Returns the pieces of the image that the chip, which holds `contents`, does not have at their
/// places; of an image of parts all, as recovery knows these places only when it has the image.
pub fn lacking_pieces(contents: &Contents, manifest: &Manifest) -> Option<PieceSet> {
    let pieces = manifest.block_digests().len();
    if !manifest.lies_as_on_chip() {
        return PieceSet::all_of(pieces);
    }
    let mut lacking = PieceSet::none_of(pieces)?;
    for piece in 0..pieces {
        let range = manifest.piece(piece);
        let closed = contents.closed().overlaps(&(range.start as u64..range.end as u64));
        let own = contents.bytes().get(range).filter(|_| !closed);
        if !own.is_some_and(|bytes| manifest.is_piece(piece, bytes)) {
            lacking.insert(piece);
        }
    }
    Some(lacking)
}

/// Returns the pieces of the chip that are not the image's, each with its places. Only those are
/// digested that are asked for by their places.
fn differing_pieces(
    contents: &[u8],
    manifest: &Manifest,
    fitting: &Fitting,
    is_asked: impl Fn(&ByteRanges) -> bool,
) -> Vec<ByteRanges> {
    let in_image_order = fitting.in_image_order(contents);
    let piece_bytes = manifest.block_size_bytes();
    let pieces = in_image_order.chunks(piece_bytes).zip(manifest.block_digests()).enumerate();
    let placed = pieces.map(|(nth, (piece, digest))| {
        let start = (nth * piece_bytes) as u64;
        let places = fitting.places_of(&(start..start + piece.len() as u64));
        (places.into_iter().collect(), piece, digest)
    });
    let asked = placed.filter(|(places, _, _)| is_asked(places));
    let differing = asked.filter(|(_, piece, digest)| Sha256::digest(piece).as_slice() != *digest);
    differing.map(|(places, _, _)| places).collect()
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
        let lacking = |at: &[usize]| -> Vec<usize> {
            let mut contents = image.clone();
            at.iter().for_each(|at| contents[*at] ^= 0x10);
            lacking_pieces(&Contents::whole(contents), &manifest).unwrap().iter().collect()
        };
        assert!(lacking(&[]).is_empty());
        // What is preserved counts, too: recovery makes the whole image.
        assert_eq!(lacking(&[0, 0x7_0000]), [0, 7]);
    }

    #[test]
    fn what_the_host_may_not_write_is_found_in_the_manifest() {
        use crate::image::layout::samples::{UNUSED, descriptor_skylake, pages};
        let mut regions = [UNUSED; 16];
        (regions[0], regions[1]) = (pages(0, 0), pages(0x40, 0x7f));
        regions[2] = pages(0x10, 0x2f);
        let mut image: Vec<u8> = (0..0x8_0000u32).map(|n| (n >> 12) as u8 | 1).collect();
        // The host may read all, and write descriptor and BIOS.
        descriptor_skylake(&mut image, &regions, 0x0030_ff00);
        let told = |at: usize, action| {
            let region = Region {
                name: "me".into(),
                offset_bytes: 0x1_0000,
                length_bytes: 0x2_0000,
                action,
            };
            let description = Description {
                version: "1".into(),
                vendor: "V".into(),
                products: vec!["P".into()],
                regions: vec![region],
                ..Description::default()
            };
            let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image);
            let manifest = manifest.unwrap();
            let mut contents = image.clone();
            contents[at] ^= 0x10;
            let contents = Contents::whole(contents);
            let fitting = check_layout(&contents, &manifest).unwrap();
            check_host_may_write(&contents, &manifest, &fitting)
        };
        let refusal = told(0x2_1000, RegionAction::Replace).unwrap_err();
        assert_eq!(refusal.reason, Reason::FlashLocked);
        assert!(refusal.detail.contains("0x20000"), "{refusal}");
        told(0x2_1000, RegionAction::Preserve).unwrap();
        told(0x4_1000, RegionAction::Replace).unwrap();
    }

    #[test]
    fn eraseblocks_that_kept_bytes_share_with_others_are_found_in_the_manifest() {
        let image: Vec<u8> = (0..0x8_0000u32).map(|n| (n >> 12) as u8 | 1).collect();
        let region = |name: &str, offset_bytes, length_bytes, action| Region {
            name: name.into(),
            offset_bytes,
            length_bytes,
            action,
        };
        let regions = vec![
            region("gbe", 0x1000, 0x2000, RegionAction::Preserve),
            region("log", 0x4_0000, 0x1000, RegionAction::Reset),
            region("pd", 0x4_1000, 0xf000, RegionAction::Preserve),
            region("serial", 0x5_8000, 0x8000, RegionAction::Preserve),
        ];
        let description = Description {
            version: "1".into(),
            vendor: "V".into(),
            products: vec!["P".into()],
            regions,
            ..Description::default()
        };
        let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image).unwrap();
        let told = |at: usize, block_bytes: u32| {
            let mut contents = image.clone();
            contents[0x4_0000..0x4_1000].fill(0xff);
            contents[at] ^= 0x10;
            let contents = Contents::whole(contents);
            let fitting = check_layout(&contents, &manifest).unwrap();
            let geometry =
                Geometry::uniform(0x8_0000, block_bytes, 1, WriteRule::ClearBits).unwrap();
            check_shared_eraseblocks(&contents, &manifest, &fitting, &geometry)
        };
        // The MAC address, and a byte beside it: the manifest cannot tell them apart.
        for at in [0x1000, 0x3000] {
            assert_eq!(told(at, 0x1_0000).unwrap().to_string(), "0x0-0xffff");
            assert!(told(at, 0x1000).unwrap().is_empty());
        }
        // A block in which nothing is kept, and none that differs.
        assert!(told(0x7_0000, 0x1_0000).unwrap().is_empty());
        let refused = |at, block_bytes| told(at, block_bytes).unwrap_err();
        // What is to be erased beside something kept; a whole piece beside it.
        for (at, block_bytes, name) in [(0x4_0000, 0x1_0000, "pd"), (0x7_0000, 0x4_0000, "pd")] {
            let refusal = refused(at, block_bytes);
            assert_eq!(refusal.reason, Reason::FlashUnsupported);
            assert!(refusal.detail.contains(&format!("preserved region \"{name}\"")), "{refusal}");
        }
    }
}
