//! The loop of the recovery environment: one socket, one flash chip, one state machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, warn};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use rand_core::{OsRng, RngCore as _};

use super::error::EnvironmentError;
use super::screen::Screen;
use super::sources::Places;
use super::stay::{Conclusion, Stay, StayAction};
use crate::flash::read_twice;
use crate::image::VerifiedImage;
use crate::mtd::{Access, Chip, ChipInfo, Holders};
use crate::net::batch_receiver::BatchReceiver;
use crate::net::udp::{self, UdpOptions};
use crate::platform::{NetworkUp, Platform};
use crate::reason::{FlashState, Reason, Refusal, with_causes};
use crate::recovery::flashing::Flashing;
use crate::rescue::seek::Source;
use crate::time::Time;
use crate::wire::broadcast::DATAGRAM_SIZE_MAX;

/// Kernel buffer of the socket: what may arrive while an eraseblock is erased.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Maximum number of batches of datagrams taken before timers and the flash job get their turn.
const RECEIVE_BATCHES_MAX: usize = 8;
/// The watchdog is looked after at least this often.
const WATCHDOG_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Pause after an error of the loop itself.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// How the host listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    /// UDP port.
    pub(super) port: u16,
    /// The manager's family; none: that of the host's own address.
    pub(super) is_ipv6: Option<bool>,
    /// Whether everything goes through the network's interface: a broadcast has no other way to
    /// find it.
    pub(super) bound: bool,
}

/// What a stay has around it.
pub(super) struct Surroundings<'a> {
    pub(super) platform: &'a mut Platform,
    /// The MTD device to write, by name or path.
    pub(super) flash: &'a str,
    pub(super) started: Instant,
    pub(super) places: &'a mut Places,
    /// None: the consoles are left to the log.
    pub(super) screen: Option<&'a mut Screen>,
}

/// Runs `stay` to its end.
///
/// # Errors
/// [`EnvironmentError`] when it cannot even begin; from then on the loop goes on whatever happens.
pub(super) fn drive(
    around: Surroundings<'_>,
    stay: Stay,
    listening: Listening,
) -> Result<Conclusion, EnvironmentError> {
    let poll = Poll::new().map_err(EnvironmentError::Wait)?;
    let socket = Some(open(listening, around.places.network(), &poll)?);
    let incoming = BatchReceiver::new(DATAGRAM_SIZE_MAX);
    let driver = Driver {
        around,
        stay,
        listening,
        poll,
        socket,
        job: None,
        to_read: None,
        incoming,
        is_behind: false,
        has_work: false,
    };
    Ok(driver.run())
}

struct Driver<'a> {
    around: Surroundings<'a>,
    stay: Stay,
    listening: Listening,
    poll: Poll,
    /// None for a moment, between two networks.
    socket: Option<UdpSocket>,
    job: Option<(Flashing, Chip)>,
    /// What of the chip is to be read for the campaign.
    to_read: Option<(usize, Range<u64>)>,
    incoming: BatchReceiver,
    /// Whether the socket may have more datagrams: it tells only of new ones.
    is_behind: bool,
    /// Whether there is more to do for the image before all of it has arrived.
    has_work: bool,
}

