//! Ends that several legs come to.

use firmcast::reason::{FlashState, Reason, Refusal};
use firmcast::wire::answer::{End, Report};

use super::super::chip::is_update;
use super::super::config::Purpose;
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

/// A host that was let go, and whose return was awaited, is in its normal OS: it is measured, or
/// its drill is over. The agent may know more of that than recovery could say.
pub(super) fn home(end: Option<&End>, plan: &CampaignPlan) -> Next {
    let detail = end.map_or("", |end| &end.ending.detail);
    match plan.purpose {
        Purpose::Drill => Next::End(Refusal::new(Reason::Drilled, detail)),
        Purpose::Update | Purpose::DryRun | Purpose::Look => Next::Go(Start::ConfirmManifest(None)),
    }
}

/// A host that may have been told to write is in its normal OS, perhaps after another boot. Whether
/// it was updated, only the measurement tells; in a drill nobody was told to.
pub(super) fn came_back(rebooted: bool, end: Option<&End>, plan: &CampaignPlan) -> Next {
    if plan.purpose == Purpose::Drill && (rebooted || end.is_some()) {
        return Next::End(returned(end));
    }
    let why = Some(returned(end)).filter(|why| !is_update(why.reason));
    if rebooted { Next::Go(Start::ConfirmManifest(why)) } else { Next::Stay }
}

/// A host that may have been told to write, or has done its drill, reboots without having been let
/// go.
pub(super) fn leave(report: &Report, plan: &CampaignPlan) -> Next {
    match report.ending.flash {
        FlashState::Updated if plan.rescue => Next::End(rescued()),
        FlashState::Updated => Next::Go(Start::Reboot),
        _ if report.ending.reason == Reason::Drilled => Next::Go(Start::Reboot),
        _ => Next::End(said_in(report)),
    }
}
