//! The real computer under the agent.

use std::path::PathBuf;

use log::{Level, error, info, log, warn};

use super::check::Checklist;
use super::config::Config;
use super::machine::{HostSystem, Order};
use super::measure;
use super::outlook::{self, Outlook};
use super::preflight::{self, Purpose};
use super::state::{CampaignRecord, RecordedEnding, State};
use super::trust::{Trust, with_causes};
use crate::dmi::Dmi;
use crate::flash::{Flash as _, Geometry, read_contents};
use crate::handover::{
    Deadlines, HANDOFF_VERSION, Handoff, MailboxPlace, ManagerContact, SecretText,
};
use crate::host;
use crate::image::{Board, Contents, Digest, VerifiedManifest, preserved};
use crate::kexec::{self, KexecError};
use crate::keys::{HostSecretKey, PublicKey as _, SecretKey as _, load_secret};
use crate::mailbox;
use crate::mtd::{Access, MtdDevice};
use crate::net::{InterfaceConfig, NetError, Netlink, survey};
use crate::reason::{Condition, Ending, FlashState, Reason, Refusal};
use crate::wire::answer::{End, Environment, Identity, Measurement};

/// The machine that firmcastd runs on.
#[derive(Debug)]
pub struct System {
    pub(super) root: PathBuf,
    pub(super) config: Config,
    pub(super) trust: Trust,
    pub(super) state: State,
    boot_id: [u8; 16],
    last_end: Option<End>,
}

impl System {
    /// This machine with these settings. Nothing is touched yet.
    pub fn new(config: Config, trust: Trust) -> Self {
        let root = PathBuf::from("/");
        let state = State::new(config.state_dir.clone());
        Self { boot_id: host::boot_id(&root), root, config, trust, state, last_end: None }
    }

