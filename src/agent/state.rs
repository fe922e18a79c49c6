//! What the agent keeps over reboots, in `state_dir`: the security version floor and how the last
//! campaign went.
//!
//! Files are replaced whole and durably: after a power cut there is the old one or the new one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::durable;
use crate::image::KnownGood;
use crate::image::learning::Snapshot;
use crate::reason::{Ending, FlashState, Reason};
use crate::wire::answer::{End, Programs};

const FLOOR_FILE: &str = "security-version-floor";
const CAMPAIGN_FILE: &str = "last-campaign.json";
const KNOWN_GOOD_FILE: &str = "known-good.json";
const SNAPSHOT_FILE: &str = "snapshot.json";
const PROGRAMS_FILE: &str = "programs.json";

/// Largest state file that is read, in bytes.
const STATE_FILE_SIZE_MAX: u64 = 64 * 1024;

/// Largest snapshot, in bytes: of a chip of 256 MiB, with a number for each 4 KiB.
const SNAPSHOT_FILE_SIZE_MAX: u64 = 1024 * 1024;

/// A state file that cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Not readable, or not writable.
    #[error(
        "cannot {action} {path}: {source}; check state_dir in agent.toml, its permissions, and \
        the free space"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Contents that the agent did not write.
    #[error(
        "{path} holds something else than the agent's {expected}; restore it, or remove it to \
        start anew"
    )]
    Contents {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
}

/// The agent's folder.
#[derive(Clone, Debug)]
pub struct State {
    folder: PathBuf,
}

/// The last campaign that this host accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignRecord {
    /// The campaign.
    pub campaign: u64,
    /// The boot in which it was accepted: in another one, the recovery environment has ended.
    pub boot_id: [u8; 16],
    /// How it ended, once that is known.
    pub end: Option<RecordedEnding>,
}

/// The administrator's programs of the last campaign that had any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramsRecord {
    /// The campaign.
    pub campaign: u64,
    /// The version that it brings.
    pub version: String,
    /// Whether post-update.d has run, too.
    pub is_undone: bool,
    /// What they came to so far.
    pub programs: Programs,
}

/// An [`Ending`] in a file: codes as on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEnding {
    reason: u16,
    flash: u8,
    detail: String,
}

impl CampaignRecord {
    /// The end as an answer carries it.
    pub fn end(&self) -> Option<End> {
        Some(End { campaign: self.campaign, ending: self.end.as_ref()?.ending() })
    }
}

impl RecordedEnding {
    fn ending(&self) -> Ending {
        Ending {
            reason: Reason::from_code(self.reason),
            flash: FlashState::from_code(self.flash),
            detail: self.detail.clone(),
        }
    }
}

impl From<&Ending> for RecordedEnding {
    fn from(ending: &Ending) -> Self {
        let Ending { reason, flash, detail } = ending;
        Self { reason: reason.code(), flash: flash.code(), detail: detail.clone() }
    }
}

impl State {
    /// The state in `folder`, which is made when something is first written.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The highest security version that was confirmed on this host; 0 when there was none.
    ///
    /// # Errors
    /// When the file is there but cannot be understood: then nobody knows what may be flashed.
    pub fn security_version_floor(&self) -> Result<u64, StateError> {
        let path = self.folder.join(FLOOR_FILE);
        let Some(text) = read(&path)? else { return Ok(0) };
        let expected = "security version, a number";
        text.trim().parse().map_err(|_| StateError::Contents { path, expected })
    }

    /// Makes the floor at least `version`.
    ///
    /// # Errors
    /// When the old floor cannot be read or the new one not written; the old one stays then.
    pub fn raise_security_version_floor(&self, version: u64) -> Result<(), StateError> {
        if version <= self.security_version_floor()? {
            return Ok(());
        }
        self.replace(FLOOR_FILE, format!("{version}\n").as_bytes())
    }

    /// The file with the record of good firmware.
    pub fn known_good_path(&self) -> PathBuf {
        self.folder.join(KNOWN_GOOD_FILE)
    }

