//! The computer under a virtual host: chip, disk, firmware. What [`firmcast::agent::system`] is on
//! a real one.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::rc::Rc;

use firmcast::agent::outlook::{
    self, Outlook, check_layout, check_shared_eraseblocks, lacking_pieces,
};
use firmcast::agent::{HostSystem, UpdateOrder, measure};
use firmcast::flash::{Fault, Flash, ForeignWrite, SimulatedFlash, read_contents};
use firmcast::image::validity::{Verdict, validate};
use firmcast::image::{
    Board, Contents, Fitting, KnownGood, Manifest, VerifiedImage, VerifiedManifest,
};
use firmcast::keys::ManagerPublicKey;
use firmcast::reason::{Condition, Ending, FlashState, Reason, Refusal};
use firmcast::recovery::machine::Mission;
use firmcast::wire::answer::{End, Environment, Identity, Measurement};
use firmcast::wire::excerpt::PieceSet;
use firmcast::wire::finding::Finding;
use firmcast::wire::samples;
use firmcast_manager::campaign::Backup;

use crate::chance::Chance;
use crate::chip::{self, Closed};
use crate::dump;
use crate::engine::Violation;
use crate::update::scenario::Scenario;
use crate::update::truth::{FLOOR, Holds, PRODUCT, Truth, VENDOR};

/// Share of hosts whose agent calls firmware that looks wrong broken, not doubtful.
const STRICT: f64 = 0.5;

/// What was handed over to the recovery environment by kexec.
#[derive(Clone, Debug)]
pub(crate) struct Handoff {
    pub(crate) campaign: u64,
    manager: ManagerPublicKey,
    pub(crate) manager_address: std::net::SocketAddr,
    reach_timeout_s: u16,
    transfer_timeout_s: u16,
    drill: bool,
    /// What the agent said of the contents.
    firmware: Condition,
}

#[derive(Debug)]
pub(crate) struct Computer {
    pub(crate) number: usize,
    pub(crate) truth: Rc<Truth>,
    pub(crate) flash: SimulatedFlash,
    pub(crate) chance: Chance,
    pub(crate) closed: Closed,
    /// What it has of its own that moves.
    carried: Vec<u8>,
    /// Its agent calls firmware that looks wrong broken, not doubtful.
    is_strict: bool,
    /// The other writer of the chip (an ME, SMM or a BMC), and the bytes that it may have written.
    stranger: Chance,
    foreign: Vec<usize>,
    pub(crate) loaded: Option<Handoff>,
    boot: u64,
    /// The version of the firmware that booted last.
    version: &'static str,
    /// What a write left that was cut short, outside of the preserved regions, and whether a
    /// machine starts from that.
    torn: Option<(Vec<u8>, bool)>,
    /// On disk: the version floor, the campaign that was accepted and in which boot, and how it
    /// ended.
    floor: u64,
    accepted: Option<(u64, u64)>,
    last_end: Option<End>,
    /// What the recovery environment left behind.
    word: Option<End>,
    /// The record of good firmware, and what the chip held then.
    good: Option<(KnownGood, Holds)>,
    /// What the agent did wrong beside its answers.
    pub(crate) wrong: Option<Violation>,
}

impl Computer {
    pub(crate) fn new(
        number: usize,
        truth: Rc<Truth>,
        scenario: &Scenario,
        is_current: bool,
    ) -> Self {
        let mut chance = Chance::new(scenario.seed, 1000 + number as u64);
        let mut lock = Chance::new(scenario.seed, 100_000 + number as u64);
        let closed = Closed::draw(&mut lock, scenario.closed, truth.division.closable());
        let is_strict = lock.happens(STRICT);
        let mut contents = if is_current { truth.new.clone() } else { truth.old.clone() };
        let carried = truth.division.fill(&mut contents, usize::from(is_current), &mut chance);
        Self {
            number,
            truth,
            flash: closed.chip(contents),
            chance,
            closed,
            carried,
            is_strict,
            stranger: Chance::new(scenario.seed, 200_000 + number as u64),
            foreign: Vec::new(),
            loaded: None,
            boot: 0,
            torn: None,
            version: if is_current { "2.0" } else { "1.0" },
            floor: FLOOR,
            accepted: None,
            last_end: None,
            word: None,
            good: None,
            wrong: None,
        }
    }

