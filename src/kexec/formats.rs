//! Which forms of handoff and provision a recovery image understands. The image has a firmcastd of
//! its own, which may be older or newer than the agent that hands over.

use std::fmt;

use crate::handover::{HANDOFF_VERSION, PROVISION_VERSION};

/// The versions of what the agent hands over to the recovery environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Of the handoff.
    pub handoff: u32,
    /// Of the provision.
    pub provision: u32,
}

impl Formats {
    /// Those of this program.
    pub const OWN: Self = Self { handoff: HANDOFF_VERSION, provision: PROVISION_VERSION };

    /// Those of images that do not tell: they were built before images did.
    pub const UNTOLD: Self = Self { handoff: 1, provision: 1 };

    /// Parses what [`Formats::lines`] has written; lines with other names are ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            value.trim().parse().ok()
        };
        Some(Self { handoff: value("handoff")?, provision: value("provision")? })
    }

    /// The text of `firmcastd --formats`, which firmcast-mkrecovery puts into an image.
    pub fn lines(&self) -> String {
        format!("handoff {}\nprovision {}\n", self.handoff, self.provision)
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handoff {} and provision {}", self.handoff, self.provision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_nothing() {
        let formats = Formats { handoff: 7, provision: 3 };
        assert_eq!(Formats::parse(&formats.lines()), Some(formats));
        assert_eq!(Formats::parse("more 1\nprovision 3\nhandoff 7\n"), Some(formats));
        for text in ["", "handoff 1", "handoff x\nprovision 1", "handoffs 1\nprovision 1"] {
            assert_eq!(Formats::parse(text), None, "{text}");
        }
    }
}