    /// The firmware that was good when it was last seen.
    ///
    /// # Errors
    /// When the file is there but cannot be understood.
    pub fn known_good(&self) -> Result<Option<KnownGood>, StateError> {
        let path = self.known_good_path();
        let Some(text) = read(&path)? else { return Ok(None) };
        let expected = "record of good firmware";
        serde_json::from_slice(text.as_bytes())
            .map(Some)
            .map_err(|_| StateError::Contents { path, expected })
    }

    /// Keeps `good` as the firmware that was good when it was last seen.
    ///
    /// # Errors
    /// When it cannot be written; the old record stays then.
    pub fn record_known_good(&self, good: &KnownGood) -> Result<(), StateError> {
        // The file's time is compared with that of the archive, which stays when nothing changes.
        if self.known_good().is_ok_and(|old| old.as_ref() == Some(good)) {
            return Ok(());
        }
        let json = serde_json::to_vec(good)
            .map_err(|error| io_error("write", &self.folder.join(KNOWN_GOOD_FILE))(error.into()))?;
        self.replace(KNOWN_GOOD_FILE, &json)
    }

    /// What the chip held when it was last looked at for learning.
    ///
    /// # Errors
    /// When the file is there but cannot be read. One that nobody understands is as good as none.
    pub fn snapshot(&self) -> Result<Option<Snapshot>, StateError> {
        let text = read_up_to(&self.folder.join(SNAPSHOT_FILE), SNAPSHOT_FILE_SIZE_MAX)?;
        Ok(text.and_then(|text| serde_json::from_slice(text.as_bytes()).ok()))
    }

    /// Keeps what the chip holds now for a later look.
    ///
    /// # Errors
    /// When it cannot be written; the old one stays then.
    pub fn keep_snapshot(&self, snapshot: &Snapshot) -> Result<(), StateError> {
        let json = serde_json::to_vec(snapshot)
            .map_err(|error| io_error("write", &self.folder.join(SNAPSHOT_FILE))(error.into()))?;
        self.replace(SNAPSHOT_FILE, &json)
    }

    /// The last campaign that was accepted here.
    ///
    /// # Errors
    /// When the file is there but cannot be understood.
    pub fn last_campaign(&self) -> Result<Option<CampaignRecord>, StateError> {
        let path = self.folder.join(CAMPAIGN_FILE);
        let Some(text) = read(&path)? else { return Ok(None) };
        let expected = "record of a campaign";
        serde_json::from_slice(text.as_bytes())
            .map(Some)
            .map_err(|_| StateError::Contents { path, expected })
    }

    /// Keeps `record` as the last campaign.
    ///
    /// # Errors
    /// When it cannot be written; the old one stays then.
    pub fn record_campaign(&self, record: &CampaignRecord) -> Result<(), StateError> {
        let json = serde_json::to_vec(record)
            .map_err(|error| io_error("write", &self.folder.join(CAMPAIGN_FILE))(error.into()))?;
        self.replace(CAMPAIGN_FILE, &json)
    }

    /// Forgets the last campaign.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn forget_campaign(&self) -> Result<(), StateError> {
        let path = self.folder.join(CAMPAIGN_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(io_error("remove", &path)),
        }
    }

    /// The programs of the last campaign that had any.
    ///
    /// # Errors
    /// When the file is there but cannot be understood.
    pub fn programs(&self) -> Result<Option<ProgramsRecord>, StateError> {
        let path = self.folder.join(PROGRAMS_FILE);
        let Some(text) = read(&path)? else { return Ok(None) };
        let expected = "record of programs";
        serde_json::from_slice(text.as_bytes())
            .map(Some)
            .map_err(|_| StateError::Contents { path, expected })
    }

    /// Keeps `record` as the programs of the last campaign.
    ///
    /// # Errors
    /// When it cannot be written; the old one stays then.
    pub fn record_programs(&self, record: &ProgramsRecord) -> Result<(), StateError> {
        let json = serde_json::to_vec(record)
            .map_err(|error| io_error("write", &self.folder.join(PROGRAMS_FILE))(error.into()))?;
        self.replace(PROGRAMS_FILE, &json)
    }

    /// Removes what a power cut has left of files that were being replaced.
    pub fn remove_leftovers(&self) {
        for name in [FLOOR_FILE, CAMPAIGN_FILE, KNOWN_GOOD_FILE, PROGRAMS_FILE] {
            durable::remove_leftover(&self.folder.join(name));
        }
    }

    fn replace(&self, name: &str, contents: &[u8]) -> Result<(), StateError> {
        let path = self.folder.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .and_then(|()| durable::replace(&path, durable::PRIVATE, contents))
            .map_err(io_error("write", &path))
    }
}

