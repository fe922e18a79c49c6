//! The computer under a dead host: its chip and what damaged it, its board, and what the recovery
//! environment finds out about both.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;
use std::time::Duration;

use firmcast::environment::stay::Patient;
use firmcast::flash::{Fault, Flash as _, SimulatedFlash, read_contents};
use firmcast::image::validity::Verdict;
use firmcast::image::{Board, Contents, KnownGood, assess, left_out};
use firmcast::keys::{PublicKey as _, SecretKey as _};
use firmcast::mailbox::Rescues;
use firmcast::reason::{Condition, FlashState};
use firmcast::wire::answer::{Environment, Identity};
use firmcast::wire::help::{Finding, HelpRequest};
use firmcast::wire::samples;
use firmcast_manager::campaign::Backup;

use super::scenario::Scenario;
use super::truth::{BoardTruth, OLD_VERSION, Truth};
use crate::chance::Chance;
use crate::chip::{self, BLOCK_BYTES, Closed};
use crate::engine::Violation;
use crate::update::truth::{FLOOR, VENDOR};

/// How long hosts try that need not be helped.
const NOTICE_PATIENCE: Duration = Duration::from_secs(30);
const DOUBT_PATIENCE: Duration = Duration::from_secs(120);
/// A power cut hits one of the next operations on the chip, or comes right after them.
const CUT_OPERATIONS: u64 = 6;

/// Why a host is in its recovery environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its firmware is not what was recorded as good.
    Dead,
    /// Its firmware is good; somebody wants another all the same.
    Forced,
    /// Nothing is known of its firmware; it shall be rescued then.
    Blind,
    /// The same, but it shall only be told.
    Telling,
    /// As dead as the first, but nothing else than the record says so: it boots on when nobody
    /// helps it for a while.
    Doubtful,
}

impl Kind {
    /// Whether good firmware was recorded.
    fn has_record(self) -> bool {
        matches!(self, Self::Dead | Self::Doubtful | Self::Forced)
    }
}

/// Why a rescue does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relapse {
    /// Something damages the firmware again before anybody looks at it.
    Damaged,
    /// The firmware is whole, and the verdict says otherwise all the same.
    Misjudged,
}

#[derive(Debug)]
pub(crate) struct Computer {
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    pub(crate) truth: Rc<Truth>,
    pub(crate) flash: SimulatedFlash,
    pub(crate) chance: Chance,
    closed: Closed,
    /// What it held when it died, and what moves of it.
    died_with: Vec<u8>,
    carried: Vec<u8>,
    boot: u64,
    relapse: Option<Relapse>,
    /// As the host keeps them, in seconds.
    rescues: Rescues,
}

impl Computer {
    pub(crate) fn new(number: usize, scenario: &Scenario, truth: Rc<Truth>) -> Self {
        let mut chance = Chance::new(scenario.seed, 2000 + number as u64);
        let kind = match () {
            _ if chance.happens(scenario.forced) => Kind::Forced,
            _ if chance.happens(scenario.blind) => Kind::Blind,
            _ if chance.happens(scenario.telling) => Kind::Telling,
            _ if chance.happens(scenario.doubtful) => Kind::Doubtful,
            _ => Kind::Dead,
        };
        let board = truth.board_of(number);
        let mut contents = board.old.clone();
        if matches!(kind, Kind::Dead | Kind::Doubtful | Kind::Blind) {
            damage(&mut contents, board, &mut chance);
        }
        let carried = board.division.fill(&mut contents, 0, &mut chance);
        let died_with = contents.clone();
        let mut lock = Chance::new(scenario.seed, 100_000 + number as u64);
        let closed = Closed::draw(&mut lock, scenario.closed, board.division.closable());
        // Without a record nobody knows that what fails to be read is kept from the host.
        let closed = if kind.has_record() { closed } else { closed.silent() };
        let flash = closed.chip(contents);
        let mut fate = Chance::new(scenario.seed, 200_000 + number as u64);
        // One that only tells is not rescued.
        let relapse = (kind != Kind::Telling && fate.happens(scenario.relapsing))
            .then(|| *fate.pick(&[Relapse::Damaged, Relapse::Misjudged]));
        let rescues = Rescues::default();
        Self {
            number,
            kind,
            flash,
            truth,
            chance,
            closed,
            died_with,
            carried,
            boot: 0,
            relapse,
            rescues,
        }
    }

    /// A rescue has ended. Returns whether the host is back in its recovery environment after the
    /// next boot, and whether its chip was damaged until then.
    pub(crate) fn relapses(&mut self, now_s: u64) -> Option<bool> {
        let relapse = self.relapse?;
        self.rescues = self.rescues.clone().with(now_s);
        let is_damaged = relapse == Relapse::Damaged;
        if is_damaged {
            let mut contents = self.flash.contents().to_vec();
            // The last block is never preserved.
            let last = contents.len() - 1;
            contents[last] ^= 1;
            self.flash = self.closed.chip(contents);
        }
        Some(is_damaged)
    }

    /// How often it was rescued.
    pub(crate) fn rescues(&self) -> usize {
        self.rescues.times().len()
    }

    /// Whether it asks for an image, whatever the verdict.
    pub(crate) fn wants_image(&self, now_s: u64) -> bool {
        self.kind != Kind::Telling && !self.rescues.are_in_vain(now_s)
    }

    pub(crate) fn board_truth(&self) -> &BoardTruth {
        self.truth.board_of(self.number)
    }

    /// Whether what stands on the chip is the right image, whatever its reads say.
    pub(crate) fn is_repaired(&self) -> bool {
        self.board_truth().is_new(self.flash.contents())
    }

    /// Whether its firmware is good as far as its host can tell, or the right image.
    pub(crate) fn starts(&self) -> bool {
        self.is_repaired() || matches!(self.assess(), Verdict::Valid { .. })
    }

