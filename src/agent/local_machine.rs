//! The machine that firmcastd runs on, as its settings and its kernel show it.

use std::net::SocketAddr;
use std::path::PathBuf;

use log::warn;

use super::config::Config;
use super::firmware_chip::the_firmwares;
use super::state::{State, StateError};
use super::trust::Trust;
use crate::dmi::Dmi;
use crate::handover::MailboxPlace;
use crate::image::Board;
use crate::keys::{HostSecretKey, KeyFileError, PublicKey as _, SecretKey as _, load_secret};
use crate::mailbox;
use crate::manager_url::ManagerUrl;
use crate::net::survey::{self, Surveyed};
use crate::net::{InterfaceConfig, NetError, Netlink};
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

    /// How `manager` is reached, to be set up again in the recovery environment.
    ///
    /// # Errors
    /// When the kernel does not tell, or recovery cannot set it up.
    pub(super) fn network_to(&self, manager: SocketAddr) -> Result<Surveyed, NetError> {
        survey::survey(&mut Netlink::open()?, manager)
    }

    /// How the interface `name` is set up.
    ///
    /// # Errors
    /// As [`LocalMachine::network_to`].
    pub(super) fn network_of(name: &str) -> Result<Surveyed, NetError> {
        survey::survey_interface(&mut Netlink::open()?, name)
    }

    /// The managers of the settings that are named by their addresses.
    pub(super) fn managers(&self) -> Vec<SocketAddr> {
        let urls = self.config.managers.iter().filter_map(|url| url.parse::<ManagerUrl>().ok());
        urls.filter_map(|url| url.address()).collect()
    }

    /// How the managers of the settings are reached, where that can be told; an interface once.
    pub(super) fn network_to_managers(&self) -> Vec<InterfaceConfig> {
        let mut interfaces: Vec<InterfaceConfig> = Vec::new();
        for manager in self.managers() {
            match self.network_to(manager) {
                Ok(Surveyed { interface, .. }) => {
                    if interfaces.iter().all(|known| known.name != interface.name) {
                        interfaces.push(interface);
                    }
                }
                Err(error) => warn!("how {manager} is reached: {}", with_causes(&error)),
            }
        }
        interfaces
    }

    /// The place for word from the recovery environment. Not every file system has one; then the
    /// agent tells less about an end.
    pub(super) fn mailbox(&self) -> Option<MailboxPlace> {
        let place = mailbox::prepare(self.state.folder());
        place.inspect_err(|error| warn!("{}", with_causes(error))).ok()
    }
}