    /// It was started so often before.
    pub(crate) fn skip_boots(&mut self, boots: u64) {
        self.boot += boots << 32;
    }

    /// What stands on the chip, whatever its reads say.
    pub(crate) fn holds(&self) -> Holds {
        self.truth.holds(self.flash.contents())
    }

    /// Whether the firmware that booted last is the new one.
    pub(crate) fn runs_new(&self) -> bool {
        self.version == "2.0"
    }

    /// The power is back after it failed. What an interrupted write left may or may not start.
    pub(crate) fn power_returns(&mut self) {
        self.flash.clear_faults();
        self.flash.power_on();
        if self.holds() == Holds::Other {
            let outside = self.truth.outside(self.flash.contents());
            if self.torn.as_ref().is_none_or(|(torn, _)| *torn != outside) {
                let starts = self.chance.happens(0.5);
                let contents = self.flash.contents();
                let is_told = self.truth.division.is_told(contents, self.truth.images());
                self.torn = Some((outside, starts && is_told));
            }
        }
    }

    /// Whether a machine starts from what stands on the chip.
    pub(crate) fn starts(&self) -> bool {
        let is_torn = |(torn, starts): &(Vec<u8>, bool)| {
            *starts && *torn == self.truth.outside(self.flash.contents())
        };
        self.holds() != Holds::Other || self.torn.as_ref().is_some_and(is_torn)
    }

