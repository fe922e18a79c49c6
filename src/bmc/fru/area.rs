//! The common header and the areas that it points to.

use super::{AreaKind, FruError, FruRecord, checksum};
use crate::order::sort_by_rank;

/// How long the common header is.
pub const HEADER_SIZE_BYTES: usize = 8;

/// Offsets and lengths of areas count in this.
const UNIT_BYTES: usize = 8;

/// Format version of the header and of the areas.
const FORMAT_VERSION: u8 = 1;

/// The areas, in the order of their offsets in the header.
const KINDS: [AreaKind; 5] = [
    AreaKind::InternalUse,
    AreaKind::Chassis,
    AreaKind::Board,
    AreaKind::Product,
    AreaKind::MultiRecord,
];

/// The common header (section 8).
///
/// | byte | field                                                                |
/// | ---- | -------------------------------------------------------------------- |
/// | 0    | format version, 01h                                                  |
/// | 1-5  | offsets of internal use, chassis, board, product, MultiRecord area   |
/// | 6    | pad, 00h                                                             |
/// | 7    | checksum                                                             |
///
/// Offsets are in units of 8 bytes; 0 means that the area is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonHeader {
    offsets: [u8; 5],
}

impl CommonHeader {
    /// Reads the header at the begin of a device.
    ///
    /// # Errors
    /// When there are fewer than 8 bytes, another format version, or a wrong checksum.
    pub fn parse(bytes: &[u8]) -> Result<Self, FruError> {
        let Some(header) = bytes.first_chunk::<HEADER_SIZE_BYTES>() else {
            return Err(FruError::TooShort { size_bytes: bytes.len() });
        };
        let [format, a, b, c, d, e, _, got] = *header;
        if format != FORMAT_VERSION {
            return Err(FruError::Format { got: format });
        }
        let expected = checksum(&header[..7]);
        if got != expected {
            return Err(FruError::HeaderChecksum { expected, got });
        }
        Ok(Self { offsets: [a, b, c, d, e] })
    }

    /// Returns where an area begins, if it is there.
    pub fn offset_bytes(&self, kind: AreaKind) -> Option<usize> {
        let offset = self.offsets[kind as usize];
        (offset > 0).then_some(usize::from(offset) * UNIT_BYTES)
    }

    /// Returns where an area has to end at the latest: where the next one begins, or the device of
    /// this size ends.
    pub fn limit_bytes(&self, kind: AreaKind, size_bytes: usize) -> usize {
        let start = self.offset_bytes(kind).unwrap_or(0);
        KINDS
            .into_iter()
            .filter(|other| *other != kind)
            .filter_map(|other| self.offset_bytes(other))
            .filter(|offset| *offset >= start)
            .fold(size_bytes, usize::min)
    }
}

/// Returns the offset of the MultiRecord area, or 0 for none, put into the header of `image`, with
/// its checksum.
pub(super) fn point_to_records(image: &[u8], offset_bytes: usize) -> Option<[u8; 8]> {
    let mut header = *image.first_chunk::<HEADER_SIZE_BYTES>()?;
    header[5] = u8::try_from(offset_bytes / UNIT_BYTES).ok()?;
    header[7] = checksum(&header[..7]);
    Some(header)
}

/// Returns the first offset from this one on that a header can hold.
pub(super) fn round_up(offset_bytes: usize) -> usize {
    offset_bytes.next_multiple_of(UNIT_BYTES)
}

/// One area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// What for.
    pub kind: AreaKind,
    /// Where.
    pub offset_bytes: usize,
    /// How long, as far as that can be told; an internal use area is taken to go on to the next
    /// one.
    pub size_bytes: usize,
    /// Whether it holds together.
    pub state: AreaState,
}

/// What the bytes of an area say about themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AreaState {
    /// Its checksums are right.
    Intact,
    /// It has none: internal use.
    Unchecked,
    /// It is damaged; what is wrong, in words.
    Damaged(String),
}

/// Returns the areas that the header points to, in the order of their places.
pub(super) fn all(
    bytes: &[u8],
    header: &CommonHeader,
    records: &Result<Vec<FruRecord<'_>>, FruError>,
) -> Vec<Area> {
    let mut areas: Vec<Area> = KINDS
        .into_iter()
        .filter_map(|kind| Some((kind, header.offset_bytes(kind)?)))
        .map(|(kind, offset)| {
            let limit = header.limit_bytes(kind, bytes.len());
            let (size_bytes, state) = match kind {
                AreaKind::InternalUse => internal_use(offset, limit),
                AreaKind::MultiRecord => multi_record(offset, records),
                _ => information(bytes, offset, limit),
            };
            Area { kind, offset_bytes: offset, size_bytes, state }
        })
        .collect();
    sort_by_rank(&mut areas, |area| [area.offset_bytes as u64]);
    areas
}

fn internal_use(offset: usize, limit: usize) -> (usize, AreaState) {
    match limit.checked_sub(offset) {
        Some(size_bytes) if size_bytes > 0 => (size_bytes, AreaState::Unchecked),
        _ => (0, AreaState::Damaged("it begins where it has no room".into())),
    }
}

/// Chassis, Board and Product Info begin with version and length, and end with a checksum.
fn information(bytes: &[u8], offset: usize, limit: usize) -> (usize, AreaState) {
    let damaged = |size_bytes, problem| (size_bytes, AreaState::Damaged(problem));
    let Some([format, length, ..]) = bytes.get(offset..) else {
        return damaged(0, format!("it begins behind the end, at {:#x}", bytes.len()));
    };
    let size_bytes = usize::from(*length) * UNIT_BYTES;
    let end = offset + size_bytes;
    match bytes.get(offset..end) {
        _ if format & 0xf != FORMAT_VERSION => {
            damaged(size_bytes, format!("format version {format:#04x}, expected 0x01"))
        }
        _ if end > limit => {
            damaged(size_bytes, format!("it ends at {end:#x}, behind the limit of {limit:#x}"))
        }
        Some([inner @ .., got]) => match checksum(inner) {
            expected if expected == *got => (size_bytes, AreaState::Intact),
            expected => damaged(
                size_bytes,
                format!("checksum {got:#04x} at {:#x}, expected {expected:#04x}", end - 1),
            ),
        },
        _ => damaged(size_bytes, "its length is 0".into()),
    }
}

fn multi_record(
    offset: usize,
    records: &Result<Vec<FruRecord<'_>>, FruError>,
) -> (usize, AreaState) {
    match records {
        Err(error) => (0, AreaState::Damaged(error.to_string())),
        Ok(records) => {
            let end = records.last().map_or(offset, FruRecord::end_bytes);
            let wrong = records.iter().find(|record| !record.is_intact());
            let state = wrong.map_or(AreaState::Intact, |record| {
                AreaState::Damaged(format!(
                    "wrong data checksum in the record at {:#x}",
                    record.offset_bytes
                ))
            });
            (end - offset, state)
        }
    }
}