fn read(path: &Path) -> Result<Option<String>, StateError> {
    read_up_to(path, STATE_FILE_SIZE_MAX)
}

fn read_up_to(path: &Path, size_max: u64) -> Result<Option<String>, StateError> {
    let size = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error("read", path))?.len(),
    };
    if size > size_max {
        return Err(StateError::Contents { path: path.into(), expected: "state" });
    }
    fs::read_to_string(path).map(Some).map_err(io_error("read", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io { action, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("made/when/needed"));
        (folder, state)
    }

    #[test]
    fn the_floor_only_rises_and_is_never_guessed() {
        let (_folder, state) = state();
        assert_eq!(state.security_version_floor().unwrap(), 0);
        state.raise_security_version_floor(7).unwrap();
        state.raise_security_version_floor(3).unwrap();
        assert_eq!(state.security_version_floor().unwrap(), 7);
        fs::write(state.folder().join(FLOOR_FILE), "seven").unwrap();
        assert!(matches!(state.security_version_floor(), Err(StateError::Contents { .. })));
        assert!(state.raise_security_version_floor(9).is_err());
    }

    #[test]
    fn a_campaign_is_remembered_with_its_end() {
        let (_folder, state) = state();
        assert_eq!(state.last_campaign().unwrap(), None);
        let mut record = CampaignRecord { campaign: u64::MAX, boot_id: [9; 16], end: None };
        state.record_campaign(&record).unwrap();
        assert_eq!(state.last_campaign().unwrap().unwrap(), record);
        let ending = Ending::new(Reason::ManagerNotReached, FlashState::UNTOUCHED, "for 300 s");
        let end = End { campaign: u64::MAX, ending };
        record.end = Some(RecordedEnding::from(&end.ending));
        state.record_campaign(&record).unwrap();
        assert_eq!(state.last_campaign().unwrap().unwrap().end(), Some(end));
        state.forget_campaign().unwrap();
        state.forget_campaign().unwrap();
        assert_eq!(state.last_campaign().unwrap(), None);
        fs::write(state.folder().join(CAMPAIGN_FILE), "{").unwrap();
        assert!(matches!(state.last_campaign(), Err(StateError::Contents { .. })));
    }

    #[test]
    fn programs_are_remembered() {
        let (_folder, state) = state();
        assert_eq!(state.programs().unwrap(), None);
        let programs = Programs { failed: true, told: "10-a 0".into() };
        let record =
            ProgramsRecord { campaign: 7, version: "2".into(), is_undone: false, programs };
        state.record_programs(&record).unwrap();
        assert_eq!(state.programs().unwrap(), Some(record));
        fs::write(state.folder().join(PROGRAMS_FILE), "{}").unwrap();
        assert!(matches!(state.programs(), Err(StateError::Contents { .. })));
    }

    #[test]
    fn files_are_for_their_owner_alone_and_halves_of_them_go() {
        let (_folder, state) = state();
        state.raise_security_version_floor(7).unwrap();
        let halves = [FLOOR_FILE, CAMPAIGN_FILE, KNOWN_GOOD_FILE, PROGRAMS_FILE]
            .map(|name| format!("{name}.new"));
        halves.iter().for_each(|name| fs::write(state.folder().join(name), "ha").unwrap());
        state.remove_leftovers();
        let files = fs::read_dir(state.folder()).unwrap().map(Result::unwrap);
        let left: Vec<_> = files
            .map(|file| (file.file_name(), file.metadata().unwrap().permissions().mode() & 0o777))
            .collect();
        assert_eq!(left, [(FLOOR_FILE.into(), durable::PRIVATE)]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        let (folder, _) = state();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = State::new(file.join("below")).raise_security_version_floor(1).unwrap_err();
        assert!(error.to_string().contains("state_dir"), "{error}");
    }
}
