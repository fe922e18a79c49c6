//! The IPMI commands that are needed, as bytes. Section numbers are those of the IPMI
//! specification, v2.0 revision 1.1.
//!
//! A response's parser takes data of any length; what is longer than expected is ignored, as later
//! revisions add fields at the end.

use super::BmcError;
use super::message::Request;

const NETFN_APP: u8 = 0x06;
const NETFN_STORAGE: u8 = 0x0a;

/// Get Device ID (section 20.1): every BMC answers it.
pub(super) fn get_device_id() -> Request {
    Request { name: "Get Device ID", netfn: NETFN_APP, command: 0x01, data: vec![] }
}

/// Get System Info Parameters (section 22.14b).
///
/// | byte | field                                        |
/// | ---- | -------------------------------------------- |
/// | 0    | bit 7: only the revision; 0                  |
/// | 1    | parameter: 6 BMC URL, 7 base OS/hypervisor URL for manageability |
/// | 2    | set: which block of the string, from 0       |
/// | 3    | block; 0                                     |
pub(super) fn get_system_info(parameter: u8, set: u8) -> Request {
    Request {
        name: "Get System Info Parameters",
        netfn: NETFN_APP,
        command: 0x59,
        data: vec![0, parameter, set, 0],
    }
}

/// Get FRU Inventory Area Info (section 34.1): data are the FRU device's number.
pub(super) fn get_fru_area_info(fru: u8) -> Request {
    let name = "Get FRU Inventory Area Info";
    Request { name, netfn: NETFN_STORAGE, command: 0x10, data: vec![fru] }
}

/// What it answers.
///
/// | byte | field                                                |
/// | ---- | ---------------------------------------------------- |
/// | 0-1  | size in bytes, least significant first               |
/// | 2    | bit 0: offsets and counts are in words of 2 bytes    |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FruAreaInfo {
    /// Its size in bytes.
    pub(super) size_bytes: u16,
    /// Whether offsets and counts are in words of two bytes.
    pub(super) by_words: bool,
}

impl FruAreaInfo {
    pub(super) fn parse(data: &[u8]) -> Result<Self, BmcError> {
        let [low, high, access, ..] = *data else {
            return Err(too_short("Get FRU Inventory Area Info", 3, data));
        };
        Ok(Self { size_bytes: u16::from_le_bytes([low, high]), by_words: access & 1 == 1 })
    }

    /// In what offsets and counts are.
    pub(super) fn unit_bytes(&self) -> usize {
        if self.by_words { 2 } else { 1 }
    }
}

/// Read FRU Data (section 34.2).
///
/// | byte | field                                              |
/// | ---- | -------------------------------------------------- |
/// | 0    | FRU device                                         |
/// | 1-2  | offset in bytes or words, least significant first  |
/// | 3    | how many bytes or words                            |
///
/// The answer is the count and then the data.
pub(super) fn read_fru(fru: u8, offset: u16, count: u8) -> Request {
    let [low, high] = offset.to_le_bytes();
    let data = vec![fru, low, high, count];
    Request { name: READ_FRU, netfn: NETFN_STORAGE, command: 0x11, data }
}

const READ_FRU: &str = "Read FRU Data";

/// Returns the data of an answer to Read FRU Data: at least one unit, at most what was asked for.
pub(super) fn fru_data(data: &[u8], count: u8, unit_bytes: usize) -> Result<&[u8], BmcError> {
    let [got, rest @ ..] = data else { return Err(too_short(READ_FRU, 1, data)) };
    let problem = match rest.get(..usize::from(*got) * unit_bytes) {
        Some(data) if (1..=count).contains(got) => return Ok(data),
        Some(_) => format!("count {got}, expected 1 to {count}"),
        None => format!("count {got}, but {} bytes of data", rest.len()),
    };
    Err(BmcError::Garbled { request: READ_FRU, problem })
}

/// Write FRU Data (section 34.3): like the read, but instead of the count the data.
pub(super) fn write_fru(fru: u8, offset: u16, bytes: &[u8]) -> Request {
    let [low, high] = offset.to_le_bytes();
    let data = [&[fru, low, high], bytes].concat();
    Request { name: WRITE_FRU, netfn: NETFN_STORAGE, command: 0x12, data }
}

