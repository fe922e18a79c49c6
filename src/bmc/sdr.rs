//! Which FRU devices there are: the records of the SDR repository that locate them.

use std::collections::BTreeSet;

use super::commands::{get_sdr, sdr_data};
use super::message::{Ipmi, ask};
use super::{BmcError, commands};

/// How many records are looked at; the largest repositories of servers have some hundreds.
const RECORDS_MAX: usize = 1024;

/// How many FRU devices are read at most.
const DEVICES_MAX: usize = 64;

/// How long the head of a record is that says what it is.
const HEAD_SIZE_BYTES: u8 = 5;

/// How many bytes of a locator are read.
const LOCATOR_SIZE_BYTES: u8 = 10;

/// The record number behind the last one.
const END: u16 = 0xffff;

/// Record type of a FRU Device Locator.
const FRU_DEVICE_LOCATOR: u8 = 0x11;

/// The BMC's own address on the IPMB.
const BMC_ADDRESS: u8 = 0x20;

/// Where FRU information is (IPMI v2.0, section 43.8).
///
/// | byte | field                                                                           |
/// | ---- | ------------------------------------------------------------------------------- |
/// | 0-1  | record number                                                                   |
/// | 2    | version                                                                         |
/// | 3    | record type, 11h                                                                |
/// | 4    | length of what follows                                                          |
/// | 5    | address of the controller                                                       |
/// | 6    | FRU device number, if it is a logical device                                    |
/// | 7    | bit 7: logical device, read by commands; bits 4-3: LUN; bits 2-0: private bus    |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Locator {
    address: u8,
    number: u8,
    access: u8,
}

impl Locator {
    fn parse(record: &[u8]) -> Option<Self> {
        match *record {
            [_, _, _, FRU_DEVICE_LOCATOR, _, address, number, access, ..] => {
                Some(Self { address, number, access })
            }
            _ => None,
        }
    }

    /// Its number, if the BMC itself answers FRU commands for it. Others are behind a further
    /// controller or on a bare bus.
    fn number_at_bmc(self) -> Option<u8> {
        let is_at_bmc = self.address == BMC_ADDRESS && self.access & 0x98 == 0x80;
        // FFh is reserved.
        (is_at_bmc && self.number != 0xff).then_some(self.number)
    }
}

/// Returns the numbers of the FRU devices that the BMC answers for, in rising order.
///
/// # Errors
/// When the repository cannot be read: not there, or the answers make no sense.
pub(super) fn fru_devices(ipmi: &mut dyn Ipmi) -> Result<Vec<u8>, BmcError> {
    let mut found = BTreeSet::new();
    let mut number = 0;
    for _ in 0..RECORDS_MAX {
        let answer = ask(ipmi, &get_sdr(number, HEAD_SIZE_BYTES))?;
        let (next, head) = sdr_data(&answer)?;
        let [_, _, _, kind, _, ..] = *head else {
            return Err(commands::too_short("Get SDR", 7, &answer));
        };
        if kind == FRU_DEVICE_LOCATOR {
            let answer = ask(ipmi, &get_sdr(number, LOCATOR_SIZE_BYTES))?;
            found.extend(Locator::parse(sdr_data(&answer)?.1).and_then(Locator::number_at_bmc));
        }
        if next == END {
            break;
        }
        number = next;
    }
    Ok(found.into_iter().take(DEVICES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logical_devices_of_the_bmc_count() {
        let number = |record: &[u8]| Locator::parse(record).and_then(Locator::number_at_bmc);
        assert_eq!(number(&[1, 0, 0x51, 0x11, 11, 0x20, 7, 0x80, 0, 0]), Some(7));
        assert_eq!(number(&[1, 0, 0x51, 0x12, 11, 0x20, 7, 0x80, 0, 0]), None, "another type");
        assert_eq!(
            number(&[1, 0, 0x51, 0x11, 11, 0x72, 7, 0x80, 0, 0]),
            None,
            "another controller"
        );
        assert_eq!(number(&[1, 0, 0x51, 0x11, 11, 0x20, 0xa0, 0x01, 0, 0]), None, "a bare EEPROM");
        assert_eq!(number(&[1, 0, 0x51, 0x11, 11, 0x20, 7, 0x88, 0, 0]), None, "another LUN");
        for length in 0..8 {
            assert_eq!(number(&[1, 0, 0x51, 0x11, 11, 0x20, 7, 0x80][..length]), None);
        }
    }
}
