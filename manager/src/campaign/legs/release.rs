//! The leg in which the host is let go: the campaign is over for it in recovery.

use firmcast::reason::Refusal;
use firmcast::wire::answer::{End, Phase, Report};
use firmcast::wire::command::Command;

use super::super::config::Deadlines;
use super::super::contact::{CampaignPlan, Contact};
use super::super::stage::Stage;
use super::ending::home;
use super::next::{Next, Start};

/// A host that is told to go, again until it goes or its time is over.
#[derive(Debug)]
pub(in crate::campaign) struct ReleaseLeg {
    /// Why it ends then; none for one whose return is awaited: it was updated, or did its drill.
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
        self.go(Next::Go(Start::Reboot))
    }

    /// It is in its normal OS after another boot.
    pub(in crate::campaign) fn come_home(
        &mut self,
        rebooted: bool,
        end: Option<&End>,
        plan: &CampaignPlan,
    ) -> Next {
        match rebooted {
            true => self.go(home(end, plan)),
            false => Next::Stay,
        }
    }

    pub(in crate::campaign) fn handle_report(
        &mut self,
        contact: &Contact,
        report: &Report,
    ) -> Next {
        match report.phase {
            Phase::Rebooting => self.go(Next::Go(Start::Reboot)),
            // The agent was released before it left its normal OS.
            Phase::Idle if self.farewell.is_some() => self.go(Next::Go(Start::Reboot)),
            // It was released too late: it writes, and must finish.
            Phase::Writing | Phase::Verifying | Phase::Restoring if !contact.chip.has_ended() => {
                Next::Go(Start::Flash(None))
            }
            _ => Next::Stay,
        }
    }

    fn go(&mut self, awaited: Next) -> Next {
        self.farewell.take().map_or(awaited, Next::End)
    }
}
