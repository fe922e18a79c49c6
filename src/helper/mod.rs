//! What the confined agent may not do itself, it asks of a helper: `firmcastd helper`, which
//! systemd starts for a connection and which ends with it (firmcastd-helper.socket). The agent
//! hangs up whenever it has nothing to do.
//!
//! A question is one datagram of text, with open files where it needs some; so is the answer:
//!
//! | question | files | answer |
//! | --- | --- | --- |
//! | `chip N` | | the file of MTD device N, open for reading |
//! | `holders any` or `writing`, own process, device numbers | | see `mtd::holders` |
//! | `hooks` folder, limit, campaign, its end, version | | see `agent::hooks` |
//! | `work` | | see `host::work` |
//! | `disks` | | see `disks` |
//! | `kept` | | see `tpm` |
//! | `keep` FLOOR DIGEST | | |
//! | `bmc-timer` | | see `bmc::watchdog` |
//! | `may-load` | | |
//! | `load` COMMAND LINE | kernel, initramfs | |
//! | `unload` | | |
//! | `start` | | |
//!
//! The first word of an answer is `ok`, `errno` with a number, or `failed` with a text.
//!
//! Which process asks, and whom, is said by firmcastd.service in [`VARIABLE`]. Without it
//! everything is done by the process itself: what root types, and the recovery environment.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};

mod syscall;

/// The environment variable with the path of the helper's socket.
pub const VARIABLE: &str = "FIRMCASTD_HELPER";

/// Maximum length of a question or an answer in bytes: a command line and a word.
const MESSAGE_SIZE_MAX: usize = 8192;

/// How long the helper may take. Loading a recovery image of some hundred MiB takes seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What the helper said, and the file that came with it.
#[derive(Debug, Default)]
pub struct Answer {
    /// What stands behind `ok`.
    pub text: String,
    /// An open file.
    pub file: Option<OwnedFd>,
}

/// The helper that is there; starting one takes longer than most answers.
static CONNECTION: Mutex<Option<Socket>> = Mutex::new(None);

