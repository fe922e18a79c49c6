//! Where bytes lie in the image, and how much of it was looked at.

use std::ops::Range;

use crate::image::ByteRanges;
use crate::order::sort_by_rank;

/// Pieces of this size that are erased or zeros do not count.
const PIECE_BYTES: usize = 64;
/// Flash is erased in blocks of this size or larger ones.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Where some bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// In the image; of what was unpacked, where the compressed section begins.
    start: usize,
    is_unpacked: bool,
}

impl Place {
    pub(super) fn in_image(start: usize) -> Self {
        Self { start, is_unpacked: false }
    }

    /// Returns the place of what comes out of the section at this place.
    pub(super) fn unpacked(self) -> Self {
        Self { is_unpacked: true, ..self }
    }

    /// Returns the place of what lies so many bytes behind.
    pub(super) fn behind(self, bytes: usize) -> Self {
        Self { start: self.at(bytes), ..self }
    }

    /// Returns where in the image a byte lies that is so many bytes behind.
    pub(super) fn at(self, bytes: usize) -> usize {
        if self.is_unpacked { self.start } else { self.start + bytes }
    }

    pub(super) fn is_unpacked(self) -> bool {
        self.is_unpacked
    }
}

/// Returns where in the image the first erased block lies that `bytes` have whole, if they lie in
/// the image. They begin `offset` bytes behind `place`.
pub(super) fn erased_block(bytes: &[u8], place: Place, offset: usize) -> Option<usize> {
    if place.is_unpacked {
        return None;
    }
    let start = place.at(offset);
    let first = start.next_multiple_of(BLOCK_BYTES);
    let blocks = bytes.get(first - start..)?.chunks_exact(BLOCK_BYTES);
    let is_erased = |block: &[u8]| block.iter().all(|byte| *byte == 0xff);
    blocks.into_iter().position(is_erased).map(|nth| first + nth * BLOCK_BYTES)
}

/// The parts of an image whose every byte was looked at: a checksum is right, a stream was unpacked
/// to its end, a header was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Vec<Range<usize>>);

impl Seen {
    /// Adds bytes that begin `offset` bytes behind `place`.
    pub(super) fn add(&mut self, place: Place, offset: usize, length_bytes: usize) {
        if !place.is_unpacked {
            let start = place.at(offset);
            self.0.push(start..start + length_bytes);
        }
    }

    /// Returns how much of `image` this is. What is `left_out` does not count, nor pieces that are
    /// erased or zeros.
    pub(super) fn share(self, image: &[u8], left_out: &ByteRanges) -> Share {
        let all: ByteRanges = std::iter::once(0..image.len() as u64).collect();
        let mut seen = self.0;
        sort_by_rank(&mut seen, |range| [range.start as u64]);
        let mut share = Share::default();
        let mut next = 0;
        for part in all.without(left_out).iter() {
            let mut start = part.start as usize;
            while start < part.end as usize {
                let end = (start + 1).next_multiple_of(PIECE_BYTES).min(part.end as usize);
                let block = &image[start..end];
                let is_blank =
                    matches!(block[0], 0x00 | 0xff) && block.iter().all(|byte| *byte == block[0]);
                if !is_blank {
                    share.all_bytes += block.len();
                    share.seen_bytes += seen_in(&seen, &mut next, start..end);
                }
                start = end;
            }
        }
        share
    }
}

/// Returns how many bytes of `block` are seen. Blocks are asked for in order; `next` is the first
/// range that may reach into this one.
fn seen_in(seen: &[Range<usize>], next: &mut usize, block: Range<usize>) -> usize {
    let mut bytes = 0;
    let mut at = block.start;
    let mut index = *next;
    while let Some(range) = seen.get(index).filter(|range| range.start < block.end) {
        let (from, to) = (range.start.max(at), range.end.min(block.end));
        bytes += to.saturating_sub(from);
        at = at.max(to);
        if range.end <= block.end && index == *next {
            *next += 1;
        }
        index += 1;
    }
    bytes
}

/// How much of an image was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Bytes that were looked at.
    pub seen_bytes: usize,
    /// Bytes that the host's processor has in the image, without blank pieces.
    pub all_bytes: usize,
}

impl Share {
    /// Returns the share, rounded down.
    pub fn percent(self) -> u8 {
        (self.seen_bytes * 100 / self.all_bytes.max(1)).min(100) as u8
    }
}
