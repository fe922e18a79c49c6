//! How one key of a disk depends on the firmware.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

/// The PCRs that firmware measures itself, its settings and its keys into (TCG PC Client Platform
/// Firmware Profile 1.06, section 3.3.4).
const OF_FIRMWARE: RangeInclusive<u8> = 0..=7;
/// Highest PCR that a TPM of a PC has.
const PCR_MAX: u8 = 23;
/// Maximum length of a text that a disk brings, in characters.
const TEXT_MAX: usize = 80;

/// A way to unlock a disk that another firmware may close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The TPM gives out the key for the present firmware only.
    Sealed {
        /// What made the binding.
        tool: &'static str,
        /// The PCRs that have to be as they were.
        pcrs: Pcrs,
        /// The key slot; empty where that is not told.
        slot: String,
    },
    /// What this is was not understood.
    Unknown(String),
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => f.write_str(what),
            Self::Sealed { tool, pcrs, slot } if slot.is_empty() => write!(f, "{tool}, PCR {pcrs}"),
            Self::Sealed { tool, pcrs, slot } => write!(f, "{tool}, PCR {pcrs} (slot {slot})"),
        }
    }
}

/// A set of PCRs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pcrs(BTreeSet<u8>);

impl Pcrs {
    /// The set of these numbers; None where one cannot be a PCR.
    pub fn of(numbers: impl IntoIterator<Item = Option<u8>>) -> Option<Self> {
        let mut pcrs = Self::default();
        for number in numbers {
            pcrs.0.insert(number.filter(|number| *number <= PCR_MAX)?);
        }
        Some(pcrs)
    }

    /// The set of the numbers in a text, which stand between `separator`; none in an empty text.
    pub fn of_text(text: &str, separator: char) -> Option<Self> {
        let numbers = text.split(separator).map(|number| number.trim().parse().ok());
        match text.trim().is_empty() {
            true => Some(Self::default()),
            false => Self::of(numbers),
        }
    }

    /// All of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether another firmware would change one of them.
    pub fn are_of_firmware(&self) -> bool {
        self.0.iter().any(|pcr| OF_FIRMWARE.contains(pcr))
    }
}

impl fmt::Display for Pcrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

/// Returns a text from a disk or a file as it may be shown: one line, and not too long.
pub(super) fn printable(text: &str) -> String {
    let is_plain = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
    text.chars().take(TEXT_MAX).map(|letter| if is_plain(&letter) { letter } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_numbers_of_pcrs_are_pcrs() {
        for (text, shown, of_firmware) in
            [("", "", false), ("11", "11", false), ("7, 0,7", "0,7", true), ("8,23", "8,23", false)]
        {
            let pcrs = Pcrs::of_text(text, ',').unwrap();
            assert_eq!((pcrs.to_string().as_str(), pcrs.are_of_firmware()), (shown, of_firmware));
        }
        for text in ["7,", "24", "256", "-1", "boot-loader-code", "7+0"] {
            assert_eq!(Pcrs::of_text(text, ','), None, "{text}");
        }
        assert!(Pcrs::of_text("4+11", '+').unwrap().are_of_firmware());
    }

    #[test]
    fn nothing_from_a_disk_breaks_a_line() {
        assert_eq!(printable("a\nb\u{1b}\u{e9}"), "a?b??");
        assert_eq!(printable(&"x".repeat(1000)).len(), TEXT_MAX);
    }
}
