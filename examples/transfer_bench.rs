//! One transfer over real sockets, for benchmarks: the real sessions, sender and receiver, without
//! firmware around them.
//!
//! ```text
//! transfer_bench send --listen ADDRESS:PORT --broadcast ADDRESS:PORT
//!     --first ADDRESS:PORT --hosts N --rate MBIT --file FILE [--polite]
//! transfer_bench receive --listen ADDRESS:PORT --number 1..=N --digest SHA256 --output FILE
//! ```
//! Receivers wait to be called; the first has the address given, each of the others the next one.
//! The sender calls them, lets everyone join, sends the file until each host says that it has
//! verified it, prints one JSON object and ends. A receiver knows the file's digest, as a host does
//! from the manifest, and holds the file in memory; SIGTERM makes it write what it has verified,
//! and end. The keys are fixed: nothing here is secret.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use firmcast::net::batch_receiver::BatchReceiver;
use firmcast::net::batch_sender::{BatchSender, SEND_BATCH_MAX};
use firmcast::net::udp::{self, UdpOptions};
use firmcast::reason::{Ending, FlashState, Reason};
use firmcast::session::{Endpoint, PeerKey, SessionEvent};
use firmcast::time::Time;
use firmcast::transfer::{self, HostId, Receiver, Sender, SenderConfig};
use firmcast::wire::answer::{Answer, Phase, Report};
use firmcast::wire::broadcast::{
    DATAGRAM_SIZE_MAX, FecScheme, GroupKey, TransferParameters, fragment_size_for_mtu,
};
use firmcast::wire::command::Command;
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rand_core::{OsRng, RngCore as _};
use x25519_dalek::{PublicKey, StaticSecret};

