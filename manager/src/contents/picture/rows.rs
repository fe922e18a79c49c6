//! The rows of a map: what each of them holds, and where it is drawn.

use std::ops::Range;

use super::{Boxed, LINE, Rule};

/// Cells of the bar that shows what is used of a row.
pub(super) const BAR_CELLS: usize = 55;
/// How many heights a cell may have.
pub(super) const LEVELS: usize = 8;
/// Bytes are free in pieces of this size that are erased.
const PIECE_BYTES: usize = 64;

/// Height of a row by its bytes: so much, and so much more for each doubling beyond 4 KiB.
const HEIGHT: usize = 24;
const HEIGHT_STEP: usize = 4;
const DOUBLINGS_MAX: u32 = 14;

/// A part of the chip in which no region or rule begins or ends.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) range: Range<u64>,
    pub(super) top: usize,
    pub(super) height: usize,
    /// For each cell how much of it is used, of [`LEVELS`].
    pub(super) used: Vec<usize>,
    /// For each cell whether it differs.
    pub(super) differs: Vec<bool>,
    pub(super) free_bytes: u64,
    pub(super) differing_bytes: u64,
    /// Where the processor begins, if it does here.
    pub(super) boot: Option<u64>,
    pub(super) is_closed: bool,
    /// Depths of the boxes that begin here.
    depths: Vec<usize>,
}

impl Row {
    /// Returns the line of the row in which the name of a box at this depth stands.
    pub(super) fn line_of(&self, depth: usize) -> usize {
        self.depths.iter().filter(|other| **other < depth).count()
    }
}

/// Cuts `image` into rows; the first one is drawn at `top`.
pub(super) fn rows(
    image: &[u8],
    other: Option<&[u8]>,
    boxes: &[Boxed],
    rules: &[Rule],
    closed: &[Range<u64>],
    boot: Option<u64>,
    mut top: usize,
) -> Vec<Row> {
    let end_bytes = image.len() as u64;
    let ranges = boxes.iter().map(|boxed| boxed.range.clone());
    let rules = rules.iter().map(|rule| rule.offset_bytes..rule.offset_bytes + rule.length_bytes);
    let ranges = ranges.chain(rules).chain(closed.iter().cloned());
    let mut cuts: Vec<u64> = ranges.flat_map(|range| [range.start, range.end]).collect();
    cuts.extend([0, end_bytes]);
    cuts.retain(|cut| *cut <= end_bytes);
    cuts.sort_unstable();
    cuts.dedup();
    let mut rows = Vec::new();
    for pair in cuts.windows(2) {
        let range = pair[0]..pair[1];
        let mut row = row(image, other, range.clone());
        row.boot = boot.filter(|boot| range.contains(boot));
        row.is_closed =
            closed.iter().any(|closed| closed.start < range.end && range.start < closed.end);
        let begin = boxes.iter().filter(|boxed| boxed.range.start == range.start);
        row.depths = begin.map(|boxed| boxed.depth).collect();
        row.depths.sort_unstable();
        row.depths.dedup();
        row.top = top;
        row.height = height(&row);
        top += row.height;
        rows.push(row);
    }
    rows
}

fn height(row: &Row) -> usize {
    let pages = (row.range.end - row.range.start) >> 12;
    let doublings = pages.checked_ilog2().unwrap_or(0).min(DOUBLINGS_MAX) as usize;
    let notes = [row.differing_bytes > 0, row.boot.is_some(), row.is_closed];
    let notes = 1 + notes.into_iter().filter(|is_there| *is_there).count();
    let lines = row.depths.len().max(notes);
    (HEIGHT + HEIGHT_STEP * doublings).max(lines * LINE + 8)
}

fn row(image: &[u8], other: Option<&[u8]>, range: Range<u64>) -> Row {
    let mut row = Row {
        range: range.clone(),
        top: 0,
        height: 0,
        used: Vec::with_capacity(BAR_CELLS),
        differs: Vec::with_capacity(BAR_CELLS),
        free_bytes: 0,
        differing_bytes: 0,
        boot: None,
        is_closed: false,
        depths: Vec::new(),
    };
    let (start, length) = (range.start as usize, (range.end - range.start) as usize);
    for cell in 0..BAR_CELLS {
        let at = |nth: usize| start + (length as u128 * nth as u128 / BAR_CELLS as u128) as usize;
        let bytes = &image[at(cell)..at(cell + 1)];
        let free = free_bytes(bytes);
        let differing = other.map_or(0, |other| {
            let others = other.get(at(cell)..).unwrap_or_default();
            let same = bytes.iter().zip(others).filter(|(one, other)| one == other).count();
            (bytes.len() - same) as u64
        });
        row.used.push(((bytes.len() - free) * LEVELS).div_ceil(bytes.len().max(1)));
        row.differs.push(differing > 0);
        row.free_bytes += free as u64;
        row.differing_bytes += differing;
    }
    row
}

fn free_bytes(bytes: &[u8]) -> usize {
    let is_free = |piece: &&[u8]| piece.iter().all(|byte| *byte == 0xff);
    bytes.chunks(PIECE_BYTES).filter(is_free).map(<[u8]>::len).sum()
}

/// Returns neighbours of one value as one: their indices and the value.
pub(super) fn runs<T: Copy + PartialEq>(cells: &[T]) -> impl Iterator<Item = (Range<usize>, T)> {
    let mut start = 0;
    cells.chunk_by(|one, other| one == other).map(move |run| {
        let range = start..start + run.len();
        start = range.end;
        (range, run[0])
    })
}

/// Returns the share of all bytes, in percent; 100 only for all of them.
pub(super) fn percent(bytes: u64, all_bytes: u64) -> u64 {
    (u128::from(bytes) * 100 / u128::from(all_bytes.max(1))) as u64
}

/// Returns a length as people say it.
pub(super) fn size_text(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        bytes if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        bytes if bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} bytes"),
    }
}
