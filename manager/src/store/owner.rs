//! Whose the files of the state directory are: those of the directory's owner. When root types a
//! command, the service that works with the same directory as a user of its own can still read
//! them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::Path;

use nix::unistd::geteuid;

/// Gives what root has made at `path` to the owner of the directory that it lies in.
///
/// # Errors
/// When the directory cannot be looked at, or the owner cannot be changed.
pub fn hand_over(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|_| geteuid().is_root()) else { return Ok(()) };
    let here = directory.as_os_str().is_empty();
    let directory = if here { Path::new(".") } else { directory };
    let owner = fs::metadata(directory)?;
    let own = fs::symlink_metadata(path)?;
    match (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        true => Ok(()),
        false => chown(path, Some(owner.uid()), Some(owner.gid())),
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
    hand_over(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
        let file = folder.join("record");
        fs::write(&file, "").unwrap();
        hand_over(&file).unwrap();
        let expected = if is_root { OTHER } else { geteuid().as_raw() };
        assert_eq!(fs::metadata(&folder).unwrap().uid(), expected);
        assert_eq!(fs::metadata(&file).unwrap().uid(), expected);
        // A name alone lies where the program runs: this package's folder, which is there already.
        hand_over(Path::new("Cargo.toml")).unwrap();
    }
}
