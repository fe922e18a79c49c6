//! What can go wrong between the host and its BMC.

use std::io;

use super::fru::FruError;

/// Why the BMC could not be asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BmcError {
    /// There is no device of the kernel's IPMI driver.
    #[error(
        "no IPMI device ({tried}): this computer shows no BMC, or the modules ipmi_si (or \
        ipmi_ssif) and ipmi_devintf are not loaded"
    )]
    NoDevice {
        /// The names that were looked for.
        tried: String,
    },
    /// The device cannot be opened.
    #[error("cannot open {path}; it takes root, and no other user of the BMC that locks it")]
    Open {
        /// Its name.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel's driver fails.
    #[error("the kernel's IPMI driver does not take {request}; see dmesg")]
    Driver {
        /// The command.
        request: &'static str,
        /// What it says.
        source: io::Error,
    },
    /// No answer.
    #[error(
        "the BMC does not answer {request} within {timeout_ms} ms; it hangs or restarts: try \
        again later, or restart it (`ipmitool mc reset cold`)"
    )]
    Timeout {
        /// The command.
        request: &'static str,
        /// How long it was waited for.
        timeout_ms: u64,
    },
    /// All answers together took too long.
    #[error("the BMC is too slow: {request} was still to be done after {limit_ms} ms")]
    TooSlow {
        /// The command that was not sent any more.
        request: &'static str,
        /// The limit for all.
        limit_ms: u64,
    },
    /// An answer with another completion code than 00h.
    #[error(
        "the BMC answers {request} with code {code:#04x} ({})",
        super::completion::meaning(*code)
    )]
    Refused {
        /// The command.
        request: &'static str,
        /// The completion code.
        code: u8,
    },
    /// An answer that makes no sense.
    #[error("the BMC's answer to {request} makes no sense: {problem}")]
    Garbled {
        /// The command.
        request: &'static str,
        /// Expected and got.
        problem: String,
    },
    /// What the FRU device holds does not allow what was asked. Nothing was written.
    #[error("FRU device {fru}")]
    Contents {
        /// Its number.
        fru: u8,
        /// Why.
        source: FruError,
    },
    /// The device that the URL should come into is not there.
    #[error(
        "FRU device {fru} is not there, so there is no place for the URL; keep it in the \
        configuration or in DHCP"
    )]
    NoFru {
        /// Its number.
        fru: u8,
    },
    /// A write was refused before anything was changed.
    #[error(
        "FRU device {fru} is locked: the BMC answers the first write with code {code:#04x} ({}); \
        nothing was changed; unlock it with the maker's tool",
        super::completion::meaning(*code)
    )]
    Locked {
        /// Its number.
        fru: u8,
        /// The completion code.
        code: u8,
    },
    /// A write failed after others.
    #[error(
        "FRU device {fru}: write {number} of {count} failed, {}; its list of records can still be \
        read, give the same command again",
        before(*number)
    )]
    Unfinished {
        /// Its number.
        fru: u8,
        /// Which write, from 1.
        number: usize,
        /// How many there were to be.
        count: usize,
        /// Why.
        source: Box<BmcError>,
    },
    /// The BMC says that it has written and has not.
    #[error(
        "FRU device {fru} does not hold what was written: {got:#04x} at {offset_bytes:#x}, \
        expected {expected:#04x}; the BMC ignores writes, or something else writes too"
    )]
    NotWritten {
        /// Its number.
        fru: u8,
        /// The first byte that differs.
        offset_bytes: usize,
        /// What should be there.
        expected: u8,
        /// What is there.
        got: u8,
    },
    /// The BMC says that its watchdog runs, after it was told to stop.
    #[error("the BMC's watchdog runs on although it was stopped; stop it by the BMC's own means")]
    TimerRuns,
}

impl BmcError {
    /// Returns the error with its causes, in one line.
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    /// Returns whether other requests may still be answered: the BMC spoke, if only to refuse.
    pub(super) fn is_about_one_request(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Garbled { .. } | Self::Contents { .. })
    }
}

fn before(number: usize) -> &'static str {
    if number == 1 { "perhaps in part" } else { "those before it are done" }
}