    /// Whether a write was ever cut short.
    pub(crate) fn was_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Tells contents from each other, outside of the preserved regions.
    pub(crate) fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.truth.outside(self.flash.contents()).hash(&mut hasher);
        hasher.finish()
    }

    /// The firmware runs, rewrites its variables, and the agent looks back. False when there is no
    /// firmware to run.
    pub(crate) fn boot_os(&mut self) -> bool {
        if !self.starts() {
            return false;
        }
        self.version = match self.holds() {
            Holds::Old => "1.0",
            Holds::New => "2.0",
            Holds::Other => *self.chance.pick(&["1.0", "2.0"]),
        };
        let mut contents = self.flash.contents().to_vec();
        for region in self.truth.division.written().to_vec() {
            let place = self.chance.within(region.start as u64..region.end as u64) as usize;
            contents[place] = contents[place].wrapping_add(1);
        }
        self.flash = self.closed.chip(contents);
        self.foreign.clear();
        self.boot += 1;
        self.loaded = None;
        if let Err(violation) = self.compare_with_record() {
            self.wrong.get_or_insert(violation);
        }
        self.look_back();
        true
    }

    /// Whatever the firmware has written where it may: by the record it is what it was.
    fn compare_with_record(&mut self) -> Result<(), Violation> {
        let Some((good, held)) = &self.good else { return Ok(()) };
        if self.holds() != *held {
            return Ok(());
        }
        let contents = read_contents(&mut self.flash, &good.left_out)
            .map_err(|error| format!("firmware that is recorded cannot be read: {error}"))?;
        match good.judge(&contents, self.version) {
            Some(Verdict::Valid { .. }) => Ok(()),
            verdict => Err(format!("firmware that wrote its own data is {verdict:?}")),
        }
    }

    fn look_back(&mut self) {
        let Some((campaign, boot)) = self.accepted else { return };
        if let Some(word) = self.word.take().filter(|word| word.campaign == campaign) {
            self.last_end = Some(word);
        } else if boot != self.boot
            && self.last_end.as_ref().is_none_or(|end| end.campaign != campaign)
        {
            let (reason, flash) = (Reason::ReturnedSilently, FlashState::Unknown);
            self.last_end = Some(End { campaign, ending: Ending::new(reason, flash, "") });
        }
    }

    pub(crate) fn leave_word(&mut self, end: End) {
        self.word = Some(end);
    }

    /// The power will fail in one of the operations of the flash job that begins.
    pub(crate) fn cut_power(&mut self) {
        let blocks = u64::from(self.flash.geometry().block_count());
        let operation = self.flash.operations() + self.chance.within(0..6 * blocks);
        let cut = *self.chance.pick(&Fault::CUTS);
        self.flash.inject(operation, cut);
    }

    /// Somebody else may write to what bundles preserve, in one of the operations of the flash job
    /// that begins.
    pub(crate) fn write_foreign(&mut self, probability: f64) {
        if self.truth.division.written().is_empty() || !self.stranger.happens(probability) {
            return;
        }
        let region = self.stranger.pick(self.truth.division.written()).clone();
        let at = self.stranger.within(region.start as u64..region.end as u64);
        let blocks = u64::from(self.flash.geometry().block_count());
        let operation = self.flash.operations() + self.stranger.within(0..4 * blocks);
        let mask = 1 << self.stranger.within(0..8);
        if !self.closed.contains(at as usize) {
            self.flash.inject_foreign(operation, ForeignWrite { offset_bytes: at, mask });
            self.foreign.push(at as usize);
        }
    }

    /// Whether the preserved regions hold what they held in `before`, but for what somebody else
    /// may have written.
    pub(crate) fn preserves(&self, before: &[u8]) -> bool {
        let mut before = before.to_vec();
        let now = self.flash.contents();
        self.foreign.iter().for_each(|at| before[*at] = now[*at]);
        let Truth { division, .. } = &*self.truth;
        division.is_kept(&before, &self.carried, now, self.truth.images())
    }

    /// What the agent says of the contents: the machine has started from them, but their structure
    /// may look wrong.
    pub(crate) fn firmware(&self) -> Condition {
        match validate(self.flash.contents()) {
            Verdict::Invalid { .. } if self.is_strict => Condition::Broken,
            Verdict::Doubtful { .. } | Verdict::Invalid { .. } => Condition::Doubtful,
            _ => Condition::Whole,
        }
    }

    /// Whether what stands on the chip can be said to be so. Who did not look calls it whole.
    pub(crate) fn may_be(&self, condition: Condition) -> bool {
        condition == Condition::Whole || condition == self.firmware()
    }

    /// Checks what the host gives as its backup.
    pub(crate) fn check_backup(&self, backup: &Backup) -> Result<(), Violation> {
        let mut backup = backup.clone();
        let now = self.flash.contents();
        let is_hole =
            |at: &&usize| backup.closed.iter().any(|range| range.contains(&(**at as u32)));
        let read: Vec<usize> = self.foreign.iter().filter(|at| !is_hole(at)).copied().collect();
        read.iter().for_each(|at| backup.bytes[*at] = now[*at]);
        self.closed.check_backup(&backup, &self.flash, &self.truth.division.preserve)
    }

    pub(crate) fn break_flash(&mut self) {
        chip::break_flash(&mut self.flash, &mut self.chance);
    }

    /// What the recovery environment is started with, if kexec was prepared.
    pub(crate) fn mission(&mut self) -> Option<Mission> {
        let handoff = self.loaded.take()?;
        Some(Mission {
            campaign: handoff.campaign,
            manager: handoff.manager,
            manager_address: handoff.manager_address,
            host_key: self.truth.host_key(self.number),
            releases: vec![self.truth.release.clone()],
            board: self.board(),
            identity: Identity {
                environment: Environment::Recovery,
                ..self.identity(handoff.manager_address)
            },
            reach_timeout: std::time::Duration::from_secs(handoff.reach_timeout_s.into()),
            transfer_timeout: std::time::Duration::from_secs(handoff.transfer_timeout_s.into()),
            rescue: false,
            drill: handoff.drill,
            flash: FlashState::Untouched(handoff.firmware),
        })
    }

    /// Records what was confirmed as good firmware: what is closed is left out, and no reason to
    /// have no record.
    fn record(&mut self, manifest: &VerifiedManifest) -> Result<(), Violation> {
        let contents = read_contents(&mut self.flash, &Fitting::untouched(manifest))
            .map_err(|error| format!("good firmware cannot be recorded: {error}"))?;
        let good = KnownGood::of_update(&contents, manifest, self.version);
        match good.judge(&contents, self.version) {
            Some(Verdict::Valid { .. }) => {
                self.good = Some((good, self.holds()));
                Ok(())
            }
            verdict => Err(format!("what was just recorded as good is {verdict:?}")),
        }
    }

    /// How the image lies on the chip, as far as the manifest tells.
    fn check_fitting(&self, manifest: &Manifest) -> Result<Fitting, Refusal> {
        let contents = Contents::whole(self.flash.contents().to_vec());
        let fitting = check_layout(&contents, manifest)?;
        let geometry = self.flash.geometry();
        check_shared_eraseblocks(&contents, manifest, &fitting, geometry)?;
        Ok(fitting)
    }

    /// Checks that what a dump foretells is what the host plans.
    pub(crate) fn check_dump(&self, image: &VerifiedImage) -> Result<(), Violation> {
        dump::check(image, &self.closed.chip(self.flash.contents().to_vec()))
    }

    /// Checks that what moves is whole at one of its two places, whatever was cut.
    pub(crate) fn check_carried(&self) -> Result<(), Violation> {
        match self.truth.division.is_carried(&self.carried, self.flash.contents()) {
            true => Ok(()),
            false => Err("what moves on the chip is at neither of its places".into()),
        }
    }

    fn board(&self) -> Board {
        Board {
            vendor: VENDOR.into(),
            product: PRODUCT.into(),
            bios_version: self.version.into(),
            flash_size_bytes: self.flash.geometry().size_bytes(),
            security_version_floor: self.floor,
            host: None,
        }
    }

    fn boot_id(&self) -> [u8; 16] {
        (u128::from(self.boot) << 64 | self.number as u128).to_be_bytes()
    }
}

