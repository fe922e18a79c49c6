//! URLs among the parameters of Get System Info Parameters.

use super::BmcError;
use super::commands::{get_system_info, too_short};
use super::message::{Ipmi, ask};
use crate::manager_url::{ManagerUrl, URL_SIZE_MAX};

/// The parameters that hold URLs (IPMI v2.0, table 22-16c): the BMC's, and that of the base OS or
/// hypervisor.
pub(super) const URL_PARAMETERS: [u8; 2] = [6, 7];

/// A string takes at most this many sets: 14 bytes in the first one, 16 in each other.
const SETS_MAX: u8 = 17;

/// String encoding in UTF-16; ASCII with Latin-1 is 0 and UTF-8 is 1.
const ENCODING_UNICODE: u8 = 2;

/// Returns the text of a parameter.
///
/// | byte   | field of the answer                               |
/// | ------ | ------------------------------------------------- |
/// | 0      | parameter revision                                |
/// | 1      | set                                               |
/// | 2      | set 0: bits 3-0: encoding; else the text goes on  |
/// | 3      | set 0: length of the text; else the text goes on  |
/// | 4-     | text                                              |
///
/// # Errors
/// When the BMC does not have it or its answers make no sense.
pub(super) fn text(ipmi: &mut dyn Ipmi, parameter: u8) -> Result<Vec<u8>, BmcError> {
    let request = get_system_info(parameter, 0);
    let garbled = |problem| BmcError::Garbled { request: request.name, problem };
    let answer = ask(ipmi, &request)?;
    let [_, 0, encoding, length, first @ ..] = answer.as_slice() else {
        return Err(too_short(request.name, 4, &answer));
    };
    if encoding & 0xf >= ENCODING_UNICODE {
        return Err(garbled(format!("text in encoding {}, expected 0 or 1", encoding & 0xf)));
    }
    let length = usize::from(*length).min(URL_SIZE_MAX);
    let mut text = first.to_vec();
    for set in 1..SETS_MAX {
        if text.len() >= length {
            break;
        }
        let answer = ask(ipmi, &get_system_info(parameter, set))?;
        match answer.as_slice() {
            [_, got, more @ ..] if *got == set && !more.is_empty() => text.extend_from_slice(more),
            _ => return Err(garbled(format!("set {set} is {answer:02x?}"))),
        }
    }
    text.truncate(length);
    Ok(text)
}

/// Returns the manager's address, if the text is one.
pub(super) fn manager_url(text: &[u8]) -> Option<ManagerUrl> {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}