/// Asks the helper, if this process has one; else the caller does it by itself.
pub(crate) fn ask(question: &str, files: &[BorrowedFd<'_>]) -> Option<io::Result<Answer>> {
    let path = std::env::var_os(VARIABLE)?;
    let mut connection = CONNECTION.lock().unwrap_or_else(PoisonError::into_inner);
    Some(ask_over(&mut connection, Path::new(&path), question, files))
}

/// Asks a helper of its own, for which other questions do not wait.
pub(crate) fn ask_alone(question: &str, timeout: Duration) -> Option<io::Result<Answer>> {
    let path = std::env::var_os(VARIABLE)?;
    let path = Path::new(&path);
    let connected = connect(path, timeout);
    Some(connected.and_then(|socket| ask_over(&mut Some(socket), path, question, &[])))
}

/// Lets the helper go.
pub(crate) fn hang_up() {
    drop(CONNECTION.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn ask_over(
    connection: &mut Option<Socket>,
    path: &Path,
    question: &str,
    files: &[BorrowedFd<'_>],
) -> io::Result<Answer> {
    // One that has ended meanwhile takes no question, and nothing has been done.
    let socket = match connection.take() {
        Some(socket) if send(socket.as_fd(), question, files).is_ok() => socket,
        _ => {
            let socket = connect(path, ANSWER_TIMEOUT)?;
            send(socket.as_fd(), question, files)?;
            socket
        }
    };
    let (text, mut files) = receive(socket.as_fd()).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => io::Error::other("firmcastd-helper did not answer"),
        _ => error,
    })?;
    let (verdict, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let answer = match verdict {
        "ok" => Ok(Answer { text: rest.to_owned(), file: files.pop() }),
        "errno" => Err(io::Error::from_raw_os_error(rest.parse().unwrap_or(libc::EPROTO))),
        "failed" => Err(io::Error::other(rest.to_owned())),
        // It ended without an answer.
        _ => return Err(io::Error::other("firmcastd-helper ended; its journal says why")),
    };
    *connection = Some(socket);
    answer
}

fn connect(path: &Path, timeout: Duration) -> io::Result<Socket> {
    let unreachable = |error| {
        let remedy = "run systemctl start firmcastd-helper.socket";
        io::Error::other(format!("{}: {error}; {remedy}", path.display()))
    };
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.connect(&SockAddr::unix(path)?).map_err(unreachable)?;
    Ok(socket)
}

/// Answers the questions that come over `connection`, as `answer` says, until its other side hangs
/// up.
///
/// # Errors
/// What comes is no question, or nobody takes an answer.
pub fn serve(
    connection: BorrowedFd<'_>,
    answer: impl Fn(&str, Vec<OwnedFd>) -> io::Result<Answer>,
) -> io::Result<()> {
    loop {
        let (question, files) = receive(connection)?;
        if question.is_empty() {
            return Ok(());
        }
        let (text, file) = match answer(&question, files) {
            Ok(Answer { text, file }) => (format!("ok {text}"), file),
            Err(error) => match error.raw_os_error() {
                Some(errno) => (format!("errno {errno}"), None),
                None => (format!("failed {error}"), None),
            },
        };
        let files: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).collect();
        send(connection, &text, &files)?;
    }
}

fn send(socket: BorrowedFd<'_>, text: &str, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<_> = files.iter().map(|file| file.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
    let parts = [io::IoSlice::new(text.as_bytes())];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut buffer = vec![0; MESSAGE_SIZE_MAX];
    let (length, files) = syscall::receive(socket, &mut buffer)?;
    buffer.truncate(length);
    let text = String::from_utf8(buffer).map_err(|_| ErrorKind::InvalidData)?;
    Ok((text, files))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::thread;

    /// A helper that does `answer` for as many connections in turn as it is given.
    fn helper(
        path: &Path,
        connections: usize,
        answer: impl Fn(&str, Vec<OwnedFd>) -> io::Result<Answer> + Send + 'static,
    ) -> thread::JoinHandle<()> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
        socket.listen(1).unwrap();
        thread::spawn(move || {
            for _ in 0..connections {
                let (connection, _) = socket.accept().unwrap();
                serve(connection.as_fd(), &answer).unwrap();
            }
        })
    }

    #[test]
    fn files_go_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helper");
        let helper = helper(&path, 1, |question, mut files| {
            assert_eq!((question, files.len()), ("load a b", 1));
            Ok(Answer { text: "as you like".into(), file: files.pop() })
        });
        let mut connection = None;
        for _ in 0..2 {
            let mut kernel = tempfile::tempfile().unwrap();
            kernel.write_all(b"kernel").unwrap();
            kernel.rewind().unwrap();
            let files = [kernel.as_fd()];
            let answer = ask_over(&mut connection, &path, "load a b", &files).unwrap();
            assert_eq!(answer.text, "as you like");
            let mut back = String::new();
            std::fs::File::from(answer.file.unwrap()).read_to_string(&mut back).unwrap();
            assert_eq!(back, "kernel");
        }
        drop(connection);
        helper.join().unwrap();
    }

    #[test]
    fn errors_come_over_as_they_are_and_end_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helper");
        let helper = helper(&path, 1, |question, _| match question {
            "unload" => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
            _ => Err(io::Error::other("no: 7")),
        });
        let mut connection = None;
        let error = ask_over(&mut connection, &path, "unload", &[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
        let error = ask_over(&mut connection, &path, "start", &[]).unwrap_err();
        assert_eq!(error.to_string(), "no: 7");
        drop(connection);
        helper.join().unwrap();
    }

    #[test]
    fn where_a_helper_has_ended_another_one_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("helper");
        let helper = helper(&path, 1, |_, _| Ok(Answer::default()));
        let (mut connection, ended) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)
            .map(|(own, other)| (Some(own), other))
            .unwrap();
        drop(ended);
        ask_over(&mut connection, &path, "unload", &[]).unwrap();
        drop(connection);
        helper.join().unwrap();
    }

    #[test]
    fn without_a_helper_the_error_says_what_to_do() {
        let missing = tempfile::tempdir().unwrap().path().join("helper");
        let error = ask_over(&mut None, &missing, "unload", &[]).unwrap_err().to_string();
        assert!(error.contains("systemctl start firmcastd-helper.socket"), "{error}");
    }
}
