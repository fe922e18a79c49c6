//! What a host of a campaign says, brought to the leg that it is on.

use firmcast::reason::Reason;
use firmcast::time::Time;
use firmcast::wire::answer::{Answer, Environment, Identity, Phase, Report};
use firmcast::wire::broadcast::Broadcast;
use firmcast::wire::command::Command;
use firmcast::wire::escrow::BackupOffer;
use rand_chacha::ChaCha20Rng;

use super::chip::is_update;
use super::config::HOLD_TOLD_S;
use super::contact::{CampaignPlan, said_in};
use super::host::{Host, Leg};
use super::legs::escrow::WholeBackup;
use super::legs::next::{Next, Start};
use super::stage::{Stage, awaits_release};

impl Host {
    /// Takes an authentic answer of this host.
    pub(super) fn handle_answer(
        &mut self,
        now: Time,
        answer: &Answer,
        plan: &CampaignPlan,
        rng: &mut ChaCha20Rng,
    ) {
        let contact = &mut self.contact;
        contact.heard = now;
        let ours = plan.campaign();
        let next = match (answer, &mut self.leg) {
            (Answer::Identity(identity), _) => return self.handle_identity(now, identity, plan),
            (Answer::Report(report), _) if report.campaign == ours => {
                return self.handle_report(now, report, plan);
            }
            (Answer::Report(report), Leg::Agent(leg)) => {
                leg.handle_foreign_report(now, contact, report, plan.purpose)
            }
            (Answer::ManifestHeld { campaign, held_bytes }, leg) if *campaign == ours => {
                let delivery = match leg {
                    Leg::Agent(leg) => leg.manifest_delivery(plan),
                    Leg::Recovery(leg) => leg.manifest_delivery(),
                    Leg::Confirmation(leg) => leg.manifest_delivery(),
                    _ => None,
                };
                let Some((delivery, then)) = delivery else { return };
                match contact.take_manifest_held(now, delivery, *held_bytes, plan, rng) {
                    true => Next::Go(then),
                    false => Next::Stay,
                }
            }
            (Answer::Measurement(measurement), Leg::Confirmation(leg))
                if measurement.campaign == ours =>
            {
                let next = leg.handle_measurement(contact, measurement, plan);
                self.follow(now, next, plan);
                if let Leg::Ended(outcome) = &mut self.leg {
                    outcome.bios_version = Some(measurement.bios_version.clone());
                    outcome.programs.clone_from(&measurement.programs);
                }
                return;
            }
            (Answer::Foresight(foresight), Leg::Agent(leg)) if foresight.campaign == ours => {
                let is_possible = foresight.reason == Reason::None;
                contact.foresight = is_possible.then(|| foresight.clone());
                leg.handle_foresight(foresight)
            }
            (Answer::NotUnderstood { .. }, Leg::Agent(leg)) => leg.handle_not_understood(plan),
            // In a drill it looks for a manager by itself, and has found this one.
            (Answer::HelpRequest(request), _) if !request.wants_image => {
                let (reason, detail) = (Reason::None, String::new());
                contact.aside = Some(Command::Hold { again_s: HOLD_TOLD_S, reason, detail });
                Next::Stay
            }
            (Answer::BackupOffer(offer), _) => return self.handle_offer(now, offer, plan, rng),
            _ => Next::Stay,
        };
        self.follow(now, next, plan);
    }

    fn handle_identity(&mut self, now: Time, identity: &Identity, plan: &CampaignPlan) {
        let contact = &mut self.contact;
        contact.boots.take(identity.boot_id);
        if identity.environment != Environment::NormalOs || plan.rescue {
            let next = match &mut self.leg {
                Leg::Agent(leg) => leg.handle_identity(contact, identity, plan),
                Leg::Confirmation(leg) => {
                    leg.release(contact, plan);
                    Next::Stay
                }
                _ => Next::Stay,
            };
            return self.follow(now, next, plan);
        }
        let is_same = |old: &Identity| old.boot_id == identity.boot_id;
        let rebooted = !contact.identity.as_ref().is_some_and(is_same);
        let end = identity.last_end.as_ref().filter(|end| end.campaign == plan.campaign());
        let next = match &mut self.leg {
            Leg::Agent(leg) if leg.stage() != Stage::Reach => {
                leg.handle_identity(contact, identity, plan)
            }
            leg => {
                let may_have_left = matches!(leg, Leg::Agent(_) | Leg::Recovery(_));
                if rebooted || may_have_left && end.is_some() {
                    contact.chip.came_home(identity, end);
                }
                match leg {
                    Leg::Agent(leg) => leg.come_home(rebooted, end),
                    Leg::Recovery(leg) => leg.come_home(rebooted, end),
                    Leg::Escrow(leg) => leg.come_home(rebooted, end, plan),
                    Leg::Flashing(leg) => leg.come_home(rebooted, end, plan),
                    Leg::Release(leg) => leg.come_home(rebooted, end, plan),
                    Leg::Confirmation(leg) => leg.come_home(rebooted, end, plan),
                    Leg::Ended(_) => Next::Stay,
                }
            }
        };
        self.follow(now, next, plan);
    }

