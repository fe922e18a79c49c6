//! Reading and writing the bytes of a FRU device.

use super::BmcError;
use super::commands::{
    FruAreaInfo, check_written, fru_data, get_fru_area_info, read_fru, write_fru,
};
use super::fru::{AreaKind, CommonHeader, Edit, FruError, FruRecord, HEADER_SIZE_BYTES, walk};
use super::message::{Ipmi, ask};
use crate::manager_url::ManagerUrl;

/// How much is read at a time at first; some BMCs have buffers of 32 bytes for a message.
const READ_MAX_BYTES: usize = 32;

/// How much is written at a time: what fits into every BMC's buffer, and into a page of most
/// EEPROMs.
const WRITE_MAX_BYTES: usize = 16;

/// Completion codes that say that a request asks for too much at a time.
const TOO_MUCH: [u8; 4] = [0xc7, 0xc8, 0xca, 0xff];

/// Completion codes for "write-protected" and for "not allowed".
const LOCKED: [u8; 4] = [0x80, 0xcd, 0xd4, 0xd5];

/// A FRU device that is there.
#[derive(Debug)]
pub(super) struct FruDevice {
    pub(super) number: u8,
    pub(super) info: FruAreaInfo,
    chunk_bytes: usize,
}

impl FruDevice {
    /// Asks for the device's size.
    ///
    /// # Errors
    /// When it is not there or the BMC does not say.
    pub(super) fn open(ipmi: &mut dyn Ipmi, number: u8) -> Result<Self, BmcError> {
        let info = FruAreaInfo::parse(&ask(ipmi, &get_fru_area_info(number))?)?;
        Ok(Self { number, info, chunk_bytes: READ_MAX_BYTES })
    }

    /// Returns all of its bytes.
    ///
    /// # Errors
    /// When a part of them cannot be read.
    pub(super) fn read_all(&mut self, ipmi: &mut dyn Ipmi) -> Result<Vec<u8>, BmcError> {
        let mut bytes = Vec::new();
        self.read_up_to(ipmi, &mut bytes, usize::from(self.info.size_bytes))?;
        Ok(bytes)
    }

    /// Returns the managers' addresses, of which no more is read than the header and the list of
    /// records.
    ///
    /// # Errors
    /// When they cannot be read, or the header or the list is damaged.
    pub(super) fn manager_urls(
        &mut self,
        ipmi: &mut dyn Ipmi,
    ) -> Result<Vec<ManagerUrl>, BmcError> {
        let size_bytes = usize::from(self.info.size_bytes);
        let damaged = |fru, source| BmcError::Contents { fru, source };
        let mut bytes = Vec::new();
        self.read_up_to(ipmi, &mut bytes, size_bytes.min(HEADER_SIZE_BYTES))?;
        let header = CommonHeader::parse(&bytes).map_err(|source| damaged(self.number, source))?;
        let Some(start) = header.offset_bytes(AreaKind::MultiRecord) else { return Ok(Vec::new()) };
        let limit = header.limit_bytes(AreaKind::MultiRecord, size_bytes);
        // What is before the list is not looked at.
        bytes.resize(start, 0);
        loop {
            let have = bytes.len();
            match walk(&bytes, start, limit) {
                Ok(records) => {
                    return Ok(records.iter().filter_map(FruRecord::manager_url).collect());
                }
                Err(FruError::Endless { .. }) if have < limit => {
                    self.read_up_to(ipmi, &mut bytes, limit.min(have + READ_MAX_BYTES))?;
                }
                Err(source) => return Err(damaged(self.number, source)),
            }
        }
    }

    /// Reads on until there are this many of the device's bytes.
    fn read_up_to(
        &mut self,
        ipmi: &mut dyn Ipmi,
        bytes: &mut Vec<u8>,
        size_bytes: usize,
    ) -> Result<(), BmcError> {
        let unit = self.info.unit_bytes();
        while bytes.len() < size_bytes {
            let offset = bytes.len();
            // The unit that an odd offset is in begins before it.
            let skip = offset % unit;
            let wanted = (size_bytes - offset + skip).div_ceil(unit);
            let count = wanted.min(self.chunk_bytes / unit).max(1) as u8;
            match ask(ipmi, &read_fru(self.number, (offset / unit) as u16, count)) {
                Ok(answer) => {
                    let data = &fru_data(&answer, count, unit)?[skip..];
                    bytes.extend(&data[..data.len().min(size_bytes - offset)]);
                }
                Err(BmcError::Refused { code, .. })
                    if TOO_MUCH.contains(&code) && self.chunk_bytes > unit =>
                {
                    self.chunk_bytes /= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Carries out a change of the device's contents `before`, then reads all again and compares.
    ///
    /// # Errors
    /// When the BMC refuses a write, and when it does not hold afterwards what it should.
    pub(super) fn apply(
        &mut self,
        ipmi: &mut dyn Ipmi,
        mut contents: Vec<u8>,
        edit: &Edit,
    ) -> Result<(), BmcError> {
        let count = edit.writes().len();
        for (index, write) in edit.writes().iter().enumerate() {
            let range = write.offset_bytes..write.offset_bytes + write.bytes.len();
            contents[range.clone()].copy_from_slice(&write.bytes);
            self.write(ipmi, &contents, range)
                .map_err(|error| self.explain(index + 1, count, error))?;
        }
        let got = self.read_all(ipmi)?;
        match got.iter().zip(edit.after()).enumerate().find(|(_, (got, wanted))| got != wanted) {
            None => Ok(()),
            Some((offset_bytes, (&got, &expected))) => {
                Err(BmcError::NotWritten { fru: self.number, offset_bytes, expected, got })
            }
        }
    }

    /// Writes a range of `contents`, the whole device's, in units.
    fn write(
        &mut self,
        ipmi: &mut dyn Ipmi,
        contents: &[u8],
        range: std::ops::Range<usize>,
    ) -> Result<(), BmcError> {
        let unit = self.info.unit_bytes();
        let end = range.end.next_multiple_of(unit).min(contents.len());
        let mut offset = range.start / unit * unit;
        while offset < end {
            let bytes = &contents[offset..end.min(offset + WRITE_MAX_BYTES)];
            let answer = ask(ipmi, &write_fru(self.number, (offset / unit) as u16, bytes))?;
            check_written(&answer, bytes.len().div_ceil(unit))?;
            offset += bytes.len();
        }
        Ok(())
    }

    fn explain(&self, number: usize, count: usize, error: BmcError) -> BmcError {
        match error {
            BmcError::Refused { code, .. } if number == 1 && LOCKED.contains(&code) => {
                BmcError::Locked { fru: self.number, code }
            }
            error => {
                BmcError::Unfinished { fru: self.number, number, count, source: Box::new(error) }
            }
        }
    }
}
