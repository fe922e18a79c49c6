//! One host of a campaign: the leg that it is on, how it goes from one to the next, and what it is
//! told.

use std::net::SocketAddr;

use firmcast::reason::{Ending, FlashState, Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::answer::{Identity, Phase};
use firmcast::wire::command::Command;
use firmcast::wire::foresight::Foresight;
use firmcast::wire::help::HelpRequest;
use rand_chacha::ChaCha20Rng;

use super::chip::ChipKnowledge;
use super::config::{Target, whole_seconds};
use super::contact::{CampaignPlan, Contact, PROBE_INTERVAL};
use super::event::Outcome;
use super::legs::agent::AgentLeg;
use super::legs::confirmation::ConfirmationLeg;
use super::legs::escrow::EscrowLeg;
use super::legs::flashing::FlashingLeg;
use super::legs::next::{Next, Start};
use super::legs::recovery::RecoveryLeg;
use super::legs::release::ReleaseLeg;
use super::manifest::ManifestDelivery;
use super::retry::Retry;
use super::stage::Stage;

/// One host of a campaign.
#[derive(Debug)]
pub struct Host {
    pub(super) target: Target,
    pub(super) contact: Contact,
    pub(super) leg: Leg,
    /// Not of the inventory: others go first.
    pub(super) is_stranger: bool,
}

/// Where it is. What only one leg knows lives in that leg.
#[derive(Debug)]
pub(super) enum Leg {
    Agent(AgentLeg),
    Recovery(RecoveryLeg),
    Escrow(EscrowLeg),
    Flashing(FlashingLeg),
    Release(ReleaseLeg),
    Confirmation(ConfirmationLeg),
    Ended(Outcome),
}

impl From<Start> for Leg {
    fn from(start: Start) -> Self {
        let delivery = ManifestDelivery::default();
        match start {
            Start::Connect => Self::Agent(AgentLeg::Connect),
            Start::Recall => Self::Agent(AgentLeg::Recall),
            Start::Manifest => Self::Agent(AgentLeg::Manifest(delivery)),
            Start::Foresee => Self::Agent(AgentLeg::Foresee),
            Start::Begin => Self::Agent(AgentLeg::Begin),
            Start::Reach => Self::Agent(AgentLeg::Reach),
            Start::Enlist => Self::Recovery(RecoveryLeg::Enlist),
            Start::RecoveryManifest => Self::Recovery(RecoveryLeg::Manifest(delivery)),
            Start::Join => Self::Recovery(RecoveryLeg::Join),
            Start::Transfer => Self::Recovery(RecoveryLeg::Transfer { ready_in_a_row: 0 }),
            Start::Escrow => Self::Escrow(EscrowLeg::default()),
            Start::Commit(stored) => Self::Flashing(FlashingLeg::Commit(stored)),
            Start::Flash(failure) => {
                Self::Flashing(FlashingLeg::Flash { failure, is_overdue: false })
            }
            Start::Release(farewell) => Self::Release(ReleaseLeg { farewell }),
            Start::Reboot => Self::Confirmation(ConfirmationLeg::Reboot),
            Start::ConfirmManifest(came_back) => {
                Self::Confirmation(ConfirmationLeg::Manifest { delivery, came_back })
            }
            Start::Measure(came_back) => {
                Self::Confirmation(ConfirmationLeg::Measure { came_back, unmeasured: None })
            }
        }
    }
}

impl Host {
    pub(super) fn new(target: Target, plan: &CampaignPlan) -> Self {
        let leg = AgentLeg::Connect;
        let contact = Contact::new(leg.span(&plan.deadlines));
        Self { target, contact, leg: Leg::Agent(leg), is_stranger: false }
    }

    /// What the operator calls it and where its agent is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        match &self.leg {
            Leg::Agent(leg) => leg.stage(),
            Leg::Recovery(leg) => leg.stage(),
            Leg::Escrow(leg) => leg.stage(),
            Leg::Flashing(leg) => leg.stage(),
            Leg::Release(leg) => leg.stage(),
            Leg::Confirmation(leg) => leg.stage(),
            Leg::Ended(_) => Stage::Ended,
        }
    }

    /// Whether it waits until other hosts are further.
    pub fn is_waiting(&self) -> bool {
        !self.contact.may_speak && self.stage() != Stage::Ended
    }

    /// What the host said about itself.
    pub fn identity(&self) -> Option<&Identity> {
        self.contact.identity.as_ref()
    }

    /// What its agent foresees, in a dry run.
    pub fn foresight(&self) -> Option<&Foresight> {
        self.contact.foresight.as_ref()
    }

    /// What the recovery environment last said it was doing.
    pub fn phase(&self) -> Phase {
        self.contact.phase
    }

    /// Whether several machines have answered with its key.
    pub fn has_twin(&self) -> bool {
        self.contact.boots.are_of_many()
    }

    /// Steps of the stage done, and in all; zero in all when the stage has no steps.
    pub fn progress(&self) -> (u32, u32) {
        (self.contact.done, self.contact.total)
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.leg {
            Leg::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether it holds a verified image and waits for one of the turns to upload its backup.
    pub(super) fn waits_for_upload(&self) -> bool {
        self.stage() == Stage::Escrow && !self.contact.may_speak
    }

    /// Goes where its leg says.
    pub(super) fn follow(&mut self, now: Time, next: Next, plan: &CampaignPlan) {
        match next {
            Next::Stay => {}
            Next::Go(start) => self.enter(now, start.into(), plan),
            Next::End(why) => self.end(now, why),
        }
    }

    fn enter(&mut self, now: Time, leg: Leg, plan: &CampaignPlan) {
        let had_dialogue = self.contact.may_speak && self.stage().needs_dialogue();
        self.leg = leg;
        let stage = self.stage();
        let contact = &mut self.contact;
        contact.may_speak = !stage.needs_turn() || had_dialogue && stage.needs_dialogue();
        contact.retry = Retry::starting(now);
        let may_be_home = stage.is_in_recovery() && !plan.rescue;
        contact.probe = may_be_home.then_some(now + PROBE_INTERVAL);
        (contact.done, contact.total) = (0, 0);
        (contact.deadline, contact.turn_end) = (None, None);
        contact.span = match &self.leg {
            Leg::Agent(leg) => leg.span(&plan.deadlines),
            Leg::Recovery(leg) => leg.span(&plan.deadlines),
            Leg::Escrow(leg) => leg.span(&plan.deadlines),
            Leg::Flashing(leg) => leg.span(&plan.deadlines),
            Leg::Release(leg) => leg.span(&plan.deadlines),
            Leg::Confirmation(leg) => leg.span(&plan.deadlines),
            Leg::Ended(_) => return,
        };
        if self.contact.may_speak {
            self.contact.extend_deadline(now);
        } else if stage == Stage::Escrow {
            self.contact.retry = Retry::every(now, plan.deadlines.sign_of_life());
        }
    }

    /// Gives it the turn that it waits for: a dialogue or an upload.
    pub(super) fn grant_turn(&mut self, now: Time, plan: &CampaignPlan) {
        self.contact.may_speak = true;
        let is_upload = self.stage() == Stage::Escrow;
        let escrow = plan.escrow.as_ref().filter(|_| is_upload);
        self.contact.turn_end = escrow.map(|escrow| now + escrow.turn_max());
        self.contact.retry = Retry::starting(now);
        self.contact.extend_deadline(now);
    }

    /// It asks for help, perhaps again: whatever it was told before, it has forgotten, or never
    /// heard.
    pub(super) fn enlist(
        &mut self,
        now: Time,
        request: &HelpRequest,
        is_known: bool,
        plan: &CampaignPlan,
    ) {
        if self.stage() != Stage::Enlist {
            *self = Self::new(self.target.clone(), plan);
        }
        self.is_stranger = !is_known;
        self.contact.heard = now;
        self.contact.identity = Some(request.identity.clone());
        self.contact.chip = ChipKnowledge::of_request(request);
        self.enter(now, Start::Enlist.into(), plan);
        // Said once for each request: who was not heard asks again.
        self.contact.aside = Some(Command::Enlist {
            campaign: plan.campaign(),
            transfer_timeout_s: whole_seconds(plan.deadlines.transfer),
        });
    }

    /// It asks for help although it takes part, so its attempt is over: as it says, or as far as it
    /// was heard. An attempt that had not come to the flash is only begun anew, without an end.
    pub(super) fn ask_again(&mut self, now: Time, said: Option<Ending>) {
        let stage = self.stage();
        if matches!(stage, Stage::Enlist | Stage::Ended) {
            return;
        }
        let flash = self.contact.chip.state(now);
        let lost = || {
            let detail = format!("it asked for help again after {}", stage.name());
            Ending::new(Reason::LostWhileFlashing, FlashState::Unknown, detail)
        };
        let heard = match self.farewell() {
            // It was let go as repaired, and is not.
            Some(why) if why.reason == Reason::Rescued => Some(lost()),
            Some(why) => Some(Ending::new(why.reason, flash, &why.detail)),
            None => (flash == FlashState::Unknown).then(lost),
        };
        let Some(ending) = said.or(heard) else { return };
        // It spoke, so its session is kept.
        self.contact.heard = now;
        self.end_with(ending, None);
    }

    /// Why it ends, where that is known before the end.
    fn farewell(&self) -> Option<&Refusal> {
        match &self.leg {
            Leg::Flashing(leg) => leg.farewell(),
            Leg::Release(leg) => leg.farewell.as_ref(),
            _ => None,
        }
    }

    /// Ends it here, with what is known of its chip.
    pub(super) fn end(&mut self, now: Time, why: Refusal) {
        let Refusal { reason, detail } = why;
        let detail = self.contact.with_remark(reason, detail);
        self.end_with(Ending::new(reason, self.contact.chip.state(now), detail), None);
    }

    fn end_with(&mut self, ending: Ending, bios_version: Option<String>) {
        let contact = &mut self.contact;
        contact.may_speak = true;
        (contact.deadline, contact.probe) = (None, None);
        let digests = contact.digests;
        self.leg = Leg::Ended(Outcome { ending, bios_version, digests, programs: None });
    }

    /// When [`Host::handle_timeout`] or [`Host::commands`] have something to do.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let retry = self.repeats().then(|| self.contact.retry.next());
        let upload = match &self.leg {
            Leg::Escrow(leg) => leg.poll_timeout(),
            _ => None,
        };
        [self.contact.deadline, retry, self.contact.probe, upload].into_iter().flatten().min()
    }

    fn repeats(&self) -> bool {
        let is_quiet = matches!(
            self.stage(),
            Stage::Reach | Stage::Enlist | Stage::Transfer | Stage::Flash | Stage::Ended
        );
        !is_quiet && (self.contact.may_speak || self.waits_for_upload())
    }

    /// A session is there: what was said before may have been lost with the old one.
    pub(super) fn connected(&mut self, now: Time) {
        if !self.waits_for_upload() {
            self.contact.retry = Retry::starting(now);
        }
        let stage = self.stage();
        if stage.is_in_recovery() && stage != Stage::Enlist {
            self.contact.aside = Some(Command::Query);
        }
    }

    /// Whether a session with the agent is needed now. One with an agent that has been silent may
    /// be from before its last boot.
    pub(super) fn wants_agent(&self) -> bool {
        self.contact.may_speak && self.stage().is_with_agent()
    }

    /// What the host is told now.
    pub(super) fn commands(
        &mut self,
        now: Time,
        plan: &CampaignPlan,
        rng: &mut ChaCha20Rng,
    ) -> Vec<Command> {
        let mut commands: Vec<Command> = self.contact.aside.take().into_iter().collect();
        let repeats = self.repeats();
        let due = repeats && self.contact.retry.take(now, rng);
        commands.extend(match &mut self.leg {
            Leg::Escrow(leg) => leg.commands(now, due, &self.contact, plan),
            _ if !repeats => Vec::new(),
            Leg::Agent(leg) => leg.commands(due, plan),
            Leg::Recovery(leg) => leg.commands(due, plan),
            Leg::Flashing(leg) => leg.commands(due, plan),
            Leg::Release(leg) => leg.commands(due, plan),
            Leg::Confirmation(leg) => leg.commands(due, plan),
            Leg::Ended(_) => Vec::new(),
        });
        for command in &commands {
            self.contact.chip.handle_command(command);
        }
        commands
    }

    /// Acts on a deadline that has passed.
    pub(super) fn handle_timeout(&mut self, now: Time, plan: &CampaignPlan) {
        if self.contact.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let contact = &mut self.contact;
        let next = match &mut self.leg {
            Leg::Agent(leg) => leg.handle_timeout(now, contact, plan),
            Leg::Recovery(leg) => leg.handle_timeout(now, contact),
            Leg::Escrow(leg) => leg.handle_timeout(now, contact),
            Leg::Flashing(leg) => leg.handle_timeout(now, contact, plan),
            Leg::Release(leg) => leg.handle_timeout(),
            Leg::Confirmation(leg) => leg.handle_timeout(now, contact),
            Leg::Ended(_) => Next::Stay,
        };
        self.follow(now, next, plan);
    }

    /// The stream goes on without it; it is told so in case it listens.
    pub(super) fn leave_behind(&mut self, now: Time, detail: String, plan: &CampaignPlan) {
        if self.stage() == Stage::Transfer {
            let why = Refusal::new(Reason::LeftBehind, detail);
            self.follow(now, Next::release(why), plan);
        }
    }

    /// Ends what the operator interrupted, unless the flash may be in change.
    pub(super) fn interrupt(&mut self, now: Time, plan: &CampaignPlan) {
        let next = match &self.leg {
            Leg::Agent(leg) => leg.interrupt(),
            Leg::Recovery(leg) => leg.interrupt(),
            Leg::Escrow(leg) => leg.interrupt(),
            _ => Next::Stay,
        };
        self.follow(now, next, plan);
    }

    /// Ends it at once, wherever it is.
    pub(super) fn abandon(&mut self, now: Time) {
        let is_unknown = self.contact.chip.state(now) == FlashState::Unknown;
        let detail = match is_unknown && self.stage().is_committed() {
            true => "it may have been writing its flash: it goes on by itself",
            false => "",
        };
        let interrupted = Refusal::new(Reason::Interrupted, detail);
        let why = self.farewell().cloned().unwrap_or(interrupted);
        self.end(now, why);
    }

    /// Where its recovery environment speaks from.
    pub(super) fn recovery_address(&self) -> Option<SocketAddr> {
        self.contact.recovery_address
    }
}
