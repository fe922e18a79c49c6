//! Ends that several legs come to.

use firmcast::reason::{FlashState, Reason, Refusal};
use firmcast::wire::answer::{End, Report};

use super::super::chip::is_update;
use super::super::contact::{CampaignPlan, said_in};
use super::next::{Next, Start};

/// The end of a dead host whose flash was verified: nobody is there who could measure it after the
/// boot.
pub(super) fn rescued() -> Refusal {
    Refusal::new(Reason::Rescued, "")
}

/// Why a host is back in its normal OS without having been told to go.
pub(super) fn returned(end: Option<&End>) -> Refusal {
    end.map_or(Refusal::new(Reason::ReturnedSilently, ""), |end| {
        Refusal::new(end.ending.reason, &end.ending.detail)
    })
}

/// A host that may have been told to write is in its normal OS, perhaps after another boot. Whether
/// it was updated, only the measurement tells.
pub(super) fn came_back(rebooted: bool, end: Option<&End>) -> Next {
    let why = Some(returned(end)).filter(|why| !is_update(why.reason));
    if rebooted { Next::Go(Start::ConfirmManifest(why)) } else { Next::Stay }
}

/// A host that may have been told to write reboots without having been let go.
pub(super) fn leave(report: &Report, plan: &CampaignPlan) -> Next {
    match report.ending.flash {
        FlashState::Updated if plan.rescue => Next::End(rescued()),
        FlashState::Updated => Next::Go(Start::Reboot),
        _ => Next::End(said_in(report)),
    }
}