const CAMPAIGN: u64 = 0xbe9c;
const MTU: u16 = 1500;
const IPV4_HEADER_SIZE: u16 = 20;
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
const SEND_BUFFER_BYTES: usize = 1 << 20;
const REPORT_INTERVAL_MS: u16 = 250;
/// The wait before the parameters are said again, which doubles: as a campaign does it.
const JOIN_RETRY: Duration = Duration::from_millis(20);
const HOSTS_MAX: u8 = 200;
/// Batches of datagrams that are taken before something else gets its turn.
const BATCHES_MAX: usize = 8;
/// How long to wait when the socket has no room.
const PAUSE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [
            "send",
            "--listen",
            listen,
            "--broadcast",
            to,
            "--first",
            first,
            "--hosts",
            hosts,
            "--rate",
            rate,
            "--file",
            file,
            ref polite @ ..,
        ] if polite.is_empty() || *polite == ["--polite"] => {
            send(listen, to, first, hosts, rate, file, !polite.is_empty())
        }
        [
            "receive",
            "--listen",
            listen,
            "--number",
            number,
            "--digest",
            digest,
            "--output",
            file,
        ] => receive(listen, number, digest, file),
        _ => Err(anyhow::anyhow!("usage: see the first lines of examples/transfer_bench.rs")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transfer_bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Socket, clock, sessions.
struct Station {
    started: Instant,
    socket: UdpSocket,
    poll: Poll,
    events: Events,
    endpoint: Endpoint,
    incoming: BatchReceiver,
    /// Whether the socket may have more datagrams: it tells only of new ones.
    is_behind: bool,
    /// Whether there is something to do that waits for no datagram.
    has_work: bool,
}

impl Station {
    fn open(listen: &str, secret: [u8; 32]) -> anyhow::Result<Self> {
        let listen = listen.parse().context("--listen takes an address and a port")?;
        let mut socket = udp::open(&UdpOptions {
            receive_buffer_bytes: Some(RECEIVE_BUFFER_BYTES),
            send_buffer_bytes: Some(SEND_BUFFER_BYTES),
            ..UdpOptions::at(listen)
        })?;
        let poll = Poll::new()?;
        poll.registry().register(&mut socket, Token(0), Interest::READABLE)?;
        let mut seed = [0; 32];
        OsRng.fill_bytes(&mut seed);
        let endpoint = Endpoint::new(secret, seed);
        let events = Events::with_capacity(4);
        let incoming = BatchReceiver::new(DATAGRAM_SIZE_MAX);
        let (started, is_behind, has_work) = (Instant::now(), false, false);
        Ok(Self { started, socket, poll, events, endpoint, incoming, is_behind, has_work })
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Gives datagrams and sessions to `take` until the socket has no more, or it is the turn of
    /// other things.
    fn receive(&mut self, mut take: impl FnMut(Time, &mut Endpoint, SocketAddr, &[u8])) {
        for _ in 0..BATCHES_MAX {
            let (now, endpoint) = (Time::ZERO + self.started.elapsed(), &mut self.endpoint);
            let take = |from, datagram: &[u8]| take(now, endpoint, from, datagram);
            self.is_behind = self.incoming.receive(&self.socket, take).is_ok();
            if !self.is_behind {
                return;
            }
        }
    }

    fn send_sessions(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let _ = self.socket.send_to(&transmit.bytes, transmit.to);
        }
    }

    fn wait(&mut self, until: Option<Time>) -> anyhow::Result<()> {
        let due = [until, self.endpoint.poll_timeout()].into_iter().flatten().min();
        let wait = match self.is_behind || self.has_work {
            true => Some(Duration::ZERO),
            false => due.map(|due| due.since(self.now())),
        };
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn manager_secret() -> [u8; 32] {
    [255; 32]
}

fn host_secret(number: u8) -> [u8; 32] {
    [number; 32]
}

fn public(secret: [u8; 32]) -> PeerKey {
    *PublicKey::from(&StaticSecret::from(secret)).as_bytes()
}

fn send(
    listen: &str,
    to: &str,
    first: &str,
    hosts: &str,
    rate: &str,
    file: &str,
    is_polite: bool,
) -> anyhow::Result<()> {
    let first: SocketAddrV4 = first.parse().context("--first takes an IPv4 address and a port")?;
    let hosts: u8 = hosts.parse().context("--hosts takes a number")?;
    if hosts > HOSTS_MAX {
        bail!("--hosts takes at most {HOSTS_MAX}");
    }
    let rate_mbit: u64 = rate.parse().context("--rate takes Mbit/s")?;
    let payload = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
    let mut group_key = [0; 32];
    OsRng.fill_bytes(&mut group_key);
    let parameters = TransferParameters {
        campaign: CAMPAIGN,
        group_key: GroupKey::new(group_key),
        payload_size_bytes: u32::try_from(payload.len()).context("the file is too large")?,
        fragment_size_bytes: fragment_size_for_mtu(MTU, IPV4_HEADER_SIZE).context("the MTU")?,
        fec: FecScheme::Fitted,
    };
    let config = SenderConfig { rate_cap_bits_per_s: rate_mbit * 1_000_000, is_polite };
    let mut station = Station::open(listen, manager_secret())?;
    let members = (1..=hosts).map(|number| Member::new(public(host_secret(number)))).collect();
    let source = Source {
        sender: Sender::new(payload, &parameters, config)?,
        parameters,
        members,
        batch: Vec::new(),
        started: None,
        complete: None,
    };
    for (number, member) in (0..).zip(&source.members) {
        let address = Ipv4Addr::from_bits(first.ip().to_bits() + number);
        station.endpoint.connect(Time::ZERO, member.key, (address, first.port()).into());
    }
    source.run(&mut station, to.parse().context("--broadcast takes an address and a port")?)
}

struct Member {
    key: PeerKey,
    /// When the parameters are said again, and how long after that; nothing while there is no
    /// session.
    retry: Option<(Time, Duration)>,
    joined: bool,
    verified: bool,
}

impl Member {
    fn new(key: PeerKey) -> Self {
        Self { key, retry: None, joined: false, verified: false }
    }
}

struct Source {
    sender: Sender,
    parameters: TransferParameters,
    members: Vec<Member>,
    /// What the socket has not taken yet.
    batch: Vec<Vec<u8>>,
    started: Option<Time>,
    /// When a host had its last fragment.
    complete: Option<Time>,
}

impl Source {
    fn run(mut self, station: &mut Station, to: SocketAddr) -> anyhow::Result<()> {
        let mut batches = BatchSender::new();
        while !self.members.iter().all(|member| member.verified) {
            let pause = self.send(station, &mut batches, to)?;
            station.send_sessions();
            self.sender.work();
            let retry = self.members.iter().filter_map(|member| member.retry.map(|(at, _)| at));
            let due = pause.or(self.sender.poll_timeout()).into_iter().chain(retry).min();
            station.wait(due)?;
            station.endpoint.handle_timeout(station.now());
            station.receive(|now, endpoint, from, datagram| {
                self.take(now, endpoint, from, datagram);
            });
            self.say_parameters(station);
            while let Some(event) = self.sender.poll_event() {
                if matches!(event, transfer::TransferEvent::Complete(_)) {
                    self.complete = Some(station.now());
                }
            }
        }
        self.print_figures(station.now());
        Ok(())
    }

    /// Sends what the rate allows; gives the time to go on at when the socket has no room.
    fn send(
        &mut self,
        station: &Station,
        batches: &mut BatchSender,
        to: SocketAddr,
    ) -> anyhow::Result<Option<Time>> {
        let now = station.now();
        loop {
            while self.batch.len() < SEND_BATCH_MAX {
                let Some(datagram) = self.sender.poll_transmit(now) else { break };
                self.batch.push(datagram);
            }
            match batches.send(&station.socket, to, &self.batch) {
                Ok(0) => return Ok(None),
                Ok(count) => drop(self.batch.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(now + PAUSE));
                }
                Err(error) => return Err(error).context("cannot send"),
            }
        }
    }

    fn take(&mut self, now: Time, endpoint: &mut Endpoint, from: SocketAddr, datagram: &[u8]) {
        let event = endpoint.handle_datagram(now, from, datagram);
        let (peer, bytes) = match event {
            Some(SessionEvent::Message { peer, bytes, .. }) => (peer, bytes),
            Some(SessionEvent::Connected { peer, .. }) => (peer, Vec::new()),
            _ => return,
        };
        let Some(index) = self.members.iter().position(|member| member.key == peer) else { return };
        let id = HostId(index as u32);
        if bytes.is_empty() && !self.members[index].joined {
            self.members[index].retry = Some((now, JOIN_RETRY));
        }
        match Answer::parse(&bytes) {
            Ok(Answer::Report(report)) => self.take_report(now, id, report.phase),
            Ok(Answer::FragmentStatus(status)) => {
                let _ = self.sender.handle_status(now, id, &status);
            }
            _ => {}
        }
    }

    /// Says the parameters to those who have not joined.
    fn say_parameters(&mut self, station: &mut Station) {
        let now = station.now();
        for member in &mut self.members {
            let Some((at, wait)) = &mut member.retry else { continue };
            if *at <= now {
                (*at, *wait) = (now + *wait, *wait * 2);
                let join = Command::Join {
                    parameters: self.parameters.clone(),
                    report_interval_ms: REPORT_INTERVAL_MS,
                    group: None,
                    excerpt: None,
                };
                station.endpoint.send(now, &member.key, &join.emit());
            }
        }
    }

    fn take_report(&mut self, now: Time, id: HostId, phase: Phase) {
        let member = &mut self.members[id.0 as usize];
        match phase {
            Phase::Ready => {}
            Phase::Verified => member.verified = true,
            _ if !member.joined => {
                (member.joined, member.retry) = (true, None);
                let _ = self.sender.add_host(now, id);
                if self.members.iter().all(|member| member.joined) {
                    self.started = Some(now);
                    self.sender.start(now);
                }
            }
            _ => {}
        }
    }

    fn print_figures(&self, ended: Time) {
        let stats = self.sender.stats();
        let started = self.started.unwrap_or(ended);
        println!(
            "{{\"join_s\":{:.3},\"complete_s\":{:.3},\"verified_s\":{:.3},\"fragments\":{},\
             \"requests\":{},\"passes\":{},\"stream_bytes\":{}}}",
            started.since(Time::ZERO).as_secs_f64(),
            self.complete.unwrap_or(ended).since(started).as_secs_f64(),
            ended.since(started).as_secs_f64(),
            stats.fragments,
            stats.requests,
            stats.passes,
            stats.wire_bytes,
        );
    }
}

fn receive(listen: &str, number: &str, digest: &str, file: &str) -> anyhow::Result<()> {
    let number: u8 = number.parse().context("--number takes a number")?;
    let mut station = Station::open(listen, host_secret(number))?;
    let mut sink = Sink {
        manager: public(manager_secret()),
        digest: digest.to_owned(),
        seed: OsRng.next_u64(),
        receiver: None,
        verified: None,
        report_at: Time::ZERO,
    };
    station.endpoint.allow(sink.manager);
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    end.thread_block()?;
    let end = SignalFd::with_flags(&end, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let told = SourceFd(&end.as_raw_fd());
    station.poll.registry().register(&mut { told }, Token(1), Interest::READABLE)?;
    while end.read_signal()?.is_none() {
        station.receive(|now, endpoint, from, datagram| sink.take(now, endpoint, from, datagram));
        station.endpoint.handle_timeout(station.now());
        sink.verify(&station)?;
        sink.speak(&mut station);
        sink.work(&mut station);
        station.send_sessions();
        station.wait(Some(sink.poll_timeout()))?;
    }
    sink.write(file)
}

struct Sink {
    manager: PeerKey,
    /// SHA-256 of the file, in hexadecimal digits.
    digest: String,
    seed: u64,
    receiver: Option<Receiver>,
    /// The file.
    verified: Option<Vec<u8>>,
    report_at: Time,
}

impl Sink {
    fn take(&mut self, now: Time, endpoint: &mut Endpoint, from: SocketAddr, datagram: &[u8]) {
        match (datagram.first(), &mut self.receiver) {
            (Some(6 | 7), Some(receiver)) => {
                receiver.handle_datagram(now, datagram);
            }
            (Some(6 | 7), None) => {}
            _ => match endpoint.handle_datagram(now, from, datagram) {
                Some(SessionEvent::Connected { .. }) => self.report_at = now,
                Some(SessionEvent::Message { bytes, .. }) => self.join(now, &bytes),
                Some(SessionEvent::StaleCall { .. } | SessionEvent::Incompatible { .. }) | None => {
                }
            },
        }
    }

    /// Parameters that no receiver takes get no answer, and the sender is stopped from outside.
    fn join(&mut self, now: Time, message: &[u8]) {
        let Ok(Command::Join { parameters, .. }) = Command::parse(message) else { return };
        if self.receiver.is_none() {
            self.receiver = Receiver::new(&parameters, self.seed).ok();
            self.report_at = now;
        }
    }

    fn verify(&mut self, station: &Station) -> anyhow::Result<()> {
        let Some(receiver) = &mut self.receiver else { return Ok(()) };
        if self.verified.is_none() && receiver.is_complete() {
            let payload = receiver.take_payload()?;
            let digest: String = payload.digest.iter().map(|byte| format!("{byte:02x}")).collect();
            if digest != self.digest {
                bail!("the payload is not what the sender has read");
            }
            self.verified = Some(payload.bytes);
            self.report_at = station.now();
        }
        Ok(())
    }

    /// As a host does: while no datagram waits.
    fn work(&mut self, station: &mut Station) {
        let receiver = self.receiver.as_mut().filter(|_| !station.is_behind);
        let now = station.now();
        station.has_work = receiver.is_some_and(|receiver| receiver.work(now));
    }

    fn write(&self, file: &str) -> anyhow::Result<()> {
        let Some(bytes) = &self.verified else { return Ok(()) };
        std::fs::write(file, bytes).context("cannot write the file")
    }

    fn speak(&mut self, station: &mut Station) {
        let now = station.now();
        if let Some(status) = self.receiver.as_mut().and_then(|receiver| receiver.poll_status(now))
        {
            station.endpoint.send(now, &self.manager, &Answer::FragmentStatus(status).emit());
        }
        if self.report_at <= now {
            station.endpoint.send(now, &self.manager, &self.report().emit());
            self.report_at = now + Duration::from_millis(REPORT_INTERVAL_MS.into());
        }
    }

    fn report(&self) -> Answer {
        let progress = self.receiver.as_ref().map(Receiver::progress);
        let (done, total) = progress.unwrap_or_default();
        let phase = match progress {
            None => Phase::Ready,
            Some(_) if self.verified.is_some() => Phase::Verified,
            Some(_) => Phase::Receiving,
        };
        Answer::Report(Report {
            campaign: CAMPAIGN,
            phase,
            ending: Ending::new(Reason::None, FlashState::UNTOUCHED, ""),
            done,
            total,
            digests: None,
            lacking: None,
        })
    }

    fn poll_timeout(&self) -> Time {
        let answer = self.receiver.as_ref().and_then(Receiver::poll_timeout);
        answer.map_or(self.report_at, |answer| answer.min(self.report_at))
    }
}
