//! The records of the MultiRecord area.

use super::{FruError, checksum};
use crate::manager_url::ManagerUrl;

/// How long a record's header is.
pub(super) const RECORD_HEADER_SIZE_BYTES: usize = 5;

/// Set in the second byte of the last record's header.
const END_OF_LIST: u8 = 0x80;

/// Format version, in the low four bits of that byte.
const RECORD_FORMAT: u8 = 2;

/// Record type of a Management Access Record (section 18.4).
const MANAGEMENT_ACCESS: u8 = 0x03;

/// Sub-record type of a System Management URL.
const SYSTEM_MANAGEMENT_URL: u8 = 0x01;

/// How our URLs begin.
const SCHEME: &[u8] = b"firmcast://";

/// One record (section 16.1).
///
/// | byte | field                                                     |
/// | ---- | --------------------------------------------------------- |
/// | 0    | record type                                               |
/// | 1    | bit 7: end of list, bits 6-4: reserved, bits 3-0: version 2 |
/// | 2    | length of the data                                        |
/// | 3    | checksum of the data                                      |
/// | 4    | checksum of the header                                    |
/// | 5-   | data                                                      |
///
/// In a Management Access Record the data begin with the sub-record type; 01h is a System
/// Management URL, which follows as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FruRecord<'a> {
    /// Where its header begins, from the begin of the bytes that were walked.
    pub offset_bytes: usize,
    /// Record type.
    pub kind: u8,
    /// What the second byte of the header says beside the end of the list.
    version: u8,
    /// As the header has it.
    data_checksum: u8,
    /// Its contents.
    pub data: &'a [u8],
}

impl<'a> FruRecord<'a> {
    /// Returns whether the checksum of its data is right.
    pub fn is_intact(&self) -> bool {
        checksum(self.data) == self.data_checksum
    }

    /// Returns where the next one begins.
    pub fn end_bytes(&self) -> usize {
        self.offset_bytes + self.size_bytes()
    }

    /// Returns the text of a System Management URL of any scheme, if it is one.
    pub fn url(&self) -> Option<&'a [u8]> {
        match self.data {
            [SYSTEM_MANAGEMENT_URL, url @ ..] if self.kind == MANAGEMENT_ACCESS => Some(url),
            _ => None,
        }
    }

    /// Returns where a manager is, if it says so and is intact.
    pub fn manager_url(&self) -> Option<ManagerUrl> {
        let text = self.url().filter(|_| self.is_intact())?;
        // Some tools count the end of a C string as part of the text.
        let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        std::str::from_utf8(&text[..end]).ok()?.parse().ok()
    }

    /// Returns whether firmcast may change it: the scheme decides, even if the rest is damaged or
    /// makes no sense.
    pub fn is_ours(&self) -> bool {
        self.url().is_some_and(|url| url.starts_with(SCHEME))
    }

    /// Returns data of the same length that are firmcast's but no URL, whichever part of them has
    /// replaced the old. Where there is a byte for it, their checksum is the same, so that the
    /// header stays as it is.
    pub(super) fn vacated_data(&self) -> Vec<u8> {
        let mut data = [&[SYSTEM_MANAGEMENT_URL], SCHEME].concat();
        let behind_scheme = data.len();
        data.resize(self.data.len(), 0);
        let without_last = checksum(&data);
        // No host begins with the NUL in front of the last byte.
        if let [_, .., last] = &mut data[behind_scheme..] {
            *last = without_last.wrapping_sub(self.data_checksum);
        }
        data
    }

    pub(super) fn size_bytes(&self) -> usize {
        RECORD_HEADER_SIZE_BYTES + self.data.len()
    }

    /// Returns a Management Access Record with these data.
    pub(super) fn management_access(data: &'a [u8]) -> Self {
        let data_checksum = checksum(data);
        Self {
            offset_bytes: 0,
            kind: MANAGEMENT_ACCESS,
            version: RECORD_FORMAT,
            data_checksum,
            data,
        }
    }

    /// Returns whether they are the same wherever they are in a list.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        Self { offset_bytes: 0, ..*self } == Self { offset_bytes: 0, ..*other }
    }

    /// Returns the header and the data; the checksum of the data stays as it was, right or wrong.
    pub(super) fn emit(&self, is_last: bool) -> Vec<u8> {
        let flags = self.version | if is_last { END_OF_LIST } else { 0 };
        // The data come from a record whose length is one byte, or from a URL that was measured.
        let mut bytes = vec![self.kind, flags, self.data.len() as u8, self.data_checksum];
        bytes.push(checksum(&bytes));
        bytes.extend_from_slice(self.data);
        bytes
    }
}

/// Returns the data of the record with this URL.
///
/// # Errors
/// When the URL is too long for a record.
pub(super) fn url_data(url: &ManagerUrl) -> Result<Vec<u8>, FruError> {
    let text = url.to_string();
    if text.len() > crate::manager_url::URL_SIZE_MAX {
        return Err(FruError::UrlTooLong { size_bytes: text.len() });
    }
    Ok([&[SYSTEM_MANAGEMENT_URL], text.as_bytes()].concat())
}

/// Returns whether bytes, without the blank ones behind them, are the first ones of one of our
/// records: what an interrupted change leaves behind.
pub(super) fn is_rest_of_ours(rest: &[u8]) -> bool {
    let is_short = rest.len() <= RECORD_HEADER_SIZE_BYTES + usize::from(u8::MAX);
    is_short
        && rest.iter().enumerate().all(|(index, byte)| match index {
            0 => *byte == MANAGEMENT_ACCESS,
            1 => byte & !END_OF_LIST == RECORD_FORMAT,
            2..5 => true,
            5 => *byte == SYSTEM_MANAGEMENT_URL,
            _ => SCHEME.get(index - 6).map_or(byte.is_ascii_graphic(), |expected| byte == expected),
        })
}

/// Returns the list of records that begins at `start` and ends before `limit`, both offsets into
/// `bytes`.
///
/// # Errors
/// When a header is damaged or the list does not end before the limit. Damaged data of a record are
/// no error of the list.
pub fn walk(bytes: &[u8], start: usize, limit: usize) -> Result<Vec<FruRecord<'_>>, FruError> {
    let mut records = Vec::new();
    let mut offset = start;
    let within = &bytes[..limit.min(bytes.len())];
    loop {
        let endless = FruError::Endless { offset_bytes: offset, limit_bytes: limit };
        let Some(rest) = within.get(offset..) else { return Err(endless) };
        let Some((header, rest)) = rest.split_first_chunk::<RECORD_HEADER_SIZE_BYTES>() else {
            return Err(endless);
        };
        let [kind, flags, length, data_checksum, got] = *header;
        if flags & 0xf != RECORD_FORMAT {
            return Err(FruError::RecordFormat { offset_bytes: offset, got: flags & 0xf });
        }
        let expected = checksum(&header[..4]);
        if got != expected {
            return Err(FruError::RecordHeader { offset_bytes: offset, expected, got });
        }
        let Some(data) = rest.get(..usize::from(length)) else { return Err(endless) };
        let version = flags & !END_OF_LIST;
        let record = FruRecord { offset_bytes: offset, kind, version, data_checksum, data };
        offset = record.end_bytes();
        records.push(record);
        if flags & END_OF_LIST != 0 {
            return Ok(records);
        }
    }
}
