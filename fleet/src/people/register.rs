//! The file of the people, which nobody but its owner may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use firmcast::durable::{NewFile, PRIVATE};
use firmcast_manager::store::owner::hand_over;
use nix::fcntl::OFlag;
use thiserror::Error;

use super::roster::{Roster, RosterError};

/// The file's name in the state directory.
pub const FILE: &str = "people.json";

/// Maximum size of the file in bytes.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why the people cannot be read or changed.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// The system's word.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "others may read or change {} (mode {mode:03o}): only its owner may, see chmod 600",
        .path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not what this program writes.
    #[error(
        "{} is not a file of people: restore it, or remove it and add the people again",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The change makes no sense.
    #[error(transparent)]
    Change(#[from] RosterError),
}

/// Tells one state of the file from another: it is replaced as a whole, never written in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    changed_at: (i64, i64),
    bytes: u64,
}

/// The file, and what was read of it last.
#[derive(Debug)]
pub struct Register {
    path: PathBuf,
    last: Mutex<Option<(Version, Arc<Roster>)>>,
}

impl Register {
    /// Returns the people of a state directory.
    pub fn in_state(state: &Path) -> Self {
        Self { path: state.join(FILE), last: Mutex::default() }
    }

    /// Returns the people as they are now; nobody when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or it is damaged.
    pub fn read(&self) -> Result<Arc<Roster>, RegisterError> {
        let failed = |source| RegisterError::File { path: self.path.clone(), source };
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = match options.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(failed(error)),
        };
        let about = file.metadata().map_err(failed)?;
        let mode = about.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(RegisterError::Open { path: self.path.clone(), mode });
        }
        let version = Version {
            inode: about.ino(),
            changed_at: (about.ctime(), about.ctime_nsec()),
            bytes: about.size(),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, roster)) = last.as_ref().filter(|(known, _)| *known == version) {
            return Ok(Arc::clone(roster));
        }
        let roster = Arc::new(self.parse(file)?);
        *last = Some((version, Arc::clone(&roster)));
        Ok(roster)
    }

    /// Changes the people, all or nothing. One process does it at a time.
    ///
    /// # Errors
    /// Those of [`Self::read`] and of `change`, and when the file cannot be written.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Roster) -> Result<T, RosterError>,
    ) -> Result<T, RegisterError> {
        let failed = |source| RegisterError::File { path: self.path.clone(), source };
        // Locks the folder: what is read below is not changed by another meanwhile.
        let new = NewFile::begin(&self.path, PRIVATE).map_err(failed)?;
        hand_over(new.file(), &self.path).map_err(failed)?;
        let mut roster = Roster::clone(self.read()?.as_ref());
        let changed = change(&mut roster)?;
        let mut text = serde_json::to_vec_pretty(&roster).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        new.replace(&text).map_err(failed)?;
        Ok(changed)
    }

    fn parse(&self, file: File) -> Result<Roster, RegisterError> {
        let failed = |source| RegisterError::File { path: self.path.clone(), source };
        let mut text = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(failed(io::Error::other(format!("it has more than {BYTES_MAX} bytes"))));
        }
        serde_json::from_slice(&text)
            .map_err(|source| RegisterError::Damaged { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::password::Password;
    use super::*;

    #[test]
    fn people_come_and_go_and_nobody_else_reads_their_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (Register::in_state(folder.path()), Register::in_state(folder.path()));
        assert_eq!(one.read().expect("nobody yet").people.len(), 0);
        let password = Password::new("correct horse", [1; 16]).expect("long enough");
        for name in ["anna", "ben"] {
            other.change(|roster| roster.add(name, password.clone())).expect("added");
            assert!(one.read().expect("read").person(name).is_some(), "seen at once");
        }
        let refused = other.change(|roster| roster.remove("carl"));
        assert!(matches!(refused, Err(RegisterError::Change(_))));
        let path = folder.path().join(FILE);
        let mode = |path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), PRIVATE);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no leftovers");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
        let told = one.read().expect_err("others may read it").to_string();
        assert!(told.contains("chmod 600"), "{told}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("changed");
        fs::write(&path, "{\"people\": 3}").expect("written");
        assert!(matches!(one.read(), Err(RegisterError::Damaged { .. })));
    }
}
