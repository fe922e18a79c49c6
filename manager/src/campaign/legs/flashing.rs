//! The leg in which the host changes its flash.

use firmcast::reason::{Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::answer::{End, Phase, Report};
use firmcast::wire::command::Command;

use super::super::config::{Deadlines, Purpose};
use super::super::contact::{CampaignPlan, Contact, said_in};
use super::super::stage::Stage;
use super::ending::{came_back, leave, rescued};
use super::next::{Next, Start};

/// A host that is told to write, or writes.
#[derive(Debug)]
pub(in crate::campaign) enum FlashingLeg {
    /// It is told, with the digest of its backup where that is in keeping.
    Commit(Option<[u8; 32]>),
    Flash {
        /// Why the last try failed.
        failure: Option<Refusal>,
        /// Its time is over; one more report is waited for.
        is_overdue: bool,
    },
}

impl FlashingLeg {
    pub(in crate::campaign) fn stage(&self) -> Stage {
        match self {
            Self::Commit(_) => Stage::Commit,
            Self::Flash { .. } => Stage::Flash,
        }
    }

    pub(in crate::campaign) fn span(&self, deadlines: &Deadlines) -> std::time::Duration {
        deadlines.flash
    }

    pub(in crate::campaign) fn commands(&self, due: bool, plan: &CampaignPlan) -> Vec<Command> {
        let campaign = plan.campaign();
        match self {
            Self::Commit(Some(digest)) if due => {
                vec![Command::BackupStored { campaign, digest: *digest }]
            }
            Self::Commit(None) if due && plan.purpose == Purpose::Drill => {
                vec![Command::Rehearse { campaign, escrow_rate_kbit_s: None }]
            }
            Self::Commit(None) if due => vec![Command::Commit { campaign }],
            _ => Vec::new(),
        }
    }

    /// Why the last try failed, if it did.
    pub(in crate::campaign) fn farewell(&self) -> Option<&Refusal> {
        match self {
            Self::Flash { failure, .. } => failure.as_ref(),
            Self::Commit(_) => None,
        }
    }

    /// Ends a flash job of which nothing good is heard any more. Of one that failed, what the chip
    /// holds now is waited for: it tries again by itself.
    pub(in crate::campaign) fn handle_timeout(
        &mut self,
        now: Time,
        contact: &mut Contact,
        plan: &CampaignPlan,
    ) -> Next {
        if let Self::Flash { failure: Some(_), is_overdue } = self
            && !*is_overdue
        {
            *is_overdue = true;
            contact.deadline = Some(now + plan.deadlines.sign_of_life());
            return Next::Stay;
        }
        let detail = format!("last heard of while {}", contact.phase.name());
        let lost = Refusal::new(Reason::LostWhileFlashing, detail);
        Next::End(self.farewell().cloned().unwrap_or(lost))
    }

    /// It is in its normal OS after another boot. Whether it was updated after all, only the
    /// measurement tells.
    pub(in crate::campaign) fn come_home(
        &self,
        rebooted: bool,
        end: Option<&End>,
        plan: &CampaignPlan,
    ) -> Next {
        came_back(rebooted, end, plan)
    }

    pub(in crate::campaign) fn handle_report(
        &mut self,
        now: Time,
        contact: &mut Contact,
        report: &Report,
        plan: &CampaignPlan,
    ) -> Next {
        match report.phase {
            Phase::Updated => Next::Go(Start::Release(plan.rescue.then(rescued))),
            Phase::Drilled => Next::Go(Start::Release(None)),
            // Said before it heard that its backup is stored.
            Phase::BackingUp | Phase::Escrow
                if matches!(self, Self::Commit(_)) && plan.escrow.is_some() =>
            {
                Next::Stay
            }
            Phase::BackingUp
            | Phase::Escrow
            | Phase::Writing
            | Phase::Verifying
            | Phase::Restoring
            | Phase::Other(_) => match self {
                Self::Commit(_) => Next::Go(Start::Flash(None)),
                Self::Flash { .. } => {
                    contact.take_phase(now, report);
                    contact.take_progress(now, report);
                    Next::Stay
                }
            },
            Phase::Refused => {
                contact.ask_after_refusal();
                Next::Stay
            }
            Phase::Rebooting => leave(report, plan),
            _ => Next::Stay,
        }
    }

    /// It failed with a chip with which it does not reboot, whatever it is told, but tries to write
    /// it again. So it has the time of the stage to get out of this.
    pub(in crate::campaign) fn fail(&mut self, report: &Report) -> Next {
        match self {
            Self::Flash { is_overdue: true, .. } => Next::End(said_in(report)),
            Self::Commit(_) => Next::Go(Start::Flash(Some(said_in(report)))),
            Self::Flash { failure, .. } => {
                *failure = Some(said_in(report));
                Next::Stay
            }
        }
    }
}