impl HostSystem for Computer {
    fn identity(&mut self, _asker: SocketAddr) -> Identity {
        Identity {
            boot_id: self.boot_id(),
            flash_size_bytes: self.flash.geometry().size_bytes(),
            security_version_floor: self.floor,
            host_name: format!("host{}", self.number),
            vendor: VENDOR.into(),
            product: PRODUCT.into(),
            bios_version: self.version.into(),
            firmware: self.firmware(),
            last_end: self.last_end.clone(),
            ..samples::identity()
        }
    }

    fn prepare(&mut self, order: &UpdateOrder<'_>) -> Result<Option<PieceSet>, Refusal> {
        self.board().admit(order.manifest)?;
        self.check_fitting(order.manifest)?;
        self.loaded = Some(Handoff {
            campaign: order.campaign,
            manager: order.manager.clone(),
            manager_address: order.manager_address,
            reach_timeout_s: order.reach_timeout_s,
            transfer_timeout_s: order.transfer_timeout_s,
            drill: order.drill,
            firmware: self.firmware(),
        });
        self.accepted = Some((order.campaign, self.boot));
        let contents = read_contents(&mut self.flash, &Fitting::untouched(order.manifest)).ok();
        Ok(contents.and_then(|contents| lacking_pieces(&contents, order.manifest)))
    }

    fn abandon(&mut self) {
        (self.loaded, self.accepted) = (None, None);
    }

    fn foresee(&mut self, order: &UpdateOrder<'_>) -> (Result<Outlook, Refusal>, Vec<Finding>) {
        let (contents, geometry) = (self.flash.contents(), self.flash.geometry());
        let admitted = self.board().admit(order.manifest);
        let foreseen = admitted.and_then(|()| {
            let fitting = self.check_fitting(order.manifest)?;
            Ok(outlook::outlook(contents, order.manifest, &fitting, geometry))
        });
        (foreseen, Vec::new())
    }

    fn measure(&mut self, campaign: u64, manifest: &VerifiedManifest) -> Measurement {
        let found = measure::stable_digest(&mut self.flash, manifest);
        let matches = found.as_ref().is_ok_and(|digest| digest == manifest.stable_digest());
        if matches {
            self.floor = self.floor.max(manifest.security_version());
            if let Err(violation) = self.record(manifest) {
                self.wrong.get_or_insert(violation);
            }
            if self
                .accepted
                .is_some_and(|(accepted, boot)| accepted == campaign && boot != self.boot)
            {
                let (reason, flash) = (Reason::Updated, FlashState::Updated);
                self.last_end = Some(End { campaign, ending: Ending::new(reason, flash, "") });
            }
        }
        Measurement {
            campaign,
            matches,
            stable_digest: found.as_ref().copied().unwrap_or_default(),
            boot_id: self.boot_id(),
            bios_version: self.version.into(),
            bios_vendor: VENDOR.into(),
            detail: found.err().map(|error| error.to_string()).unwrap_or_default(),
            programs: None,
        }
    }
}
