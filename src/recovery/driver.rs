//! The recovery environment on the real machine: handoff, network, one socket, one flash chip, one loop.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use rand_core::{OsRng, RngCore};

use super::flashing::Flashing;
use super::machine::{Action, Mission, Recovery};
use super::mailbox;
use super::platform::{self, Ending, NetworkUp, Platform, PlatformError, chain};
use crate::dmi::Dmi;
use crate::image::Board;
use crate::kexec::{HANDOFF_PATH, Handoff, KexecError};
use crate::keys::{HostSecretKey, KeyError, PublicKey as _, SecretKey as _};
use crate::mtd::{Access, Holders, MtdDevice, MtdInfo, SYSFS_MTD};
use crate::net::NetError;
use crate::net::udp::{self, UdpOptions};
use crate::reason::{FlashState, Reason, Refusal};
use crate::time::Time;
use crate::wire::answer::{End, Environment, Identity};

/// Kernel buffer of the socket: what may arrive while an eraseblock is erased.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Most datagrams taken before timers and the flash job get their turn.
const RECEIVE_BATCH_MAX: usize = 256;
/// Largest UDP payload.
const DATAGRAM_SIZE_MAX: usize = 65_535;
/// How long the flash chip's driver is waited for.
const FLASH_PATIENCE: Duration = Duration::from_secs(30);
/// How long a last message may take to leave before the reboot, and a person to read the console.
const REBOOT_PAUSE: Duration = Duration::from_secs(1);

