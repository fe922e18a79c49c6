//! The local socket at which the service shows its status, and the lock that keeps a second service
//! away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use firmcast::time::Time;
use firmcast_manager::store::owner;
use mio::Interest;
use mio::net::{UnixListener, UnixStream};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{Mode, umask};

use super::wait::Waiter;

/// Name of the socket in the state directory.
pub(crate) const SOCKET: &str = "serve.sock";

/// Name of the lock in the state directory.
const LOCK: &str = "serve.lock";

/// Most askers at a time; more wait in the kernel.
const CLIENTS_MAX: usize = 4;

/// How long an asker may take to read its answer before another one has its place.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// The listening socket, and who is being answered.
pub(crate) struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
    clients: Vec<Client>,
    _lock: Flock<File>,
}

struct Client {
    since: Time,
    stream: UnixStream,
    answer: Vec<u8>,
    sent_bytes: usize,
}

impl StatusSocket {
    /// Opens the socket, for its owner only. One that a dead service left is replaced.
    ///
    /// # Errors
    /// When another service works with this state directory, or the socket cannot be made.
    pub(crate) fn open(state: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use state directory {}", state.display());
        owner::make_directory(state).with_context(cannot)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600);
        let path = state.join(LOCK);
        let lock = lock.custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path).with_context(cannot)?;
        owner::hand_over(&lock, &path).with_context(cannot)?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                bail!("another firmcast serve works with {}; stop it first", state.display())
            }
            Err((_, errno)) => return Err(errno).with_context(cannot),
        };
        let path = state.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", path.display()));
            }
            _ => {}
        }
        let old = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(&path);
        umask(old);
        let listener = listener.with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self { listener, path, clients: Vec::new(), _lock: lock })
    }

    pub(crate) fn watch(&mut self, waiter: &Waiter) -> anyhow::Result<()> {
        waiter.watch(&mut self.listener, Interest::READABLE)
    }

    /// Answers whoever asks with what `answer` makes, as far as their sockets take it.
    pub(crate) fn serve(
        &mut self,
        waiter: &Waiter,
        answer: impl Fn() -> Vec<u8>,
    ) -> anyhow::Result<()> {
        let now = waiter.now();
        self.clients
            .retain_mut(|client| now.since(client.since) < CLIENT_PATIENCE && client.go_on());
        while self.clients.len() < CLIENTS_MAX {
            let Ok((mut stream, _)) = self.listener.accept() else { return Ok(()) };
            waiter.watch(&mut stream, Interest::WRITABLE)?;
            let mut client = Client { since: now, stream, answer: answer(), sent_bytes: 0 };
            if client.go_on() {
                self.clients.push(client);
            }
        }
        Ok(())
    }
}

impl Client {
    /// Sends on; false when it is over.
    fn go_on(&mut self) -> bool {
        while self.sent_bytes < self.answer.len() {
            match self.stream.write(&self.answer[self.sent_bytes..]) {
                Ok(0) => return false,
                Ok(count) => self.sent_bytes += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        // The next service replaces it anyhow.
        let _ = fs::remove_file(&self.path);
    }
}