    /// What a host with this record of good firmware reads of its chip when nothing fails.
    pub(crate) fn contents(&self, good: Option<&KnownGood>) -> Contents {
        let mut flash = self.closed.chip(self.flash.contents().to_vec());
        read_contents(&mut flash, &left_out(good))
            .expect("what is closed is left out of the record")
    }

    fn assess(&self) -> Verdict {
        assess(&self.contents(self.known_good()), self.known_good(), OLD_VERSION)
    }

    /// What the contents are, by what was put there, and by what its host can know of that.
    pub(crate) fn condition(&self) -> Condition {
        match self.kind {
            Kind::Blind | Kind::Telling => Condition::Broken,
            _ if self.board_truth().is_old(self.flash.contents()) => Condition::Whole,
            Kind::Doubtful => Condition::Doubtful,
            Kind::Dead | Kind::Forced => Condition::Broken,
        }
    }

    /// Checks what the host gives as its backup.
    pub(crate) fn check_backup(&self, backup: &Backup) -> Result<(), Violation> {
        self.closed.check_backup(backup, &self.flash, &self.board_truth().division.preserve)
    }

    /// Tells contents from each other.
    pub(crate) fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.flash.contents().hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn preserved_is_intact(&self) -> bool {
        let BoardTruth { division, .. } = self.board_truth();
        let images = self.board_truth().images();
        division.is_kept(&self.died_with, &self.carried, self.flash.contents(), images)
    }

    /// The record of good firmware that was built in.
    fn known_good(&self) -> Option<&KnownGood> {
        self.kind.has_record().then(|| &self.board_truth().good)
    }

    pub(crate) fn break_flash(&mut self) {
        chip::break_flash(&mut self.flash, &mut self.chance);
    }

    /// The power fails during one of the next operations, if there are any.
    pub(crate) fn cut_soon(&mut self) {
        let operation = self.flash.operations() + self.chance.within(0..CUT_OPERATIONS);
        let cut = *self.chance.pick(&Fault::CUTS);
        self.flash.inject(operation, cut);
    }

    /// The power is back.
    pub(crate) fn power_on(&mut self) {
        self.flash.clear_faults();
        self.flash.power_on();
        self.boot += 1;
    }

    /// What the recovery environment finds out when it comes up. `None`: the firmware is good, and
    /// it boots on.
    pub(crate) fn patient(&self, now_s: u64) -> Option<Patient> {
        let (finding, offset_bytes, why) = match self.assess() {
            Verdict::Valid { .. } => (Finding::Valid, 0, String::new()),
            Verdict::Doubtful { offset_bytes, .. } | Verdict::Invalid { offset_bytes, .. } => {
                (Finding::Invalid, offset_bytes, "other bytes than recorded".to_owned())
            }
            Verdict::Unknown { why } => (Finding::Unknown, 0, why),
        };
        if finding == Finding::Valid && self.kind != Kind::Forced {
            return None;
        }
        let wants_image = self.wants_image(now_s);
        let condition = match finding {
            Finding::Valid => Condition::Whole,
            _ if self.kind == Kind::Doubtful => Condition::Doubtful,
            _ => Condition::Broken,
        };
        let identity = Identity { firmware: condition, ..self.identity() };
        let host_key = self.truth.host_key(self.number);
        Some(Patient {
            managers: self.truth.managers.iter().map(|manager| manager.public()).collect(),
            releases: vec![self.truth.release.clone()],
            board: Board {
                vendor: VENDOR.into(),
                product: identity.product.clone(),
                bios_version: OLD_VERSION.into(),
                flash_size_bytes: identity.flash_size_bytes,
                security_version_floor: FLOOR,
                host: Some(host_key.public().fingerprint()),
            },
            host_key,
            patience: match self.kind {
                _ if !wants_image => Some(NOTICE_PATIENCE),
                Kind::Telling => Some(NOTICE_PATIENCE),
                Kind::Doubtful => Some(DOUBT_PATIENCE),
                Kind::Dead | Kind::Forced | Kind::Blind => None,
            },
            request: HelpRequest {
                wants_image,
                finding,
                offset_bytes,
                why,
                identity,
                rescues: None,
            },
            flash: FlashState::Untouched(condition),
        })
    }

    fn identity(&self) -> Identity {
        Identity {
            environment: Environment::Recovery,
            boot_id: (u128::from(self.boot) << 64 | self.number as u128).to_be_bytes(),
            flash_size_bytes: self.flash.geometry().size_bytes(),
            security_version_floor: FLOOR,
            host_name: format!("host{}", self.number),
            vendor: VENDOR.into(),
            product: self.board_truth().product.clone(),
            bios_version: OLD_VERSION.into(),
            ..samples::identity()
        }
    }
}

/// What an update that was cut, a bad block or somebody's mistake leave: some blocks wrong, erased,
/// or new already.
fn damage(contents: &mut [u8], board: &BoardTruth, chance: &mut Chance) {
    let blocks = (contents.len() / BLOCK_BYTES) as u64;
    let until = match chance.within(0..3) {
        0 => blocks,
        1 => chance.within(1..blocks + 1),
        _ => 1,
    };
    // The last block is never preserved, so that something is damaged.
    let until = until.min(board.division.fragile_blocks() as u64);
    for block in (0..until).map(|block| (blocks - 1 - block) as usize) {
        let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
        match chance.within(0..4) {
            0 => contents[range].fill(0xFF),
            1 => contents[range.clone()].copy_from_slice(&board.new[range]),
            2 => contents[range.start + chance.within(0..BLOCK_BYTES as u64) as usize] ^= 1,
            _ => contents[range.clone()].copy_from_slice(&chance.bytes(range.len())),
        }
    }
}
