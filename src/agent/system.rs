//! What the real computer does for the agent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::{Level, error, info, log, warn};

use super::check::Checklist;
use super::doubt::{JUDGEMENT_LIFETIME, Judgement, Look};
use super::drain::{Drain, Job, Then};
use super::local_machine::LocalMachine;
use super::machine::{HostSystem, UpdateOrder};
use super::measure;
use super::outlook::{self, Outlook, check_layout, lacking_pieces};
use super::preflight::{self, ChipContents, Ready};
use super::state::{CampaignRecord, RecordedEnding};
use crate::dmi::Dmi;
use crate::handover::{Deadlines, Drill, HANDOFF_VERSION, Handoff, ManagerContact, SecretText};
use crate::host;
use crate::image::{Contents, Digest, VerifiedManifest, left_out};
use crate::kexec::{self, KexecError, RecoveryFiles};
use crate::keys::SecretKey as _;
use crate::mailbox;
use crate::mtd::{Access, Chip};
use crate::reason::{Ending, FlashState, Reason, Refusal, with_causes};
use crate::tpm::Kept;
use crate::wire::answer::{End, Environment, Identity, Measurement, Programs};
use crate::wire::excerpt::PieceSet;
use crate::wire::finding::Finding;

/// The machine that firmcastd runs on, as the agent sees it.
#[derive(Debug)]
pub struct System {
    machine: LocalMachine,
    boot_id: [u8; 16],
    last_end: Option<End>,
    judgement: Judgement,
    look: Option<Look>,
    drain: Drain,
}

impl System {
    /// This machine. Nothing is touched yet.
    pub fn new(machine: LocalMachine) -> Self {
        let boot_id = host::boot_id(&machine.root);
        let drain = Drain::new(&machine.root, &machine.state);
        let judgement = Judgement::default();
        Self { machine, boot_id, last_end: None, judgement, look: None, drain }
    }

    /// Takes over what a rescue has left word of, and writes the archive of `rescue_archive`.
    pub fn provide(&self) {
        self.machine.provide();
        host::return_freed_memory();
    }

    /// Forgets the rescues of this host, if its system has been up for long enough.
    pub fn confirm_stay(&self) {
        self.machine.confirm_stay();
    }

    /// Finds out how the last campaign ended, if the recovery environment was entered for it and
    /// has been left. What programs did before it is undone.
    pub fn look_back(&mut self) {
        self.look_for_end();
        let end = self.last_end.clone();
        self.drain.look_back(Instant::now(), |campaign| {
            let end = end.filter(|end| end.campaign == campaign);
            end.map_or(Reason::Interrupted, |end| end.ending.reason)
        });
    }

    fn look_for_end(&mut self) {
        self.last_end = match self.machine.state.last_campaign() {
            Ok(Some(record)) if record.end.is_some() => record.end(),
            Ok(Some(record)) if record.boot_id != self.boot_id => {
                let end = self.word_from_recovery(record.campaign);
                tell(&end);
                if end.ending.reason == Reason::Drilled {
                    self.machine.learn_in_drill(None);
                }
                self.keep_end(record, end)
            }
            Ok(_) => None,
            Err(error) => {
                warn!("{error}");
                None
            }
        }
    }

    /// What the recovery environment left in the mailbox about this campaign, if it left anything.
    fn word_from_recovery(&self, campaign: u64) -> End {
        let found = mailbox::read(self.machine.state.folder()).unwrap_or_else(|error| {
            warn!("{}", with_causes(&error));
            None
        });
        let end = found
            .filter(|word| word.campaign == campaign)
            .map(|word| End { campaign, ending: word.ending() });
        end.unwrap_or_else(|| silent_end(campaign))
    }

    fn keep_end(&self, mut record: CampaignRecord, end: End) -> Option<End> {
        record.end = Some(RecordedEnding::from(&end.ending));
        if let Err(error) = self.machine.state.record_campaign(&record) {
            warn!("{error}");
        }
        Some(end)
    }

    /// Before recovery is entered. Returns whether programs of the administrator run first.
    ///
    /// # Errors
    /// See [`Drain::begin`].
    pub(super) fn begin_programs(&mut self) -> Result<bool, Refusal> {
        self.drain.begin()
    }

