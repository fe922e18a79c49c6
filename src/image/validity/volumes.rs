//! Walks the firmware volumes of an image, the files in them, and the volumes in these.

use std::ops::Range;

use super::cbfs::Area;
use super::ffs::{Files, FirmwareFile};
use super::lost;
use super::place::{BLOCK_BYTES, Place, Seen};
use super::section::{Inside, check_sections};
use super::unpack::{Budget, Codec, Unpacked};
use super::{Damage, Doubts, Evidence, reaches_into};
use crate::image::ByteRanges;
use crate::image::layout::{
    FirmwareVolume, FoundVolume, Told, begins_with_arm_branch, has_amd_firmware_structure,
};
use crate::order::sort_by_rank;

/// Volumes lie in volumes at most so deep, sections in sections as well.
pub(in crate::image) const NESTING_MAX: usize = 16;

/// A header that reaches into a closed range has at most this many bytes before it.
const HEADER_BYTES_MAX: usize = 512;
/// Shortest header of a volume.
pub(in crate::image) const HEADER_BYTES_MIN: usize = 56;
/// Volumes begin at multiples of this.
pub(in crate::image) const ALIGNMENT: usize = 8;

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

/// A walk through the volumes of an image.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    told: &'a Told<'a>,
    closed: &'a ByteRanges,
    found: Found,
    doubts: &'a mut Doubts,
    seen: &'a mut Seen,
    budget: Budget,
    depth: usize,
}

/// Checks every volume outside of `file_systems`, in which coreboot files may contain anything, and
/// outside of what is closed.
pub(super) fn check(
    told: &Told<'_>,
    file_systems: &[Area],
    closed: &ByteRanges,
    doubts: &mut Doubts,
    seen: &mut Seen,
) -> Result<Found, Damage> {
    let (found, budget) = (Found::default(), Budget::default());
    let mut walk = Walk { told, closed, found, doubts, seen, budget, depth: 0 };
    for gap in gaps(told.bytes().len(), file_systems) {
        walk.check_gap(gap)?;
    }
    Ok(walk.found)
}

