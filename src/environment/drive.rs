//! The loop of the recovery environment: one socket, one flash chip, one state machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, warn};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use rand_core::{OsRng, RngCore as _};

use super::errand::RecoveryError;
use super::screen::Screen;
use crate::mtd::{Access, Holders, MtdDevice, MtdInfo};
use crate::net::udp::{self, UdpOptions};
use crate::platform::{NetworkUp, Platform, chain};
use crate::reason::{Reason, Refusal};
use crate::recovery::flashing::Flashing;
use crate::recovery::machine::Action as CampaignAction;
use crate::rescue::machine::{Action, Conclusion, Rescue};
use crate::rescue::seek::{Candidate, Source};
use crate::time::Time;

/// Kernel buffer of the socket: what may arrive while an eraseblock is erased.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Most datagrams taken before timers and the flash job get their turn.
const RECEIVE_BATCH_MAX: usize = 256;
/// Largest UDP payload.
const DATAGRAM_SIZE_MAX: usize = 65_535;
/// The watchdog is looked after at least this often.
const WATCHDOG_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Pause after an error of the loop itself.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// How the host listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening {
    /// UDP port.
    pub(crate) port: u16,
    /// The manager's family; none: that of the host's own address.
    pub(crate) is_ipv6: Option<bool>,
    /// Whether everything goes through the network's interface: a broadcast has no other way to find it.
    pub(crate) bound: bool,
}

/// Looks up a place that may know managers.
pub(crate) trait LookUp {
    /// Looks for another network when this one has led to nobody for long; gives it back when it is up.
    fn renew_network(&mut self, platform: &mut Platform) -> Option<NetworkUp>;

    /// What the place knows, or why it says nothing.
    fn look_up(
        &mut self,
        platform: &mut Platform,
        source: Source,
    ) -> Result<Vec<Candidate>, String>;
}

/// One stay in the recovery environment.
pub(crate) struct Stay<'a> {
    pub(crate) platform: &'a mut Platform,
    /// The MTD device to write, by name or path.
    pub(crate) flash: &'a str,
    pub(crate) started: Instant,
    pub(crate) network: NetworkUp,
    pub(crate) screen: &'a mut Screen,
    pub(crate) places: &'a mut dyn LookUp,
    pub(crate) rescue: Rescue,
    listening: Listening,
    poll: Poll,
    /// None for a moment, between two networks.
    socket: Option<UdpSocket>,
    job: Option<(Flashing, MtdDevice)>,
    buffer: Vec<u8>,
}

/// What a [`Stay`] is made of.
pub(crate) struct Surroundings<'a> {
    pub(crate) platform: &'a mut Platform,
    pub(crate) flash: &'a str,
    pub(crate) started: Instant,
    pub(crate) network: NetworkUp,
    pub(crate) screen: &'a mut Screen,
    pub(crate) places: &'a mut dyn LookUp,
}

impl<'a> Stay<'a> {
    /// Begins to listen.
    pub(crate) fn begin(
        around: Surroundings<'a>,
        rescue: Rescue,
        listening: Listening,
    ) -> Result<Self, RecoveryError> {
        let poll = Poll::new().map_err(RecoveryError::Wait)?;
        let socket = Some(open(listening, &around.network, &poll)?);
        let Surroundings { platform, flash, started, network, screen, places } = around;
        let buffer = vec![0; DATAGRAM_SIZE_MAX];
        Ok(Self {
            platform,
            flash,
            started,
            network,
            screen,
            places,
            rescue,
            listening,
            poll,
            socket,
            job: None,
            buffer,
        })
    }

