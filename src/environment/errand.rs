//! What the recovery environment is started for: by an agent's handoff for a campaign, or by itself.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::drive::{Listening, LookUp, Stay, Surroundings, elapsed, seed};
use super::screen::Screen;
use crate::dmi::Dmi;
use crate::handover::{HANDOFF_PATH, Handoff, HandoverError, MailboxPlace};
use crate::keys::{HostSecretKey, KeyError, PublicKey as _, SecretKey as _};
use crate::mailbox;
use crate::mtd::{MtdInfo, SYSFS_MTD};
use crate::net::NetError;
use crate::platform::{self, Ending, NetworkUp, Platform, PlatformError, chain};
use crate::reason::{Condition, FlashState, Reason, Refusal};
use crate::recovery::machine::Mission;
use crate::rescue::machine::{Conclusion, Rescue};
use crate::rescue::seek::{Candidate, Source};
use crate::wire::answer::{End, Environment, Identity};

/// How long the flash chip's driver is waited for.
const FLASH_PATIENCE: Duration = Duration::from_secs(30);
/// How long a person has to read why the environment cannot even begin.
const ERROR_PAUSE: Duration = Duration::from_secs(60);
/// How long a last message may take to leave before the reboot, and a person to read the console.
const REBOOT_PAUSE: Duration = Duration::from_secs(1);