    /// Programs that are to be started now.
    pub(super) fn take_job(&mut self) -> Option<Job> {
        self.drain.take_job()
    }

    /// They have ended; `entering` is the campaign that is still to be entered.
    pub(super) fn programs_ended(&mut self, said: Programs, entering: Option<u64>) -> Then {
        self.drain.ended(Instant::now(), said, entering)
    }

    /// Recovery could not be entered. Returns what is to be said now.
    pub(super) fn not_entered(&mut self, refusal: Refusal) -> Option<Refusal> {
        self.drain.failed(Instant::now(), refusal)
    }

    /// How the last campaign ended, with what its programs came to. Of an update that is told with
    /// the measurement.
    fn told_end(&self) -> Option<End> {
        let mut end = self.last_end.clone()?;
        let told = self.drain.told(end.campaign).filter(|_| end.ending.reason != Reason::Updated);
        if let Some(Programs { told, .. }) = told {
            let parts = [end.ending.detail, told];
            end.ending.detail =
                parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        }
        Some(end)
    }

    /// Whether the chip is being read to judge it: then [`System::look_on`] is due.
    pub fn is_looking(&self) -> bool {
        self.look.is_some()
    }

    /// Reads another part of the chip, a short one, so that datagrams do not wait.
    pub fn look_on(&mut self) {
        let Some(look) = self.look.take() else { return };
        match look.step() {
            Ok(look) => self.look = Some(look),
            Err(contents) => {
                self.judge(contents.as_ref());
                drop(contents);
                host::return_freed_memory();
            }
        }
    }

    /// Judges the firmware that runs; without `contents` nothing is known of it for a while.
    fn judge(&mut self, contents: Option<&Contents>) {
        let bios_version = Dmi::read(&self.machine.root).bios_version;
        let good = self.machine.state.known_good().ok().flatten();
        self.judgement = Judgement::of(contents, good.as_ref(), &bios_version, Instant::now());
    }

    /// Has the chip read where nobody has for a while. The answer that is under way tells what was
    /// found last.
    fn look_again(&mut self) {
        let is_fresh = self.judgement.age().is_some_and(|age| age < JUDGEMENT_LIFETIME);
        if !is_fresh && self.look.is_none() {
            let good = self.machine.state.known_good().ok().flatten();
            self.look = Look::start(&self.machine.flash(), left_out(good.as_ref()));
        }
    }

    /// Everything that can be off before the normal OS is left; returns what the update starts
    /// with.
    fn preflight(&mut self, order: &UpdateOrder<'_>) -> (Checklist, Result<Ready, Refusal>) {
        // What is found now is newer.
        self.look = None;
        let (list, ready) = preflight::order(&self.machine, order);
        let ready = list.verdict().and_then(|()| self.take_over(ready));
        (list, ready)
    }

    fn take_over(&mut self, ready: Option<Ready>) -> Result<Ready, Refusal> {
        let missing = "a precondition was met and not kept";
        let ready = ready.ok_or_else(|| Refusal::new(Reason::NotPossibleNow, missing))?;
        self.judgement = Judgement::new(ready.doubt.clone(), Instant::now());
        if let Some(why) = &ready.doubt {
            warn!("the firmware that runs looks doubtful: {why}");
        }
        Ok(ready)
    }

    fn handoff(&self, order: &UpdateOrder<'_>, ready: Ready) -> (Handoff, RecoveryFiles) {
        let LocalMachine { trust, config, .. } = &self.machine;
        let mut address = order.manager_address;
        address.set_ip(address.ip().to_canonical());
        let handoff = Handoff {
            version: HANDOFF_VERSION,
            host_name: host::name(),
            host_key: SecretText::new(ready.key.to_text().to_string()),
            trusted_managers: trust.managers.iter().map(ToString::to_string).collect(),
            trusted_releases: trust.releases.iter().map(ToString::to_string).collect(),
            manager: ManagerContact { address, public_key: order.manager.to_string() },
            campaign: order.campaign,
            drill: order.drill.then(|| Drill { managers: config.managers.clone() }),
            deadlines: Deadlines {
                reach_manager_s: order.reach_timeout_s.into(),
                transfer_s: order.transfer_timeout_s.into(),
            },
            security_version_floor: ready.board.security_version_floor,
            flash: self.machine.flash(),
            firmware: ready.condition(),
            doubt: ready.doubt.unwrap_or_default(),
            listen_port: config.listen.port(),
            network: ready.network,
            result_mailbox: self.machine.mailbox(),
        };
        (handoff, ready.files)
    }

