//! The leg in the normal OS: the agent is called, given the manifest, and told to begin or to
//! foresee.

use firmcast::reason::{FlashState, Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::answer::{End, Environment, Identity, Phase, Report};
use firmcast::wire::command::Command;
use firmcast::wire::foresight::Foresight;

use super::super::config::{Deadlines, Purpose, whole_seconds};
use super::super::contact::{CampaignPlan, Contact, said_in};
use super::super::manifest::ManifestDelivery;
use super::super::stage::{Stage, awaits_release};
use super::ending::returned;
use super::next::{Next, Start};

/// Rate at which a host that is finished for another campaign would upload its backup. It never
/// does, as it is told to go without.
const RECALLED_RATE_KBIT_S: u32 = 1000;

/// Returns what finishes the part of a host in another campaign.
fn finish(campaign: u64, flash: FlashState) -> Command {
    match flash.contents_changed() {
        // That campaign may have wanted its backup, which nobody takes any more: the host is to say
        // that it went without.
        Some(false) => Command::CommitWithEscrow {
            campaign,
            rate_kbit_s: RECALLED_RATE_KBIT_S,
            unless_broken: true,
        },
        Some(true) | None => Command::Commit { campaign },
    }
}

/// Whether hosts are only asked: who does that brings nobody out of anything.
fn only_asks(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::DryRun | Purpose::Look)
}

fn is_in_another_campaign() -> Refusal {
    Refusal::new(Reason::Busy, "it is in the recovery environment of another campaign")
}

/// A host in its normal OS, or on its way from there to recovery.
#[derive(Debug)]
pub(in crate::campaign) enum AgentLeg {
    Connect,
    Recall,
    Manifest(ManifestDelivery),
    Foresee,
    Begin,
    Reach,
}

impl AgentLeg {
    pub(in crate::campaign) fn stage(&self) -> Stage {
        match self {
            Self::Connect => Stage::Connect,
            Self::Recall => Stage::Recall,
            Self::Manifest(_) => Stage::Manifest,
            Self::Foresee => Stage::Foresee,
            Self::Begin => Stage::Begin,
            Self::Reach => Stage::Reach,
        }
    }

    pub(in crate::campaign) fn span(&self, deadlines: &Deadlines) -> std::time::Duration {
        match self {
            Self::Connect => deadlines.connect,
            Self::Recall => deadlines.boot,
            Self::Manifest(_) => deadlines.manifest,
            Self::Foresee => deadlines.measure,
            Self::Begin => deadlines.begin,
            Self::Reach => deadlines.reach,
        }
    }

    pub(in crate::campaign) fn commands(&mut self, due: bool, plan: &CampaignPlan) -> Vec<Command> {
        let campaign = plan.campaign();
        let command = match self {
            Self::Manifest(delivery) => return delivery.commands(due, campaign, &plan.manifest),
            Self::Connect | Self::Recall => Command::Query,
            Self::Foresee => Command::Foresee { campaign, accepted: plan.accepted },
            Self::Begin => Command::Begin {
                campaign,
                reach_timeout_s: whole_seconds(plan.deadlines.reach),
                transfer_timeout_s: whole_seconds(plan.deadlines.transfer),
                accepted: plan.accepted,
                drill: plan.purpose == Purpose::Drill,
            },
            Self::Reach => return Vec::new(),
        };
        due.then_some(command).into_iter().collect()
    }

    pub(in crate::campaign) fn handle_timeout(
        &self,
        now: Time,
        contact: &Contact,
        plan: &CampaignPlan,
    ) -> Next {
        Next::End(match self {
            Self::Recall => {
                let detail = format!("in another campaign it was last {}", contact.phase.name());
                Refusal::new(Reason::Busy, detail)
            }
            Self::Connect | Self::Manifest(_) | Self::Foresee => {
                Refusal::new(Reason::HostUnreachable, contact.standstill(now, self.stage()))
            }
            // One that is on its way nevertheless is let go when it calls.
            Self::Begin if plan.purpose == Purpose::Drill => {
                let advice = "an agent that is older than drills stays silent: update it";
                Refusal::new(Reason::HostUnreachable, advice)
            }
            // The acceptance may be lost and the host already on its way.
            Self::Begin => return Next::Go(Start::Reach),
            Self::Reach => Refusal::new(Reason::NoReady, ""),
        })
    }

    pub(in crate::campaign) fn interrupt(&self) -> Next {
        let why = |detail| Refusal::new(Reason::Interrupted, detail);
        match self {
            Self::Connect | Self::Recall => Next::End(why("")),
            // Its recovery environment does not hear yet; it is released should it call while
            // others are waited for.
            Self::Reach => Next::End(why("it was on its way to the recovery environment")),
            Self::Manifest(_) | Self::Foresee | Self::Begin => Next::release(why("")),
        }
    }

    /// The host says who it is, before it has left for recovery.
    pub(in crate::campaign) fn handle_identity(
        &self,
        contact: &mut Contact,
        identity: &Identity,
        plan: &CampaignPlan,
    ) -> Next {
        let in_normal_os = identity.environment == Environment::NormalOs;
        match self {
            Self::Connect if in_normal_os => {
                contact.identity = Some(identity.clone());
                contact.chip.seen_at_home(identity);
                Next::Go(Start::Manifest)
            }
            Self::Connect if only_asks(plan.purpose) => Next::End(is_in_another_campaign()),
            Self::Connect => Next::Go(Start::Recall),
            Self::Recall if in_normal_os => Next::Go(Start::Connect),
            _ => Next::Stay,
        }
    }

