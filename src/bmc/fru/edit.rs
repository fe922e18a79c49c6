//! Changes to FRU information, as a list of writes whose order is safe against an end in the
//! middle.
//!
//! The list of records is kept readable after every single write:
//!
//! ```text
//! add      the record behind the list, then end-of-list bit and header checksum of the one before
//! change   the data, while a wrong checksum keeps them from being believed; then the rest
//! remove   (the last one) the end-of-list bit of the one before, then it is blanked from the back
//! move     the new list to a blank place, then the common header, then the old list is blanked
//! vacate   the data behind the scheme; the checksums stay right
//! ```
//!
//! A record that is not the last one can only grow, shrink, or go by a move of the list, as the
//! others must follow it without a gap. Where the list cannot move, a record that is to go is
//! vacated: it keeps its place, without a URL. The bytes of other records stay as they are, but for
//! the end-of-list bit and its checksum.

use super::area::{AreaState, point_to_records, round_up};
use super::records::{RECORD_HEADER_SIZE_BYTES, is_rest_of_ours, url_data};
use super::{AreaKind, Fru, FruError, FruRecord, HEADER_SIZE_BYTES};
use crate::manager_url::ManagerUrl;

/// How many bytes are made blank at a time.
const WIPE_BYTES: usize = 16;

/// The largest offset of an area: one byte, in units of 8 bytes.
const AREA_OFFSET_MAX_BYTES: usize = 255 * 8;

/// Bytes to be written at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub offset_bytes: usize,
    /// What; the first and the last byte differ from those that are there.
    pub bytes: Vec<u8>,
}

/// A change.
#[derive(Clone, Debug)]
pub struct Edit {
    writes: Vec<Write>,
    after: Vec<u8>,
}

impl Edit {
    /// Makes the URL of a manager the only one: changes the first record that has one, or adds it,
    /// and removes others of firmcast.
    ///
    /// # Errors
    /// When `bytes` are damaged where they must be changed or nothing says what is free, or there
    /// is no room.
    pub fn set(bytes: &[u8], url: &ManagerUrl) -> Result<Self, FruError> {
        let data = url_data(url)?;
        let ours = FruRecord::management_access(&data);
        let fru = Fru::parse(bytes)?;
        let old = fru.records.clone()?;
        let first = old.iter().position(FruRecord::is_ours);
        let mut new: Vec<_> = old.iter().copied().filter(|record| !record.is_ours()).collect();
        // Before the first of ours, there are only others.
        new.insert(first.unwrap_or(new.len()), ours);
        Self::replace(&fru, &old, &new)
    }

    /// Removes all URLs of managers. This needs no room.
    ///
    /// # Errors
    /// When the common header or the list of records is damaged.
    pub fn clear(bytes: &[u8]) -> Result<Self, FruError> {
        let fru = Fru::parse(bytes)?;
        let old = fru.records.clone()?;
        let new: Vec<_> = old.iter().copied().filter(|record| !record.is_ours()).collect();
        Self::replace(&fru, &old, &new).or_else(|_no_place| Ok(Self::vacate(&fru, &old)))
    }

    /// Returns what is to be written, in this order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Returns all bytes of the device after the writes.
    pub fn after(&self) -> &[u8] {
        &self.after
    }

    fn replace(
        fru: &Fru<'_>,
        old: &[FruRecord<'_>],
        new: &[FruRecord<'_>],
    ) -> Result<Self, FruError> {
        let mut edit = Self { writes: Vec::new(), after: fru.bytes.to_vec() };
        let alike = |(a, b): &(&FruRecord<'_>, &FruRecord<'_>)| a.is_like(b);
        let same = old.iter().zip(new).take_while(alike).count();
        let limit = fru.header.limit_bytes(AreaKind::MultiRecord, fru.bytes.len());
        let is_done = match (&old[..same], &old[same..], &new[same..]) {
            (_, [], []) => true,
            ([.., last], [], [added]) => edit.append(last, added, limit),
            ([.., last], [_, ..], []) => {
                edit.cut_behind(last, old);
                true
            }
            (_, [was], [becomes]) => edit.change_last(was, becomes, limit),
            (_, [was, behind @ ..], [becomes, kept @ ..])
                if was.data.len() == becomes.data.len()
                    && behind.len() == kept.len()
                    && behind.iter().zip(kept).all(|pair| alike(&pair)) =>
            {
                edit.change(was, becomes, false);
                true
            }
            _ => false,
        };
        if !is_done {
            edit.move_list(fru, old, new)?;
        }
        Ok(edit)
    }

    /// Takes the URLs out of the list where it stands: records behind that of others go, and those
    /// before it are vacated.
    fn vacate(fru: &Fru<'_>, old: &[FruRecord<'_>]) -> Self {
        let mut edit = Self { writes: Vec::new(), after: fru.bytes.to_vec() };
        let kept = old.iter().rposition(|record| !record.is_ours()).map_or(0, |last| last + 1);
        for record in old[..kept].iter().filter(|record| record.is_ours()) {
            let data = record.vacated_data();
            edit.change(record, &FruRecord::management_access(&data), false);
        }
        if let Some(last) = old[..kept].last() {
            edit.cut_behind(last, old);
        }
        edit
    }

    fn append(&mut self, last: &FruRecord<'_>, added: &FruRecord<'_>, limit: usize) -> bool {
        let bytes = added.emit(true);
        let start = last.end_bytes();
        if !self.make_room(start, limit, &bytes) {
            return false;
        }
        self.put(start, &bytes);
        self.put(last.offset_bytes, &last.emit(false)[..RECORD_HEADER_SIZE_BYTES]);
        true
    }

    fn cut_behind(&mut self, last: &FruRecord<'_>, old: &[FruRecord<'_>]) {
        self.put(last.offset_bytes, &last.emit(true)[..RECORD_HEADER_SIZE_BYTES]);
        self.wipe(last.end_bytes(), end_of(old));
    }

