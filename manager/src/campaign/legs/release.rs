//! The leg in which the host is let go: the campaign is over for it in recovery.

use firmcast::reason::Refusal;
use firmcast::wire::answer::{Phase, Report};
use firmcast::wire::command::Command;

use super::super::config::Deadlines;
use super::super::contact::{CampaignPlan, Contact};
use super::super::stage::Stage;
use super::next::{Next, Start};

/// A host that is told to go, again until it goes or its time is over.
#[derive(Debug)]
pub(in crate::campaign) struct ReleaseLeg {
    /// Why it ends then; none for one that was updated and is measured after its reboot.
    pub(in crate::campaign) farewell: Option<Refusal>,
}

impl ReleaseLeg {
    pub(in crate::campaign) fn stage(&self) -> Stage {
        Stage::Release
    }

    pub(in crate::campaign) fn span(&self, deadlines: &Deadlines) -> std::time::Duration {
        deadlines.release
    }

    pub(in crate::campaign) fn commands(&self, due: bool, plan: &CampaignPlan) -> Vec<Command> {
        due.then(|| Command::Release { campaign: plan.campaign() }).into_iter().collect()
    }

    /// It does not answer, and may have gone.
    pub(in crate::campaign) fn handle_timeout(&mut self) -> Next {
        self.go(Start::Reboot)
    }

    /// It is in its normal OS after another boot.
    pub(in crate::campaign) fn come_home(&mut self, rebooted: bool) -> Next {
        match rebooted {
            true => self.go(Start::ConfirmManifest(None)),
            false => Next::Stay,
        }
    }

    pub(in crate::campaign) fn handle_report(
        &mut self,
        contact: &Contact,
        report: &Report,
    ) -> Next {
        match report.phase {
            Phase::Rebooting => self.go(Start::Reboot),
            // The agent was released before it left its normal OS.
            Phase::Idle if self.farewell.is_some() => self.go(Start::Reboot),
            // It was released too late: it writes, and must finish.
            Phase::Writing | Phase::Verifying | Phase::Restoring if !contact.chip.has_ended() => {
                Next::Go(Start::Flash(None))
            }
            _ => Next::Stay,
        }
    }

    fn go(&mut self, updated: Start) -> Next {
        match self.farewell.take() {
            Some(why) => Next::End(why),
            None => Next::Go(updated),
        }
    }
}
