//! What is left of firmware whose headers are lost, and what only looks like it.

use std::ops::Range;

use super::ffs::Files;
use super::{Damage, Doubts, reaches_into};
use crate::image::ByteRanges;
use crate::image::layout::{FirmwareVolume, find_word, u16_at, u32_at};

const ALIGNMENT: usize = 8;
/// The bytes of a header that another one must have as well to be a copy, if the header's own
/// length cannot be.
const HEADER_BYTES_MIN: usize = 56;
const HEADER_BYTES_MAX: usize = 512;
const SIGNATURE: &[u8; 4] = b"_FVH";
const SIGNATURE_OFFSET: usize = 40;
/// State and place of a file's header: written as a whole, where erased bits are ones.
const STATE_OFFSET: usize = 23;
const STATE: u8 = 0xf8;
/// So many files one after the other are no chance.
const FILES_MIN: usize = 2;

/// Checks a part of the image that lies in no volume: no files have lost theirs.
pub(super) fn check(
    image: &[u8],
    gap: Range<usize>,
    closed: &ByteRanges,
    doubts: &mut Doubts,
) -> Result<(), Damage> {
    let bytes = &image[gap.clone()];
    // The state is the last byte of a header's last word.
    const LAST: usize = STATE_OFFSET % ALIGNMENT;
    let words = bytes.get(STATE_OFFSET - LAST..).unwrap_or_default().as_chunks::<ALIGNMENT>().0;
    let mut next = 0;
    let mut starts = std::iter::from_fn(|| {
        let nth = next + find_word(&words[next..], |word| word[LAST] == STATE)?;
        next = nth + 1;
        Some(nth * ALIGNMENT)
    });
    let Some(start) = starts.find(|start| is_file_chain(&bytes[*start..])) else { return Ok(()) };
    let why = "firmware files that lie in no volume, expected the header of one before them";
    match reaches_into(closed, gap.start..gap.start + start) {
        // The header may lie in what cannot be read.
        true => doubts.add(Damage::doubt(gap.start + start, why)),
        false => return Err(Damage::new(gap.start + start, why)),
    }
    Ok(())
}

fn is_file_chain(bytes: &[u8]) -> bool {
    let mut files = Files::without_volume(bytes).take(FILES_MIN);
    let mut count = 0;
    let are_whole = files.all(|file| {
        count += 1;
        file.is_ok_and(|file| matches!(file.kind, 0x01..=0x0f | 0xf0) && !file.is_deleted)
    });
    are_whole && count == FILES_MIN
}

/// Returns whether what begins at `start` is only a copy of the header of another volume: nothing
/// of the files that should follow is there.
pub(in crate::image) fn is_spare_header(
    image: &[u8],
    start: usize,
    volume: &FirmwareVolume,
) -> bool {
    let bytes = &image[start..];
    let next = memchr::memmem::find(&bytes[HEADER_BYTES_MIN..], SIGNATURE);
    let next = next.map_or(bytes.len(), |at| at + HEADER_BYTES_MIN - SIGNATURE_OFFSET);
    let volume = FirmwareVolume {
        offset_bytes: 0,
        length_bytes: volume.length_bytes.min(next).max(volume.header_bytes),
        ..volume.clone()
    };
    let Some(mut files) = Files::of(bytes, &volume) else { return false };
    // Where none begins the volume may be empty.
    let begins_with_file = !matches!(files.next(), Some(Err(_)));
    !begins_with_file && !files.has_any() && has_twin(image, start)
}

/// Returns whether the header at `start` stands elsewhere, too.
pub(super) fn has_twin(image: &[u8], start: usize) -> bool {
    let length = u16_at(image, start + 48).map_or(0, usize::from);
    let length = length.clamp(HEADER_BYTES_MIN, HEADER_BYTES_MAX);
    let Some(header) = image.get(start..start + length) else { return false };
    memchr::memmem::find_iter(image, header).any(|at| at != start)
}

/// Returns the doubt about an image that has no descriptor, but a Management Engine's table of
/// partitions as only chips with a descriptor have it, and nothing where the descriptor should be.
pub(super) fn descriptor_doubt(image: &[u8]) -> Option<Damage> {
    const PAGE_BYTES: usize = 0x1000;
    const SIGNATURE: u32 = u32::from_le_bytes(*b"$FPT");
    const PARTITIONS_MAX: u32 = 64;
    const DESCRIPTOR_SIGNATURE_END: usize = 0x14;
    let page = image.get(..PAGE_BYTES)?;
    let is_blank = |byte: &u8| *byte == page[PAGE_BYTES - 1] && matches!(byte, 0x00 | 0xff);
    if !page[DESCRIPTOR_SIGNATURE_END..].iter().all(is_blank) {
        return None;
    }
    let is_table = |at: usize| {
        u32_at(image, at) == Some(SIGNATURE)
            && matches!(u32_at(image, at + 4), Some(1..=PARTITIONS_MAX))
    };
    let pages = (PAGE_BYTES..image.len()).step_by(PAGE_BYTES);
    let engine = pages.into_iter().find(|page| is_table(*page) || is_table(page + 0x10))?;
    let why = format!(
        "no intel flash descriptor, expected one: a management engine's partitions lie at \
        0x{engine:x}"
    );
    Some(Damage::doubt(0, why))
}