    fn change_last(&mut self, was: &FruRecord<'_>, becomes: &FruRecord<'_>, limit: usize) -> bool {
        let end = was.end_bytes();
        let more = becomes.data.get(was.data.len()..).unwrap_or_default();
        if !self.make_room(end, limit, more) {
            return false;
        }
        self.change(was, becomes, true);
        true
    }

    /// Changes a record in its place; behind it is room for what it grows.
    fn change(&mut self, was: &FruRecord<'_>, becomes: &FruRecord<'_>, is_last: bool) {
        let data = was.offset_bytes + RECORD_HEADER_SIZE_BYTES;
        self.put(data, becomes.data);
        self.wipe(data + becomes.data.len(), was.end_bytes());
        self.put(was.offset_bytes, &becomes.emit(is_last)[..RECORD_HEADER_SIZE_BYTES]);
    }

    fn move_list(
        &mut self,
        fru: &Fru<'_>,
        old: &[FruRecord<'_>],
        new: &[FruRecord<'_>],
    ) -> Result<(), FruError> {
        let last = new.len().wrapping_sub(1);
        let list: Vec<u8> =
            new.iter().enumerate().flat_map(|(index, record)| record.emit(index == last)).collect();
        let from = old.first().map_or(0, |record| record.offset_bytes)..end_of(old);
        let place = if list.is_empty() { 0 } else { self.find_place(fru, &from, &list)? };
        self.put(place, &list);
        if let Some(header) = point_to_records(&self.after, place) {
            self.put(0, &header);
        }
        self.wipe(from.start, from.end);
        Ok(())
    }

    /// Returns the first place behind all areas but the list itself that is free and that a common
    /// header can point to.
    fn find_place(
        &mut self,
        fru: &Fru<'_>,
        old: &std::ops::Range<usize>,
        list: &[u8],
    ) -> Result<usize, FruError> {
        let tail = round_up(tail_offset_bytes(fru)?);
        let mut largest_bytes = 0;
        for start in (tail..=AREA_OFFSET_MAX_BYTES).step_by(8) {
            if old.contains(&start) || start >= self.after.len() {
                continue;
            }
            let limit = if start < old.start { old.start } else { self.after.len() };
            if self.make_room(start, limit, list) {
                return Ok(start);
            }
            let blank = self.after[start..limit].iter().take_while(|byte| is_blank(**byte));
            largest_bytes = largest_bytes.max(blank.count());
        }
        Err(FruError::NoRoom { needed_bytes: list.len(), free_bytes: largest_bytes })
    }

    /// Returns whether `bytes` may be written at `start`: all is blank there, or an interrupted
    /// change wrote the same, or left something else of ours, which is made blank.
    fn make_room(&mut self, start: usize, limit: usize, bytes: &[u8]) -> bool {
        let Some(room) = self.after.get(start..start + bytes.len()) else { return false };
        if start + bytes.len() > limit {
            return false;
        }
        if room.iter().zip(bytes).all(|(there, wanted)| is_blank(*there) || there == wanted) {
            return true;
        }
        let rest = &self.after[start..limit];
        let length = rest.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last + 1);
        let is_ours = is_rest_of_ours(&rest[..length]);
        if is_ours {
            self.wipe(start, start + length);
        }
        is_ours
    }

    /// Makes bytes blank from the back, so that what an end in the middle leaves is the begin of a
    /// record.
    fn wipe(&mut self, start: usize, end: usize) {
        let fill = self.after.get(end).copied().filter(|byte| is_blank(*byte)).unwrap_or(0);
        let mut end = end;
        while end > start {
            let from = start.max(end.saturating_sub(WIPE_BYTES));
            self.put(from, &vec![fill; end - from]);
            end = from;
        }
    }

    /// Writes what differs.
    fn put(&mut self, offset_bytes: usize, bytes: &[u8]) {
        let there = &mut self.after[offset_bytes..offset_bytes + bytes.len()];
        let differs = |index: &usize| there[*index] != bytes[*index];
        let Some(first) = (0..bytes.len()).find(differs) else { return };
        let end = (0..bytes.len()).rfind(differs).map_or(first, |last| last + 1);
        there.copy_from_slice(bytes);
        let bytes = bytes[first..end].to_vec();
        self.writes.push(Write { offset_bytes: offset_bytes + first, bytes });
    }
}

/// Erased, or never used.
fn is_blank(byte: u8) -> bool {
    matches!(byte, 0x00 | 0xff)
}

fn end_of(records: &[FruRecord<'_>]) -> usize {
    records.last().map_or(0, FruRecord::end_bytes)
}

/// Returns where the last area ends, without the list of records.
fn tail_offset_bytes(fru: &Fru<'_>) -> Result<usize, FruError> {
    let mut tail = HEADER_SIZE_BYTES;
    for area in fru.areas.iter().filter(|area| area.kind != AreaKind::MultiRecord) {
        if let AreaState::Damaged(problem) = &area.state {
            let (kind, offset_bytes) = (area.kind, area.offset_bytes);
            return Err(FruError::Area { kind, offset_bytes, problem: problem.clone() });
        }
        tail = tail.max(area.offset_bytes + area.size_bytes);
    }
    Ok(tail)
}
