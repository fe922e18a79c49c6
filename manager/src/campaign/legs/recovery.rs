//! The leg in the recovery environment before the flash is touched: manifest, instruction, image.

use firmcast::reason::{Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::answer::{End, Phase, Report};
use firmcast::wire::command::Command;

use super::super::config::Deadlines;
use super::super::contact::{CampaignPlan, Contact};
use super::super::manifest::ManifestDelivery;
use super::super::stage::Stage;
use super::ending::{leave, returned};
use super::next::{Next, Start};

/// Number of reports in a row that say "ready" and show that a receiving host lost what it was
/// told.
const READY_REPORTS_MAX: u32 = 3;

/// A host in its recovery environment that was not told to change anything.
#[derive(Debug)]
pub(in crate::campaign) enum RecoveryLeg {
    Enlist,
    Manifest(ManifestDelivery),
    Join,
    Transfer { ready_in_a_row: u32 },
}

impl RecoveryLeg {
    pub(in crate::campaign) fn stage(&self) -> Stage {
        match self {
            Self::Enlist => Stage::Enlist,
            Self::Manifest(_) => Stage::RecoveryManifest,
            Self::Join => Stage::Join,
            Self::Transfer { .. } => Stage::Transfer,
        }
    }

    pub(in crate::campaign) fn span(&self, deadlines: &Deadlines) -> std::time::Duration {
        match self {
            Self::Enlist => deadlines.reach,
            Self::Manifest(_) => deadlines.manifest,
            // A host that joined first waits out the join window of the others.
            Self::Join | Self::Transfer { .. } => deadlines.transfer + deadlines.join_window(),
        }
    }

    pub(in crate::campaign) fn commands(&mut self, due: bool, plan: &CampaignPlan) -> Vec<Command> {
        match self {
            Self::Manifest(delivery) => delivery.commands(due, plan.campaign(), &plan.manifest),
            Self::Join if due && plan.is_settled => vec![Command::Join {
                parameters: plan.parameters.clone(),
                report_interval_ms: plan.report_interval_ms,
                group: plan.group,
                excerpt: plan.excerpt,
            }],
            _ => Vec::new(),
        }
    }

    pub(in crate::campaign) fn handle_timeout(&self, now: Time, contact: &Contact) -> Next {
        let standstill = contact.standstill(now, self.stage());
        match self {
            Self::Enlist => {
                let detail = format!("it asked for help and was enlisted, then: {standstill}");
                Next::End(Refusal::new(Reason::HostUnreachable, detail))
            }
            _ => Next::release(Refusal::new(Reason::LeftBehind, standstill)),
        }
    }

    pub(in crate::campaign) fn interrupt(&self) -> Next {
        let why = Refusal::new(Reason::Interrupted, "");
        match self {
            Self::Enlist => Next::End(why),
            _ => Next::release(why),
        }
    }

    /// It is in its normal OS after another boot, or knows how its part ended.
    pub(in crate::campaign) fn come_home(&self, rebooted: bool, end: Option<&End>) -> Next {
        match rebooted || end.is_some() {
            true => Next::End(returned(end)),
            false => Next::Stay,
        }
    }

    /// Returns the manifest that is brought to it, and where it goes with the whole of it.
    pub(in crate::campaign) fn manifest_delivery(
        &mut self,
    ) -> Option<(&mut ManifestDelivery, Start)> {
        match self {
            Self::Manifest(delivery) => Some((delivery, Start::Join)),
            _ => None,
        }
    }

    pub(in crate::campaign) fn handle_report(
        &mut self,
        now: Time,
        contact: &mut Contact,
        report: &Report,
        plan: &CampaignPlan,
    ) -> Next {
        match self {
            Self::Enlist if matches!(report.phase, Phase::Ready | Phase::Receiving) => {
                return Next::Go(Start::RecoveryManifest);
            }
            Self::Transfer { ready_in_a_row } if report.phase == Phase::Ready => {
                *ready_in_a_row += 1;
                // Its recovery environment started over. One such report may only be late.
                return match *ready_in_a_row >= READY_REPORTS_MAX {
                    true => Next::Go(Start::RecoveryManifest),
                    false => Next::Stay,
                };
            }
            Self::Transfer { ready_in_a_row } => *ready_in_a_row = 0,
            _ => {}
        }
        match report.phase {
            Phase::Verified if plan.escrow.is_some() => Next::Go(Start::Escrow),
            Phase::Verified => Next::Go(Start::Commit(None)),
            Phase::Receiving if matches!(self, Self::Join) && plan.is_received(report) => {
                Next::Go(Start::Transfer)
            }
            Phase::Receiving => {
                if matches!(self, Self::Transfer { .. }) {
                    contact.take_progress(now, report);
                }
                Next::Stay
            }
            // It is further than it was asked to be: it was asked for by a late copy of its
            // request.
            Phase::BackingUp
            | Phase::Escrow
            | Phase::Writing
            | Phase::Verifying
            | Phase::Restoring
            | Phase::Updated
                if matches!(self, Self::Enlist) =>
            {
                contact.chip.was_told_before(report);
                Next::Go(Start::Flash(None))
            }
            Phase::Refused => {
                contact.ask_after_refusal();
                Next::Stay
            }
            Phase::Rebooting => leave(report, plan),
            _ => Next::Stay,
        }
    }
}