const WRITE_FRU: &str = "Write FRU Data";

/// Returns whether the answer to Write FRU Data says that all was written.
pub(super) fn check_written(data: &[u8], count: usize) -> Result<(), BmcError> {
    match *data {
        [] => Err(too_short(WRITE_FRU, 1, data)),
        [got, ..] if usize::from(got) == count => Ok(()),
        [got, ..] => Err(BmcError::Garbled {
            request: WRITE_FRU,
            problem: format!("{got} written, expected {count}"),
        }),
    }
}

/// Get SDR (section 33.12), from the begin of a record, which takes no reservation.
///
/// | byte | field                                     |
/// | ---- | ----------------------------------------- |
/// | 0-1  | reservation, 0000h                        |
/// | 2-3  | record, least significant first           |
/// | 4    | offset into the record, 0                 |
/// | 5    | how many bytes                            |
///
/// The answer is the next record's number, FFFFh behind the last one, and then the data.
pub(super) fn get_sdr(record: u16, count: u8) -> Request {
    let [low, high] = record.to_le_bytes();
    let data = vec![0, 0, low, high, 0, count];
    Request { name: GET_SDR, netfn: NETFN_STORAGE, command: 0x23, data }
}

const GET_SDR: &str = "Get SDR";

/// Returns the next record's number, and the bytes of this one.
pub(super) fn sdr_data(data: &[u8]) -> Result<(u16, &[u8]), BmcError> {
    match data {
        [low, high, record @ ..] => Ok((u16::from_le_bytes([*low, *high]), record)),
        _ => Err(too_short(GET_SDR, 2, data)),
    }
}

pub(super) fn too_short(request: &'static str, expected: usize, data: &[u8]) -> BmcError {
    let problem = format!("{} bytes of data, expected at least {expected}", data.len());
    BmcError::Garbled { request, problem }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_those_of_the_specification() {
        let bytes =
            |request: Request| [vec![request.netfn, request.command], request.data].concat();
        assert_eq!(bytes(get_device_id()), [0x06, 0x01]);
        assert_eq!(bytes(get_system_info(6, 2)), [0x06, 0x59, 0, 6, 2, 0]);
        assert_eq!(bytes(get_fru_area_info(3)), [0x0a, 0x10, 3]);
        assert_eq!(bytes(read_fru(3, 0x1234, 16)), [0x0a, 0x11, 3, 0x34, 0x12, 16]);
        assert_eq!(bytes(write_fru(3, 0x1234, &[7, 8])), [0x0a, 0x12, 3, 0x34, 0x12, 7, 8]);
        assert_eq!(bytes(get_sdr(0x1234, 5)), [0x0a, 0x23, 0, 0, 0x34, 0x12, 0, 5]);
    }

    #[test]
    fn answers_of_any_length_are_understood_or_refused() {
        let info = FruAreaInfo::parse(&[0, 8, 0xff, 9]).unwrap();
        assert_eq!(info, FruAreaInfo { size_bytes: 0x800, by_words: true });
        assert_eq!(fru_data(&[2, 7, 8, 9], 2, 1).unwrap(), [7, 8]);
        assert_eq!(fru_data(&[1, 7, 8, 9], 2, 2).unwrap(), [7, 8]);
        for (answer, unit_bytes) in
            [(&[][..], 1), (&[0], 1), (&[3, 1, 2, 3], 1), (&[2, 1], 1), (&[2, 1, 2, 3], 2)]
        {
            assert!(fru_data(answer, 2, unit_bytes).is_err(), "{answer:?}");
        }
        for length in 0..3 {
            assert!(FruAreaInfo::parse(&[1, 1, 0][..length]).is_err());
        }
        assert!(check_written(&[], 1).is_err() && check_written(&[2], 1).is_err());
        assert!(check_written(&[1, 9], 1).is_ok());
        assert!(sdr_data(&[1]).is_err());
        assert_eq!(sdr_data(&[1, 2, 3]).unwrap(), (0x201, &[3][..]));
    }
}
