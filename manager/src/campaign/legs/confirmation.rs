//! The leg after the reboot: the agent compares the flash with the image.

use firmcast::reason::{Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::answer::{End, Measurement, Phase, Report};
use firmcast::wire::command::Command;

use super::super::config::{Deadlines, Purpose};
use super::super::contact::{CampaignPlan, Contact, said_in};
use super::super::manifest::ManifestDelivery;
use super::super::stage::Stage;
use super::ending::home;
use super::next::{Next, Start};

/// A host that reboots, or is back.
#[derive(Debug)]
pub(in crate::campaign) enum ConfirmationLeg {
    Reboot,
    Manifest {
        delivery: ManifestDelivery,
        /// Why the agent says that it came back without an update.
        came_back: Option<Refusal>,
    },
    Measure {
        came_back: Option<Refusal>,
        /// Why the agent could not measure.
        unmeasured: Option<String>,
    },
}

impl ConfirmationLeg {
    pub(in crate::campaign) fn stage(&self) -> Stage {
        match self {
            Self::Reboot => Stage::Reboot,
            Self::Manifest { .. } => Stage::ConfirmManifest,
            Self::Measure { .. } => Stage::Measure,
        }
    }

    pub(in crate::campaign) fn span(&self, deadlines: &Deadlines) -> std::time::Duration {
        match self {
            Self::Reboot => deadlines.boot,
            Self::Manifest { .. } => deadlines.manifest,
            Self::Measure { .. } => deadlines.measure,
        }
    }

    pub(in crate::campaign) fn commands(&mut self, due: bool, plan: &CampaignPlan) -> Vec<Command> {
        let campaign = plan.campaign();
        match self {
            Self::Manifest { delivery, .. } => delivery.commands(due, campaign, &plan.manifest),
            Self::Reboot if due => vec![Command::Query],
            Self::Measure { .. } if due => vec![Command::Measure { campaign }],
            _ => Vec::new(),
        }
    }

    pub(in crate::campaign) fn handle_timeout(&mut self, now: Time, contact: &Contact) -> Next {
        let detail = contact.standstill(now, self.stage());
        let silent = Refusal::new(Reason::NoAgentAfterReboot, detail);
        Next::End(match self {
            Self::Measure { came_back: Some(why), .. } => why.clone(),
            Self::Measure { unmeasured: Some(detail), .. } => {
                Refusal::new(Reason::NotMeasured, detail)
            }
            _ => silent,
        })
    }

    /// It still waits in recovery for the release, which was lost.
    pub(in crate::campaign) fn release(&self, contact: &mut Contact, plan: &CampaignPlan) {
        if matches!(self, Self::Reboot) {
            contact.aside = Some(Command::Release { campaign: plan.campaign() });
        }
    }

    /// It is in its normal OS after another boot.
    pub(in crate::campaign) fn come_home(
        &self,
        rebooted: bool,
        end: Option<&End>,
        plan: &CampaignPlan,
    ) -> Next {
        match self {
            Self::Reboot if rebooted => home(end, plan),
            _ => Next::Stay,
        }
    }

    /// Returns the manifest that is brought to it, and where it goes with the whole of it.
    pub(in crate::campaign) fn manifest_delivery(
        &mut self,
    ) -> Option<(&mut ManifestDelivery, Start)> {
        match self {
            Self::Manifest { delivery, came_back } => {
                Some((delivery, Start::Measure(came_back.clone())))
            }
            _ => None,
        }
    }

    pub(in crate::campaign) fn handle_report(
        &mut self,
        contact: &mut Contact,
        report: &Report,
        plan: &CampaignPlan,
    ) -> Next {
        match (report.phase, self) {
            (Phase::Updated | Phase::Drilled, leg @ Self::Reboot) => {
                leg.release(contact, plan);
                Next::Stay
            }
            (Phase::Refused, Self::Measure { came_back, .. })
                if report.ending.reason == Reason::ManifestIncomplete
                    && contact.may_lose_manifest() =>
            {
                Next::Go(Start::ConfirmManifest(came_back.take()))
            }
            (Phase::Refused, Self::Manifest { .. } | Self::Measure { .. }) => {
                Next::End(said_in(report))
            }
            _ => Next::Stay,
        }
    }

    pub(in crate::campaign) fn handle_measurement(
        &mut self,
        contact: &mut Contact,
        measurement: &Measurement,
        plan: &CampaignPlan,
    ) -> Next {
        let Self::Measure { came_back, unmeasured } = self else { return Next::Stay };
        // A late answer of the boot that the update began from says nothing about this one.
        let before = contact.identity.as_ref().filter(|_| plan.purpose != Purpose::Look);
        if before.is_some_and(|before| before.boot_id == measurement.boot_id) {
            *unmeasured = Some("it answered with a measurement from before its reboot".into());
            return Next::Stay;
        }
        // The agent may still be looking for the chip: ask again until the deadline.
        if !measurement.matches && !measurement.detail.is_empty() {
            *unmeasured = Some(measurement.detail.clone());
            return Next::Stay;
        }
        // The host says what it found and what it makes of it; both must be right.
        let matches = measurement.matches && measurement.stable_digest == plan.stable_digest;
        contact.chip.measured(matches);
        let unmatched = || Refusal::new(Reason::WrongDigest, "");
        let got = &measurement.bios_version;
        Next::End(match plan.expect_version.as_ref().filter(|expected| *expected != got) {
            _ if !matches => came_back.take().unwrap_or_else(unmatched),
            Some(expected) => {
                Refusal::new(Reason::WrongVersion, format!("expected {expected:?}, got {got:?}"))
            }
            // What the agent could not do beside it.
            None => Refusal::new(Reason::Confirmed, &measurement.detail),
        })
    }
}
