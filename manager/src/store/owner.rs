//! Whose the files of the state directory are: those of the directory's owner. When root types a
//! command, the service that works with the same directory as a user of its own can still read
//! them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// Gives what root has made at `path`, and holds open as `file`, to the owner of the directory that
/// it lies in. Whatever that owner may put at `path` meanwhile is not touched.
///
/// # Errors
/// When the directory cannot be looked at, or the owner cannot be changed.
pub fn hand_over(file: &File, path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|_| geteuid().is_root()) else { return Ok(()) };
    let here = directory.as_os_str().is_empty();
    let owner = fs::metadata(if here { Path::new(".") } else { directory })?;
    let own = file.metadata()?;
    match (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        true => Ok(()),
        false => fchown(file, Some(owner.uid()), Some(owner.gid())),
    }
}

/// Makes a directory for its owner alone, unless it is there.
///
/// # Errors
/// When it cannot be made, or not be handed over.
pub fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let flags = OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY;
    let directory = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    hand_over(&directory, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    /// Any user that is not root.
    const OTHER: u32 = 65_534;

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_directory() {
        let state = tempfile::tempdir().unwrap();
        let is_root = geteuid().is_root();
        if is_root {
            chown(state.path(), Some(OTHER), Some(OTHER)).unwrap();
        }
        let folder = state.path().join("campaigns");
        make_directory(&folder).unwrap();
        let path = folder.join("record");
        let file = File::create(&path).unwrap();
        // The owner puts a link to root's own file where root's new one was.
        let roots = tempfile::NamedTempFile::new().unwrap();
        fs::rename(&path, folder.join("moved")).unwrap();
        symlink(roots.path(), &path).unwrap();
        hand_over(&file, &path).unwrap();
        let expected = if is_root { OTHER } else { geteuid().as_raw() };
        assert_eq!(fs::metadata(&folder).unwrap().uid(), expected);
        assert_eq!(file.metadata().unwrap().uid(), expected);
        assert_eq!(roots.as_file().metadata().unwrap().uid(), geteuid().as_raw());
        // A name alone lies where the program runs: this package's folder, which is there already.
        hand_over(&File::open("Cargo.toml").unwrap(), Path::new("Cargo.toml")).unwrap();
    }
}
