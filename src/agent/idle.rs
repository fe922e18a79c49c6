//! The agent's event loop: one thread, one UDP socket, no timer. While nobody talks to it, it does
//! not wake up. While programs of the administrator run, another thread waits for them.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::pipe2;
use rand_core::{OsRng, RngCore as _};
use thiserror::Error;

use super::config::Config;
use super::drain::{Job, Then};
use super::host_key;
use super::local_machine::LocalMachine;
use super::machine::{Action, Agent};
use super::system::System;
use super::trust::Trust;
use crate::helper;
use crate::kexec;
use crate::keys::{KeyFileError, PublicKey as _, SecretKey as _};
use crate::net::one_address::HostSocket;
use crate::net::{NetError, udp};
use crate::reason::{Reason, Refusal, with_causes};
use crate::time::Time;
use crate::wire::answer::Programs;

/// Room for any datagram that an agent understands; what fills it is longer and ignored.
const DATAGRAM_SIZE_MAX: usize = 1536;

/// Datagrams that are taken before it is the turn of the signal and of the chip.
const RECEIVE_MAX: usize = 256;

/// Errors of the socket in a row after which the loop waits for the next event.
const RECEIVE_ERRORS_MAX: u32 = 16;

/// Why the agent does not run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// No usable key of its own.
    #[error("no host key")]
    HostKey(#[source] KeyFileError),
    /// No socket.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The configured address.
        listen: SocketAddr,
        /// What is in the way.
        #[source]
        source: NetError,
    },
    /// The kernel does not let it wait.
    #[error("cannot wait for datagrams")]
    Wait(#[source] io::Error),
}

/// Tokens of what the loop waits for.
const DATAGRAM: Token = Token(0);
const SIGNALS: Token = Token(1);
const PROGRAMS: Token = Token(2);

/// What the agent was told that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// SIGHUP: its settings have changed.
    StartAgain,
    /// SIGTERM.
    End,
}

/// Runs the agent until it is stopped, or told by SIGHUP to read its settings again: then it
/// returns as soon as no campaign is about to take this host away, to be started anew.
///
/// # Errors
/// Without key or socket the agent does not start; whatever else this machine lacks, it idles and
/// tells who asks.
pub fn run(config: Config) -> Result<Told, AgentError> {
    let host_key = host_key::of_this_machine(&config).map_err(AgentError::HostKey)?;
    let trust = Trust::load(&config);
    for problem in trust.manager_problems.iter().chain(&trust.release_problems) {
        warn!("not trusted: {problem}");
    }
    let socket = open_socket(&config)?;
    let listens_at = socket.local_addr().unwrap_or(config.listen);
    info!(
        "{} listens on {} with host key {}; {} managers and {} releases are trusted",
        env!("CARGO_PKG_VERSION"),
        listens_at,
        host_key.public().fingerprint(),
        trust.managers.len(),
        trust.releases.len()
    );
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    let agent = Agent::new(host_key, trust.managers.clone(), trust.releases.clone(), seed);
    let mut system = System::new(LocalMachine::new(config, trust));
    system.look_back();
    system.provide();
    system.confirm_stay();
    let driver = Driver {
        started: Instant::now(),
        agent,
        system,
        socket,
        is_told_to_end: false,
        is_behind: false,
        running: None,
    };
    driver.run().map_err(AgentError::Wait)
}

fn open_socket(config: &Config) -> Result<HostSocket, AgentError> {
    let listen = config.listen;
    let opened = match udp::inherit() {
        Ok(Some(socket)) => {
            let address = socket.local_addr().ok();
            if let Some(at) = address.filter(|at| !at.ip().is_unspecified()) {
                warn!(
                    "the socket unit names {at}, where no broadcast arrives: see firmcastd check"
                );
            }
            Ok(HostSocket::from(socket))
        }
        Ok(None) => HostSocket::open(listen),
        Err(error) => Err(error),
    };
    opened.map_err(|source| AgentError::Listen { listen, source })
}

/// SIGHUP and SIGTERM as something to wait for. They end no call in the middle then.
fn told_to_end() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGHUP);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

struct Driver {
    started: Instant,
    agent: Agent,
    system: System,
    socket: HostSocket,
    is_told_to_end: bool,
    /// There may be more datagrams than were taken.
    is_behind: bool,
    running: Option<Running>,
}

/// Programs of the administrator that run, in a thread of their own: datagrams do not wait.
struct Running {
    thread: JoinHandle<Programs>,
    /// Says so when they have ended: the thread holds the other end.
    _ended: OwnedFd,
}

