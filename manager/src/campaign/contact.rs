//! What is known of one host, and when it is spoken to, whatever its leg is.

use std::net::SocketAddr;
use std::time::Duration;

use firmcast::image::IMAGE_MAX;
use firmcast::reason::{Reason, Refusal};
use firmcast::time::Time;
use firmcast::wire::answer::{Identity, Phase, Report};
use firmcast::wire::broadcast::{FecScheme, TransferParameters};
use firmcast::wire::command::Command;
use firmcast::wire::excerpt::{Excerpt, PieceSet};
use firmcast::wire::finding::Acceptance;
use firmcast::wire::foresight::Foresight;
use firmcast::wire::versions::EXCERPTS;
use rand_chacha::ChaCha20Rng;

use super::boots::Boots;
use super::chip::{ChipKnowledge, is_update};
use super::config::{Deadlines, Purpose};
use super::manifest::ManifestDelivery;
use super::retry::Retry;
use super::stage::Stage;

/// Interval between probes of the agent while nothing is heard from the recovery environment.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// How long an agent may be silent before its session counts as one from before its last boot.
const STALE_SILENCE: Duration = Duration::from_secs(5);

/// How long a host that answers may be silent: hosts of a large campaign report every 20 s.
const ANSWER_PAUSE_MAX: Duration = Duration::from_secs(25);

/// Interval between releases of a host that does not go.
const RELEASE_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of times that an agent is brought a manifest again that it lost, most likely
/// because it was restarted.
const MANIFESTS_LOST_MAX: u32 = 3;

/// Maximum number of times that another phase of a flash job gives it more time: a few tries with
/// all phases.
const FLASH_TURNS_MAX: u32 = 40;

/// Time for reading a chip before its upload.
const READING_MAX: Duration = Duration::from_secs(600);

/// Maximum number of times that an upload may take as long as at its full rate.
const UPLOAD_SLOWNESS_MAX: u32 = 4;

/// What is the same for all hosts of a campaign.
#[derive(Debug)]
pub(super) struct CampaignPlan {
    pub(super) manifest: Vec<u8>,
    pub(super) expect_version: Option<String>,
    pub(super) stable_digest: [u8; 32],
    pub(super) parameters: TransferParameters,
    /// What of the image the payload carries, if not all.
    pub(super) excerpt: Option<Excerpt>,
    /// Whether it is settled what the payload carries: hosts join then.
    pub(super) is_settled: bool,
    /// Fragments of an excerpt that was given up: who still receives that has not joined.
    pub(super) given_up_fragments: Option<u32>,
    pub(super) group: Option<std::net::IpAddr>,
    pub(super) report_interval_ms: u16,
    pub(super) purpose: Purpose,
    /// What the operator accepts although it is in the way.
    pub(super) accepted: Acceptance,
    /// Whether the hosts are dead ones: no agent can be called, and after the release nothing is
    /// awaited.
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
    /// Size of the image.
    pub(super) image_size_bytes: usize,
    /// Whether the image covers only a part of each chip, so that backups are larger.
    pub(super) is_part: bool,
}

/// Size of the chip of which an image covers a part, as far as it matters how long its upload may
/// take: the largest that boards have for their firmware.
const CHIP_BYTES_MAX: usize = 64 << 20;

impl EscrowPlan {
    /// Returns whether a backup may have this size.
    pub(super) fn fits(&self, backup_bytes: usize) -> bool {
        match self.is_part {
            true => (self.image_size_bytes..=IMAGE_MAX).contains(&backup_bytes),
            false => backup_bytes == self.image_size_bytes,
        }
    }

    /// How long a host may hold its turn to read its chip and to upload what it holds.
    pub(super) fn turn_max(&self) -> Duration {
        let backup_bytes = match self.is_part {
            true => self.image_size_bytes.max(CHIP_BYTES_MAX),
            false => self.image_size_bytes,
        };
        let bits = 8 * backup_bytes as u64;
        let at_full_rate = Duration::from_millis(bits / u64::from(self.rate_kbit_s.max(1)));
        READING_MAX + at_full_rate * UPLOAD_SLOWNESS_MAX
    }
}