    fn load_recovery(&self, order: &UpdateOrder<'_>, ready: Ready) -> Result<(), Refusal> {
        let (handoff, files) = self.handoff(order, ready);
        let cmdline = kexec::current_recovery_cmdline().map_err(refuse)?;
        kexec::load(files, &handoff, &cmdline).map_err(refuse)
    }

    fn stable_digest(&self, manifest: &VerifiedManifest) -> Result<Digest, String> {
        let mut flash = Chip::open(&self.machine.flash(), Access::ReadOnly)
            .map_err(|error| with_causes(&error))?;
        measure::stable_digest(&mut flash, manifest).map_err(|error| with_causes(&error))
    }

    /// The flash holds the manifest's image: from now on nothing with a lower security version is
    /// taken. Returns what could not be kept, for the manager; empty when all was.
    fn confirm(&mut self, campaign: u64, manifest: &VerifiedManifest) -> String {
        let version = manifest.security_version();
        let not_kept = match self.machine.state.raise_security_version_floor(version) {
            Ok(()) => String::new(),
            Err(error) => format!("security version floor not raised to {version}: {error}"),
        };
        if !not_kept.is_empty() {
            error!("{not_kept}");
        }
        if let Err(error) = self.keep_in_tpm(manifest) {
            warn!("the TPM does not keep the security version floor: {error}");
        }
        if let Some(told) = preflight::disks_to_bind(&self.machine) {
            warn!("campaign {campaign:016x}: {told}");
        }
        self.machine.record_update(manifest);
        let record = match self.machine.state.last_campaign() {
            Ok(Some(record)) if record.campaign == campaign => record,
            _ => return not_kept,
        };
        if record.boot_id != self.boot_id {
            let (reason, flash) = (Reason::Updated, FlashState::Updated);
            let end = End { campaign, ending: Ending::new(reason, flash, "") };
            self.last_end = self.keep_end(record, end);
        }
        not_kept
    }
}

impl System {
    /// Writes only what the TPM does not keep already: its memory wears.
    fn keep_in_tpm(&self, manifest: &VerifiedManifest) -> std::io::Result<()> {
        let root = &self.machine.root;
        let before = Kept::read(root)?;
        let floor = before.as_ref().map_or(0, |kept| kept.floor).max(manifest.security_version());
        let kept = Kept { floor, digest: *manifest.stable_digest() };
        if before.as_ref() == Some(&kept) { Ok(()) } else { kept.write(root) }
    }

    /// Returns the pieces of the image that the chip lacks.
    fn load(&mut self, order: &UpdateOrder<'_>) -> Result<Option<PieceSet>, Refusal> {
        let (list, ready) = self.preflight(order);
        let ready = ready?;
        for told in list.warnings() {
            warn!("campaign {:016x}: {told}", order.campaign);
        }
        if order.drill {
            self.machine.learn_in_drill(Some(&ready.chip.contents));
        }
        let lacking = lacking_pieces(&ready.chip.contents, order.manifest);
        self.load_recovery(order, ready)?;
        let record = CampaignRecord { campaign: order.campaign, boot_id: self.boot_id, end: None };
        self.machine.state.record_campaign(&record).map_err(|error| {
            self.abandon();
            Refusal::new(Reason::NotPossibleNow, error)
        })?;
        Ok(lacking)
    }

    fn outlook(&mut self, order: &UpdateOrder<'_>) -> (Result<Outlook, Refusal>, Vec<Finding>) {
        let (list, ready) = self.preflight(order);
        let outlook = ready.and_then(|Ready { chip, doubt, files, .. }| {
            try_to_load(&files)?;
            let ChipContents { contents, geometry } = chip;
            let fitting = check_layout(&contents, order.manifest)?;
            let outlook = outlook::outlook(contents.bytes(), order.manifest, &fitting, &geometry);
            Ok(Outlook { doubt, ..outlook })
        });
        (outlook, list.findings())
    }
}