    /// Goes on until the stay is over.
    pub(crate) fn run(&mut self) -> Conclusion {
        let mut events = Events::with_capacity(4);
        loop {
            self.platform.watchdog().feed();
            self.platform.tell_held_off();
            self.rescue.handle_timeout(self.now());
            self.receive();
            self.flash();
            self.transmit();
            while let Some(action) = self.rescue.poll_action(self.now()) {
                self.transmit();
                match action {
                    Action::LookUp(source) => self.look_up(source),
                    Action::Campaign(action) => self.act(action),
                    Action::Conclude(conclusion) => return conclusion,
                }
            }
            self.transmit();
            self.screen.show(&self.rescue.situation());
            match self.poll.poll(&mut events, Some(self.patience())) {
                // The loop goes on whatever happens: only the state machine knows whether a reboot is safe.
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    error!("cannot wait for datagrams: {error}");
                    std::thread::sleep(ERROR_PAUSE);
                }
                _ => self.platform.reap(),
            }
        }
    }

    fn now(&self) -> Time {
        elapsed(self.started)
    }

    /// How long to wait for the next datagram.
    fn patience(&self) -> Duration {
        if self.job.as_ref().is_some_and(|(flashing, _)| !flashing.waits()) {
            return Duration::ZERO;
        }
        let timer = self.rescue.poll_timeout().map_or(Duration::MAX, |at| at.since(self.now()));
        // Rounded up to what epoll counts in, so that it does not wake up just too early.
        let timer = timer.saturating_add(Duration::from_micros(999));
        timer.min(WATCHDOG_INTERVAL_MAX)
    }

    fn receive(&mut self) {
        for _ in 0..RECEIVE_BATCH_MAX {
            let Some(socket) = &self.socket else { return };
            match socket.recv_from(&mut self.buffer) {
                Ok((size, from)) => {
                    let now = self.now();
                    self.rescue.handle_datagram(now, from, &self.buffer[..size]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A message that bounced, or an interface that went away: both show again in silence.
                Err(_) => continue,
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.rescue.poll_transmit() {
            // What cannot leave is lost, as it might have been on the way; it is repeated.
            let _ = self.socket.as_ref().map(|socket| socket.send_to(&transmit.bytes, transmit.to));
        }
    }

    fn look_up(&mut self, source: Source) {
        self.screen.show(&self.rescue.situation());
        if source == Source::Stored
            && let Some(network) = self.places.renew_network(self.platform)
        {
            self.move_to(network);
        }
        self.listen();
        let found = self.places.look_up(self.platform, source);
        self.platform.watchdog().feed();
        self.rescue.found(self.now(), source, found);
    }

    /// Goes on in another network.
    fn move_to(&mut self, network: NetworkUp) {
        // The port is free for the next socket only when this one is gone.
        self.socket = None;
        self.screen.set_network(&network);
        self.network = network;
    }

    /// Listens, unless it does so already.
    fn listen(&mut self) {
        if self.socket.is_some() {
            return;
        }
        match open(self.listening, &self.network, &self.poll) {
            Ok(socket) => self.socket = Some(socket),
            // Tried again in the next round.
            Err(error) => error!("{}", chain(&error)),
        }
    }

    fn flash(&mut self) {
        let now = self.now();
        let Some((flashing, device)) = &mut self.job else { return };
        let Some(recovery) = self.rescue.recovery() else { return };
        let (platform, chip) = (&mut *self.platform, recovery.report().ending.flash);
        let before_change = || platform.before_first_erase(chip).map_err(|error| chain(&error));
        if !flashing.step(now, device, recovery, before_change) {
            let is_safe = recovery.report().ending.flash.reboot_is_safe();
            warn_of_users(device.info());
            self.job = None;
            self.transmit();
            if is_safe {
                self.platform.after_safe_end();
            }
        }
    }

    fn act(&mut self, action: CampaignAction) {
        match action {
            CampaignAction::JoinGroup(group) => self.join_group(group),
            CampaignAction::Flash { image, rescue } => {
                let flashing = Flashing::new(image, rescue);
                match MtdDevice::open(self.flash, Access::Exclusive) {
                    Ok(device) => self.job = Some((flashing, device)),
                    Err(error) => {
                        let now = self.now();
                        let end = flashing.not_started(error.reason(), &chain(&error));
                        if let Some(recovery) = self.rescue.recovery() {
                            recovery.flash_ended(now, end);
                        }
                    }
                }
            }
            CampaignAction::Leave(_) => {}
        }
    }

    fn join_group(&mut self, group: IpAddr) {
        let own = self.network.addresses.iter().find_map(|address| match address.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let Some(socket) = &self.socket else { return };
        if let Err(error) = udp::join_group(socket, group, own, Some(self.network.index)) {
            let now = self.now();
            let refusal = Refusal::new(Reason::NetworkUnavailable, chain(&error));
            if let Some(recovery) = self.rescue.recovery() {
                recovery.give_up(now, &refusal);
            }
        }
    }
}

/// Time since the environment came up.
pub(crate) fn elapsed(started: Instant) -> Time {
    Time::ZERO + started.elapsed()
}

/// Randomness from the kernel.
///
/// # Errors
/// [`RecoveryError::Random`].
pub(crate) fn seed() -> Result<[u8; 32], RecoveryError> {
    let mut seed = [0; 32];
    OsRng.try_fill_bytes(&mut seed).map_err(RecoveryError::Random)?;
    Ok(seed)
}

/// What has opened the chip while it was written. Its contents were compared after the last write, but may change again.
fn warn_of_users(chip: &MtdInfo) {
    match Holders::users(Path::new("/"), chip) {
        Ok(Holders { first: Some(held), .. }) => warn!("{held}, since the flashing began"),
        Ok(_) => {}
        Err(error) => warn!("{}", chain(&error)),
    }
}

/// The socket of a network, which wakes `poll` up.
fn open(
    listening: Listening,
    network: &NetworkUp,
    poll: &Poll,
) -> Result<UdpSocket, RecoveryError> {
    let any = match listening.is_ipv6.unwrap_or(network.is_ipv6()) {
        false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let options = UdpOptions {
        receive_buffer_bytes: Some(RECEIVE_BUFFER_BYTES),
        interface: listening.bound.then(|| network.interface.clone()),
        ..UdpOptions::at(SocketAddr::new(any, listening.port))
    };
    let mut socket = udp::open(&options).map_err(RecoveryError::Net)?;
    poll.registry()
        .register(&mut socket, Token(0), Interest::READABLE)
        .map_err(RecoveryError::Wait)?;
    Ok(socket)
}