/// Why the recovery environment cannot do its work. The flash is untouched.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Nobody said what to do.
    #[error(
        "there is no handoff at {HANDOFF_PATH}: this environment is entered by an agent's kexec"
    )]
    NoHandoff,
    /// The handoff could not be read.
    #[error("the handoff cannot be used")]
    Handoff(#[source] KexecError),
    /// A key in the handoff is damaged.
    #[error("a key in the handoff cannot be used")]
    Key(#[source] KeyError),
    /// Mounts, modules, network.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The socket.
    #[error("the UDP socket cannot be used")]
    Net(#[source] NetError),
    /// The event loop.
    #[error("cannot wait for datagrams")]
    Wait(#[source] io::Error),
    /// The random source.
    #[error("the kernel gives no random bytes")]
    Random(#[source] rand_core::Error),
}

/// Runs the recovery environment to its end, which is a reboot. Returns only when even that fails.
///
/// # Errors
/// The kernel's refusal to reboot.
pub fn run() -> Result<Infallible, nix::Error> {
    let started = Instant::now();
    let ended = Platform::start().map_err(RecoveryError::from).and_then(|mut platform| {
        let handoff = read_handoff()?;
        let stay = Stay::begin(started, &mut platform, &handoff);
        let end = stay.map_or_else(|error| failure(&handoff, &error), |mut stay| stay.run());
        leave_word(&handoff, &end);
        Ok(())
    });
    if let Err(error) = ended {
        error!("{}; the flash is untouched", chain(&error));
    }
    std::thread::sleep(REBOOT_PAUSE);
    info!("rebooting");
    platform::end(Ending::Restart)
}

fn read_handoff() -> Result<Handoff, RecoveryError> {
    let handoff = Handoff::read(Path::new(HANDOFF_PATH)).map_err(RecoveryError::Handoff)?;
    handoff.ok_or(RecoveryError::NoHandoff)
}

/// An error before the state machine runs is an end too: nothing was flashed.
fn failure(handoff: &Handoff, error: &RecoveryError) -> End {
    let reason = match error {
        RecoveryError::Platform(PlatformError::NoNetwork { .. }) => Reason::NetworkUnavailable,
        _ => Reason::RecoveryFailed,
    };
    let detail = chain(error);
    error!("{reason}: {detail}; the flash is untouched");
    End { campaign: handoff.campaign, reason, flash: FlashState::Untouched, detail }
}

fn leave_word(handoff: &Handoff, end: &End) {
    let Some(place) = &handoff.result_mailbox else { return };
    let record = mailbox::Record {
        campaign: end.campaign,
        reason: end.reason.code(),
        flash_state: end.flash as u8,
        text: end.detail.clone(),
    };
    match mailbox::deliver(place, &record) {
        Ok(()) => info!("left word for the normal OS: {}", end.reason),
        Err(error) => warn!("cannot leave word for the normal OS: {}", chain(&error)),
    }
}

/// One stay in the recovery environment.
struct Stay<'a> {
    platform: &'a mut Platform,
    flash: &'a str,
    started: Instant,
    network: NetworkUp,
    poll: Poll,
    socket: UdpSocket,
    recovery: Recovery,
    job: Option<(Flashing, MtdDevice)>,
    buffer: Vec<u8>,
}

impl<'a> Stay<'a> {
    fn begin(
        started: Instant,
        platform: &'a mut Platform,
        handoff: &'a Handoff,
    ) -> Result<Self, RecoveryError> {
        disable_ctrl_alt_del();
        let patience = Duration::from_secs(handoff.deadlines.reach_manager_s.into());
        let network = platform.network(&handoff.network, patience)?;
        let flash = find_flash(platform, &handoff.flash)?;
        let mut socket = open_socket(handoff).map_err(RecoveryError::Net)?;
        let poll = Poll::new().map_err(RecoveryError::Wait)?;
        poll.registry()
            .register(&mut socket, Token(0), Interest::READABLE)
            .map_err(RecoveryError::Wait)?;
        let now = elapsed(started);
        let mut recovery = Recovery::new(now, mission(handoff, flash.as_ref())?, seed()?);
        if flash.is_none() {
            recovery.give_up(now, &Refusal::new(Reason::FlashNotFound, &handoff.flash));
        }
        let buffer = vec![0; DATAGRAM_SIZE_MAX];
        let flash = &handoff.flash;
        Ok(Self { platform, flash, started, network, poll, socket, recovery, job: None, buffer })
    }

    fn run(&mut self) -> End {
        let mut events = Events::with_capacity(4);
        loop {
            self.platform.watchdog().feed();
            self.platform.tell_held_off();
            self.recovery.handle_timeout(self.now());
            self.receive();
            self.flash();
            self.transmit();
            while let Some(action) = self.recovery.poll_action() {
                if let Action::Reboot(end) = action {
                    self.transmit();
                    return end;
                }
                self.act(action);
            }
            match self.poll.poll(&mut events, Some(self.patience())) {
                // The loop goes on whatever happens: only the state machine knows whether a reboot is safe.
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    error!("cannot wait for datagrams: {error}");
                    std::thread::sleep(REBOOT_PAUSE);
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
        let timer = self.recovery.poll_timeout().map_or(Duration::MAX, |at| at.since(self.now()));
        // Rounded up to what epoll counts in, so that it does not wake up just too early.
        let timer = timer.saturating_add(Duration::from_micros(999));
        timer.min(WATCHDOG_INTERVAL_MAX)
    }

    fn receive(&mut self) {
        for _ in 0..RECEIVE_BATCH_MAX {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((size, from)) => {
                    let now = self.now();
                    self.recovery.handle_datagram(now, from, &self.buffer[..size]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A message that bounced, or an interface that went away: both show again in silence.
                Err(_) => continue,
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.recovery.poll_transmit() {
            // What cannot leave is lost, as it might have been on the way; it is repeated.
            let _ = self.socket.send_to(&transmit.bytes, transmit.to);
        }
    }

    fn flash(&mut self) {
        let now = self.now();
        let Some((flashing, device)) = &mut self.job else { return };
        let (platform, chip) = (&mut *self.platform, self.recovery.report().flash);
        let before_change = || platform.before_first_erase(chip).map_err(|error| chain(&error));
        if !flashing.step(now, device, &mut self.recovery, before_change) {
            warn_of_users(device.info());
            self.job = None;
            self.transmit();
            if self.recovery.report().flash.reboot_is_safe() {
                self.platform.after_safe_end();
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::JoinGroup(group) => self.join_group(group),
            Action::Flash { image, rescue } => {
                let flashing = Flashing::new(image, rescue);
                match MtdDevice::open(self.flash, Access::Exclusive) {
                    Ok(device) => self.job = Some((flashing, device)),
                    Err(error) => {
                        let now = self.now();
                        self.recovery
                            .flash_ended(now, flashing.not_started(error.reason(), &chain(&error)));
                    }
                }
            }
            Action::Reboot(_) => {}
        }
    }

    fn join_group(&mut self, group: IpAddr) {
        let own = self.network.addresses.iter().find_map(|address| match address.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        if let Err(error) = udp::join_group(&self.socket, group, own, Some(self.network.index)) {
            let now = self.now();
            self.recovery.give_up(now, &Refusal::new(Reason::NetworkUnavailable, chain(&error)));
        }
    }
}

/// The watchdog is looked after at least this often.
const WATCHDOG_INTERVAL_MAX: Duration = Duration::from_secs(5);

fn elapsed(started: Instant) -> Time {
    Time::ZERO + started.elapsed()
}

/// From here on the three keys are a signal that nobody listens to.
fn disable_ctrl_alt_del() {
    if platform::is_init()
        && let Err(error) = nix::sys::reboot::set_cad_enabled(false)
    {
        warn!("ctrl-alt-del may reboot this machine: {error}");
    }
}

/// What has opened the chip while it was written. Its contents were compared after the last write, but may change again.
fn warn_of_users(chip: &MtdInfo) {
    match Holders::users(Path::new("/"), chip) {
        Ok(Holders { first: Some(held), .. }) => warn!("{held}, since the flashing began"),
        Ok(_) => {}
        Err(error) => warn!("{}", chain(&error)),
    }
}

/// The chip that the agent named, waited for as long as its driver may need.
fn find_flash(platform: &mut Platform, selector: &str) -> Result<Option<MtdInfo>, RecoveryError> {
    let find = || MtdInfo::find(Path::new(SYSFS_MTD), selector);
    platform.wait_for(FLASH_PATIENCE, || find().is_ok())?;
    match find() {
        Ok(info) => {
            info!(
                "flash: {} at {}, {:#x} bytes",
                info.name,
                info.path().display(),
                info.size_bytes
            );
            Ok(Some(info))
        }
        Err(error) => {
            error!("{}", chain(&error));
            Ok(None)
        }
    }
}

fn open_socket(handoff: &Handoff) -> Result<UdpSocket, NetError> {
    let any = match handoff.manager.address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let listen = SocketAddr::new(any, handoff.listen_port);
    let receive_buffer_bytes = Some(RECEIVE_BUFFER_BYTES);
    udp::open(&UdpOptions { receive_buffer_bytes, ..UdpOptions::at(listen) })
}

fn mission(handoff: &Handoff, flash: Option<&MtdInfo>) -> Result<Mission, RecoveryError> {
    let dmi = Dmi::read(Path::new("/"));
    let host_key: HostSecretKey = handoff.host_key.expose().parse().map_err(RecoveryError::Key)?;
    let board = Board {
        host: Some(host_key.public().fingerprint()),
        vendor: dmi.vendor.clone(),
        product: dmi.product.clone(),
        bios_version: dmi.bios_version.clone(),
        flash_size_bytes: flash.map_or(0, |flash| flash.size_bytes),
        security_version_floor: handoff.security_version_floor,
    };
    let releases = handoff.trusted_releases.iter().map(|key| key.parse());
    Ok(Mission {
        campaign: handoff.campaign,
        manager: handoff.manager.public_key.parse().map_err(RecoveryError::Key)?,
        manager_address: handoff.manager.address,
        host_key,
        releases: releases.collect::<Result<_, _>>().map_err(RecoveryError::Key)?,
        identity: identity(handoff, flash, &dmi),
        board,
        reach_timeout: Duration::from_secs(handoff.deadlines.reach_manager_s.into()),
        transfer_timeout: Duration::from_secs(handoff.deadlines.transfer_s.into()),
    })
}

fn identity(handoff: &Handoff, flash: Option<&MtdInfo>, dmi: &Dmi) -> Identity {
    Identity {
        environment: Environment::Recovery,
        boot_id: crate::dmi::boot_id(Path::new("/")),
        flash_size_bytes: flash.map_or(0, |flash| flash.size_bytes),
        obstacle: if flash.is_some() { Reason::None } else { Reason::FlashNotFound },
        security_version_floor: handoff.security_version_floor,
        host_name: handoff.host_name.clone(),
        vendor: dmi.vendor.clone(),
        product: dmi.product.clone(),
        bios_version: dmi.bios_version.clone(),
        flash_name: flash.map_or(String::new(), |flash| flash.name.clone()),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        obstacle_detail: String::new(),
        last_end: None,
    }
}

fn seed() -> Result<[u8; 32], RecoveryError> {
    let mut seed = [0; 32];
    OsRng.try_fill_bytes(&mut seed).map_err(RecoveryError::Random)?;
    Ok(seed)
}
