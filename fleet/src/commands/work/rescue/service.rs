//! `firmcast serve` as a process of the worker.

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use firmcast_manager::rescue::Snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::files::Files;
use crate::commands::firmcast::Firmcast;

/// Its socket, in its state directory.
const SOCKET: &str = "serve.sock";

/// How long it may take to say what it knows.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Maximum number of bytes of what it says.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long it is waited for when it is told to stop; then it is killed.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// How often it is looked whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// After how long one that ended by itself is started again: the first time, and at most.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// How long it has to run to count as started well.
const RAN_WELL: Duration = Duration::from_secs(60);

/// The service, running or not.
pub(super) struct Service {
    firmcast: Firmcast,
    listen: SocketAddr,
    running: Option<(Child, Instant)>,
    /// Whether it has answered since it was started. Before that a signal might end it.
    is_up: bool,
    /// Whether its files have changed since it was told so.
    is_stale: bool,
    /// When it is started again.
    again_at: Instant,
    /// How long is waited before that, when it ends soon.
    again: Duration,
}

/// What became of a wish that it runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// It was started just now.
    Started,
    /// It runs.
    Runs,
    /// It has ended, or could not be started, and is started again later.
    Ended(String),
    /// It is started again later.
    Waits,
}

impl Service {
    pub(super) fn new(firmcast: Firmcast, listen: SocketAddr) -> Self {
        Self {
            firmcast,
            listen,
            running: None,
            is_up: false,
            is_stale: false,
            again_at: Instant::now(),
            again: AGAIN,
        }
    }

    /// Sees to it that it runs, with these files.
    pub(super) fn run(&mut self, files: &Files) -> Run {
        if let Some((child, since)) = &mut self.running {
            let status = match child.try_wait() {
                Ok(None) => return Run::Runs,
                Ok(Some(status)) => status.to_string(),
                Err(error) => error.to_string(),
            };
            if since.elapsed() >= RAN_WELL {
                self.again = AGAIN;
            }
            self.running = None;
            return self.ended(format!("firmcast serve ended: {status}"));
        }
        if Instant::now() < self.again_at {
            return Run::Waits;
        }
        match self.firmcast.serve(&files.bundles(), &files.policy(), self.listen) {
            Ok(child) => {
                self.running = Some((child, Instant::now()));
                (self.is_up, self.is_stale) = (false, false);
                Run::Started
            }
            Err(error) => self.ended(format!("{error:#}")),
        }
    }

    fn ended(&mut self, words: String) -> Run {
        let seconds = self.again.as_secs();
        self.again_at = Instant::now() + self.again;
        self.again = (self.again * 2).min(AGAIN_MAX);
        Run::Ended(format!("{words}; dead hosts are not answered, tried again in {seconds} s"))
    }

    /// Has it read its files again; hosts that it leaves alone stay left alone.
    pub(super) fn refresh(&mut self) {
        self.is_stale = !self.is_up;
        if self.is_up {
            self.signal(Signal::SIGUSR1);
        }
    }

    /// Asks what it knows.
    pub(super) fn ask(&mut self) -> anyhow::Result<Snapshot> {
        let snapshot = self.answer()?;
        self.is_up = true;
        if self.is_stale {
            self.refresh();
        }
        Ok(snapshot)
    }

    fn answer(&self) -> anyhow::Result<Snapshot> {
        let path: PathBuf = self.firmcast.place().join(SOCKET);
        let asked = || format!("cannot ask firmcast serve at {}", path.display());
        let stream = UnixStream::connect(&path).with_context(asked)?;
        stream.set_read_timeout(Some(ANSWER_WAIT)).with_context(asked)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut answer).with_context(asked)?;
        ensure!(answer.len() as u64 <= ANSWER_BYTES_MAX, "{} does not stop answering", asked());
        serde_json::from_slice(&answer).context("firmcast serve is of another version")
    }

    /// How long it has been running.
    pub(super) fn runs_for(&self) -> Option<Duration> {
        self.running.as_ref().map(|(_, since)| since.elapsed())
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.as_ref();
        if let Some(id) = running.and_then(|(child, _)| i32::try_from(child.id()).ok()) {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(id), signal);
        }
    }

    /// Ends it: hosts that write go on by themselves, the others ask again.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM);
        let Some((mut child, _)) = self.running.take() else { return Ok(()) };
        let end = Instant::now() + STOP_WAIT;
        while Instant::now() < end {
            if child.try_wait().context("cannot wait for firmcast serve")?.is_some() {
                return Ok(());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        child.kill().context("cannot end firmcast serve")?;
        child.wait().context("cannot wait for firmcast serve")?;
        bail!("firmcast serve did not stop, and was ended")
    }
}