    /// Finds out how the last campaign ended, if the recovery environment was entered for it and has been left.
    pub fn look_back(&mut self) {
        self.last_end = match self.state.last_campaign() {
            Ok(Some(record)) if record.end.is_some() => record.end(),
            Ok(Some(record)) if record.boot_id != self.boot_id => {
                let end = self.word_from_recovery(record.campaign);
                tell(&end);
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
        let found = mailbox::read(self.state.folder()).unwrap_or_else(|error| {
            warn!("{}", with_causes(&error));
            None
        });
        let end = found
            .filter(|word| word.campaign == campaign)
            .and_then(|word| Some(End { campaign, ending: word.ending()? }));
        end.unwrap_or_else(|| silent_end(campaign))
    }

    fn keep_end(&self, mut record: CampaignRecord, end: End) -> Option<End> {
        record.end = Some(RecordedEnding::from(&end.ending));
        if let Err(error) = self.state.record_campaign(&record) {
            warn!("{error}");
        }
        Some(end)
    }

    /// Every precondition of an update of this machine, whatever the bundle. Reads the chip twice.
    pub fn check(&self) -> Checklist {
        preflight::checklist(self, Purpose::Check)
    }

    /// Everything that can be off before the normal OS is left; gives back what the chip holds.
    fn preflight(&self, order: &Order<'_>) -> Result<(Contents, Geometry), Refusal> {
        preflight::checklist(self, Purpose::Order(order)).verdict()?;
        let mut flash = MtdDevice::open(&self.config.flash, Access::ReadOnly)
            .map_err(|error| Refusal::new(Reason::FlashUnsupported, with_causes(&error)))?;
        let contents = read_contents(&mut flash, &preserved(order.manifest.regions()))
            .map_err(|error| Refusal::new(Reason::BackupFailed, with_causes(&error)))?;
        outlook::check_layout(&contents, order.manifest)?;
        Ok((contents, flash.geometry().clone()))
    }

    /// What this machine is, for [`Board::admit`]. The size of its flash is not known yet.
    pub(super) fn board(&self) -> Board {
        let Dmi { vendor, product, bios_version, .. } = Dmi::read(&self.root);
        let security_version_floor = self.state.security_version_floor().unwrap_or(u64::MAX);
        let key = load_secret::<HostSecretKey>(&self.config.host_key).ok();
        let host = key.map(|key| key.public().fingerprint());
        Board { vendor, product, bios_version, flash_size_bytes: 0, security_version_floor, host }
    }

    /// How `manager` is reached, to be set up again in the recovery environment; nothing where only DHCP can do that.
    pub(super) fn network(&self, order: &Order<'_>) -> Result<Vec<InterfaceConfig>, NetError> {
        let manager = order.manager_address.ip().to_canonical();
        match survey::survey(&mut Netlink::open()?, manager) {
            Ok(interface) => Ok(vec![interface]),
            Err(NetError::Unsuitable { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn host_key(&self) -> Result<HostSecretKey, String> {
        load_secret(&self.config.host_key).map_err(|error| with_causes(&error))
    }

    fn handoff(&self, order: &Order<'_>) -> Result<Handoff, Refusal> {
        let key: HostSecretKey = load_secret(&self.config.host_key)
            .map_err(|error| Refusal::new(Reason::NotPossibleNow, with_causes(&error)))?;
        let network = self
            .network(order)
            .map_err(|error| Refusal::new(Reason::NetworkUnknown, with_causes(&error)))?;
        let floor = self
            .state
            .security_version_floor()
            .map_err(|error| Refusal::new(Reason::NotPossibleNow, error))?;
        let mut address = order.manager_address;
        address.set_ip(address.ip().to_canonical());
        Ok(Handoff {
            version: HANDOFF_VERSION,
            host_name: host::name(),
            host_key: SecretText::new(key.to_text().to_string()),
            trusted_managers: self.trust.managers.iter().map(ToString::to_string).collect(),
            trusted_releases: self.trust.releases.iter().map(ToString::to_string).collect(),
            manager: ManagerContact { address, public_key: order.manager.to_string() },
            campaign: order.campaign,
            deadlines: Deadlines {
                reach_manager_s: order.reach_timeout_s.into(),
                transfer_s: order.transfer_timeout_s.into(),
            },
            security_version_floor: floor,
            flash: self.config.flash.clone(),
            listen_port: self.config.listen.port(),
            network,
            result_mailbox: self.mailbox(),
        })
    }

    /// Not every file system has a place for it; then the agent tells less about an end.
    pub(super) fn mailbox(&self) -> Option<MailboxPlace> {
        let place = mailbox::prepare(self.state.folder());
        place.inspect_err(|error| warn!("{}", with_causes(error))).ok()
    }

    fn load_recovery(&self, order: &Order<'_>) -> Result<(), Refusal> {
        let handoff = self.handoff(order)?;
        let refuse = |error: KexecError| Refusal::new(kexec_reason(&error), with_causes(&error));
        let cmdline = kexec::current_recovery_cmdline().map_err(refuse)?;
        let (kernel, initramfs) = (&self.config.recovery_kernel, &self.config.recovery_initramfs);
        kexec::load(kernel, initramfs, &handoff, &cmdline).map_err(refuse)
    }

    fn stable_digest(&self, manifest: &VerifiedManifest) -> Result<Digest, String> {
        let mut flash = MtdDevice::open(&self.config.flash, Access::ReadOnly)
            .map_err(|error| with_causes(&error))?;
        measure::stable_digest(&mut flash, manifest).map_err(|error| with_causes(&error))
    }

    /// The flash holds the manifest's image: from now on nothing with a lower security version is taken.
    fn confirm(&mut self, campaign: u64, manifest: &VerifiedManifest) {
        if let Err(error) = self.state.raise_security_version_floor(manifest.security_version()) {
            error!("the security version floor was not raised: {error}");
        }
        self.record_update(manifest);
        let record = match self.state.last_campaign() {
            Ok(Some(record)) if record.campaign == campaign => record,
            _ => return,
        };
        if record.boot_id != self.boot_id {
            let (reason, flash) = (Reason::Updated, FlashState::Updated);
            let end = End { campaign, ending: Ending::new(reason, flash, "") };
            self.last_end = self.keep_end(record, end);
        }
    }
}

impl HostSystem for System {
    fn identity(&mut self) -> Identity {
        let dmi = Dmi::read(&self.root);
        let flash = MtdDevice::open(&self.config.flash, Access::ReadOnly).ok();
        let info = flash.as_ref().map(MtdDevice::info);
        let obstacle = preflight::checklist(self, Purpose::Query).verdict().err();
        let obstacle = obstacle.unwrap_or_else(|| Refusal::new(Reason::None, ""));
        Identity {
            environment: Environment::NormalOs,
            boot_id: self.boot_id,
            flash_size_bytes: info.map_or(0, |info| info.size_bytes),
            obstacle: obstacle.reason,
            security_version_floor: self.state.security_version_floor().unwrap_or(u64::MAX),
            host_name: host::name(),
            vendor: dmi.vendor,
            product: dmi.product,
            bios_version: dmi.bios_version,
            flash_name: info.map_or_else(String::new, |info| info.name.clone()),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            obstacle_detail: obstacle.detail,
            firmware: Condition::Whole,
            doubt: String::new(),
            last_end: self.last_end.clone(),
        }
    }

    fn prepare(&mut self, order: &Order<'_>) -> Result<(), Refusal> {
        self.preflight(order)?;
        self.load_recovery(order)?;
        let record = CampaignRecord { campaign: order.campaign, boot_id: self.boot_id, end: None };
        self.state.record_campaign(&record).map_err(|error| {
            self.abandon();
            Refusal::new(Reason::NotPossibleNow, error)
        })?;
        info!(
            "recovery loaded for campaign {:016x}, version {}",
            order.campaign,
            order.manifest.version()
        );
        Ok(())
    }

    fn abandon(&mut self) {
        if let Err(error) = kexec::unload() {
            error!("{}", with_causes(&error));
        }
        if let Err(error) = self.state.forget_campaign() {
            error!("{error}");
        }
    }

    fn measure(&mut self, campaign: u64, manifest: &VerifiedManifest) -> Measurement {
        let dmi = Dmi::read(&self.root);
        let found = self.stable_digest(manifest);
        let matches = found.as_ref().is_ok_and(|digest| digest == manifest.stable_digest());
        if matches {
            self.confirm(campaign, manifest);
        }
        Measurement {
            campaign,
            matches,
            stable_digest: found.as_ref().copied().unwrap_or_default(),
            boot_id: self.boot_id,
            bios_version: dmi.bios_version,
            bios_vendor: dmi.bios_vendor,
            detail: found.err().unwrap_or_default(),
        }
    }

    fn foresee(&mut self, order: &Order<'_>) -> Result<Outlook, Refusal> {
        let (contents, geometry) = self.preflight(order)?;
        Ok(outlook::outlook(contents.bytes(), order.manifest, &geometry))
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
    use std::path::Path;

    fn system(folder: &Path) -> System {
        let config = Config { state_dir: folder.join("state"), ..Config::default() };
        System::new(config, Trust::default())
    }

    #[test]
    fn after_a_silent_return_the_campaign_has_an_end_that_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let mut system = system(folder.path());
        system.look_back();
        assert_eq!(system.identity().last_end, None);

        let mut record = CampaignRecord { campaign: 7, boot_id: system.boot_id, end: None };
        system.state.record_campaign(&record).unwrap();
        system.look_back();
        assert_eq!(system.identity().last_end, None, "this boot has not been left yet");

        record.boot_id[0] ^= 1;
        system.state.record_campaign(&record).unwrap();
        for _ in 0..2 {
            system.look_back();
            assert_eq!(system.identity().last_end, Some(silent_end(7)));
        }
        assert!(system.state.last_campaign().unwrap().unwrap().end.is_some());
    }

    #[test]
    fn a_machine_without_anything_still_says_who_it_is_and_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let identity = system(folder.path()).identity();
        assert_ne!(identity.obstacle, Reason::None);
        assert_eq!((identity.flash_size_bytes, identity.environment), (0, Environment::NormalOs));
    }
}
