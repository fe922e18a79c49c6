//! Where one host stands, as the manager sees it.

use firmcast::wire::answer::Phase;

/// Stages of one host. In a dry run `Foresee` comes after `Manifest`, and then the end.
///
/// ```text
///  Connect ──► Manifest ──► Begin ──► Reach ──► RecoveryManifest ──► Join ──► Transfer
///     │            │          │         │               │             │          │ verified
///     │ silent     │ silent   │ refused │ silent, or    └─────────────┴──────────┤
///     │            │          │         │ back in the                left behind │
///     ▼            ▼          ▼         ▼ normal OS                              ▼
///   Ended        Ended      Ended     Ended ◄── Release ◄── any failure ── (Escrow) Commit
///                                                               │                │ writes
///                                                               └───────────── Flash
///                                                                                │ updated
///   Ended ◄── Measure ◄── ConfirmManifest ◄── Reboot ◄── Release ◄───────────────┘
/// ```
/// In a rescue there is no agent, before or after: a dead host asked for help, and the way is
///
/// ```text
///  Enlist ──► RecoveryManifest ──► Join ──► Transfer ──► (Escrow) Commit ──► Flash
///    ▲  │ silent      │ asks again   │         │              │                │
///    └──┼─────────────┴──────────────┴─────────┘              │ asks again,    │ updated
///       ▼                                                     │ or any failure ▼
///     Ended                      Ended; it asks again ◄───────┴─────────────  Release ──► Ended
/// ```
/// A failure in `Flash` ends it too, and the host begins anew when it asks again.
///
/// A host that `Connect` finds in the recovery environment of an earlier campaign is brought home
/// first, in `Recall`, and then begins anew: the manager of that campaign died, or gave up on it.
///
/// A host that is seen in its normal OS after another boot ends with the reason its agent knows
/// when it had not been told to write yet; afterwards it goes to `ConfirmManifest`, because only
/// the measurement tells what stands in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Waits for its turn, then for a session with the agent and for its identity.
    Connect,
    /// It is still in the recovery environment of an earlier campaign; it shall end that and come
    /// home.
    Recall,
    /// The manifest is brought to the agent.
    Manifest,
    /// The agent is asked what an update would change. Only in a dry run, which ends with it.
    Foresee,
    /// The agent is told to begin.
    Begin,
    /// The agent accepted; the recovery environment must call.
    Reach,
    /// A dead host asked for help, and is told to take part; its first report must come. Only in a
    /// rescue, which begins with it.
    Enlist,
    /// The recovery environment called; the manifest is brought to it.
    RecoveryManifest,
    /// It is told what to receive.
    Join,
    /// It receives fragments.
    Transfer,
    /// It holds the verified image; waits for its turn, then uploads its backup, which is stored.
    /// Only in a campaign with escrow.
    Escrow,
    /// It holds the verified image and is told to write it.
    Commit,
    /// It writes.
    Flash,
    /// It is told that the campaign is over for it, so that it reboots.
    Release,
    /// It was updated and reboots; the agent is looked for.
    Reboot,
    /// The manifest is brought to the agent again.
    ConfirmManifest,
    /// The agent compares the flash with it.
    Measure,
    /// Over.
    Ended,
}

impl Stage {
    /// Every stage, in the order of an update.
    pub const ALL: [Stage; 18] = [
        Self::Connect,
        Self::Recall,
        Self::Manifest,
        Self::Foresee,
        Self::Begin,
        Self::Reach,
        Self::Enlist,
        Self::RecoveryManifest,
        Self::Join,
        Self::Transfer,
        Self::Escrow,
        Self::Commit,
        Self::Flash,
        Self::Release,
        Self::Reboot,
        Self::ConfirmManifest,
        Self::Measure,
        Self::Ended,
    ];

    /// The name in JSON, history and table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Recall => "recalling",
            Self::Manifest => "instructing",
            Self::Foresee => "foreseeing",
            Self::Begin => "preflight",
            Self::Reach => "entering-recovery",
            Self::Enlist => "enlisting",
            Self::RecoveryManifest => "ready",
            Self::Join => "joining",
            Self::Transfer => "receiving",
            Self::Escrow => "escrow",
            Self::Commit => "verified",
            Self::Flash => "flashing",
            Self::Release => "releasing",
            Self::Reboot => "rebooting",
            Self::ConfirmManifest => "back",
            Self::Measure => "measuring",
            Self::Ended => "ended",
        }
    }

    /// Whether the host needs one of the bounded number of dialogues in this stage.
    pub(super) fn needs_dialogue(self) -> bool {
        matches!(
            self,
            Self::Connect
                | Self::Manifest
                | Self::Foresee
                | Self::Begin
                | Self::RecoveryManifest
                | Self::ConfirmManifest
        )
    }

    /// Whether it must be given a turn before it is told what the stage is about.
    pub(super) fn needs_turn(self) -> bool {
        self.needs_dialogue() || self == Self::Escrow
    }

    /// Whether the manager speaks to the agent in the normal OS, and may call it.
    pub(super) fn is_with_agent(self) -> bool {
        self <= Self::Begin || matches!(self, Self::Reboot | Self::ConfirmManifest | Self::Measure)
    }

    /// Whether the host is, or should be, in its recovery environment.
    pub(super) fn is_in_recovery(self) -> bool {
        (Self::Reach..=Self::Flash).contains(&self)
    }

    /// Whether the host may already have been told to write its flash, so that it must be let
    /// finish.
    pub(super) fn is_committed(self) -> bool {
        (Self::Commit..Self::Ended).contains(&self)
    }
}

/// Whether a host in this phase waits for the manager's word, and goes home when it is released.
pub(crate) fn awaits_release(phase: Phase) -> bool {
    match phase {
        Phase::Ready
        | Phase::Receiving
        | Phase::Verified
        | Phase::Escrow
        | Phase::Updated
        | Phase::Drilled
        | Phase::Failed => true,
        Phase::Idle
        | Phase::Accepted
        | Phase::Refused
        | Phase::BackingUp
        | Phase::Writing
        | Phase::Verifying
        | Phase::Restoring
        | Phase::Rebooting
        | Phase::Other(_) => false,
    }
}