impl CampaignPlan {
    pub(super) fn campaign(&self) -> u64 {
        self.parameters.campaign
    }

    /// Returns whether a host that reports so receives what is sent now.
    pub(super) fn is_received(&self, report: &Report) -> bool {
        self.given_up_fragments.is_none_or(|fragments| fragments != report.total)
    }
}

/// What legs have in common.
#[derive(Debug)]
pub(super) struct Contact {
    /// What may be stated about its chip.
    pub(super) chip: ChipKnowledge,
    /// The boots that it named.
    pub(super) boots: Boots,
    /// Holds one of the campaign's turns, or needs none.
    pub(super) may_speak: bool,
    pub(super) retry: Retry,
    pub(super) deadline: Option<Time>,
    /// When its turn is over, whatever progress it makes.
    pub(super) turn_end: Option<Time>,
    /// How long the stage may take without progress.
    pub(super) span: Duration,
    pub(super) heard: Time,
    pub(super) probe: Option<Time>,
    /// A command that is due once, next to what the leg repeats.
    pub(super) aside: Option<Command>,
    pub(super) identity: Option<Identity>,
    pub(super) recovery_address: Option<SocketAddr>,
    /// The version of the messages that it speaks, as far as it has said so.
    pub(super) version: Option<u8>,
    /// Pieces of the image that its chip lacks, if it has said so.
    pub(super) lacking: Option<PieceSet>,
    /// Whether it receives an excerpt that does not help it.
    pub(super) is_stuck: bool,
    pub(super) phase: Phase,
    pub(super) done: u32,
    pub(super) total: u32,
    pub(super) digests: Option<([u8; 32], [u8; 32])>,
    /// What its agent foresees of the update, if it was asked and nothing is in the way.
    pub(super) foresight: Option<Foresight>,
    /// What an updated host said beside it: locks that did not come back, writes of somebody else;
    /// or what a drill came to.
    remark: String,
    manifests_lost: u32,
    flash_turns: u32,
}

impl Contact {
    pub(super) fn new(span: Duration) -> Self {
        Self {
            chip: ChipKnowledge::default(),
            boots: Boots::default(),
            may_speak: false,
            retry: Retry::starting(Time::ZERO),
            deadline: None,
            turn_end: None,
            span,
            heard: Time::ZERO,
            probe: None,
            aside: None,
            identity: None,
            recovery_address: None,
            version: None,
            lacking: None,
            is_stuck: false,
            phase: Phase::Idle,
            done: 0,
            total: 0,
            digests: None,
            foresight: None,
            remark: String::new(),
            manifests_lost: 0,
            flash_turns: 0,
        }
    }

    /// Keeps what a host says that holds the new firmware, or has done its drill: it ends with that
    /// remark.
    pub(super) fn take_remark(&mut self, report: &Report) {
        let is_updated = report.phase == Phase::Updated || is_update(report.ending.reason);
        let is_drilled = report.ending.reason == Reason::Drilled;
        if (is_updated || is_drilled) && !report.ending.detail.is_empty() {
            self.remark.clone_from(&report.ending.detail);
        }
    }

    /// The detail of an end for this reason, with the remark where the firmware is the new one.
    pub(super) fn with_remark(&self, reason: Reason, detail: String) -> String {
        match reason {
            // Nothing more was left word of.
            Reason::Drilled if detail.is_empty() => self.remark.clone(),
            Reason::Confirmed | Reason::Rescued if !self.remark.is_empty() => {
                let parts = [self.remark.as_str(), &detail];
                parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
            }
            _ => detail,
        }
    }

    /// Starts the time of the stage anew: at its begin, and when the host shows progress. Not
    /// beyond the end of its turn.
    pub(super) fn extend_deadline(&mut self, now: Time) {
        let deadline = now + self.span;
        self.deadline = Some(self.turn_end.map_or(deadline, |end| deadline.min(end)));
    }

    /// Takes over which pieces of the image it lacks.
    pub(super) fn take_lacking(&mut self, report: &Report) {
        match report.phase {
            Phase::Accepted => self.lacking = report.lacking,
            Phase::Receiving => {
                self.is_stuck = report.lacking.is_some_and(|lacking| !lacking.is_empty());
            }
            _ => {}
        }
    }

