//! FRU information: what an EEPROM behind the BMC says about a part of the computer, and our one
//! record in it.
//!
//! All of it is sans-IO: bytes in, and bytes or a list of [`Write`]s out. Section numbers are those
//! of the "Platform Management FRU Information Storage Definition", version 1.0, revision 1.3.

mod area;
mod area_kind;
mod edit;
mod error;
mod records;
#[cfg(test)]
mod tests;

pub use area::{Area, AreaState, CommonHeader, HEADER_SIZE_BYTES};
pub use area_kind::AreaKind;
pub use edit::{Edit, Write};
pub use error::FruError;
pub use records::{FruRecord, walk};

use crate::manager_url::ManagerUrl;

/// FRU information as a whole.
#[derive(Clone, Debug)]
pub struct Fru<'a> {
    /// All of the device's bytes.
    pub bytes: &'a [u8],
    /// Where the areas begin.
    pub header: CommonHeader,
    /// The areas that are there, in the order of their places.
    pub areas: Vec<Area>,
    /// The records of the MultiRecord area, none if there is no such area; or why they cannot be
    /// told apart.
    pub records: Result<Vec<FruRecord<'a>>, FruError>,
}

impl<'a> Fru<'a> {
    /// Takes the bytes of a device apart.
    ///
    /// # Errors
    /// When the common header is damaged: then nothing says where anything is. Damage behind it is
    /// told by `areas` and `records`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FruError> {
        let header = CommonHeader::parse(bytes)?;
        let records = match header.offset_bytes(AreaKind::MultiRecord) {
            Some(start) => {
                walk(bytes, start, header.limit_bytes(AreaKind::MultiRecord, bytes.len()))
            }
            None => Ok(Vec::new()),
        };
        Ok(Self { bytes, areas: area::all(bytes, &header, &records), header, records })
    }

    /// Returns the managers' addresses, in the order of the records.
    pub fn manager_urls(&self) -> Vec<ManagerUrl> {
        self.records.iter().flatten().filter_map(FruRecord::manager_url).collect()
    }
}

/// Returns what makes the sum of all bytes zero (modulo 256): every checksum in FRU information is
/// this.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte))
}
