//! Requests to a BMC and its responses, and when to ask again.

use super::BmcError;
use super::completion::{FRU_BUSY, NODE_BUSY, TIMEOUT};

/// Longest message that the kernel's driver passes on (`IPMI_MAX_MSG_LENGTH`,
/// `linux/ipmi_msgdefs.h`).
pub(super) const MESSAGE_SIZE_MAX: usize = 272;

/// How often a request is sent again after "node busy" and the like.
const BUSY_RETRIES_MAX: u32 = 4;

/// The first pause before that; each later one is twice as long.
const BUSY_PAUSE_MS: u64 = 100;

/// How often a request is sent again after the BMC's own "timeout", which has taken seconds.
const TIMEOUT_RETRIES_MAX: u32 = 1;

/// Completion codes (IPMI v2.0, table 5-2): done.
const COMPLETED: u8 = 0x00;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command's name in the specification.
    pub name: &'static str,
    /// Network function: what kind of command.
    pub netfn: u8,
    /// The command's number.
    pub command: u8,
    /// Its data.
    pub data: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Completion code.
    pub code: u8,
    /// What follows it.
    pub data: Vec<u8>,
}

/// A way to a BMC: the kernel's driver, or a simulated BMC.
pub trait Ipmi {
    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// When it cannot be sent, or no response comes in time.
    fn request(&mut self, request: &Request) -> Result<Response, BmcError>;

    /// Waits.
    fn pause(&mut self, pause_ms: u64);
}

/// Returns the data of the response to a request; a busy BMC is asked again.
///
/// # Errors
/// When the request cannot be sent, is not answered, or is refused.
pub(super) fn ask(ipmi: &mut dyn Ipmi, request: &Request) -> Result<Vec<u8>, BmcError> {
    let mut retries = 0;
    loop {
        let Response { code, data } = ipmi.request(request)?;
        let retries_max = match code {
            COMPLETED => return Ok(data),
            NODE_BUSY | FRU_BUSY => BUSY_RETRIES_MAX,
            TIMEOUT => TIMEOUT_RETRIES_MAX,
            _ => 0,
        };
        if retries >= retries_max {
            return Err(BmcError::Refused { request: request.name, code });
        }
        ipmi.pause(BUSY_PAUSE_MS << retries);
        retries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with these codes, one after the other, and counts pauses.
    struct Codes(Vec<u8>, u64);

    impl Ipmi for Codes {
        fn request(&mut self, _: &Request) -> Result<Response, BmcError> {
            Ok(Response { code: self.0.remove(0), data: vec![1] })
        }

        fn pause(&mut self, pause_ms: u64) {
            self.1 += pause_ms;
        }
    }

    #[test]
    fn a_busy_bmc_is_asked_again_but_not_forever() {
        let request = Request { name: "x", netfn: 6, command: 1, data: vec![] };
        let ask = |codes: &[u8]| {
            let mut bmc = Codes(codes.to_vec(), 0);
            let code = match ask(&mut bmc, &request) {
                Ok(_) => 0,
                Err(BmcError::Refused { code, .. }) => code,
                Err(other) => panic!("{other}"),
            };
            (code, bmc.0.len(), bmc.1)
        };
        assert_eq!(ask(&[0xc0, 0xc3, 0xc0, 0]), (0xc3, 2, 100));
        assert_eq!(ask(&[0xc0, 0xc0, 0xc0, 0xc0, 0]), (0, 0, 1500));
        assert_eq!(ask(&[0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0]), (0xc0, 1, 1500));
        assert_eq!(ask(&[0xc3, 0]), (0, 0, 100));
        assert_eq!(ask(&[0xc1, 0]), (0xc1, 1, 0));
    }
}
