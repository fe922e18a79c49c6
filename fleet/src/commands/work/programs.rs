//! The programs that drain hosts and undrain them. Each has a process group of its own, and dies
//! with this process, as campaigns do.

use std::collections::BTreeMap;
use std::io::{BufReader, PipeReader, Read as _, pipe};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use firmcast_fleet::rollout::duration::duration_words;
use firmcast_fleet::rollout::file::GRACE_S;
use firmcast_fleet::work::crew::{Program, ProgramEnd};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::campaigns::Happening;
use super::clock::now;

/// How often a program is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How much is kept of the last line of a program, in bytes.
const LINE_BYTES_MAX: usize = 1000;

/// How long the last line of a program that has ended is waited for: what it left behind may hold
/// its output open.
const LAST_LINE_WAIT: Duration = Duration::from_secs(1);

/// What somebody wants of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Runs,
    Ends,
    Dies,
}

type Wishes = Arc<Mutex<BTreeMap<u64, Wish>>>;

/// The programs that run.
pub(super) struct Programs {
    news: Sender<Happening>,
    wishes: Wishes,
    /// When the leases are over, unless they are renewed: programs die then.
    deadline: Arc<AtomicI64>,
}

impl Programs {
    pub(super) fn new(news: Sender<Happening>, deadline: Arc<AtomicI64>) -> Self {
        Self { news, wishes: Wishes::default(), deadline }
    }

    /// Begins a program. It dies with the thread that calls this.
    pub(super) fn begin(&self, program: Program) -> anyhow::Result<()> {
        let (output, input) = pipe().context("cannot make a pipe")?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(&program.argv).process_group(0);
        command.stdin(Stdio::null()).stderr(input.try_clone().context("cannot make a pipe")?);
        let child = command.stdout(input).spawn();
        // It holds the writing end of the pipe.
        drop(command);
        let child = child.context("cannot start setpriv (package util-linux)")?;
        let number = program.number;
        locked(&self.wishes).insert(number, Wish::Runs);
        let watched = Watched { program, child, wishes: Arc::clone(&self.wishes) };
        let (news, deadline) = (self.news.clone(), Arc::clone(&self.deadline));
        thread::Builder::new()
            .name(format!("program {number}"))
            .spawn(move || {
                let ended = watched.follow(output, &deadline);
                let _ = news.send(Happening::Program { number, ended });
            })
            .context("cannot start a thread")?;
        Ok(())
    }

    /// Asks a program to end, as if its time were over.
    pub(super) fn stop(&self, number: u64) {
        self.wish(number, Wish::Ends);
    }

    /// Ends a program as if the power failed.
    pub(super) fn kill(&self, number: u64) {
        self.wish(number, Wish::Dies);
    }

    /// It is over.
    pub(super) fn forget(&self, number: u64) {
        locked(&self.wishes).remove(&number);
    }

    fn wish(&self, number: u64, wish: Wish) {
        if let Some(wished) = locked(&self.wishes).get_mut(&number) {
            *wished = wish;
        }
    }
}

/// What is kept is a map: nobody leaves it half changed.
fn locked(wishes: &Wishes) -> MutexGuard<'_, BTreeMap<u64, Wish>> {
    wishes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a program was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    ItIsLate,
    TheWorkerEndsIt,
}

/// A program that runs.
struct Watched {
    program: Program,
    child: Child,
    wishes: Wishes,
}