impl HostSystem for System {
    fn identity(&mut self, asker: SocketAddr) -> Identity {
        let (list, found) = preflight::query(&self.machine, asker);
        let obstacle = list.verdict().err().unwrap_or_else(|| Refusal::new(Reason::None, ""));
        let in_the_way = Some(obstacle.detail).filter(|detail| !detail.is_empty());
        let told: Vec<String> = in_the_way.into_iter().chain(list.warnings()).collect();
        let (board, flash) = (found.board, found.flash);
        let (firmware, doubt) = self.judgement.told();
        self.look_again();
        Identity {
            environment: Environment::NormalOs,
            boot_id: self.boot_id,
            flash_size_bytes: board.flash_size_bytes,
            obstacle: obstacle.reason,
            security_version_floor: board.security_version_floor,
            host_name: host::name(),
            vendor: board.vendor,
            product: board.product,
            bios_version: board.bios_version,
            flash_name: flash.map_or_else(String::new, |info| info.name()),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            obstacle_detail: told.join("; "),
            firmware,
            doubt,
            last_end: self.told_end(),
            findings: list.findings(),
            learned: self.machine.told_learned(),
        }
    }

    fn prepare(&mut self, order: &UpdateOrder<'_>) -> Result<Option<PieceSet>, Refusal> {
        if self.drain.is_running() {
            let detail = "programs in pre-update.d or post-update.d still run";
            return Err(Refusal::new(Reason::Busy, detail));
        }
        let loaded = self.load(order);
        host::return_freed_memory();
        let lacking = loaded?;
        let reach = Duration::from_secs(order.reach_timeout_s.into());
        self.drain.prepare(order.campaign, order.manifest.version(), reach);
        info!(
            "recovery loaded for campaign {:016x}, version {}",
            order.campaign,
            order.manifest.version()
        );
        Ok(lacking)
    }

    fn abandon(&mut self) {
        self.drain.abandon(Instant::now());
        if let Err(error) = kexec::unload() {
            error!("{}", with_causes(&error));
        }
        if let Err(error) = self.machine.state.forget_campaign() {
            error!("{error}");
        }
    }

    fn holds_measurement(&self) -> bool {
        self.drain.holds_measurement(Instant::now())
    }

    fn measure(&mut self, campaign: u64, manifest: &VerifiedManifest) -> Measurement {
        let dmi = Dmi::read(&self.machine.root);
        let found = self.stable_digest(manifest);
        let matches = found.as_ref().is_ok_and(|digest| digest == manifest.stable_digest());
        if matches {
            self.judgement = Judgement::new(None, Instant::now());
        }
        let detail = match &found {
            Ok(_) if matches => self.confirm(campaign, manifest),
            Ok(_) => String::new(),
            Err(error) => error.clone(),
        };
        host::return_freed_memory();
        Measurement {
            campaign,
            matches,
            stable_digest: found.as_ref().copied().unwrap_or_default(),
            boot_id: self.boot_id,
            bios_version: dmi.bios_version,
            bios_vendor: dmi.bios_vendor,
            detail,
            programs: self.drain.told(campaign),
        }
    }

    fn foresee(&mut self, order: &UpdateOrder<'_>) -> (Result<Outlook, Refusal>, Vec<Finding>) {
        let outlook = self.outlook(order);
        host::return_freed_memory();
        outlook
    }
}

fn tell(end: &End) {
    let End { campaign, ending: Ending { reason, flash, detail } } = end;
    if *reason == Reason::ReturnedSilently {
        warn!("campaign {campaign:016x}: {reason}; only a measurement tells what the flash holds");
        return;
    }
    let level = if *flash == FlashState::Updated { Level::Info } else { Level::Warn };
    log!(
        level,
        "campaign {campaign:016x} ended in the recovery environment: {reason} ({flash}) {detail}"
    );
}

/// Nobody has said what was done to the flash.
fn silent_end(campaign: u64) -> End {
    let (reason, flash) = (Reason::ReturnedSilently, FlashState::Unknown);
    End { campaign, ending: Ending::new(reason, flash, "") }
}

/// An update would load them; only then it is known what the kernel makes of them.
fn try_to_load(files: &RecoveryFiles) -> Result<(), Refusal> {
    let cmdline = kexec::current_recovery_cmdline().map_err(refuse)?;
    kexec::try_to_load(files, &cmdline).map_err(refuse).map(drop)
}

fn refuse(error: KexecError) -> Refusal {
    Refusal::new(kexec_reason(&error), with_causes(&error))
}

