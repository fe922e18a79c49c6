//! Waiting for the socket and for signals.

use std::io;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use firmcast::time::Time;
use mio::event::Source;
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsRawFd as _;

use super::stderr;

const SOCKET: Token = Token(0);
const SIGNALS: Token = Token(1);
const OTHER: Token = Token(2);

/// Signals by which an operator, a terminal or a service manager asks to stop.
const STOP_SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The signal by which a program that keeps the files of a service has it read them again.
const REFRESH: Signal = Signal::SIGUSR1;

/// The one place where the manager waits; it also owns the clock.
pub(crate) struct Waiter {
    poll: Poll,
    events: Events,
    signals: Option<SignalFd>,
    origin: Instant,
}

/// Signals that came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signals {
    /// Stop.
    pub(crate) stops: u32,
    /// The terminal is gone; to a daemon: read the files again.
    pub(crate) hangups: u32,
    /// Read the files again, and nothing more. Only who asks for it by [`Waiter::heed_refreshes`]
    /// hears it; others are ended by it.
    pub(crate) refreshes: u32,
}

impl Waiter {
    /// Watches `socket`. With `catch_signals`, signals to stop are counted by
    /// [`Waiter::stop_requests`] instead of ending the process.
    pub(crate) fn new(socket: &mut UdpSocket, catch_signals: bool) -> anyhow::Result<Self> {
        let poll = Poll::new().context("cannot wait for events")?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(socket, SOCKET, interest).context("cannot watch the socket")?;
        let signals = if catch_signals { Some(watch_signals(&poll)?) } else { None };
        Ok(Self { poll, events: Events::with_capacity(8), signals, origin: Instant::now() })
    }

    /// The present time.
    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// Waits until the socket or a signal has news, at most until `until`.
    pub(crate) fn wait(&mut self, until: Time) -> anyhow::Result<()> {
        let timeout = until.since(self.now()).min(Duration::from_secs(3600));
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            waited => waited.context("cannot wait for events"),
        }
    }

    /// Counts signals to refresh as well, if signals are caught at all.
    pub(crate) fn heed_refreshes(&mut self) -> anyhow::Result<()> {
        let Some(signals) = &mut self.signals else { return Ok(()) };
        let set = caught(true);
        set.thread_block().context("cannot block signals")?;
        signals.set_mask(&set).context("cannot watch signals")
    }

    /// Wakes up for this too.
    pub(crate) fn watch(&self, source: &mut impl Source, interest: Interest) -> anyhow::Result<()> {
        self.poll.registry().register(source, OTHER, interest).context("cannot watch a socket")
    }

    /// How many signals to stop have come since the last call.
    pub(crate) fn stop_requests(&mut self) -> anyhow::Result<u32> {
        let Signals { stops, hangups, .. } = self.signals()?;
        if hangups > 0 {
            stderr::wants_end();
        }
        Ok(stops + hangups)
    }

    /// Which signals have come since the last call.
    pub(crate) fn signals(&mut self) -> anyhow::Result<Signals> {
        let mut came = Signals::default();
        let Some(signals) = &mut self.signals else { return Ok(came) };
        loop {
            match signals.read_signal() {
                Ok(Some(signal)) if signal.ssi_signo == Signal::SIGHUP as u32 => came.hangups += 1,
                Ok(Some(signal)) if signal.ssi_signo == REFRESH as u32 => came.refreshes += 1,
                Ok(Some(_)) => {
                    came.stops += 1;
                    stderr::wants_end();
                }
                Ok(None) | Err(Errno::EAGAIN) => return Ok(came),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot read signals"),
            }
        }
    }
}

fn caught(refreshes: bool) -> SigSet {
    STOP_SIGNALS.into_iter().chain(refreshes.then_some(REFRESH)).collect()
}

fn watch_signals(poll: &Poll) -> anyhow::Result<SignalFd> {
    let set = caught(false);
    set.thread_block().context("cannot block signals")?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("cannot watch signals")?;
    let descriptor = signals.as_raw_fd();
    let mut source = SourceFd(&descriptor);
    poll.registry()
        .register(&mut source, SIGNALS, Interest::READABLE)
        .context("cannot watch signals")?;
    Ok(signals)
}