    /// Whether it may receive an excerpt of the image, with fewer repair fragments.
    pub(super) fn speaks_excerpts(&self) -> bool {
        self.version.is_some_and(|version| version >= EXCERPTS)
    }

    /// Why the stream does not help it as it is, for people.
    pub(super) fn cannot_follow(&self, plan: &CampaignPlan) -> Option<&'static str> {
        let is_new = plan.excerpt.is_some() || plan.parameters.fec != FecScheme::Doubled;
        if is_new && self.version.is_some_and(|version| version < EXCERPTS) {
            return Some(
                "its recovery image is too old for this stream: make it anew with \
                 firmcast-mkrecovery, or update this host alone",
            );
        }
        let excerpt = plan.excerpt?;
        let is_helped = self.lacking.is_some_and(|lacking| excerpt.carried.covers(&lacking));
        (!is_helped || self.is_stuck).then_some(
            "its chip lacks pieces of the image that the stream leaves out: update it again, or \
             with --whole",
        )
    }

    /// Takes over how far the host is; only a step forward gives it more time.
    pub(super) fn take_progress(&mut self, now: Time, report: &Report) {
        if report.done > self.done {
            self.extend_deadline(now);
        }
        (self.done, self.total) = (report.done.min(report.total), report.total);
    }

    /// Takes over that its job came to another phase, which gives it more time; not for ever.
    pub(super) fn take_phase(&mut self, now: Time, report: &Report) {
        if report.phase != self.phase {
            (self.done, self.total) = (0, 0);
            self.turn(now);
        }
    }

    /// It came to another phase.
    pub(super) fn turn(&mut self, now: Time) {
        self.flash_turns += 1;
        if self.flash_turns <= FLASH_TURNS_MAX {
            self.extend_deadline(now);
        }
    }

    /// Takes over how much of the manifest the host holds. True when that is all of it.
    pub(super) fn take_manifest_held(
        &mut self,
        now: Time,
        delivery: &mut ManifestDelivery,
        held_bytes: u32,
        plan: &CampaignPlan,
        rng: &mut ChaCha20Rng,
    ) -> bool {
        if !delivery.acknowledge(held_bytes, &plan.manifest) {
            return false;
        }
        if delivery.is_complete(&plan.manifest) {
            return true;
        }
        self.retry.postpone(now, rng);
        self.extend_deadline(now);
        false
    }

    /// Asks a host that refused in recovery who it is. Only the agent refuses: the host is back in
    /// its normal OS, and the agent may know why.
    pub(super) fn ask_after_refusal(&mut self) {
        self.aside = Some(Command::Query);
    }

    /// Whether an agent that lost its manifest is brought it once more.
    pub(super) fn may_lose_manifest(&mut self) -> bool {
        self.manifests_lost += 1;
        self.manifests_lost <= MANIFESTS_LOST_MAX
    }

    /// Tells it that the campaign is over for it, but not at once again: it may answer each time,
    /// and not obey.
    pub(super) fn release_again(&mut self, now: Time, plan: &CampaignPlan) {
        if self.retry.next() <= now {
            self.retry = Retry::every(now, RELEASE_INTERVAL);
            self.aside = Some(Command::Release { campaign: plan.campaign() });
        }
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

    /// How it stands still in this stage, for people: one that answers is told apart from a silent
    /// one.
    pub(super) fn standstill(&self, now: Time, stage: Stage) -> String {
        let was_heard = self.heard != Time::ZERO;
        match was_heard && now.since(self.heard) < ANSWER_PAUSE_MAX {
            true => format!("it answers, but makes no progress while {}", stage.name()),
            false => format!("no answer while {}", stage.name()),
        }
    }

    /// Whether nothing was heard of it for so long that nobody may be there.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        now.since(self.heard) >= STALE_SILENCE
    }
}

/// Why the report says that the host's part is over.
pub(super) fn said_in(report: &Report) -> Refusal {
    let reason = match report.ending.reason {
        Reason::None => Reason::RecoveryFailed,
        reason => reason,
    };
    Refusal::new(reason, &report.ending.detail)
}
