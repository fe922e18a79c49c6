//! Files of the state directory that are replaced as a whole, and the locks that let one process at
//! a time read, change and replace one.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

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
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
    owner::hand_over(&file, path)?;
    lock_open(file)
}

/// Takes the lock of a file or directory that is open.
///
/// # Errors
/// As [`lock`].
pub(super) fn lock_open(mut file: File) -> io::Result<Flock<File>> {
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
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    owner::hand_over(file.as_file(), file.path())?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
