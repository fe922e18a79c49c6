//! One host's way through a campaign: what it is told and when, and what silence means.

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::reason::{Ending, FlashState, Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::answer::{Identity, Phase};
use firmcast::wire::broadcast::TransferParameters;
use firmcast::wire::command::Command;
use firmcast::wire::help::HelpRequest;
use rand_chacha::ChaCha20Rng;

use super::chip::ChipKnowledge;
use super::config::{Deadlines, Target};
use super::escrow::Deposit;
use super::event::Outcome;
use super::retry::Retry;
use super::stage::Stage;
use super::upload::Upload;

/// After so long a silence from the recovery environment the agent is asked whether the host is back, and again then.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// After so long a silence of an agent its session may be one from before its last boot: a fresh one is tried.
const STALE_SILENCE: Duration = Duration::from_secs(5);

/// A host that does not go when it is released is told again after this.
const RELEASE_INTERVAL: Duration = Duration::from_secs(5);

/// What is the same for all hosts of a campaign.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) manifest: Vec<u8>,
    pub(super) expect_version: Option<String>,
    pub(super) stable_digest: [u8; 32],
    pub(super) parameters: TransferParameters,
    pub(super) group: Option<std::net::IpAddr>,
    pub(super) report_interval_ms: u16,
    pub(super) dry_run: bool,
    /// Whether the hosts are dead ones: no agent can be called, and after the release nothing is awaited.
    pub(super) rescue: bool,
    pub(super) deadlines: Deadlines,
    /// None when flash is changed without the manager keeping the backup.
    pub(super) escrow: Option<EscrowPlan>,
}

/// What is the same for all uploads of backups.
#[derive(Debug)]
pub(super) struct EscrowPlan {
    /// Rate of each upload.
    pub(super) rate_kbit_s: u32,
    /// Size of each backup.
    pub(super) image_size_bytes: usize,
}

impl Plan {
    pub(super) fn campaign(&self) -> u64 {
        self.parameters.campaign
    }
}

/// One host of a campaign.
#[derive(Debug)]
pub struct Host {
    pub(super) target: Target,
    pub(super) stage: Stage,
    /// What may be stated about its chip.
    pub(super) chip: ChipKnowledge,
    /// Holds one of the campaign's dialogues, or needs none.
    pub(super) may_speak: bool,
    pub(super) deadline: Option<Time>,
    pub(super) retry: Retry,
    pub(super) upload: Upload,
    /// Its backup, on its way here.
    pub(super) deposit: Deposit,
    pub(super) heard: Time,
    pub(super) probe: Option<Time>,
    /// A command that is due once, next to what the stage repeats.
    pub(super) aside: Option<Command>,
    /// Why it ends after the release; none for an updated host.
    pub(super) farewell: Option<Refusal>,
    /// The time of its flash job is over; one more report is waited for.
    pub(super) is_overdue: bool,
    pub(super) identity: Option<Identity>,
    pub(super) recovery_address: Option<SocketAddr>,
    pub(super) phase: Phase,
    pub(super) done: u32,
    pub(super) total: u32,
    pub(super) digests: Option<([u8; 32], [u8; 32])>,
    /// Why the agent says that the host came back without an update, until the measurement shows
    /// better.
    pub(super) came_back: Option<Refusal>,
    /// Why the agent could not measure.
    pub(super) unmeasured: Option<String>,
    pub(super) ready_in_a_row: u32,
    /// How often its agent lost the manifest that it held.
    pub(super) manifests_lost: u32,
    /// How often its flashing came to another phase.
    pub(super) flash_turns: u32,
    pub(super) outcome: Option<Outcome>,
}

