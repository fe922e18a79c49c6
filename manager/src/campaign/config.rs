//! What a campaign is told at its start, and its limits.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use firmcast::session::PeerKey;
use firmcast::wire::finding::Acceptance;

use super::cargo::Pieces;

/// Most hosts in one campaign.
pub const HOSTS_MAX: usize = 10_000;

/// Most hosts that are being instructed or given the manifest at the same time; the others wait for
/// their turn.
pub(crate) const DIALOGUES_MAX: usize = 64;

/// When a host that only told something may tell it again, in seconds.
pub(crate) const HOLD_TOLD_S: u16 = 3600;

pub(super) const BITS_PER_MBIT: u64 = 1_000_000;

/// How the image travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To the broadcast address of the hosts' network.
    Broadcast,
    /// To a multicast group.
    Group(IpAddr),
    /// To each host's own address.
    Unicast,
}

impl Delivery {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Group(_) => "multicast",
            Self::Unicast => "unicast",
        }
    }
}

/// One host that shall be updated.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the operator calls it.
    pub name: String,
    /// Its X25519 key; none when nobody answered at its address, which ends it at once.
    pub key: Option<PeerKey>,
    /// Where its agent listens.
    pub address: SocketAddr,
}

/// How long each phase may take. Past it the host ends with the reason named here.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Session and identity of the agent: `host-unreachable`.
    pub connect: Duration,
    /// Without progress while the manifest is brought: `host-unreachable` before the kexec,
    /// `left-behind` after it.
    pub manifest: Duration,
    /// An answer to the instruction; then the call from the recovery environment is waited for.
    pub begin: Duration,
    /// The first call from the recovery environment: `no-ready`; of a host that was enlisted, its
    /// first report: `host-unreachable`. Hosts are told it too: so long they try.
    pub reach: Duration,
    /// Without progress of the transfer: `left-behind`. Hosts are told it too.
    pub transfer: Duration,
    /// Without progress of the backup, on its way to the manager: `escrow-failed`.
    pub escrow: Duration,
    /// A first report of flashing after the commit, and the longest silence while flashing:
    /// `lost-while-flashing`.
    pub flash: Duration,
    /// An answer to the release; then the reboot is waited for.
    pub release: Duration,
    /// The agent after the reboot: `no-agent-after-reboot`.
    pub boot: Duration,
    /// The measurement by the agent: `wrong-digest`.
    pub measure: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            manifest: Duration::from_secs(30),
            begin: Duration::from_secs(60),
            reach: Duration::from_secs(300),
            transfer: Duration::from_secs(120),
            escrow: Duration::from_secs(120),
            flash: Duration::from_secs(180),
            release: Duration::from_secs(8),
            boot: Duration::from_secs(600),
            measure: Duration::from_secs(180),
        }
    }
}

impl Deadlines {
    /// How long hosts that are ready wait for the others before an update's stream starts: well
    /// inside what they bear.
    pub(super) fn join_window(&self) -> Duration {
        (self.transfer / 2).min(Duration::from_secs(60))
    }

    /// How often hosts that wait for their turn hear from the manager, so that they do not go home.
    pub(super) fn sign_of_life(&self) -> Duration {
        (self.transfer / 4).min(Duration::from_secs(30))
    }
}

/// Seconds as commands carry them.
pub(super) fn whole_seconds(span: Duration) -> u16 {
    u16::try_from(span.as_secs()).unwrap_or(u16::MAX)
}

/// How far a campaign goes with its hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// They are updated.
    #[default]
    Update,
    /// They are only asked what an update would change.
    DryRun,
    /// They leave for the recovery environment and do everything up to the first change there.
    Drill,
    /// They are only measured where they are: whether they run the image.
    Look,
}

/// Everything about a campaign but its hosts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of the campaign; a random one.
    pub campaign: u64,
    /// How the image travels.
    pub delivery: Delivery,
    /// Most megabits per second on the wire.
    pub rate_mbit: u32,
    /// Whether others on the link keep at least half of it ([`SenderConfig::is_polite`]).
    ///
    /// [`SenderConfig::is_polite`]: firmcast::transfer::SenderConfig::is_polite
    pub is_polite: bool,
    /// Data bytes in each fragment, for the path's MTU.
    pub fragment_size_bytes: u16,
    /// Whether hosts give their backup into the manager's keeping before they change their flash.
    pub escrow: bool,
    /// How far it goes.
    pub purpose: Purpose,
    /// What the operator accepts although it is in the way on a host.
    pub accepted: Acceptance,
    /// Deadlines of the phases.
    pub deadlines: Deadlines,
    /// The manager's X25519 secret.
    pub exchange_secret: [u8; 32],
    /// First of the stamps that are reserved for it, in microseconds since 1970: they grow from run
    /// to run, so that old handshakes are worth nothing.
    pub stamp: u64,
    /// Seed of everything random: group key, session keys, spread of retries. From the system's
    /// random source.
    pub seed: [u8; 32],
}

/// What a [`Course`](super::Course) is told: a campaign without its sessions.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Number of the campaign; a random one.
    pub campaign: u64,
    /// How the image travels.
    pub delivery: Delivery,
    /// Most bits per second on the wire, of all copies of the stream together.
    pub rate_bits_per_s: u64,
    /// Whether others on the link keep at least half of it.
    pub is_polite: bool,
    /// Data bytes in each fragment, for the path's MTU.
    pub fragment_size_bytes: u16,
    /// Whether hosts give their backup into the manager's keeping before they change their flash.
    pub escrow: bool,
    /// How far it goes.
    pub purpose: Purpose,
    /// What the operator accepts although it is in the way on a host.
    pub accepted: Acceptance,
    /// When the hosts are dead ones that asked for help: they are in their recovery environment
    /// from the beginning, have no agent that could be called, and are let go when their flash was
    /// verified.
    pub rescue: Option<Rescue>,
    /// Deadlines of the phases.
    pub deadlines: Deadlines,
    /// Seed of everything random.
    pub seed: [u8; 32],
}

/// What is particular to a rescue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rescue {
    /// How long a host that joined waits for others before the stream starts, and how long each
    /// of them does: longer than it takes while many come.
    pub gather: Duration,
}

/// What is brought to the hosts: the parts of a bundle.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The signed manifest.
    pub manifest: Vec<u8>,
    /// The payload, as the bundle has it.
    pub payload: Vec<u8>,
    /// The image in it, where the stream may carry only what some host lacks.
    pub pieces: Option<Pieces>,
    /// Size of the image in the payload.
    pub image_size_bytes: usize,
    /// Whether the image covers only a part of each host's chip.
    pub is_part: bool,
    /// DMI BIOS version that a host must show afterwards, if the bundle names one.
    pub expect_version: Option<String>,
    /// The manifest's stable digest: what an updated host measures.
    pub stable_digest: [u8; 32],
}