    fn handle_report(&mut self, now: Time, report: &Report, plan: &CampaignPlan) {
        let contact = &mut self.contact;
        if let Leg::Ended(_) = self.leg {
            // It calls after the campaign has ended for it: it is sent home.
            if awaits_release(report.phase) {
                contact.release_again(now, plan);
            }
            return;
        }
        contact.digests = report.digests.or(contact.digests);
        contact.take_remark(report);
        contact.take_lacking(report);
        contact.chip.handle_report(now, report);
        match report.phase {
            Phase::Failed if is_update(report.ending.reason) => {
                let updated = Report { phase: Phase::Updated, ..report.clone() };
                self.handle_phase(now, &updated, plan);
            }
            Phase::Failed => self.handle_failure(now, report, plan),
            _ => self.handle_phase(now, report, plan),
        }
        if self.stage() != Stage::Ended {
            self.contact.phase = report.phase;
        }
    }

    fn handle_phase(&mut self, now: Time, report: &Report, plan: &CampaignPlan) {
        let contact = &mut self.contact;
        let next = match &mut self.leg {
            Leg::Agent(leg) => leg.handle_report(contact, report),
            Leg::Recovery(leg) => leg.handle_report(now, contact, report, plan),
            Leg::Escrow(leg) => leg.handle_report(now, contact, report, plan),
            Leg::Flashing(leg) => leg.handle_report(now, contact, report, plan),
            Leg::Release(leg) => leg.handle_report(contact, report),
            Leg::Confirmation(leg) => leg.handle_report(contact, report, plan),
            Leg::Ended(_) => Next::Stay,
        };
        let deadline = self.contact.deadline;
        let starts_over =
            self.stage() == Stage::Transfer && matches!(next, Next::Go(Start::RecoveryManifest));
        self.follow(now, next, plan);
        if starts_over {
            // Starting over is no progress.
            self.contact.deadline = deadline;
        }
    }

    /// Its part failed. With a chip that is safe to boot from it is let go.
    fn handle_failure(&mut self, now: Time, report: &Report, plan: &CampaignPlan) {
        let is_safe = report.ending.flash.reboot_is_safe();
        let next = match &mut self.leg {
            Leg::Release(_) | Leg::Confirmation(_) | Leg::Ended(_) => return,
            _ if is_safe => Next::release(said_in(report)),
            Leg::Flashing(leg) => leg.fail(report),
            _ => Next::Go(Start::Flash(Some(said_in(report)))),
        };
        self.follow(now, next, plan);
        if plan.rescue && self.stage() == Stage::Flash {
            // A dead host that does not try again by itself may go and ask for help again.
            self.contact.release_again(now, plan);
        }
    }

    fn handle_offer(
        &mut self,
        now: Time,
        offer: &BackupOffer,
        plan: &CampaignPlan,
        rng: &mut ChaCha20Rng,
    ) {
        if let Leg::Escrow(leg) = &mut self.leg {
            let next = leg.handle_offer(now, &mut self.contact, offer, plan, rng);
            self.follow(now, next, plan);
        }
    }

    /// Takes a datagram of its upload. Returns the backup when this makes it whole.
    pub(super) fn handle_fragment(
        &mut self,
        now: Time,
        sealed: &Broadcast<'_>,
        plan: &CampaignPlan,
    ) -> Option<WholeBackup> {
        let Leg::Escrow(leg) = &mut self.leg else { return None };
        let (next, backup) = leg.handle_fragment(now, &mut self.contact, sealed);
        self.follow(now, next, plan);
        backup
    }

    /// Its backup is durable: now it may change its flash.
    pub(super) fn backup_stored(&mut self, now: Time, digest: [u8; 32], plan: &CampaignPlan) {
        if let Leg::Escrow(leg) = &self.leg {
            let next = leg.backup_stored(digest);
            self.follow(now, next, plan);
        }
    }

    /// Its backup could not be kept.
    pub(super) fn backup_not_stored(&mut self, now: Time, why: String, plan: &CampaignPlan) {
        if let Leg::Escrow(leg) = &self.leg {
            let next = leg.fail(why);
            self.follow(now, next, plan);
        }
    }
}
