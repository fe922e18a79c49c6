//! Files that are written whole or not at all: after a power cut there is the old one or the new
//! one.
//!
//! What is written lies in `NAME.new` until it is on the disk. One that a cut has left is removed
//! by the next who writes NAME.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Mode of a file that may hold a secret.
pub const PRIVATE: u32 = 0o600;

/// Maximum number of tries to be the only one who writes to a folder.
const LOCK_TRIES_MAX: u32 = 1000;
/// Pause between two such tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Replaces `path`, or makes it, with `mode`.
///
/// # Errors
/// The system's; the old file stays then.
pub fn replace(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    NewFile::begin(path, mode)?.replace(contents)
}

/// Removes what a power cut has left of writing `path`. Should that fail, nothing is lost: whoever
/// writes there next fails too, and says why.
pub fn remove_leftover(path: &Path) {
    if new_path(path).symlink_metadata().is_ok() {
        drop(NewFile::begin(path, PRIVATE));
    }
}

/// A file that has no contents yet, and not its name; gone again when it is dropped.
#[derive(Debug)]
pub struct NewFile<'a> {
    path: &'a Path,
    new_path: PathBuf,
    file: File,
    folder: Folder,
}

/// The folder, which nobody else writes to meanwhile.
#[derive(Debug)]
enum Folder {
    Locked(Flock<File>),
    /// Its file system knows no locks, or the agent's confinement allows none.
    Open(File),
}

impl<'a> NewFile<'a> {
    /// Makes the file that will be `path`, with `mode` from its first byte.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when another process does not end to write to the same folder.
    pub fn begin(path: &'a Path, mode: u32) -> io::Result<Self> {
        let folder = Folder::open(path.parent().unwrap_or(Path::new("")))?;
        let new_path = new_path(path);
        match fs::remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new_path)?;
        Ok(Self { path, new_path, file, folder })
    }

    /// Returns the open file, for whoever gives it to another user. Only this type writes to it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether its file system keeps modes, so that nobody but the owner can read the file.
    pub fn keeps_modes(&self) -> bool {
        keeps_modes(&self.file)
    }

    /// Takes the place of what is at the path.
    ///
    /// # Errors
    /// The system's; what is there stays then.
    pub fn replace(mut self, contents: &[u8]) -> io::Result<()> {
        self.write(contents)?;
        fs::rename(&self.new_path, self.path)?;
        self.folder.sync()
    }

    /// Takes its place if nothing is there.
    ///
    /// # Errors
    /// `AlreadyExists`, and the system's.
    pub fn create(mut self, contents: &[u8]) -> io::Result<()> {
        if self.path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.write(contents)?;
        match fs::hard_link(&self.new_path, self.path) {
            // FAT has no links; others keep out while the folder is locked.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                fs::rename(&self.new_path, self.path)?;
            }
            linked => {
                linked?;
                fs::remove_file(&self.new_path)?;
            }
        }
        self.folder.sync()
    }

    fn write(&mut self, contents: &[u8]) -> io::Result<()> {
        self.file.write_all(contents)?;
        self.file.sync_all()
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        // It is gone already when it got its name.
        let _ = fs::remove_file(&self.new_path);
    }
}

impl Folder {
    fn open(path: &Path) -> io::Result<Self> {
        let is_here = path.as_os_str().is_empty();
        let mut folder = File::open(if is_here { Path::new(".") } else { path })?;
        for _ in 0..LOCK_TRIES_MAX {
            match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(Self::Locked(locked)),
                Err((open, Errno::EWOULDBLOCK)) => folder = open,
                Err((open, _)) => return Ok(Self::Open(open)),
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        let problem = "another process writes to the same folder and does not end";
        Err(io::Error::new(io::ErrorKind::WouldBlock, problem))
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Self::Locked(folder) => folder.sync_all(),
            Self::Open(folder) => folder.sync_all(),
        }
    }
}

fn new_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Leaves the empty `file` readable by its owner alone.
fn keeps_modes(file: &File) -> bool {
    [0o640, PRIVATE].iter().all(|&mode| {
        file.set_permissions(Permissions::from_mode(mode)).is_ok()
            && file.metadata().is_ok_and(|found| found.permissions().mode() & 0o777 == mode)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_what_a_cut_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(folder.path().join("state.new"), "half").unwrap();
        replace(&path, PRIVATE, b"one").unwrap();
        replace(&path, PRIVATE, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        fs::write(folder.path().join("state.new"), "half").unwrap();
        remove_leftover(&path);
        assert_eq!(
            (names(folder.path()), fs::read(&path).unwrap()),
            (vec!["state".into()], b"two".to_vec())
        );
    }

    #[test]
    fn a_link_where_the_new_file_will_be_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "untouched").unwrap();
        symlink(&target, folder.path().join("state.new")).unwrap();
        replace(&folder.path().join("state"), PRIVATE, b"secret").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"untouched");
        assert_eq!(names(folder.path()), ["state", "target"]);
    }

    #[test]
    fn an_error_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        replace(&path, PRIVATE, b"x").unwrap_err();
        let created = NewFile::begin(&path, PRIVATE).unwrap().create(b"x").unwrap_err();
        assert_eq!(created.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["taken"]);
        NewFile::begin(&folder.path().join("new"), 0o644).unwrap().create(b"x").unwrap();
        assert_eq!(names(folder.path()), ["new", "taken"]);
    }

    #[test]
    fn two_writers_of_one_folder_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let write = |contents: Vec<u8>| {
            let path = path.clone();
            move || (0..50).for_each(|_| replace(&path, PRIVATE, &contents).unwrap())
        };
        let other = std::thread::spawn(write(vec![1; 9_000]));
        write(vec![2; 70_000])();
        other.join().unwrap();
        let found = fs::read(&path).unwrap();
        assert!(found == [1; 9_000] || found == [2; 70_000], "{} bytes", found.len());
        assert_eq!(names(folder.path()), ["state"]);
    }

    #[test]
    fn a_file_system_without_modes_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let new = NewFile::begin(&path, PRIVATE).unwrap();
        let mode = || new.file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), PRIVATE, "before its first byte");
        assert!(new.keeps_modes());
        assert_eq!(mode(), PRIVATE);
        // Of these the kernel changes no mode, as on FAT.
        assert!(!keeps_modes(&File::open("/proc/self/status").unwrap()));
    }
}
