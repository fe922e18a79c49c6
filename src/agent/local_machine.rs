//! The machine that firmcastd runs on, as its settings and its kernel show it.

use std::path::PathBuf;

use log::warn;

use super::config::Config;
use super::firmware_chip::the_firmwares;
use super::state::{State, StateError};
use super::trust::Trust;
use crate::dmi::Dmi;
use crate::handover::MailboxPlace;
use crate::host::drivers::default_interface;
use crate::image::Board;
use crate::keys::{HostSecretKey, KeyFileError, PublicKey as _, SecretKey as _, load_secret};
use crate::mailbox;
use crate::manager_url::ManagerUrl;
use crate::net::{InterfaceConfig, NetError, Netlink, survey};
use crate::reason::with_causes;
use crate::tpm::Kept;
use crate::wire::finding::Acceptance;

/// The machine, its settings, and what it keeps over reboots.
#[derive(Debug)]
pub struct LocalMachine {
    /// What stands for `/`.
    pub(super) root: PathBuf,
    pub(super) config: Config,
    pub(super) trust: Trust,
    pub(super) state: State,
}

impl LocalMachine {
    /// This machine with these settings. Nothing is touched yet.
    pub fn new(config: Config, trust: Trust) -> Self {
        let state = State::new(config.state_dir.clone());
        Self { root: PathBuf::from("/"), config, trust, state }
    }

    /// The floor of security versions: the larger of those that `state_dir` and the TPM keep. What
    /// the TPM keeps and does not tell is left out, which a check tells.
    ///
    /// # Errors
    /// The one in `state_dir` is not understood.
    pub(super) fn security_version_floor(&self) -> Result<u64, StateError> {
        let own = self.state.security_version_floor()?;
        let kept = Kept::read(&self.root).unwrap_or_default();
        Ok(kept.map_or(own, |kept| kept.floor.max(own)))
    }

    /// What this machine is, for [`Board::admit`], with a chip of this size, this key and this
    /// floor.
    pub(super) fn board(
        &self,
        flash_size_bytes: u64,
        key: Option<&HostSecretKey>,
        floor: u64,
    ) -> Board {
        let host = key.map(|key| key.public().fingerprint());
        Dmi::read(&self.root).board(flash_size_bytes, floor, host)
    }

    /// The MTD device of the firmware: that of the settings, else the name of the one that is the
    /// firmware's without doubt. Empty where neither is there.
    pub fn flash(&self) -> String {
        let set = self.config.flash.clone();
        if !set.is_empty() {
            return set;
        }
        the_firmwares(&self.root).map(|chip| chip.name).unwrap_or_default()
    }

    /// What is accepted although it is in the way: by the settings, and by a manager where the
    /// settings leave that to managers.
    pub(super) fn accepted(&self, by_manager: Acceptance) -> Acceptance {
        let by_manager = match self.config.accept_from_managers {
            true => by_manager,
            false => Acceptance::default(),
        };
        self.config.accepted().or(by_manager)
    }

    /// This host's secret key.
    ///
    /// # Errors
    /// When there is none, or one that cannot be used.
    pub(super) fn host_key(&self) -> Result<HostSecretKey, KeyFileError> {
        load_secret(&self.config.host_key)
    }

    /// How `manager` is reached, to be set up again in the recovery environment; nothing where only
    /// DHCP can do that.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn network_to(
        &self,
        manager: std::net::IpAddr,
    ) -> Result<Vec<InterfaceConfig>, NetError> {
        match survey::survey(&mut Netlink::open()?, manager.to_canonical()) {
            Ok(interface) => Ok(vec![interface]),
            Err(NetError::Unsuitable { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// How the managers of the settings are reached, where that can be told; an interface once.
    pub(super) fn network_to_managers(&self) -> Vec<InterfaceConfig> {
        let mut interfaces: Vec<InterfaceConfig> = Vec::new();
        for url in &self.config.managers {
            let manager: Option<ManagerUrl> = url.parse().ok();
            let Some(address) = manager.and_then(|manager| manager.address()) else { continue };
            match self.network_to(address.ip()) {
                Ok(found) => interfaces.extend(
                    found
                        .into_iter()
                        .filter(|new| interfaces.iter().all(|known| known.name != new.name))
                        .collect::<Vec<_>>(),
                ),
                Err(error) => warn!("how {url} is reached: {}", with_causes(&error)),
            }
        }
        interfaces
    }

    /// The interfaces through which managers are reached: those of the settings, else that of the
    /// default route.
    pub(super) fn interfaces_to_managers(&self) -> Vec<String> {
        let found: Vec<String> =
            self.network_to_managers().into_iter().map(|interface| interface.name).collect();
        match found.is_empty() {
            true => default_interface(&self.root).into_iter().collect(),
            false => found,
        }
    }

    /// The place for word from the recovery environment. Not every file system has one; then the
    /// agent tells less about an end.
    pub(super) fn mailbox(&self) -> Option<MailboxPlace> {
        let place = mailbox::prepare(self.state.folder());
        place.inspect_err(|error| warn!("{}", with_causes(error))).ok()
    }
}