impl Walk<'_> {
    /// Checks the volumes in these bytes of the image, and what lies between them.
    fn check_gap(&mut self, gap: Range<usize>) -> Result<(), Damage> {
        let image = self.told.bytes();
        let mut rest = gap.clone();
        while let Some(found) = self.told.first_volume(rest.clone()) {
            let Range { start, mut end } = found.range();
            if !reaches_into(self.closed, start..end.max(start + HEADER_BYTES_MAX))
                && !self.check_found(&image[..rest.end], found, start)?
            {
                end = start + HEADER_BYTES_MIN;
            }
            lost::check(image, rest.start..start, self.closed, self.doubts)?;
            rest.start = end.next_multiple_of(ALIGNMENT).min(rest.end);
        }
        lost::check(image, rest, self.closed, self.doubts)
    }

    /// Checks a volume that begins at `start` in the image, of which `bytes` are the first ones.
    /// `false`: it is only a copy of a volume's header.
    fn check_found(
        &mut self,
        bytes: &[u8],
        found: FoundVolume,
        start: usize,
    ) -> Result<bool, Damage> {
        match found {
            FoundVolume::Whole(volume) => {
                if lost::is_spare_header(self.told.bytes(), start, &volume) {
                    return Ok(false);
                }
                let files_before = self.found.files;
                self.check_volume(bytes, &volume, Place::in_image(0))?;
                self.found.has_programs |= self.found.files > files_before;
                self.found.begins_with_volume |= start == 0;
                Ok(true)
            }
            FoundVolume::Damaged { flaw, .. } => match lost::has_twin(self.told.bytes(), start) {
                true => Ok(false),
                false => Err(Damage::new(start, flaw.to_string())),
            },
        }
    }

    /// Checks the files of a volume, which was parsed from `bytes`; these begin at `place`.
    fn check_volume(
        &mut self,
        bytes: &[u8],
        volume: &FirmwareVolume,
        place: Place,
    ) -> Result<(), Damage> {
        self.found.volumes += 1;
        if let Some(doubt) = &volume.doubt {
            self.doubts.add(Damage::doubt(place.at(volume.offset_bytes), doubt.to_string()));
        }
        self.seen.add(place, volume.offset_bytes, volume.header_bytes);
        let Some(mut files) = Files::of(bytes, volume) else { return Ok(()) };
        for file in files.by_ref() {
            let file = match file {
                Ok(file) => file,
                Err(damaged) => {
                    let at = place.at(damaged.offset_bytes);
                    if !damaged.flaw.is_doubt() {
                        return Err(Damage::new(at, damaged.to_string()));
                    }
                    self.doubts.add(Damage::doubt(at, damaged.to_string()));
                    return Ok(());
                }
            };
            self.check_file(bytes, &file, place)?;
        }
        if !place.is_unpacked() {
            let contents = &bytes[volume.offset_bytes..][..volume.length_bytes];
            let place = place.behind(volume.offset_bytes);
            if let Some(at) = erased_before_rest(contents, files.end(), place) {
                let why = "erased bytes, and others behind them: a file may be lost";
                self.doubts.add(Damage::doubt(at, why));
            }
        }
        Ok(())
    }

    fn check_file(
        &mut self,
        bytes: &[u8],
        file: &FirmwareFile,
        place: Place,
    ) -> Result<(), Damage> {
        self.found.files += 1;
        self.found.checksums += usize::from(file.has_checksum);
        let is_checked = file.has_checksum && !file.is_deleted;
        let seen_bytes = if is_checked { file.length_bytes } else { file.header_bytes };
        self.seen.add(place, file.offset_bytes, seen_bytes);
        if !has_sections(file) {
            return Ok(());
        }
        let start = file.offset_bytes + file.header_bytes;
        let contents = &bytes[start..file.offset_bytes + file.length_bytes - file.tail_bytes];
        self.check_contents(contents, place.behind(start))
    }

    fn check_contents(&mut self, contents: &[u8], place: Place) -> Result<(), Damage> {
        if self.depth > NESTING_MAX {
            return Err(Damage::new(
                place.at(0),
                format!("sections in sections, expected at most {NESTING_MAX} deep"),
            ));
        }
        self.depth += 1;
        check_sections(contents, place, |offset, section, inside| {
            let place = place.behind(offset);
            let header_bytes = |contents: &[u8]| section.bytes.len() - contents.len();
            match inside {
                Inside::Nothing { is_seen: false } => Ok(()),
                Inside::Nothing { is_seen: true } => {
                    self.seen.add(place, 0, section.bytes.len());
                    Ok(())
                }
                Inside::Doubt(why) => {
                    self.doubts.add(Damage::doubt(place.at(0), why));
                    Ok(())
                }
                Inside::Sections { contents, is_checked } => {
                    let header_bytes = header_bytes(contents);
                    let seen_bytes = if is_checked { section.bytes.len() } else { header_bytes };
                    self.seen.add(place, 0, seen_bytes);
                    self.check_contents(contents, place.behind(header_bytes))
                }
                Inside::Volume(contents) => {
                    let header_bytes = header_bytes(contents);
                    self.seen.add(place, 0, header_bytes);
                    let place = place.behind(header_bytes);
                    let volume = FirmwareVolume::parse(contents, 0)
                        .map_err(|flaw| Damage::new(place.at(0), flaw.to_string()))?;
                    self.check_volume(contents, &volume, place)
                }
                Inside::Packed { codec, packed, unpacked_bytes } => {
                    let seen = self.check_packed(codec, packed, unpacked_bytes, place)?;
                    if seen {
                        self.seen.add(place, 0, section.bytes.len());
                    }
                    Ok(())
                }
            }
        })?;
        self.depth -= 1;
        Ok(())
    }

    /// Unpacks and checks the contents of a section; `false` if that goes beyond a limit.
    fn check_packed(
        &mut self,
        codec: Codec,
        packed: &[u8],
        unpacked_bytes: Option<u32>,
        place: Place,
    ) -> Result<bool, Damage> {
        let damage = |why: String| Damage::new(place.at(0), format!("section: {why}"));
        let bytes = match self.budget.unpack(codec, packed).map_err(damage)? {
            Unpacked::Bytes(bytes) => bytes,
            Unpacked::Unseen => return Ok(false),
        };
        if let Some(expected) = unpacked_bytes
            && expected as usize != bytes.len()
        {
            let got = bytes.len();
            return Err(damage(format!("0x{got:x} bytes unpacked, expected 0x{expected:x}")));
        }
        let checked = self.check_contents(&bytes, place.unpacked());
        self.budget.release(bytes.len());
        checked.map_err(|inner| Damage { why: format!("unpacked: {}", inner.why), ..inner })?;
        Ok(true)
    }
}

/// Returns where a block begins whose erasure has taken a file: its last bytes are erased from
/// there on, no file begins at `end`, and where a later block begins there are others than erased
/// bytes. Makers keep other data there too, so this is only a doubt.
fn erased_before_rest(volume: &[u8], end: usize, place: Place) -> Option<usize> {
    let is_blank = |byte: &u8| *byte == 0xff;
    let next = end + volume.get(end..)?.iter().take_while(|byte| is_blank(byte)).count();
    let in_block = place.at(end) % BLOCK_BYTES;
    let start = end.checked_sub(in_block)?;
    let is_lost = in_block > 0
        && next < volume.len()
        && place.at(next).is_multiple_of(BLOCK_BYTES)
        && volume[start..end].iter().all(is_blank);
    is_lost.then(|| place.at(start))
}

/// Returns the bytes that belong to no area.
pub(in crate::image) fn gaps(image_bytes: usize, areas: &[Area]) -> Vec<Range<usize>> {
    let mut taken: Vec<_> = areas.iter().map(|area| area.range.clone()).collect();
    sort_by_rank(&mut taken, |range| [range.start as u64]);
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

/// Every type of the specification but raw (01h); padding, and what vendors define, may be
/// anything.
pub(in crate::image) fn has_sections(file: &FirmwareFile) -> bool {
    matches!(file.kind, 0x02..=0x0f) && !file.is_deleted
}