impl Driver<'_> {
    /// Goes on until the stay is over.
    fn run(mut self) -> Conclusion {
        let mut events = Events::with_capacity(4);
        loop {
            self.around.platform.watchdogs().feed();
            self.around.platform.tell_held_off();
            self.stay.handle_timeout(self.now());
            self.receive();
            self.read_piece();
            self.flash();
            self.transmit();
            while let Some(action) = self.stay.poll_action(self.now()) {
                self.transmit();
                match action {
                    StayAction::LookUp(source) => self.look_up(source),
                    StayAction::JoinGroup(group) => self.join_group(group),
                    StayAction::ReadPiece { piece, range } => self.to_read = Some((piece, range)),
                    StayAction::Flash { image, flash, drill } => {
                        self.begin_job(image, flash, drill);
                    }
                    StayAction::Conclude(conclusion) => return conclusion,
                }
            }
            self.transmit();
            self.show();
            self.work();
            match self.poll.poll(&mut events, Some(self.patience())) {
                // The loop goes on whatever happens: only the state machine knows whether a reboot
                // is safe.
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    error!("cannot wait for datagrams: {error}");
                    std::thread::sleep(ERROR_PAUSE);
                }
                _ => self.around.platform.reap(),
            }
        }
    }

    fn now(&self) -> Time {
        elapsed(self.around.started)
    }

    /// How long to wait for the next datagram.
    fn patience(&self) -> Duration {
        let flashes = self.job.as_ref().is_some_and(|(flashing, _)| !flashing.waits());
        if flashes || self.is_behind || self.has_work || self.to_read.is_some() {
            return Duration::ZERO;
        }
        let timer = self.stay.poll_timeout().map_or(Duration::MAX, |at| at.since(self.now()));
        // Rounded up to what epoll counts in, so that it does not wake up just too early.
        let timer = timer.saturating_add(Duration::from_micros(999));
        timer.min(WATCHDOG_INTERVAL_MAX)
    }

    /// Takes datagrams until the socket has no more, or it is the turn of other things.
    fn receive(&mut self) {
        self.is_behind = false;
        for _ in 0..RECEIVE_BATCHES_MAX {
            let now = self.now();
            let Some(socket) = &self.socket else { return };
            let take = |from, datagram: &[u8]| self.stay.handle_datagram(now, from, datagram);
            match self.incoming.receive(socket, take) {
                Ok(()) => self.is_behind = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_behind = false;
                    return;
                }
                // A message that bounced, or an interface that went away: both show again in
                // silence.
                Err(_) => self.is_behind = false,
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.stay.poll_transmit() {
            // What cannot leave is lost, as it might have been on the way; it is repeated.
            let _ = self.socket.as_ref().map(|socket| socket.send_to(&transmit.bytes, transmit.to));
        }
    }

    fn look_up(&mut self, source: Source) {
        self.show();
        let Surroundings { platform, places, screen, .. } = &mut self.around;
        if source == Source::Stored && places.renew_network(platform) {
            // The port is free for the next socket only when this one is gone.
            self.socket = None;
            if let Some(screen) = screen {
                screen.set_network(places.network());
            }
        }
        self.listen();
        let found = self.around.places.look_up(self.around.platform, source);
        self.around.platform.watchdogs().feed();
        self.stay.found(self.now(), source, found);
    }

    fn show(&mut self) {
        if let Some(screen) = &mut self.around.screen {
            screen.show(&self.stay.situation());
        }
    }

    /// Listens, unless it does so already.
    fn listen(&mut self) {
        if self.socket.is_some() {
            return;
        }
        match open(self.listening, self.around.places.network(), &self.poll) {
            Ok(socket) => self.socket = Some(socket),
            // Tried again in the next round.
            Err(error) => error!("{}", with_causes(&error)),
        }
    }

    /// Reads what the campaign wants of the chip, between two batches of datagrams.
    fn read_piece(&mut self) {
        let Some((piece, range)) = self.to_read.take() else { return };
        let read = match Chip::open(self.around.flash, Access::ReadOnly) {
            Ok(mut chip) => read_twice(&mut chip, range),
            Err(error) => {
                warn!("{}", with_causes(&error));
                None
            }
        };
        let now = self.now();
        if let Some(recovery) = self.stay.recovery() {
            recovery.piece_read(now, piece, read);
        }
    }

    /// Prepares what has arrived of the image while no datagram waits.
    fn work(&mut self) {
        let (now, waits) = (self.now(), self.is_behind || self.job.is_some());
        let recovery = self.stay.recovery().filter(|_| !waits);
        self.has_work = recovery.is_some_and(|recovery| recovery.work(now));
    }

    fn flash(&mut self) {
        let now = self.now();
        let Some((flashing, device)) = &mut self.job else { return };
        let Some(recovery) = self.stay.recovery() else { return };
        let (platform, chip) = (&mut *self.around.platform, recovery.report().ending.flash);
        let before_change = || {
            platform
                .before_first_erase(chip)
                .map_err(|error| Refusal::new(error.reason(), with_causes(&error)))
        };
        if !flashing.step(now, device, recovery, before_change) {
            let is_safe = recovery.report().ending.flash.reboot_is_safe();
            warn_of_users(device.info());
            self.job = None;
            self.transmit();
            if is_safe {
                self.around.platform.after_safe_end();
            }
        }
    }

    fn begin_job(&mut self, image: VerifiedImage, flash: FlashState, drill: bool) {
        // The kernel keeps a drill from changing the chip, too.
        let (flashing, access) = match drill {
            true => (Flashing::drill(image, flash), Access::ReadOnly),
            false => (Flashing::new(image, flash), Access::Exclusive),
        };
        match Chip::open(self.around.flash, access) {
            Ok(device) => self.job = Some((flashing, device)),
            Err(error) => {
                let now = self.now();
                let end = flashing.not_started(error.reason(), &with_causes(&error));
                if let Some(recovery) = self.stay.recovery() {
                    recovery.flash_ended(now, end);
                }
            }
        }
    }

    fn join_group(&mut self, group: IpAddr) {
        let network = self.around.places.network();
        let own = network.addresses.iter().find_map(|address| match address.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let Some(socket) = &self.socket else { return };
        if let Err(error) = udp::join_group(socket, group, own, Some(network.index)) {
            let now = self.now();
            let refusal = Refusal::new(Reason::NetworkUnavailable, with_causes(&error));
            if let Some(recovery) = self.stay.recovery() {
                recovery.give_up(now, &refusal);
            }
        }
    }
}

/// Time since the environment came up.
pub(super) fn elapsed(started: Instant) -> Time {
    Time::ZERO + started.elapsed()
}

/// Randomness from the kernel.
///
/// # Errors
/// [`EnvironmentError::Random`].
pub(super) fn seed() -> Result<[u8; 32], EnvironmentError> {
    let mut seed = [0; 32];
    OsRng.try_fill_bytes(&mut seed).map_err(EnvironmentError::Random)?;
    Ok(seed)
}

/// What has opened the chip while it was written. Its contents were compared after the last write,
/// but may change again.
fn warn_of_users(chip: &ChipInfo) {
    match Holders::users(Path::new("/"), chip.devices()) {
        Ok(Holders { first: Some(held), .. }) => warn!("{held}, since the flashing began"),
        Ok(_) => {}
        Err(error) => warn!("{}", with_causes(&error)),
    }
}

/// The socket of a network, which wakes `poll` up.
fn open(
    listening: Listening,
    network: &NetworkUp,
    poll: &Poll,
) -> Result<UdpSocket, EnvironmentError> {
    let any = match listening.is_ipv6.unwrap_or(network.is_ipv6()) {
        false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let options = UdpOptions {
        receive_buffer_bytes: Some(RECEIVE_BUFFER_BYTES),
        interface: listening.bound.then(|| network.interface.clone()),
        ..UdpOptions::at(SocketAddr::new(any, listening.port))
    };
    let mut socket = udp::open(&options).map_err(EnvironmentError::Net)?;
    poll.registry()
        .register(&mut socket, Token(0), Interest::READABLE)
        .map_err(EnvironmentError::Wait)?;
    Ok(socket)
}
