//! What the recovery environment asks the BMC: where is my manager?

use super::BmcError;
use super::device::Device;
use super::inventory::visit_all;
use super::message::Ipmi;
use super::system_info::{self, URL_PARAMETERS};
use crate::manager_url::ManagerUrl;

/// How long the look-up takes at most, whatever the BMC does.
pub const LOOK_UP_LIMIT_MS: u64 = 20_000;

/// What a BMC knows.
#[derive(Debug, Default)]
pub struct LookUp {
    /// Where managers are, each once, the FRU devices' first.
    pub urls: Vec<ManagerUrl>,
    /// What was in the way of a full answer, each a line for the log.
    pub remarks: Vec<String>,
}

/// Asks this computer's BMC. It blocks, at most for [`LOOK_UP_LIMIT_MS`].
///
/// # Errors
/// When there is no BMC, or it does not answer and has told nothing until then.
pub fn look_up() -> Result<LookUp, BmcError> {
    look_up_with(&mut Device::open(LOOK_UP_LIMIT_MS)?)
}

/// Asks a BMC.
///
/// # Errors
/// When it does not answer and has told nothing until then.
pub fn look_up_with(ipmi: &mut dyn Ipmi) -> Result<LookUp, BmcError> {
    let mut found = LookUp::default();
    match in_turn(ipmi, &mut found) {
        Err(error) if found.urls.is_empty() => return Err(error),
        Err(error) => found.remarks.push(error.in_full()),
        Ok(()) => {}
    }
    Ok(found)
}

fn in_turn(ipmi: &mut dyn Ipmi, found: &mut LookUp) -> Result<(), BmcError> {
    let (devices, end) = visit_all(ipmi, |ipmi, mut device| device.manager_urls(ipmi));
    for (number, result) in devices {
        match result {
            Ok(urls) => urls.into_iter().for_each(|url| found.add(url)),
            Err(error @ BmcError::Contents { .. }) => found.remarks.push(error.in_full()),
            Err(error) => found.remarks.push(format!("FRU device {number}: {}", error.in_full())),
        }
    }
    end?;
    for parameter in URL_PARAMETERS {
        match system_info::text(ipmi, parameter) {
            Ok(text) => system_info::manager_url(&text).into_iter().for_each(|url| found.add(url)),
            // Most BMCs have no such parameter: nothing to remark.
            Err(BmcError::Refused { .. }) => {}
            Err(error) if error.is_about_one_request() => found.remarks.push(error.in_full()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl LookUp {
    fn add(&mut self, url: ManagerUrl) {
        if !self.urls.contains(&url) {
            self.urls.push(url);
        }
    }
}
