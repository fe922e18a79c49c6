//! The FRU devices of a BMC.

use super::completion::TIMEOUT;
use super::message::{Ipmi, ask};
use super::storage::FruDevice;
use super::{BmcError, commands, sdr};

/// The device that describes the board that the BMC is on; it need not be in the SDR repository.
pub(super) const OWN_FRU: u8 = 0;

/// The last device that is tried when the SDR repository cannot be read.
const BLIND_FRU_MAX: u8 = 7;

/// Completion codes for a device that is not there: out of range, not present, invalid data.
const NOT_PRESENT: [u8; 3] = [0xc9, 0xcb, 0xcc];

/// What a device gave, or why it gave nothing.
pub(super) type Visited<T> = (u8, Result<T, BmcError>);

/// Visits all FRU devices: the board's own one, and those in the SDR repository, or if that cannot
/// be read those with the next numbers until one is not present or hangs. A device that is listed
/// but not present is left out. When the BMC stops to answer at all, the error comes beside what
/// was visited before.
pub(super) fn visit_all<T>(
    ipmi: &mut dyn Ipmi,
    mut visit: impl FnMut(&mut dyn Ipmi, FruDevice) -> Result<T, BmcError>,
) -> (Vec<Visited<T>>, Result<(), BmcError>) {
    let mut visited = Vec::new();
    let end = visit_in_turn(ipmi, &mut visit, &mut visited);
    (visited, end)
}

fn visit_in_turn<T>(
    ipmi: &mut dyn Ipmi,
    visit: &mut impl FnMut(&mut dyn Ipmi, FruDevice) -> Result<T, BmcError>,
    visited: &mut Vec<Visited<T>>,
) -> Result<(), BmcError> {
    ask(ipmi, &commands::get_device_id())?;
    let mut one = |ipmi: &mut dyn Ipmi, number| {
        let result = FruDevice::open(ipmi, number).and_then(|device| visit(ipmi, device));
        match result {
            Err(BmcError::Refused { code, .. }) if NOT_PRESENT.contains(&code) => Ok(false),
            Err(error) if !error.is_about_one_request() => Err(error),
            result => {
                // What waits for a device in vain once, would do so for the next numbers too.
                let hangs = matches!(result, Err(BmcError::Refused { code: TIMEOUT, .. }));
                visited.push((number, result));
                Ok(!hangs)
            }
        }
    };
    one(ipmi, OWN_FRU)?;
    match sdr::fru_devices(ipmi) {
        Ok(listed) => {
            for number in listed.into_iter().filter(|number| *number != OWN_FRU) {
                one(ipmi, number)?;
            }
        }
        Err(error) if error.is_about_one_request() => {
            for number in OWN_FRU + 1..=BLIND_FRU_MAX {
                if !one(ipmi, number)? {
                    break;
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