fn kexec_reason(error: &KexecError) -> Reason {
    match error {
        KexecError::KernelFile { .. }
        | KexecError::KernelForm { .. }
        | KexecError::InitramfsFile { .. }
        | KexecError::InitramfsForm { .. }
        | KexecError::InitramfsSize { .. } => Reason::RecoveryMissing,
        KexecError::Memory { .. } => Reason::MemoryTooLow,
        _ => Reason::KexecUnavailable,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::config::Config;
    use crate::agent::trust::Trust;
    use crate::image::{Description, Manifest, PayloadFormat, SignedManifest};
    use crate::keys::{ManagerSecretKey, ReleaseSecretKey};
    use crate::reason::Condition;
    use crate::wire::finding::Acceptance;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;
    use std::path::Path;

    fn asker() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9848))
    }

    fn system(folder: &Path) -> System {
        let config = Config { state_dir: folder.join("state"), ..Config::default() };
        let mut machine = LocalMachine::new(config, Trust::default());
        // Not this machine's own: it may have a TPM.
        machine.root = folder.join("root");
        System::new(machine)
    }

    #[test]
    fn after_a_silent_return_the_campaign_has_an_end_that_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let mut system = system(folder.path());
        system.look_back();
        assert_eq!(system.identity(asker()).last_end, None);

        let mut record = CampaignRecord { campaign: 7, boot_id: system.boot_id, end: None };
        system.machine.state.record_campaign(&record).unwrap();
        system.look_back();
        assert_eq!(system.identity(asker()).last_end, None, "this boot has not been left yet");

        record.boot_id[0] ^= 1;
        system.machine.state.record_campaign(&record).unwrap();
        for _ in 0..2 {
            system.look_back();
            assert_eq!(system.identity(asker()).last_end, Some(silent_end(7)));
        }
        assert!(system.machine.state.last_campaign().unwrap().unwrap().end.is_some());
    }

    fn manifest() -> VerifiedManifest {
        let release = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([1; 32]));
        let image = vec![0; 4096];
        let description = Description {
            version: "2".into(),
            security_version: 7,
            vendor: "V".into(),
            products: vec!["P".into()],
            ..Description::default()
        };
        let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image).unwrap();
        let signed = SignedManifest::sign(&manifest, &release).unwrap();
        VerifiedManifest::verify(&signed, &[release.public()]).unwrap()
    }

    #[test]
    fn what_preflight_learned_is_handed_on_and_not_learned_again() {
        let folder = tempfile::tempdir().unwrap();
        let system = system(folder.path());
        let manager = ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([2; 32])).public();
        let manifest = manifest();
        let order = UpdateOrder {
            campaign: 7,
            manager: &manager,
            manager_address: "[::ffff:192.0.2.1]:7117".parse().unwrap(),
            reach_timeout_s: 300,
            transfer_timeout_s: 60,
            accepted: Acceptance::default(),
            drill: true,
            manifest: &manifest,
        };
        let ready = preflight::tests::ready();
        let (key, network) = (ready.key.to_text().to_string(), ready.network.clone());
        // This machine has no key, no floor, and no such interface.
        let (handoff, _) = system.handoff(&order, ready);
        assert!(handoff.drill.is_some());
        assert_eq!(handoff.host_key.expose(), key);
        assert_eq!((handoff.network, handoff.security_version_floor), (network, 7));
        assert_eq!(
            (handoff.firmware, handoff.doubt.as_str()),
            (Condition::Doubtful, "at 0x10: torn")
        );
        assert_eq!(handoff.manager.address, "192.0.2.1:7117".parse().unwrap());
    }

    #[test]
    fn a_floor_that_cannot_be_kept_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest();
        assert_eq!(system(folder.path()).confirm(7, &manifest), "");

        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let told = system(&file).confirm(7, &manifest);
        assert!(told.starts_with("security version floor not raised to 7: "), "{told}");
        assert!(told.contains("state_dir"), "{told}");
    }

    #[test]
    fn a_machine_without_anything_still_says_who_it_is_and_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let identity = system(folder.path()).identity(asker());
        assert_ne!(identity.obstacle, Reason::None);
        assert_eq!((identity.flash_size_bytes, identity.environment), (0, Environment::NormalOs));
    }
}