impl Host {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            stage: Stage::Connect,
            chip: ChipKnowledge::default(),
            may_speak: false,
            deadline: None,
            retry: Retry::starting(Time::ZERO),
            upload: Upload::default(),
            deposit: Deposit::default(),
            heard: Time::ZERO,
            probe: None,
            aside: None,
            farewell: None,
            is_overdue: false,
            identity: None,
            recovery_address: None,
            phase: Phase::Idle,
            done: 0,
            total: 0,
            digests: None,
            came_back: None,
            unmeasured: None,
            ready_in_a_row: 0,
            manifests_lost: 0,
            flash_turns: 0,
            outcome: None,
        }
    }

    /// What the operator calls it and where its agent is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether it waits until other hosts are further.
    pub fn is_waiting(&self) -> bool {
        !self.may_speak && self.stage != Stage::Ended
    }

    /// What the agent said about itself.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// What the recovery environment last said it was doing.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Steps of the stage done, and in all; zero in all when the stage has no steps.
    pub fn progress(&self) -> (u32, u32) {
        (self.done, self.total)
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Goes to `stage`.
    pub(super) fn enter(&mut self, now: Time, stage: Stage, plan: &Plan) {
        let keeps_dialogue =
            self.may_speak && self.stage.needs_dialogue() && stage.needs_dialogue();
        self.stage = stage;
        self.may_speak = !stage.needs_turn() || keeps_dialogue;
        self.retry = match self.waits_for_upload() {
            true => Retry::every(now, plan.deadlines.sign_of_life()),
            false => Retry::starting(now),
        };
        self.upload = Upload::default();
        self.deposit.end_upload();
        let may_be_home = stage.is_in_recovery() && !plan.rescue;
        self.probe = may_be_home.then_some(now + PROBE_INTERVAL);
        (self.done, self.total) = (0, 0);
        self.deadline = None;
        if self.may_speak {
            self.extend_deadline(now, plan);
        }
    }

    /// Gives it the turn that it waits for: a dialogue or an upload.
    pub(super) fn grant_turn(&mut self, now: Time, plan: &Plan) {
        self.may_speak = true;
        self.retry = Retry::starting(now);
        self.extend_deadline(now, plan);
    }

    /// Starts the time of the stage anew: at its begin, and when the host shows progress.
    pub(super) fn extend_deadline(&mut self, now: Time, plan: &Plan) {
        let deadlines = &plan.deadlines;
        let span = match self.stage {
            Stage::Connect => deadlines.connect,
            Stage::Manifest | Stage::RecoveryManifest | Stage::ConfirmManifest => {
                deadlines.manifest
            }
            Stage::Begin => deadlines.begin,
            Stage::Reach | Stage::Enlist => deadlines.reach,
            // A host that joined first waits out the join window of the others.
            Stage::Join | Stage::Transfer => deadlines.transfer + deadlines.join_window(),
            Stage::Escrow => deadlines.escrow,
            Stage::Commit | Stage::Flash => deadlines.flash,
            Stage::Release => deadlines.release,
            Stage::Recall | Stage::Reboot => deadlines.boot,
            Stage::Foresee | Stage::Measure => deadlines.measure,
            Stage::Ended => return,
        };
        self.deadline = Some(now + span);
    }

    /// It asks for help, perhaps again: whatever it was told before, it has forgotten, or never heard.
    pub(super) fn enlist(&mut self, now: Time, request: &HelpRequest, plan: &Plan) {
        if self.stage != Stage::Enlist {
            *self = Self::new(self.target.clone());
        }
        (self.heard, self.identity) = (now, Some(request.identity.clone()));
        self.chip = ChipKnowledge::of_request(request);
        self.enter(now, Stage::Enlist, plan);
        // Said once for each request: who was not heard asks again.
        self.aside = Some(Command::Enlist {
            campaign: plan.campaign(),
            transfer_timeout_s: whole_seconds(plan.deadlines.transfer),
        });
    }

    /// It asks for help although it takes part, so its attempt is over: as it says, or as far as it
    /// was heard. An attempt that had not come to the flash is only begun anew, without an end.
    pub(super) fn ask_again(&mut self, now: Time, said: Option<Ending>) {
        if matches!(self.stage, Stage::Enlist | Stage::Ended) {
            return;
        }
        let flash = self.chip.state(now);
        let lost = || {
            let detail = format!("it asked for help again after {}", self.stage.name());
            Ending::new(Reason::LostWhileFlashing, FlashState::Unknown, detail)
        };
        let heard = match &self.farewell {
            // It was let go as repaired, and is not.
            Some(why) if why.reason == Reason::Rescued => Some(lost()),
            Some(why) => Some(Ending::new(why.reason, flash, &why.detail)),
            None => (flash == FlashState::Unknown).then(lost),
        };
        let Some(ending) = said.or(heard) else { return };
        // It spoke, so its session is kept.
        self.heard = now;
        self.end_with(ending);
    }

    /// Ends it here, with what is known of its chip.
    pub(super) fn end(&mut self, now: Time, why: Refusal) {
        let Refusal { reason, detail } = why;
        self.end_with(Ending::new(reason, self.chip.state(now), detail));
    }

    /// Ends it here, with what the host itself says of its chip.
    pub(super) fn end_with(&mut self, ending: Ending) {
        self.stage = Stage::Ended;
        self.may_speak = true;
        (self.deadline, self.probe) = (None, None);
        self.deposit.end_upload();
        self.outcome = Some(Outcome { ending, bios_version: None, digests: self.digests });
    }

    /// Tells it that the campaign is over for it, but not at once again: it may answer each time, and not obey.
    pub(super) fn release_again(&mut self, now: Time, plan: &Plan) {
        if self.retry.next() <= now {
            self.retry = Retry::every(now, RELEASE_INTERVAL);
            self.aside = Some(Command::Release { campaign: plan.campaign() });
        }
    }

    /// Ends it after its recovery environment was told so.
    pub(super) fn end_after_release(&mut self, now: Time, why: Refusal, plan: &Plan) {
        self.farewell = Some(why);
        self.enter(now, Stage::Release, plan);
    }

    /// When [`Host::handle_timeout`] or [`Host::commands`] have something to do.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let retry = self.repeats().then(|| self.retry.next());
        [self.deadline, retry, self.probe, self.deposit.poll_timeout()].into_iter().flatten().min()
    }

    fn repeats(&self) -> bool {
        let is_quiet = matches!(
            self.stage,
            Stage::Reach | Stage::Enlist | Stage::Transfer | Stage::Flash | Stage::Ended
        );
        !is_quiet && (self.may_speak || self.waits_for_upload())
    }

    /// Whether the agent should be asked now if the host came back by itself.
    pub(super) fn take_probe(&mut self, now: Time) -> bool {
        let Some(probe) = self.probe.filter(|probe| *probe <= now) else { return false };
        if now.since(self.heard) < PROBE_INTERVAL {
            self.probe = Some(self.heard + PROBE_INTERVAL);
            return false;
        }
        self.probe = Some(probe.max(now) + PROBE_INTERVAL);
        true
    }

    /// A session is there: what was said before may have been lost with the old one.
    pub(super) fn connected(&mut self, now: Time) {
        if !self.waits_for_upload() {
            self.retry = Retry::starting(now);
        }
        self.upload.rewind();
        if self.stage.is_in_recovery() && self.stage != Stage::Enlist {
            self.aside = Some(Command::Query);
        }
    }

    /// Whether the agent must be called: there is no session, or only one from before its last boot.
    pub(super) fn wants_call(&self, now: Time, connected: bool) -> bool {
        self.may_speak
            && self.stage.is_with_agent()
            && (!connected || now.since(self.heard) >= STALE_SILENCE)
    }

    /// What the host is told now.
    pub(super) fn commands(
        &mut self,
        now: Time,
        plan: &Plan,
        rng: &mut ChaCha20Rng,
    ) -> Vec<Command> {
        let mut commands: Vec<Command> = self.aside.take().into_iter().collect();
        commands.extend(self.deposit.commands(now));
        commands.extend(self.repeated(now, plan, rng));
        for command in &commands {
            self.chip.handle_command(command);
        }
        commands
    }

    /// What the stage repeats, where that is due.
    fn repeated(&mut self, now: Time, plan: &Plan, rng: &mut ChaCha20Rng) -> Vec<Command> {
        if !self.repeats() {
            return Vec::new();
        }
        let due = self.retry.take(now, rng);
        if self.uploads() {
            if due {
                self.upload.rewind();
            }
            let next = || self.upload.next_part(plan.campaign(), &plan.manifest);
            return std::iter::from_fn(next).collect();
        }
        self.repeated_command(plan).filter(|_| due).into_iter().collect()
    }

    fn uploads(&self) -> bool {
        matches!(self.stage, Stage::Manifest | Stage::RecoveryManifest | Stage::ConfirmManifest)
    }

    fn repeated_command(&self, plan: &Plan) -> Option<Command> {
        let campaign = plan.campaign();
        Some(match self.stage {
            Stage::Connect | Stage::Recall | Stage::Reboot => Command::Query,
            Stage::Begin => Command::Begin {
                campaign,
                reach_timeout_s: whole_seconds(plan.deadlines.reach),
                transfer_timeout_s: whole_seconds(plan.deadlines.transfer),
            },
            Stage::Join => Command::Join {
                parameters: plan.parameters.clone(),
                report_interval_ms: plan.report_interval_ms,
                group: plan.group,
            },
            Stage::Escrow if self.waits_for_upload() => Command::Query,
            Stage::Escrow => {
                let rate_kbit_s = plan.escrow.as_ref()?.rate_kbit_s;
                // A dead host's contents are worth nothing to anybody who cannot have them.
                Command::CommitWithEscrow { campaign, rate_kbit_s, unless_broken: plan.rescue }
            }
            Stage::Commit => match self.deposit.stored() {
                Some(digest) => Command::BackupStored { campaign, digest },
                None => Command::Commit { campaign },
            },
            Stage::Release => Command::Release { campaign },
            Stage::Foresee => Command::Foresee { campaign },
            Stage::Measure => Command::Measure { campaign },
            _ => return None,
        })
    }

    /// Acts on a deadline that has passed.
    pub(super) fn handle_timeout(&mut self, now: Time, plan: &Plan) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let no_answer = |stage: Stage| format!("no answer while {}", stage.name());
        match self.stage {
            Stage::Recall => {
                let detail = format!("in another campaign it was last {}", self.phase.name());
                self.end(now, Refusal::new(Reason::Busy, detail));
            }
            Stage::Connect | Stage::Manifest | Stage::Foresee => {
                self.end(now, Refusal::new(Reason::HostUnreachable, no_answer(self.stage)));
            }
            // The acceptance may be lost and the host already on its way.
            Stage::Begin => self.enter(now, Stage::Reach, plan),
            Stage::Reach => self.end(now, Refusal::new(Reason::NoReady, "")),
            Stage::Enlist => {
                let detail = "it asked for help, was enlisted, and fell silent";
                self.end(now, Refusal::new(Reason::HostUnreachable, detail));
            }
            Stage::RecoveryManifest | Stage::Join | Stage::Transfer => {
                let detail = format!("no progress while {}", self.stage.name());
                self.leave_behind(now, detail, plan);
            }
            Stage::Escrow => {
                let detail = format!("no progress, last heard of while {}", self.phase.name());
                self.escrow_failed(now, detail, plan);
            }
            Stage::Commit | Stage::Flash => self.end_lost(now, plan),
            Stage::Release => match self.farewell.take() {
                Some(why) => self.end(now, why),
                None => self.enter(now, Stage::Reboot, plan),
            },
            Stage::Reboot | Stage::ConfirmManifest => {
                self.end(now, Refusal::new(Reason::NoAgentAfterReboot, no_answer(self.stage)));
            }
            Stage::Measure => self.end_unmeasured(now),
            Stage::Ended => {}
        }
    }

    /// Ends a flash job of which nothing good is heard any more. Of one that failed, what it holds
    /// now is waited for: it tries again by itself.
    fn end_lost(&mut self, now: Time, plan: &Plan) {
        if self.farewell.is_some() && !self.is_overdue {
            self.is_overdue = true;
            self.deadline = Some(now + plan.deadlines.sign_of_life());
            return;
        }
        let detail = format!("last heard of while {}", self.phase.name());
        let lost = Refusal::new(Reason::LostWhileFlashing, detail);
        let why = self.farewell.take().unwrap_or(lost);
        self.end(now, why);
    }

    /// The stream goes on without it; it is told so in case it listens.
    pub(super) fn leave_behind(&mut self, now: Time, detail: String, plan: &Plan) {
        self.end_after_release(now, Refusal::new(Reason::LeftBehind, detail), plan);
    }

    fn end_unmeasured(&mut self, now: Time) {
        let why = match (self.came_back.take(), self.unmeasured.take()) {
            (Some(why), _) => why,
            (None, Some(detail)) => Refusal::new(Reason::NotMeasured, detail),
            (None, None) => {
                let detail = format!("no answer while {}", self.stage.name());
                Refusal::new(Reason::NoAgentAfterReboot, detail)
            }
        };
        self.end(now, why);
    }

    /// Ends what the operator interrupted, unless the flash may be in change.
    pub(super) fn interrupt(&mut self, now: Time, plan: &Plan) {
        let why = |detail| Refusal::new(Reason::Interrupted, detail);
        match self.stage {
            Stage::Connect | Stage::Recall | Stage::Enlist => self.end(now, why("")),
            // Its recovery environment does not hear yet; it is released should it call while
            // others are let finish.
            Stage::Reach => self.end(now, why("it was on its way to the recovery environment")),
            stage if stage < Stage::Commit => self.end_after_release(now, why(""), plan),
            _ => {}
        }
    }

    /// Ends it at once, wherever it is.
    pub(super) fn abandon(&mut self, now: Time) {
        let may_write = self.chip.state(now) == FlashState::Unknown && self.stage.is_committed();
        let detail = match may_write {
            true => "it may have been writing its flash: it goes on by itself",
            false => "",
        };
        let why = self.farewell.take();
        self.end(now, why.unwrap_or_else(|| Refusal::new(Reason::Interrupted, detail)));
    }

    /// Whether nothing was heard of it for so long that nobody may be there.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        now.since(self.heard) >= STALE_SILENCE
    }
}

fn whole_seconds(span: Duration) -> u16 {
    u16::try_from(span.as_secs()).unwrap_or(u16::MAX)
}
