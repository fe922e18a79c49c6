//! One host's way through a campaign: what its answers mean.

use firmcast::reason::{FlashState, Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::answer::{Answer, End, Environment, Identity, Measurement, Phase, Report};
use firmcast::wire::command::Command;
use firmcast::wire::foresight::Foresight;
use rand_chacha::ChaCha20Rng;

use super::host::{Host, Plan};
use super::stage::Stage;

/// So many reports in a row that say "ready" show that a receiving host lost what it was told.
const READY_REPORTS_MAX: u32 = 3;

/// How often an agent that lost its manifest, most likely because it was restarted, is brought it again.
const MANIFESTS_LOST_MAX: u32 = 3;

/// So often flashing may come to another phase before that no longer counts as progress: a few tries with all phases.
const FLASH_TURNS_MAX: u32 = 40;

impl Host {
    /// Takes an authentic answer of this host.
    pub(super) fn handle_answer(
        &mut self,
        now: Time,
        answer: &Answer,
        plan: &Plan,
        rng: &mut ChaCha20Rng,
    ) {
        self.heard = now;
        match answer {
            Answer::Identity(identity) => self.handle_identity(now, identity, plan),
            Answer::Report(report) if report.campaign == plan.campaign() => {
                self.handle_report(now, report, plan);
            }
            Answer::Report(report) if matches!(self.stage, Stage::Connect | Stage::Recall) => {
                self.recall(now, report, plan);
            }
            Answer::ManifestHeld { campaign, held_bytes } if *campaign == plan.campaign() => {
                self.handle_manifest_held(now, *held_bytes, plan, rng);
            }
            Answer::Measurement(measurement) if measurement.campaign == plan.campaign() => {
                self.handle_measurement(now, measurement, plan);
            }
            Answer::Foresight(foresight) if foresight.campaign == plan.campaign() => {
                self.handle_foresight(now, foresight);
            }
            Answer::BackupOffer(offer) => self.handle_offer(now, offer, plan, rng),
            Answer::Report(_)
            | Answer::ManifestHeld { .. }
            | Answer::Measurement(_)
            | Answer::Foresight(_)
            | Answer::HelpRequest(_)
            | Answer::FragmentStatus(_) => {}
        }
    }

    fn handle_identity(&mut self, now: Time, identity: &Identity, plan: &Plan) {
        let in_normal_os = identity.environment == Environment::NormalOs;
        match self.stage {
            Stage::Connect if in_normal_os => {
                self.identity = Some(identity.clone());
                self.chip.seen_at_home(identity);
                self.enter(now, Stage::Manifest, plan);
            }
            // A dry run brings nobody out of anything.
            Stage::Connect if plan.dry_run => {
                let detail = "it is in the recovery environment of another campaign";
                self.end(now, Refusal::new(Reason::Busy, detail));
            }
            Stage::Connect => self.enter(now, Stage::Recall, plan),
            Stage::Recall if in_normal_os => self.enter(now, Stage::Connect, plan),
            _ => self.handle_later_identity(now, identity, plan),
        }
    }

    fn handle_later_identity(&mut self, now: Time, identity: &Identity, plan: &Plan) {
        let in_normal_os = identity.environment == Environment::NormalOs;
        if !in_normal_os || plan.rescue {
            // It still waits for the release, which was lost.
            if self.stage == Stage::Reboot {
                self.aside = Some(Command::Release { campaign: plan.campaign() });
            }
            return;
        }
        let rebooted = self.identity.as_ref().is_none_or(|old| old.boot_id != identity.boot_id);
        let end = identity.last_end.as_ref().filter(|end| end.campaign == plan.campaign());
        let may_have_left = matches!(
            self.stage,
            Stage::Reach | Stage::RecoveryManifest | Stage::Join | Stage::Transfer
        );
        if rebooted && self.stage >= Stage::Reach || may_have_left && end.is_some() {
            self.chip.came_home(identity, end);
        }
        match self.stage {
            _ if may_have_left && (rebooted || end.is_some()) => self.end(now, returned(end)),
            Stage::Escrow | Stage::Commit | Stage::Flash if rebooted => {
                // Its agent may know why; whether it was updated after all, only the measurement tells.
                self.came_back = Some(returned(end)).filter(|why| !is_update(why.reason));
                self.enter(now, Stage::ConfirmManifest, plan);
            }
            Stage::Release if rebooted => match self.farewell.take() {
                Some(why) => self.end(now, why),
                None => self.enter(now, Stage::ConfirmManifest, plan),
            },
            Stage::Reboot if rebooted => self.enter(now, Stage::ConfirmManifest, plan),
            _ => {}
        }
    }

    /// Ends an earlier campaign on this host, whose manager no longer does it.
    fn recall(&mut self, now: Time, report: &Report, plan: &Plan) {
        let campaign = report.campaign;
        let command = match report.phase {
            Phase::Idle | Phase::Accepted | Phase::Refused => return,
            Phase::BackingUp | Phase::Writing | Phase::Verifying | Phase::Restoring => None,
            Phase::Rebooting => None,
            // It holds the verified image of that campaign, and nothing else helps it.
            Phase::Failed if !report.ending.flash.reboot_is_safe() => {
                Some(Command::Commit { campaign })
            }
            Phase::Ready
            | Phase::Receiving
            | Phase::Verified
            | Phase::Escrow
            | Phase::Updated
            | Phase::Failed => Some(Command::Release { campaign }),
        };
        if self.stage == Stage::Connect {
            self.enter(now, Stage::Recall, plan);
        }
        if report.phase != self.phase {
            self.flash_turned(now, plan);
        }
        self.phase = report.phase;
        self.aside = command;
    }

    fn handle_manifest_held(
        &mut self,
        now: Time,
        held_bytes: u32,
        plan: &Plan,
        rng: &mut ChaCha20Rng,
    ) {
        let next = match self.stage {
            Stage::Manifest if plan.dry_run => Stage::Foresee,
            Stage::Manifest => Stage::Begin,
            Stage::RecoveryManifest => Stage::Join,
            Stage::ConfirmManifest => Stage::Measure,
            _ => return,
        };
        if !self.upload.acknowledge(held_bytes, &plan.manifest) {
            return;
        }
        if self.upload.is_complete(&plan.manifest) {
            self.enter(now, next, plan);
        } else {
            self.retry.postpone(now, rng);
            self.extend_deadline(now, plan);
        }
    }

    fn handle_report(&mut self, now: Time, report: &Report, plan: &Plan) {
        if self.stage == Stage::Ended {
            self.release_late_caller(now, report, plan);
            return;
        }
        if report.digests.is_some() {
            self.digests = report.digests;
        }
        if report.phase != Phase::Ready {
            self.ready_in_a_row = 0;
        }
        if self.stage == Stage::Enlist {
            self.enlisted(now, report, plan);
        }
        self.chip.handle_report(now, report);
        match report.phase {
            Phase::Idle => self.idle(now),
            Phase::Accepted if self.stage == Stage::Begin => self.enter(now, Stage::Reach, plan),
            Phase::Accepted => {}
            Phase::Refused => self.refused(now, report, plan),
            Phase::Ready => self.ready(now, plan),
            Phase::Receiving => self.receiving(now, report, plan),
            Phase::Verified => self.verified(now, plan),
            Phase::BackingUp
            | Phase::Escrow
            | Phase::Writing
            | Phase::Verifying
            | Phase::Restoring => self.flashing(now, report, plan),
            Phase::Updated => self.updated(now, plan),
            Phase::Failed => self.failed(now, report, plan),
            Phase::Rebooting => self.rebooting(now, report, plan),
        }
        if self.stage != Stage::Ended {
            self.phase = report.phase;
        }
    }

    /// It heard that it was enlisted. One that is further already asked again by mistake, or was asked for by a late copy.
    fn enlisted(&mut self, now: Time, report: &Report, plan: &Plan) {
        match report.phase {
            Phase::Idle | Phase::Accepted | Phase::Refused => {}
            Phase::Ready | Phase::Receiving | Phase::Verified => {
                self.enter(now, Stage::RecoveryManifest, plan);
            }
            Phase::Failed | Phase::Rebooting => {}
            _ => self.enter(now, Stage::Flash, plan),
        }
    }

    /// Sends home a host that calls after the campaign has ended for it.
    fn release_late_caller(&mut self, now: Time, report: &Report, plan: &Plan) {
        if (Phase::Ready..Phase::BackingUp).contains(&report.phase)
            || matches!(report.phase, Phase::Escrow | Phase::Updated | Phase::Failed)
        {
            self.release_again(now, plan);
        }
    }

    /// The agent was released before it left its normal OS.
    fn idle(&mut self, now: Time) {
        if self.stage == Stage::Release
            && let Some(why) = self.farewell.take()
        {
            self.end(now, why);
        }
    }

    fn refused(&mut self, now: Time, report: &Report, plan: &Plan) {
        let again = match self.stage {
            Stage::Foresee | Stage::Begin => Some(Stage::Manifest),
            Stage::Measure => Some(Stage::ConfirmManifest),
            _ => None,
        };
        if let Some(stage) = again
            && report.ending.reason == Reason::ManifestIncomplete
            && self.manifests_lost < MANIFESTS_LOST_MAX
        {
            self.manifests_lost += 1;
            self.enter(now, stage, plan);
            return;
        }
        match self.stage {
            // Also in Reach: the agent had accepted, but could not enter the recovery environment.
            Stage::Manifest
            | Stage::Foresee
            | Stage::Begin
            | Stage::Reach
            | Stage::ConfirmManifest
            | Stage::Measure => self.end(now, said_in(report)),
            // Only the agent refuses: the host is back in its normal OS, and the agent may know why.
            stage if stage.is_in_recovery() => self.aside = Some(Command::Query),
            _ => {}
        }
    }

    fn ready(&mut self, now: Time, plan: &Plan) {
        self.ready_in_a_row += 1;
        match self.stage {
            Stage::Manifest | Stage::Begin | Stage::Reach => {
                self.enter(now, Stage::RecoveryManifest, plan);
            }
            // Its recovery environment started over. One such report may only be late.
            Stage::Transfer if self.ready_in_a_row >= READY_REPORTS_MAX => {
                let deadline = self.deadline;
                self.enter(now, Stage::RecoveryManifest, plan);
                self.deadline = deadline;
            }
            _ => {}
        }
    }

    fn receiving(&mut self, now: Time, report: &Report, plan: &Plan) {
        match self.stage {
            Stage::Begin | Stage::Reach => self.enter(now, Stage::RecoveryManifest, plan),
            Stage::Join => self.enter(now, Stage::Transfer, plan),
            _ => {}
        }
        if self.stage == Stage::Transfer {
            self.take_progress(now, report, plan);
        }
    }

    fn verified(&mut self, now: Time, plan: &Plan) {
        match self.stage {
            Stage::Begin | Stage::Reach => self.enter(now, Stage::RecoveryManifest, plan),
            Stage::RecoveryManifest | Stage::Join | Stage::Transfer if plan.escrow.is_some() => {
                self.enter(now, Stage::Escrow, plan);
            }
            Stage::RecoveryManifest | Stage::Join | Stage::Transfer => {
                self.enter(now, Stage::Commit, plan);
            }
            _ => {}
        }
    }

    fn flashing(&mut self, now: Time, report: &Report, plan: &Plan) {
        let is_secured = !matches!(report.phase, Phase::BackingUp | Phase::Escrow);
        match self.stage {
            Stage::Escrow if !is_secured => self.secures_backup(now, report, plan),
            // Said before it heard that its backup is stored.
            Stage::Commit if !is_secured && plan.escrow.is_some() => {}
            Stage::Escrow | Stage::Commit => self.enter(now, Stage::Flash, plan),
            // It was released too late: it writes, and must finish.
            Stage::Release if is_secured && !self.chip.has_ended() => {
                self.farewell = None;
                self.enter(now, Stage::Flash, plan);
            }
            _ => {}
        }
        if self.stage == Stage::Flash {
            if report.phase != self.phase {
                (self.done, self.total) = (0, 0);
                self.flash_turned(now, plan);
            }
            self.take_progress(now, report, plan);
        }
    }

    /// It came to another phase, which gives it more time; not for ever.
    pub(super) fn flash_turned(&mut self, now: Time, plan: &Plan) {
        self.flash_turns += 1;
        if self.flash_turns <= FLASH_TURNS_MAX {
            self.extend_deadline(now, plan);
        }
    }

    /// Takes over how far the host is; only a step forward gives it more time.
    pub(super) fn take_progress(&mut self, now: Time, report: &Report, plan: &Plan) {
        if report.done > self.done {
            self.extend_deadline(now, plan);
        }
        (self.done, self.total) = (report.done.min(report.total), report.total);
    }

    fn updated(&mut self, now: Time, plan: &Plan) {
        match self.stage {
            Stage::Begin | Stage::Reach => self.enter(now, Stage::RecoveryManifest, plan),
            // In escrow when nothing had to be changed.
            Stage::Escrow | Stage::Commit | Stage::Flash => {
                self.farewell = plan.rescue.then(rescued);
                self.enter(now, Stage::Release, plan);
            }
            // It still waits for the release, which was lost.
            Stage::Reboot => self.aside = Some(Command::Release { campaign: plan.campaign() }),
            _ => {}
        }
    }

    fn failed(&mut self, now: Time, report: &Report, plan: &Plan) {
        if self.stage >= Stage::Release {
            return;
        }
        if is_update(report.ending.reason) {
            self.updated(now, plan);
        } else if !report.ending.flash.reboot_is_safe() {
            if self.is_overdue {
                self.end(now, said_in(report));
                return;
            }
            // It does not reboot with a chip like this, whatever it is told, but tries to write it
            // again. So it has the time of the stage to get out of this.
            self.farewell = Some(said_in(report));
            if self.stage != Stage::Flash {
                self.enter(now, Stage::Flash, plan);
            }
            if plan.rescue {
                // A dead host that does not try again by itself may go and ask for help again.
                self.release_again(now, plan);
            }
        } else {
            self.end_after_release(now, said_in(report), plan);
        }
    }

    fn rebooting(&mut self, now: Time, report: &Report, plan: &Plan) {
        match self.stage {
            Stage::Release => match self.farewell.take() {
                Some(why) => self.end(now, why),
                None => self.enter(now, Stage::Reboot, plan),
            },
            Stage::Escrow | Stage::Commit | Stage::Flash
                if report.ending.flash == FlashState::Updated =>
            {
                match plan.rescue {
                    true => self.end(now, rescued()),
                    false => self.enter(now, Stage::Reboot, plan),
                }
            }
            stage if stage.is_in_recovery() => self.end(now, said_in(report)),
            _ => {}
        }
    }

    fn handle_foresight(&mut self, now: Time, foresight: &Foresight) {
        if self.stage != Stage::Foresee {
            return;
        }
        let why = match foresight.reason {
            Reason::None => Refusal::new(Reason::Possible, foresight),
            reason => Refusal::new(reason, &foresight.detail),
        };
        self.end(now, why);
    }

    fn handle_measurement(&mut self, now: Time, measurement: &Measurement, plan: &Plan) {
        if self.stage != Stage::Measure {
            return;
        }
        // The agent may still be looking for the chip: ask again until the deadline.
        if !measurement.matches && !measurement.detail.is_empty() {
            self.unmeasured = Some(measurement.detail.clone());
            return;
        }
        // The host says what it found and what it makes of it; both must be right.
        let matches = measurement.matches && measurement.stable_digest == plan.stable_digest;
        self.chip.measured(matches);
        let unmatched = || Refusal::new(Reason::WrongDigest, "");
        let got = &measurement.bios_version;
        let why = match plan.expect_version.as_ref().filter(|expected| *expected != got) {
            _ if !matches => self.came_back.take().unwrap_or_else(unmatched),
            Some(expected) => {
                Refusal::new(Reason::WrongVersion, format!("expected {expected:?}, got {got:?}"))
            }
            // What the agent could not do beside it.
            None => Refusal::new(Reason::Confirmed, &measurement.detail),
        };
        self.end(now, why);
        if let Some(outcome) = &mut self.outcome {
            outcome.bios_version = Some(got.clone());
        }
    }
}

/// The end of a dead host whose flash was verified: nobody is there who could measure it after the
/// boot.
fn rescued() -> Refusal {
    Refusal::new(Reason::Rescued, "")
}

fn is_update(reason: Reason) -> bool {
    matches!(reason, Reason::Updated | Reason::AlreadyCurrent)
}

/// Why the report says that the host's part is over.
fn said_in(report: &Report) -> Refusal {
    let reason = match report.ending.reason {
        Reason::None => Reason::RecoveryFailed,
        reason => reason,
    };
    Refusal::new(reason, &report.ending.detail)
}

/// Why a host is back in its normal OS without having been told to go.
fn returned(end: Option<&End>) -> Refusal {
    end.map_or(Refusal::new(Reason::ReturnedSilently, ""), |end| {
        Refusal::new(end.ending.reason, &end.ending.detail)
    })
}
