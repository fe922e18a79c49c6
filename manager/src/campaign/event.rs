//! What a campaign tells its driver.

use std::net::SocketAddr;
use std::ops::Range;

use firmcast::reason::{Ending, FlashState, Reason};
use firmcast::session;
use firmcast::wire::answer::Programs;

use super::Stage;

/// How a campaign ended for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why, and what is known of the flash. [`Reason::Confirmed`] is the only success, or
    /// [`Reason::Possible`] in a dry run, [`Reason::Drilled`] in a drill, or [`Reason::Rescued`].
    pub ending: Ending,
    /// DMI BIOS version after the boot, when it was asked for.
    pub bios_version: Option<String>,
    /// SHA-256 of the whole chip before and after, when the host said so.
    pub digests: Option<([u8; 32], [u8; 32])>,
    /// What the administrator's programs on the host came to, where some ran and it was measured.
    pub programs: Option<Programs>,
}

impl Outcome {
    /// Whether the host was seen running the new firmware, or in a dry run could be updated, or
    /// came home from a drill, or was dead and repaired itself.
    pub fn is_confirmed(&self) -> bool {
        match self.ending.reason {
            Reason::Confirmed | Reason::Possible | Reason::Rescued => true,
            // Of a host that says it wrote, nobody knows what it did.
            Reason::Drilled => matches!(self.ending.flash, FlashState::Untouched(_)),
            _ => false,
        }
    }
}

/// A backup that arrived whole. The driver makes it durable and says so with
/// [`Campaign::backup_stored`](super::Campaign::backup_stored).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The host, by its index.
    pub host: usize,
    /// SHA-256 of the bytes; checked.
    pub digest: [u8; 32],
    /// What the chip held from its first byte on.
    pub bytes: Vec<u8>,
    /// What the host may not read; FFh in the bytes.
    pub closed: Vec<Range<u32>>,
}

/// News. Hosts are named by their index in the list that the campaign was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CampaignEvent {
    /// A host came to another stage.
    Stage {
        /// The host.
        host: usize,
        /// Where it stands now.
        stage: Stage,
    },
    /// A host got on within its stage.
    Progress {
        /// The host.
        host: usize,
    },
    /// Several machines answer with the key of a host.
    Twins {
        /// The host.
        host: usize,
    },
    /// The campaign is over for a host.
    Ended {
        /// The host.
        host: usize,
        /// How.
        outcome: Outcome,
    },
    /// The stream began, with this many hosts.
    TransferStarted {
        /// Hosts that had joined by then.
        hosts: usize,
        /// How many pieces of the image it carries, and how many there are; none where it carries
        /// all of the image.
        pieces: Option<(usize, usize)>,
    },
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To one host.
    Host(SocketAddr),
    /// To the broadcast address or multicast group that the driver knows.
    Group,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: Destination,
    /// The datagram.
    pub bytes: Vec<u8>,
}

impl From<session::Transmit> for Transmit {
    fn from(said: session::Transmit) -> Self {
        Self { destination: Destination::Host(said.to), bytes: said.bytes }
    }
}