    /// It is in its normal OS after another boot, or knows how its part ended.
    pub(in crate::campaign) fn come_home(&self, rebooted: bool, end: Option<&End>) -> Next {
        match self {
            Self::Reach if rebooted || end.is_some() => Next::End(returned(end)),
            _ => Next::Stay,
        }
    }

    /// It reports in a campaign whose manager no longer ends it: this one does.
    pub(in crate::campaign) fn handle_foreign_report(
        &self,
        now: Time,
        contact: &mut Contact,
        report: &Report,
        purpose: Purpose,
    ) -> Next {
        if !matches!(self, Self::Connect | Self::Recall) {
            return Next::Stay;
        }
        let campaign = report.campaign;
        let command = match report.phase {
            Phase::Idle | Phase::Accepted | Phase::Refused => return Next::Stay,
            _ if only_asks(purpose) => return Next::End(is_in_another_campaign()),
            // It holds the verified image of that campaign, and nothing else helps it.
            Phase::Failed if !report.ending.flash.reboot_is_safe() => {
                Some(finish(campaign, report.ending.flash))
            }
            phase => awaits_release(phase).then_some(Command::Release { campaign }),
        };
        let is_other_phase = report.phase != contact.phase;
        (contact.phase, contact.aside) = (report.phase, command);
        if matches!(self, Self::Connect) {
            return Next::Go(Start::Recall);
        }
        if is_other_phase {
            contact.turn(now);
        }
        Next::Stay
    }

    /// Returns the manifest that is brought to it, and where it goes with the whole of it.
    pub(in crate::campaign) fn manifest_delivery(
        &mut self,
        plan: &CampaignPlan,
    ) -> Option<(&mut ManifestDelivery, Start)> {
        let then = match plan.purpose {
            Purpose::DryRun => Start::Foresee,
            Purpose::Look => Start::Measure(None),
            Purpose::Update | Purpose::Drill => Start::Begin,
        };
        match self {
            Self::Manifest(delivery) => Some((delivery, then)),
            _ => None,
        }
    }

    pub(in crate::campaign) fn handle_report(
        &self,
        contact: &mut Contact,
        report: &Report,
    ) -> Next {
        match (report.phase, self) {
            (Phase::Accepted, Self::Begin) => Next::Go(Start::Reach),
            (Phase::Refused, Self::Foresee | Self::Begin)
                if report.ending.reason == Reason::ManifestIncomplete
                    && contact.may_lose_manifest() =>
            {
                Next::Go(Start::Manifest)
            }
            // Also in Reach: the agent had accepted, but could not enter the recovery environment.
            (Phase::Refused, Self::Manifest(_) | Self::Foresee | Self::Begin | Self::Reach) => {
                Next::End(said_in(report))
            }
            (Phase::Ready, Self::Manifest(_) | Self::Begin | Self::Reach)
            | (Phase::Receiving | Phase::Verified | Phase::Updated, Self::Begin | Self::Reach) => {
                Next::Go(Start::RecoveryManifest)
            }
            (Phase::Rebooting, Self::Reach) => Next::End(said_in(report)),
            _ => Next::Stay,
        }
    }

    /// It does not know a command of this type.
    pub(in crate::campaign) fn handle_not_understood(&self, plan: &CampaignPlan) -> Next {
        let is_drill = plan.purpose == Purpose::Drill;
        match self {
            Self::Begin if is_drill => {
                let detail = "the host knows no drills: update firmcast there";
                Next::End(Refusal::new(Reason::ProtocolMismatch, detail))
            }
            _ => Next::Stay,
        }
    }

    pub(in crate::campaign) fn handle_foresight(&self, foresight: &Foresight) -> Next {
        match (self, foresight.reason) {
            (Self::Foresee, Reason::None) => Next::End(Refusal::new(Reason::Possible, foresight)),
            (Self::Foresee, reason) => Next::End(Refusal::new(reason, &foresight.detail)),
            _ => Next::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use firmcast::reason::{Condition, Ending};

    use super::*;

    #[test]
    fn who_only_asks_lets_a_host_in_recovery_go_on_with_another_campaign() {
        let report = Report {
            campaign: 7,
            phase: Phase::Receiving,
            ending: Ending::new(Reason::None, FlashState::UNTOUCHED, ""),
            done: 1,
            total: 9,
            digests: None,
            lacking: None,
        };
        let told = |purpose| {
            let mut contact = Contact::new(Duration::from_secs(10));
            let next =
                AgentLeg::Connect.handle_foreign_report(Time::ZERO, &mut contact, &report, purpose);
            (next, contact.aside)
        };
        for purpose in [Purpose::DryRun, Purpose::Look] {
            let (next, command) = told(purpose);
            assert!(matches!(&next, Next::End(Refusal { reason: Reason::Busy, .. })), "{next:?}");
            assert_eq!(command, None);
        }
        let (next, command) = told(Purpose::Update);
        assert!(matches!(next, Next::Go(Start::Recall)), "{next:?}");
        assert_eq!(command, Some(Command::Release { campaign: 7 }));
    }

    #[test]
    fn contents_that_may_be_worth_a_backup_are_never_replaced_without_for_another_campaign() {
        let goes_without = |flash| match finish(7, flash) {
            Command::Commit { campaign: 7 } => false,
            Command::CommitWithEscrow { campaign: 7, unless_broken: true, .. } => true,
            other => panic!("{other:?}"),
        };
        let holds_old = FlashState::ALL.map(|flash| (flash.condition().is_some(), flash));
        for (holds_old, flash) in holds_old {
            assert_eq!(goes_without(flash), holds_old, "{flash}");
        }
        assert!(goes_without(FlashState::Untouched(Condition::Broken)));
    }
}
