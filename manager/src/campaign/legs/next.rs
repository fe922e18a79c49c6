//! Where a host goes from a leg.

use firmcast::reason::Refusal;

/// What a leg says after something happened.
#[derive(Debug)]
pub(in crate::campaign) enum Next {
    /// It stays where it is.
    Stay,
    /// It goes to another stage.
    Go(Start),
    /// It ends here, with what is known of its chip.
    End(Refusal),
}

/// A stage to begin, with what only that stage needs to know.
#[derive(Debug)]
pub(in crate::campaign) enum Start {
    Connect,
    Recall,
    Manifest,
    Foresee,
    Begin,
    Reach,
    Enlist,
    RecoveryManifest,
    Join,
    Transfer,
    Escrow,
    /// Digest of the backup that is in keeping; none without escrow.
    Commit(Option<[u8; 32]>),
    /// Why its flash job failed, of one that may try again by itself.
    Flash(Option<Refusal>),
    /// Why it ends after it was let go; none for one whose return is awaited then.
    Release(Option<Refusal>),
    Reboot,
    /// Why the agent says that it came back without an update, if it was not let go.
    ConfirmManifest(Option<Refusal>),
    Measure(Option<Refusal>),
}

impl Next {
    /// The host is let go, and ends then.
    pub(in crate::campaign) fn release(why: Refusal) -> Self {
        Self::Go(Start::Release(Some(why)))
    }
}
