//! `firmcastd bmc show|set|clear`.

use super::BmcError;
use super::device::Device;
use super::fru::{Edit, Fru, FruRecord};
use super::inventory::{OWN_FRU, Visited, visit_all};
use super::message::Ipmi;
use super::storage::FruDevice;
use super::system_info::{self, URL_PARAMETERS};
use crate::manager_url::ManagerUrl;

mod report;

/// How long a command takes at most: all FRU devices are read as a whole, some BMCs take seconds
/// for each.
const COMMAND_LIMIT_MS: u64 = 120_000;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Tell what is there.
    Show {
        /// As one JSON object.
        json: bool,
    },
    /// Make this the only URL of a manager.
    Set {
        /// Where it is.
        url: ManagerUrl,
    },
    /// Remove all URLs of managers.
    Clear,
}

/// Does it with this computer's BMC; gives the text for stdout.
///
/// # Errors
/// When there is no BMC, it does not answer, or does not let the contents be changed.
pub fn run(command: &Command) -> Result<String, BmcError> {
    run_with(&mut Device::open(COMMAND_LIMIT_MS)?, command)
}

/// Does it with a BMC.
///
/// # Errors
/// As with [`run`].
pub fn run_with(ipmi: &mut dyn Ipmi, command: &Command) -> Result<String, BmcError> {
    let (devices, end) = visit_all(ipmi, |ipmi, mut device| {
        let bytes = device.read_all(ipmi)?;
        Ok(Contents { device, bytes })
    });
    end?;
    match command {
        Command::Show { json } => {
            let mut system_info = Vec::new();
            for parameter in URL_PARAMETERS {
                let text = system_info::text(ipmi, parameter);
                let is_dead = text.as_ref().is_err_and(|error| !error.is_about_one_request());
                system_info.push((parameter, text));
                if is_dead {
                    break;
                }
            }
            Ok(report::of(&devices, &system_info, *json))
        }
        Command::Set { url } => set(ipmi, devices, url),
        Command::Clear => clear(ipmi, devices),
    }
}

/// A device with all of its bytes.
#[derive(Debug)]
struct Contents {
    device: FruDevice,
    bytes: Vec<u8>,
}

impl Contents {
    fn has_ours(&self) -> bool {
        Fru::parse(&self.bytes)
            .is_ok_and(|fru| fru.records.iter().flatten().any(FruRecord::is_ours))
    }

    /// Makes the change that `plan` finds; tells what was done.
    fn change(
        self,
        ipmi: &mut dyn Ipmi,
        what: &str,
        plan: impl Fn(&[u8]) -> Result<Edit, super::fru::FruError>,
    ) -> Result<String, BmcError> {
        let Self { mut device, bytes } = self;
        let number = device.number;
        let edit = plan(&bytes).map_err(|source| BmcError::Contents { fru: number, source })?;
        let written: usize = edit.writes().iter().map(|write| write.bytes.len()).sum();
        if written == 0 {
            return Ok(format!("FRU device {number}: nothing to change\n"));
        }
        device.apply(ipmi, bytes, &edit)?;
        Ok(format!(
            "FRU device {number}: {what}; {written} bytes written, read back and compared\n"
        ))
    }
}

/// The URL stays in the device that has one, else it comes into the board's own one; no other
/// device is given one, as it may be a part that is replaced.
fn set(
    ipmi: &mut dyn Ipmi,
    devices: Vec<Visited<Contents>>,
    url: &ManagerUrl,
) -> Result<String, BmcError> {
    let has_ours = |device: &&Visited<Contents>| device.1.as_ref().is_ok_and(Contents::has_ours);
    let holder = devices.iter().find(has_ours).map_or(OWN_FRU, |(number, _)| *number);
    let mut text = String::new();
    let mut is_set = false;
    for (number, result) in devices {
        match result {
            result if number == holder => {
                is_set = true;
                let plan = |bytes: &[u8]| Edit::set(bytes, url);
                text += &result?.change(ipmi, &format!("holds {url}"), plan)?;
            }
            Ok(other) if other.has_ours() => {
                text += &other.change(ipmi, "its older URL is removed", Edit::clear)?;
            }
            Ok(_) => {}
            Err(error) => text += &unread(number, &error),
        }
    }
    if is_set { Ok(text) } else { Err(BmcError::NoFru { fru: holder }) }
}

fn clear(ipmi: &mut dyn Ipmi, devices: Vec<Visited<Contents>>) -> Result<String, BmcError> {
    let mut text = String::new();
    let mut is_found = false;
    let mut first_error = None;
    for (number, result) in devices {
        match result {
            Ok(contents) if contents.has_ours() => {
                is_found = true;
                text += &contents.change(ipmi, "the URL of the manager is removed", Edit::clear)?;
            }
            Ok(_) => {}
            Err(error) => {
                text += &unread(number, &error);
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if !is_found => Err(error),
        _ if !is_found => Ok("no FRU device holds the URL of a manager\n".into()),
        _ => Ok(text),
    }
}

fn unread(number: u8, error: &BmcError) -> String {
    format!("FRU device {number} cannot be read, a URL in it would stay: {}\n", error.in_full())
}