/// Why the recovery environment cannot do its work. The flash is untouched.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The handoff could not be read.
    #[error("the handoff cannot be used")]
    Handoff(#[source] HandoverError),
    /// Nobody handed anything over, and nothing was built in either.
    #[error("nothing was handed over, and the provision of this environment cannot be used")]
    Provision(#[source] HandoverError),
    /// A key in the handoff or provision is damaged.
    #[error("a key in the handoff or provision cannot be used")]
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
/// With a handoff it does what the agent was instructed for; without one it looks after this machine by itself
/// (`alone`).
///
/// # Errors
/// The kernel's refusal to reboot.
pub fn run() -> Result<Infallible, nix::Error> {
    let started = Instant::now();
    let ended =
        Platform::start().map_err(RecoveryError::from).and_then(
            |mut platform| match Handoff::read(Path::new(HANDOFF_PATH))
                .map_err(RecoveryError::Handoff)?
            {
                Some(handoff) => {
                    platform.arm_watchdog();
                    errand(started, &mut platform, &handoff);
                    Ok(Ending::Restart)
                }
                None => super::alone::run(started, &mut platform),
            },
        );
    let ending = ended.unwrap_or_else(|error| {
        error!("{}; the flash is untouched", chain(&error));
        if matches!(error, RecoveryError::Provision(_) | RecoveryError::Key(_)) {
            std::thread::sleep(ERROR_PAUSE);
        }
        Ending::Restart
    });
    std::thread::sleep(REBOOT_PAUSE);
    info!("{}", if ending == Ending::Restart { "rebooting" } else { "switching off" });
    platform::end(ending)
}

/// Does what the agent was instructed for, and leaves word of it.
fn errand(started: Instant, platform: &mut Platform, handoff: &Handoff) {
    let end =
        take_part(started, platform, handoff).unwrap_or_else(|error| failure(handoff, &error));
    let record = mailbox::Record::of(end.campaign, &end.ending);
    leave_word(handoff.result_mailbox.as_ref(), &record);
}

fn take_part(
    started: Instant,
    platform: &mut Platform,
    handoff: &Handoff,
) -> Result<End, RecoveryError> {
    disable_ctrl_alt_del();
    let patience = Duration::from_secs(handoff.deadlines.reach_manager_s.into());
    let network = platform.network(&handoff.network, patience)?;
    let flash = find_flash(platform, &handoff.flash)?;
    let now = elapsed(started);
    let mut rescue = Rescue::campaign(now, mission(handoff, flash.as_ref())?, seed()?);
    if let (None, Some(recovery)) = (&flash, rescue.recovery()) {
        recovery.give_up(now, &Refusal::new(Reason::FlashNotFound, &handoff.flash));
    }
    let listening = Listening {
        port: handoff.listen_port,
        is_ipv6: Some(handoff.manager.address.is_ipv6()),
        bound: false,
    };
    let (screen, places) = (&mut Screen::silent(), &mut Nowhere);
    let flash = &handoff.flash;
    let around = Surroundings { platform, flash, started, network, screen, places };
    match Stay::begin(around, rescue, listening)?.run() {
        Conclusion::Returned(end) | Conclusion::Repaired { end, .. } => Ok(end),
        Conclusion::Told => unreachable!("a campaign ends with an end"),
    }
}

/// The agent has said where the manager is; there is nowhere else to look.
struct Nowhere;

impl LookUp for Nowhere {
    fn renew_network(&mut self, _: &mut Platform) -> Option<NetworkUp> {
        None
    }

    fn look_up(&mut self, _: &mut Platform, _: Source) -> Result<Vec<Candidate>, String> {
        Ok(Vec::new())
    }
}

/// An error before the state machine runs is an end too: nothing was flashed.
fn failure(handoff: &Handoff, error: &RecoveryError) -> End {
    let reason = match error {
        RecoveryError::Platform(PlatformError::NoNetwork { .. }) => Reason::NetworkUnavailable,
        _ => Reason::RecoveryFailed,
    };
    let detail = chain(error);
    error!("{reason}: {detail}; the flash is untouched");
    let ending = Refusal { reason, detail }.ending(FlashState::UNTOUCHED);
    End { campaign: handoff.campaign, ending }
}

/// Tells the agent in the normal OS.
pub(crate) fn leave_word(place: Option<&MailboxPlace>, record: &mailbox::Record) {
    let Some(place) = place else { return };
    match mailbox::deliver(place, record) {
        Ok(()) => info!("left word for the normal OS"),
        Err(error) => warn!("cannot leave word for the normal OS: {}", chain(&error)),
    }
}

/// From here on the three keys are a signal that nobody listens to.
pub(crate) fn disable_ctrl_alt_del() {
    if platform::is_init()
        && let Err(error) = nix::sys::reboot::set_cad_enabled(false)
    {
        warn!("ctrl-alt-del may reboot this machine: {error}");
    }
}

/// The chip of this name, waited for as long as its driver may need.
pub(crate) fn find_flash(
    platform: &mut Platform,
    selector: &str,
) -> Result<Option<MtdInfo>, RecoveryError> {
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

fn mission(handoff: &Handoff, flash: Option<&MtdInfo>) -> Result<Mission, RecoveryError> {
    let dmi = Dmi::read(Path::new("/"));
    let host_key: HostSecretKey = handoff.host_key.expose().parse().map_err(RecoveryError::Key)?;
    let size_bytes = flash.map_or(0, |flash| flash.size_bytes);
    let host = Some(host_key.public().fingerprint());
    let board = dmi.clone().board(size_bytes, handoff.security_version_floor, host);
    let releases = handoff.trusted_releases.iter().map(|key| key.parse());
    Ok(Mission {
        campaign: handoff.campaign,
        manager: handoff.manager.public_key.parse().map_err(RecoveryError::Key)?,
        manager_address: handoff.manager.address,
        host_key,
        releases: releases.collect::<Result<_, _>>().map_err(RecoveryError::Key)?,
        identity: identity(&handoff.host_name, handoff.security_version_floor, flash, &dmi),
        board,
        reach_timeout: Duration::from_secs(handoff.deadlines.reach_manager_s.into()),
        transfer_timeout: Duration::from_secs(handoff.deadlines.transfer_s.into()),
        rescue: false,
        damaged: false,
    })
}

/// What a host in the recovery environment says of itself.
pub(crate) fn identity(
    host_name: &str,
    security_version_floor: u64,
    flash: Option<&MtdInfo>,
    dmi: &Dmi,
) -> Identity {
    Identity {
        environment: Environment::Recovery,
        boot_id: crate::host::boot_id(Path::new("/")),
        flash_size_bytes: flash.map_or(0, |flash| flash.size_bytes),
        obstacle: if flash.is_some() { Reason::None } else { Reason::FlashNotFound },
        security_version_floor,
        host_name: host_name.to_owned(),
        vendor: dmi.vendor.clone(),
        product: dmi.product.clone(),
        bios_version: dmi.bios_version.clone(),
        flash_name: flash.map_or(String::new(), |flash| flash.name.clone()),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        obstacle_detail: String::new(),
        firmware: Condition::Whole,
        doubt: String::new(),
        last_end: None,
    }
}
