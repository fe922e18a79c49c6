//! What the recovery environment must know when it comes up by itself: the record of good firmware,
//! and the archive that carries it and this host's keys there.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};
use nix::time::{ClockId, clock_gettime};
use zeroize::Zeroizing;

use super::local_machine::LocalMachine;
use super::verdict::{self, VerdictError};
use crate::dmi::Dmi;
use crate::durable::{self, NewFile};
use crate::handover::{HandoverError, PROVISION_PATH, PROVISION_VERSION, Provision, SecretText};
use crate::image::validity::validate_contents;
use crate::image::{
    ByteRanges, Contents, Fitting, KnownGood, VerifiedManifest, closed_note, left_out,
};
use crate::keys::SecretKey as _;
use crate::mailbox;
use crate::manager_url::ManagerUrl;
use crate::mtd::read_chip;
use crate::reason::with_causes;
use crate::wire::help::CONFIRMED_STAY;

/// Which firmware is recorded as good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirmwareToRecord {
    /// What was recorded before; what the chip holds, if nothing was.
    Keep,
    /// What the chip holds now.
    Renew,
    /// What this file holds: the image that the chip will hold.
    Image(PathBuf),
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ProvideError {
    /// The host has no key, or an unreadable one.
    #[error("this host's key cannot be read: {0}")]
    Key(String),
    /// The chip could not be read, or holds firmware that is not whole.
    #[error("the firmware cannot be recorded as good: {0}")]
    Firmware(String),
    /// A state file.
    #[error(transparent)]
    State(#[from] super::state::StateError),
    /// Not the address of a manager.
    #[error("managers in agent.toml: {url:?}: {source}")]
    Manager {
        /// As it is written.
        url: String,
        /// What is wrong.
        #[source]
        source: crate::manager_url::UrlError,
    },
    /// The archive could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file system does not keep modes, so others could read the key that is in the archive.
    #[error(
        "{path} would hold this host's private key, but its file system keeps no file modes \
        (FAT?): name a file on another one with --output, or in agent.toml as rescue_archive"
    )]
    NoModes {
        /// The file.
        path: PathBuf,
    },
    /// More than fits.
    #[error(transparent)]
    Provision(#[from] HandoverError),
}

impl LocalMachine {
    /// At the agent's start: takes over what a rescue has left word of, and writes the archive of
    /// `rescue_archive`.
    pub fn provide(&self) {
        self.state.remove_leftovers();
        let left = mailbox::read(self.state.folder()).ok().flatten();
        if let Some(good) =
            left.and_then(|word| serde_json::from_slice::<KnownGood>(word.text.as_bytes()).ok())
        {
            self.take_over(&good);
        }
        self.renew_archive();
    }

    /// Forgets the rescues of this host once its system has been up for [`CONFIRMED_STAY`]. Asked
    /// when the agent starts and when it ends: nothing wakes up for it.
    pub fn confirm_stay(&self) {
        let up = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        self.confirm_stay_of(up);
    }

    fn confirm_stay_of(&self, up: Duration) {
        if up < CONFIRMED_STAY {
            return;
        }
        match mailbox::forget_rescues(self.state.folder()) {
            Ok(0) => {}
            Ok(count) => info!("this system stays up: {count} rescues before it are forgotten"),
            Err(error) => warn!("{}", with_causes(&error)),
        }
    }

    /// After a confirmed update: the chip holds the manifest's image.
    pub(super) fn record_update(&self, manifest: &VerifiedManifest) {
        let bios_version = Dmi::read(&self.root).bios_version;
        let recorded = read_chip(&self.flash(), &Fitting::untouched(manifest))
            .map(|contents| {
                let good = KnownGood::of_update(&contents, manifest, &bios_version);
                good.without_learned(&self.learned(), &contents)
            })
            .map_err(|error| with_causes(&error))
            .and_then(|good| {
                self.state.record_known_good(&good).map_err(|error| error.to_string())
            });
        match recorded {
            Ok(()) => self.renew_archive(),
            Err(error) => warn!("the good firmware was not recorded: {error}"),
        }
    }

    /// What the firmware of this board was seen to write itself.
    fn learned(&self) -> ByteRanges {
        let good = self.state.known_good().ok().flatten();
        good.map(|good| good.learned).unwrap_or_default()
    }

    /// Takes over the record of a repaired chip, if it still says the truth.
    fn take_over(&self, good: &KnownGood) {
        let bios_version = Dmi::read(&self.root).bios_version;
        let Ok(contents) = read_chip(&self.flash(), &good.left_out) else { return };
        let Some(good) = good.confirm(&contents, &bios_version) else {
            warn!("the firmware is not the one that the last rescue wrote");
            return;
        };
        let good = good.without_learned(&self.learned(), &contents);
        info!("the firmware was repaired in the recovery environment: version {}", good.version);
        let kept = self
            .state
            .record_known_good(&good)
            .and_then(|()| self.state.raise_security_version_floor(good.security_version));
        match kept {
            // Only now: a word that is lost would leave the old record.
            Ok(()) => drop(self.mailbox()),
            Err(error) => warn!("{error}"),
        }
    }

    /// Where the archive lies: where the settings say, else where there is one.
    pub fn archive(&self) -> PathBuf {
        let set = self.config.rescue_archive.clone();
        let own = self.state.folder().join("rescue.cpio");
        match set.as_os_str().is_empty() {
            false => set,
            true if own.is_file() => own,
            true => self.root.join("boot/firmcast/rescue.cpio"),
        }
    }

