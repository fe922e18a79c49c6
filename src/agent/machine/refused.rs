//! The campaign that was refused last: an instruction that was sent twice is answered twice, and
//! never decided twice. A manager has ended its campaign on this host when it hears the refusal, so
//! nobody would wait for it in the recovery environment.

use crate::reason::{Reason, Refusal};
use crate::session::PeerKey;

#[derive(Clone, Debug)]
pub(super) struct Refused {
    campaign: u64,
    manager: PeerKey,
    refusal: Refusal,
}

impl Refused {
    /// Keeps a refusal that is final: another manifest, or the end of another campaign, may change
    /// nothing about it.
    pub(super) fn finally(campaign: u64, manager: PeerKey, refusal: &Refusal) -> Option<Self> {
        let may_change = matches!(
            refusal.reason,
            Reason::ManifestIncomplete
                | Reason::ManifestMalformed
                | Reason::ManifestUntrusted
                | Reason::Busy
        );
        (!may_change).then(|| Self { campaign, manager, refusal: refusal.clone() })
    }

    /// The refusal, if it was of this campaign.
    pub(super) fn of(&self, campaign: u64, manager: PeerKey) -> Option<&Refusal> {
        let is_same = self.campaign == campaign && self.manager == manager;
        is_same.then_some(&self.refusal)
    }
}