impl Running {
    fn start(job: Job, registry: &Registry) -> io::Result<Self> {
        let (ended, held) = pipe2(OFlag::O_CLOEXEC)?;
        let descriptor = ended.as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), PROGRAMS, Interest::READABLE)?;
        let run = move || {
            let said = job.run();
            drop(held);
            said
        };
        Ok(Self { thread: thread::Builder::new().spawn(run)?, _ended: ended })
    }

    fn said(self) -> Programs {
        self.thread.join().unwrap_or_else(|_| not_run("firmcastd has a bug"))
    }
}

fn not_run(why: impl Display) -> Programs {
    Programs { failed: true, told: format!("the administrator's programs were not run: {why}") }
}

impl Driver {
    fn run(mut self) -> io::Result<Told> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(3);
        poll.registry().register(self.socket.source(), DATAGRAM, Interest::READABLE)?;
        let signals = told_to_end()?;
        let descriptor = signals.as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), SIGNALS, Interest::READABLE)?;
        while !(self.is_told_to_end && self.may_end()) {
            self.start_programs(poll.registry());
            helper::hang_up();
            // Nothing is awaited but datagrams and the signal, unless the chip is being read to
            // answer the next question.
            let is_busy = self.is_behind || self.system.is_looking();
            let timeout = is_busy.then_some(Duration::ZERO);
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            while let Some(signal) = signals.read_signal()? {
                if signal.ssi_signo == Signal::SIGTERM as u32 {
                    self.system.confirm_stay();
                    return Ok(Told::End);
                }
                info!("told to read the settings again");
                self.is_told_to_end = true;
            }
            if events.iter().any(|event| event.token() == PROGRAMS) {
                self.end_programs();
            }
            self.receive();
            self.system.look_on();
        }
        Ok(Told::StartAgain)
    }

    /// Takes datagrams until the socket has no more, because it tells of new ones only then, or
    /// until it is the turn of other things.
    fn receive(&mut self) {
        let mut buffer = [0; DATAGRAM_SIZE_MAX];
        let mut errors = 0;
        self.is_behind = false;
        for _ in 0..RECEIVE_MAX {
            match self.socket.receive(self.now(), &mut buffer) {
                Ok(Some((length, from))) if length < buffer.len() => {
                    errors = 0;
                    self.handle(from, &buffer[..length]);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    errors += 1;
                    if errors == RECEIVE_ERRORS_MAX {
                        return warn!("cannot receive: {error}");
                    }
                }
            }
        }
        self.is_behind = true;
    }

    fn handle(&mut self, from: SocketAddr, datagram: &[u8]) {
        let now = self.now();
        self.agent.handle_datagram(now, from, datagram, &mut self.system);
        self.send();
        match self.agent.poll_action() {
            Some(Action::EnterRecovery) => self.enter_recovery(),
            None => {}
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// What the socket does not take is lost, as it might be on the way: whoever waits for it asks
    /// again.
    fn send(&mut self) {
        while let Some(transmit) = self.agent.poll_transmit() {
            let _ = self.socket.send(transmit.to, &transmit.bytes);
        }
    }

    fn may_end(&self) -> bool {
        self.running.is_none() && self.agent.may_end(self.now())
    }

    fn start_programs(&mut self, registry: &Registry) {
        while let Some(job) = self.system.take_job() {
            match Running::start(job, registry) {
                Ok(running) => self.running = Some(running),
                Err(error) => self.programs_said(not_run(error)),
            }
        }
    }

    fn end_programs(&mut self) {
        if let Some(running) = self.running.take() {
            self.programs_said(running.said());
        }
    }

    fn programs_said(&mut self, said: Programs) {
        match self.system.programs_ended(said, self.agent.entering()) {
            Then::Nothing => {}
            Then::Enter => self.start_recovery(),
            Then::Refuse(refusal) => self.refuse(&refusal),
        }
    }

    /// Programs of the administrator run first, where there are any.
    fn enter_recovery(&mut self) {
        match self.system.begin_programs() {
            Ok(true) => {}
            Ok(false) => self.start_recovery(),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// With systemd this asks for an orderly shutdown, and the agent goes on to answer until it is
    /// stopped.
    fn start_recovery(&mut self) {
        info!("entering the recovery environment");
        if let Err(failure) = kexec::start() {
            let refusal = Refusal::new(Reason::KexecUnavailable, with_causes(&failure));
            error!("{refusal}");
            if let Some(refusal) = self.system.not_entered(refusal) {
                self.refuse(&refusal);
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        let now = self.now();
        self.agent.recovery_failed(now, refusal, &mut self.system);
        self.send();
    }
}