    pub(super) fn renew_archive(&self) {
        let path = &self.archive();
        // Nobody has asked for one.
        if self.config.rescue_archive.as_os_str().is_empty() && !path.is_file() {
            return;
        }
        match self.write_archive(path, &FirmwareToRecord::Keep) {
            Ok(()) => info!("{} is up to date", path.display()),
            Err(error) => warn!("{}", with_causes(&error)),
        }
    }

    /// Writes the archive for the recovery environment, unless it is there already: what holds a
    /// copy is made anew whenever it is written.
    ///
    /// # Errors
    /// [`ProvideError`]; an old archive stays then.
    pub fn write_archive(
        &self,
        path: &Path,
        record: &FirmwareToRecord,
    ) -> Result<(), ProvideError> {
        let failed = |source| ProvideError::Write { path: path.into(), source };
        let json = self.provision(record)?.to_json()?;
        let mut archive = Zeroizing::new(Vec::new());
        crate::kexec::write_archive(&mut *archive, PROVISION_PATH, &json).map_err(failed)?;
        if std::fs::read(path).map(Zeroizing::new).is_ok_and(|old| old == archive) {
            durable::remove_leftover(path);
            return Ok(());
        }
        // An error shows when the file is created.
        drop(path.parent().map(|folder| DirBuilder::new().mode(0o700).create(folder)));
        let new = NewFile::begin(path, durable::PRIVATE).map_err(failed)?;
        if !new.keeps_modes() {
            return Err(ProvideError::NoModes { path: path.into() });
        }
        new.replace(&archive).map_err(failed)
    }

    fn provision(&self, record: &FirmwareToRecord) -> Result<Provision, ProvideError> {
        let key = self.host_key().map_err(|error| ProvideError::Key(with_causes(&error)))?;
        self.check_managers()?;
        Ok(Provision {
            version: PROVISION_VERSION,
            host_name: crate::host::name(),
            host_key: SecretText::new(key.to_text().to_string()),
            trusted_managers: self.trust.managers.iter().map(ToString::to_string).collect(),
            trusted_releases: self.trust.releases.iter().map(ToString::to_string).collect(),
            managers: self.config.managers.clone(),
            flash: self.flash(),
            listen_port: self.config.listen.port(),
            security_version_floor: self.security_version_floor()?,
            network: self.network_to_managers(),
            on_unknown: self.config.on_unknown_firmware,
            known_good: self.known_good(record)?,
            result_mailbox: self.mailbox(),
        })
    }

    fn known_good(&self, record: &FirmwareToRecord) -> Result<Option<KnownGood>, ProvideError> {
        let recorded = self.state.known_good()?;
        let running = Dmi::read(&self.root).bios_version;
        let contents = match (record, recorded) {
            // Firmware that calls itself otherwise was put there by somebody else, and runs.
            (FirmwareToRecord::Keep, Some(good)) if !good.is_outdated(&running) => {
                return Ok(Some(good));
            }
            (FirmwareToRecord::Image(path), _) => verdict::read_file(path).map(Contents::whole),
            (FirmwareToRecord::Keep | FirmwareToRecord::Renew, old) => {
                read_chip(&self.flash(), &left_out(old.as_ref())).map_err(VerdictError::from)
            }
        };
        let contents = match contents {
            Ok(contents) => contents,
            Err(error) if *record == FirmwareToRecord::Keep => {
                warn!("no firmware is recorded as good: {}", with_causes(&error));
                return Ok(None);
            }
            Err(error) => return Err(ProvideError::Firmware(with_causes(&error))),
        };
        // What the firmware in a file will call itself is not known.
        let bios_version = match record {
            FirmwareToRecord::Image(_) => String::new(),
            FirmwareToRecord::Keep | FirmwareToRecord::Renew => running,
        };
        match KnownGood::of_chip(&contents, &bios_version) {
            Some(good) => {
                let good = good.without_learned(&self.learned(), &contents);
                self.state.record_known_good(&good)?;
                if !good.closed.is_empty() {
                    info!("the good firmware is recorded; {}", closed_note(&good.closed));
                }
                Ok(Some(good))
            }
            None if *record == FirmwareToRecord::Keep => Ok(None),
            None => Err(ProvideError::Firmware(validate_contents(&contents).to_string())),
        }
    }

    /// An address that makes no sense is an error here: the person who wrote it is there.
    fn check_managers(&self) -> Result<(), ProvideError> {
        for url in &self.config.managers {
            let parsed: Result<ManagerUrl, _> = url.parse();
            parsed.map_err(|source| ProvideError::Manager { url: url.clone(), source })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::config::Config;
    use crate::agent::trust::Trust;
    use crate::mailbox::{Rescues, forget_rescues};

    #[test]
    fn rescues_are_forgotten_by_a_system_that_stays_up_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { state_dir: directory.path().to_owned(), ..Config::default() };
        let machine = LocalMachine::new(config, Trust::default());
        let left_after = |up: Duration| {
            mailbox::rescued(directory.path(), &Rescues::of(&[1, 2])).unwrap();
            machine.confirm_stay_of(up);
            forget_rescues(directory.path()).unwrap()
        };
        assert_eq!(left_after(CONFIRMED_STAY - Duration::from_secs(1)), 2);
        assert_eq!(left_after(CONFIRMED_STAY), 0);
    }
}
