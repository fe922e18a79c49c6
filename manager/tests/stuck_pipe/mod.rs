//! A real pipe that is full, because nobody reads it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe};

/// What fills the pipe.
const FILLING: u8 = b'#';

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end that would be read.
pub(crate) struct StuckReader {
    reader: File,
}

/// Returns the reader that does not read, and the full pipe to it.
pub(crate) fn stuck_pipe() -> (StuckReader, Stdio) {
    let (reader, writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut filling = File::from(writer);
    // Larger pieces would leave room for smaller ones.
    while filling.write(&[FILLING]).is_ok() {}
    fcntl(&filling, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (StuckReader { reader: reader.into() }, OwnedFd::from(filling).into())
}

impl StuckReader {
    /// Reads all after all, until the writers are gone.
    pub(crate) fn read(mut self) -> String {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).unwrap();
        bytes.retain(|byte| *byte != FILLING);
        String::from_utf8(bytes).unwrap()
    }
}

/// Ends a process by `signal`, which it must heed.
pub(crate) fn end(child: &mut Child, signal: Signal) -> ExitStatus {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    wait(child)
}

/// Waits for the end of a process, which must come.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("it does not end");
}
