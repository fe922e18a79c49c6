//! Files of the state directory that are replaced as a whole, and the locks that let one process at
//! a time read, change and replace one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use firmcast::durable::{self, NewFile};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::owner;

/// How long another process may hold a lock; it does no more than to write a file.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);

/// Pause between two attempts to take a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock in the file `path`, which is made for its owner alone unless it is there. It is
/// held until the result is dropped.
///
/// # Errors
/// When the file cannot be opened, or another process holds the lock for [`LOCK_WAIT_MAX`].
pub(super) fn lock(path: &Path) -> io::Result<Flock<File>> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(durable::PRIVATE);
    let mut file = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
    owner::hand_over(&file, path)?;
    let end = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < end => file = back,
            Err((_, Errno::EWOULDBLOCK)) => {
                let waited = LOCK_WAIT_MAX.as_secs();
                return Err(io::Error::other(format!(
                    "another firmcast has held its lock for {waited} s; end that one first"
                )));
            }
            Err((_, errno)) => return Err(errno.into()),
        }
        sleep(LOCK_PAUSE);
    }
}

/// Puts `bytes` where `path` is, durably, or leaves what is there. Nobody but the owner of the
/// directory can read the file, from its first byte on.
///
/// # Errors
/// When it cannot be written or made durable.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, |mut file| file.write_all(bytes))
}

/// The same with what `write` writes: for what is too large to be held once more.
///
/// # Errors
/// When it cannot be written or made durable.
pub(super) fn replace_with(
    path: &Path,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let new = NewFile::begin(path, durable::PRIVATE)?;
    owner::hand_over(new.file(), path)?;
    write(new.file())?;
    new.replace(b"")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_for_its_owner_alone_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inventory.json");
        // What a power cut has left, which others can read.
        fs::write(folder.path().join("inventory.json.new"), "half").unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, durable::PRIVATE);
        let names = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["inventory.json"]);
    }
}