impl Watched {
    /// Waits for its end, and sees to it that it comes. What it started in its group ends with it.
    fn follow(mut self, output: PipeReader, deadline: &AtomicI64) -> ProgramEnd {
        let (say, line) = channel();
        thread::spawn(move || {
            let _ = say.send(last_line(output));
        });
        let begun = Instant::now();
        let within = Duration::from_secs(self.program.within_s.into());
        let grace = Duration::from_secs(GRACE_S.into());
        let mut asked: Option<(Instant, Asked)> = None;
        while !self.has_ended() {
            let wish = locked(&self.wishes).get(&self.program.number).copied();
            let is_over = wish == Some(Wish::Dies) || now() >= deadline.load(Ordering::Relaxed);
            if is_over || asked.is_some_and(|(at, _)| at.elapsed() >= grace) {
                self.signal(Signal::SIGKILL);
                asked.get_or_insert((Instant::now(), Asked::TheWorkerEndsIt));
            } else if asked.is_none() && begun.elapsed() >= within {
                self.signal(Signal::SIGTERM);
                asked = Some((Instant::now(), Asked::ItIsLate));
            } else if asked.is_none() && wish == Some(Wish::Ends) {
                self.signal(Signal::SIGTERM);
                asked = Some((Instant::now(), Asked::TheWorkerEndsIt));
            }
            thread::sleep(LOOK_INTERVAL);
        }
        // Its number is its own until it is waited for.
        self.signal(Signal::SIGKILL);
        match self.child.wait() {
            Ok(status) => self.end(status, asked.map(|(_, why)| why), &line),
            Err(error) => ProgramEnd::Failed(format!("cannot wait for it: {error}")),
        }
    }

    /// What its end says, and why it was asked for.
    fn end(&self, status: ExitStatus, asked: Option<Asked>, line: &Receiver<String>) -> ProgramEnd {
        let how = match asked {
            Some(Asked::TheWorkerEndsIt) => return ProgramEnd::CutOff,
            Some(Asked::ItIsLate) => {
                let within = duration_words(self.program.within_s.into());
                format!("took longer than {within} and was told to end ({status})")
            }
            None if status.success() => return ProgramEnd::Done,
            None => format!("ended with {status}"),
        };
        let program = self.program.argv.first().map_or("", String::as_str);
        let line = line.recv_timeout(LAST_LINE_WAIT).unwrap_or_default();
        let line = if line.is_empty() { line } else { format!(": {line}") };
        ProgramEnd::Failed(format!("{program} {how}{line}"))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Whether it has ended; it is not waited for, so that its number stays its own.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(self.pid()), flags), Ok(WaitStatus::StillAlive))
    }

    fn signal(&self, signal: Signal) {
        // A group of which nobody is left needs none.
        let _ = killpg(self.pid(), signal);
    }
}

/// Reads to the end, and returns the last line that has words, cut at its end.
fn last_line(output: PipeReader) -> String {
    let (mut last, mut line) = (Vec::new(), Vec::new());
    for byte in BufReader::new(output).bytes().map_while(Result::ok) {
        if byte != b'\n' {
            if line.len() < LINE_BYTES_MAX {
                line.push(byte);
            }
        } else if !line.trim_ascii().is_empty() {
            last = std::mem::take(&mut line);
        } else {
            line.clear();
        }
    }
    let whole = if line.trim_ascii().is_empty() { last } else { line };
    String::from_utf8_lossy(whole.trim_ascii()).into_owned()
}

#[cfg(test)]
mod tests {
    use firmcast_fleet::model::Stamp;

    use super::*;

    #[test]
    fn only_what_a_program_does_by_itself_is_its_failure() {
        let (news, happenings) = channel();
        let deadline = Arc::new(AtomicI64::new(Stamp::MAX));
        let programs = Programs::new(news, Arc::clone(&deadline));
        let begin = |number: u64, script: &str, within_s: u32| {
            let argv = ["/bin/sh", "-c", script].map(str::to_owned).into();
            programs.begin(Program { number, argv, within_s }).expect("it begins");
        };
        let end = || match happenings.recv() {
            Ok(Happening::Program { ended, .. }) => ended,
            _ => panic!("no end of a program"),
        };
        begin(1, "true", 60);
        assert_eq!(end(), ProgramEnd::Done);
        begin(2, "echo why; exit 3", 60);
        let words = "/bin/sh ended with exit status: 3: why";
        assert_eq!(end(), ProgramEnd::Failed(words.to_owned()));
        begin(3, "sleep 600", 1);
        let words = "/bin/sh took longer than 1 s and was told to end (signal: 15 (SIGTERM))";
        assert_eq!(end(), ProgramEnd::Failed(words.to_owned()));
        begin(4, "sleep 600", 60);
        programs.stop(4);
        assert_eq!(end(), ProgramEnd::CutOff);
        begin(5, "sleep 600", 60);
        deadline.store(now(), Ordering::Relaxed);
        assert_eq!(end(), ProgramEnd::CutOff);
    }
}
