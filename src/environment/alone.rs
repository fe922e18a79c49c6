//! A stay that nobody asked for, on the real machine: assess the chip, find help, repair, go on.

use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::drive::{Listening, Stay, Surroundings, elapsed, seed};
use super::errand::{RecoveryError, disable_ctrl_alt_del, find_flash, identity, leave_word};
use super::options::{Options, Then, When};
use super::screen::{Facts, Screen};
use super::sources::Places;
use crate::dmi::Dmi;
use crate::handover::{OnUnknown, PROVISION_PATH, Provision};
use crate::image::validity::{Verdict, validate_contents};
use crate::image::{KnownGood, assess, closed_note, left_out};
use crate::keys::{HostSecretKey, PublicKey as _, SecretKey as _};
use crate::mailbox;
use crate::mtd::{MtdInfo, read_chip};
use crate::platform::{self, Ending, NetworkUp, Platform, PlatformError, chain};
use crate::rescue::machine::{Conclusion, Rescue, Search};
use crate::wire::answer::{DETAIL_SIZE_MAX, End};
use crate::wire::help::{Finding, HelpRequest};

/// How long a host that only wants to tell something tries to.
const NOTICE_PATIENCE: Duration = Duration::from_secs(30);

/// How long the distribution's initramfs looks for help when nothing but the record of good firmware says that the firmware is invalid:
/// the machine has just started with it, and the record may be older than the firmware.
const DOUBT_PATIENCE: Duration = Duration::from_secs(120);

/// How long one look for a network takes before the display says so and the next begins.
/// Longer than the NICs that are meant are waited for alone.
pub(super) const NETWORK_PATIENCE: Duration = Duration::from_secs(180);

/// Pause before the network is tried again after an error of the kernel's.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// How the environment was entered.
#[derive(Clone, Copy)]
enum Way {
    /// As a recovery image.
    Dedicated(When),
    /// By the distribution's initramfs, on the way to its operating system.
    Hook(When),
}

/// What a stay came to.
enum Course {
    /// The firmware is whole, or nothing is to be done about it.
    BootOn,
    /// The flash was changed, and is whole now.
    Repaired,
}

/// The dedicated recovery image, as PID 1: assesses the chip, repairs it if that is needed, and says how to end.
///
/// # Errors
/// [`RecoveryError`] when it cannot even begin.
pub(super) fn run(started: Instant, platform: &mut Platform) -> Result<Ending, RecoveryError> {
    disable_ctrl_alt_del();
    let options = Options::of_this_boot();
    let provision = provision(&options)?;
    let when = options.recover.unwrap_or_default();
    look_after(started, platform, &provision, Way::Dedicated(when))?;
    Ok(match options.then {
        Then::Reboot => Ending::Restart,
        Then::PowerOff => Ending::PowerOff,
    })
}

/// The distribution's initramfs: comes back when the boot shall go on, and restarts the machine after a repair. Does nothing unless the
/// kernel's command line has `firmcast.recover`.
///
/// # Errors
/// [`RecoveryError`]; the boot shall go on then, too.
pub fn hook() -> Result<(), RecoveryError> {
    let started = Instant::now();
    let options = Options::of_this_boot();
    let Some(when) = options.recover else { return Ok(()) };
    platform::log_to_kernel();
    let provision = provision(&options)?;
    let mut platform = Platform::start()?;
    match look_after(started, &mut platform, &provision, Way::Hook(when))? {
        Course::BootOn => Ok(()),
        Course::Repaired => {
            info!("rebooting into the repaired firmware");
            std::thread::sleep(Duration::from_secs(1));
            match platform::end(Ending::Restart) {
                Ok(never) => match never {},
                Err(error) => Err(RecoveryError::Wait(error.into())),
            }
        }
    }
}

fn provision(options: &Options) -> Result<Provision, RecoveryError> {
    let mut provision =
        Provision::read(Path::new(PROVISION_PATH)).map_err(RecoveryError::Provision)?;
    options.apply(&mut provision);
    Ok(provision)
}

fn look_after(
    started: Instant,
    platform: &mut Platform,
    provision: &Provision,
    way: Way,
) -> Result<Course, RecoveryError> {
    let dmi = Dmi::read(Path::new("/"));
    let flash = find_flash(platform, &provision.flash)?;
    let bios_version = match way {
        // What runs is another firmware than the one in the chip, or it would not be asked.
        Way::Dedicated(_) => "",
        Way::Hook(_) => &dmi.bios_version,
    };
    let Assessment { verdict, is_doubtful } = assess_chip(provision, flash.as_ref(), bios_version);
    info!("this computer's firmware is {verdict}");
    let (finding, offset_bytes, why) = match &verdict {
        Verdict::Valid { .. } => (Finding::Valid, 0, String::new()),
        Verdict::Invalid { offset_bytes, why } => (Finding::Invalid, *offset_bytes, why.clone()),
        Verdict::Unknown { why } => (Finding::Unknown, 0, why.clone()),
    };
    let (Way::Dedicated(when) | Way::Hook(when)) = way;
    let wants_image = match (finding, when) {
        (Finding::Valid, When::Auto) => {
            info!("booting on");
            return Ok(Course::BootOn);
        }
        (Finding::Unknown, When::Auto) => provision.on_unknown == OnUnknown::Rescue,
        _ => true,
    };
    // What cannot be repaired in this boot shall not keep the operating system from starting.
    let wants_image = match (way, platform.may_flash()) {
        (Way::Hook(_), Err(error)) if wants_image => {
            error!("{}; booting on", chain(&error));
            false
        }
        _ => wants_image,
    };
    let patience = match way {
        _ if !wants_image => Some(NOTICE_PATIENCE),
        Way::Hook(When::Auto) if is_doubtful => Some(DOUBT_PATIENCE),
        _ => None,
    };
    let host_key: HostSecretKey =
        provision.host_key.expose().parse().map_err(RecoveryError::Key)?;
    let request = HelpRequest {
        wants_image,
        finding,
        offset_bytes,
        why: cut(&why),
        identity: identity(
            &provision.host_name,
            provision.security_version_floor,
            flash.as_ref(),
            &dmi,
        ),
    };
    let facts = Facts {
        host: provision.host_name.clone(),
        fingerprint: host_key.public().fingerprint().to_string(),
        finding: verdict.to_string(),
        addresses: String::new(),
    };
    let mut search = search(provision, host_key, flash.as_ref(), &dmi, request)?;
    search.damaged = finding != Finding::Valid && !is_doubtful;
    search.patience = patience;
    // The distribution's initramfs goes on to its operating system, which has its own idea of the watchdog.
    if matches!(way, Way::Dedicated(_)) {
        platform.arm_watchdog();
    }
    let mut screen = Screen::open(facts);
    let Some(network) = network(platform, provision, &mut screen, patience)? else {
        return Ok(Course::BootOn);
    };
    let conclusion = seek_help(started, platform, provision, network.clone(), &mut screen, search)?;
    let course = conclude(provision, &mut screen, conclusion);
    if let (Way::Hook(_), Course::BootOn) = (way, &course)
        && let Err(error) = platform.leave_network(&network)
    {
        warn!("the network stays as it is: {}", chain(&error));
    }
    Ok(course)
}

/// What is known of the chip.
struct Assessment {
    verdict: Verdict,
    /// Only the record of good firmware says that it is invalid, and not its own structure.
    is_doubtful: bool,
}

/// A chip that cannot be read is as good as one with wrong bytes; one that is not there says nothing.
fn assess_chip(provision: &Provision, flash: Option<&MtdInfo>, bios_version: &str) -> Assessment {
    let sure = |verdict| Assessment { verdict, is_doubtful: false };
    if flash.is_none() {
        let why = format!("the flash chip {} was not found", provision.flash);
        return sure(Verdict::Unknown { why });
    }
    match read_chip(&provision.flash, &left_out(provision.known_good.as_ref())) {
        Ok(contents) => {
            if !contents.closed().is_empty() {
                info!("{}", closed_note(contents.closed()));
            }
            let verdict = assess(&contents, provision.known_good.as_ref(), bios_version);
            let is_invalid = |verdict: &Verdict| matches!(verdict, Verdict::Invalid { .. });
            let is_doubtful = is_invalid(&verdict) && !is_invalid(&validate_contents(&contents));
            Assessment { verdict, is_doubtful }
        }
        // What the host may not read is no error, so this is a fault; yet the machine has started with this chip.
        Err(error) => Assessment {
            verdict: Verdict::Invalid { offset_bytes: 0, why: chain(&error) },
            is_doubtful: true,
        },
    }
}

fn search(
    provision: &Provision,
    host_key: HostSecretKey,
    flash: Option<&MtdInfo>,
    dmi: &Dmi,
    request: HelpRequest,
) -> Result<Search, RecoveryError> {
    let managers = provision.trusted_managers.iter().map(|key| key.parse());
    let releases = provision.trusted_releases.iter().map(|key| key.parse());
    Ok(Search {
        managers: managers.collect::<Result<_, _>>().map_err(RecoveryError::Key)?,
        releases: releases.collect::<Result<_, _>>().map_err(RecoveryError::Key)?,
        board: dmi.clone().board(
            flash.map_or(0, |flash| flash.size_bytes),
            provision.security_version_floor,
            Some(host_key.public().fingerprint()),
        ),
        host_key,
        request,
        damaged: false,
        patience: None,
    })
}

/// Tries for ever, unless there is a limit to it.
fn network(
    platform: &mut Platform,
    provision: &Provision,
    screen: &mut Screen,
    patience: Option<Duration>,
) -> Result<Option<NetworkUp>, RecoveryError> {
    screen.tell("waiting for the network", "Check the network cable. This computer keeps trying.");
    loop {
        match platform.network(&provision.network, patience.unwrap_or(NETWORK_PATIENCE)) {
            Ok(network) => {
                screen.set_network(&network);
                return Ok(Some(network));
            }
            Err(PlatformError::NoNetwork { state, .. }) if patience.is_none() => {
                error!("no network yet: {state}");
                screen.tell(
                    &format!("no network: {state}"),
                    "Check cable, switch port and DHCP server. This computer keeps trying.",
                );
            }
            Err(PlatformError::NoNetwork { .. }) => {
                warn!("no network, so no manager was asked; booting on");
                return Ok(None);
            }
            Err(error) if patience.is_none() => {
                error!("no network yet: {}", chain(&error));
                screen.tell(&format!("no network: {error}"), "This computer keeps trying.");
                std::thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn seek_help(
    started: Instant,
    platform: &mut Platform,
    provision: &Provision,
    network: NetworkUp,
    screen: &mut Screen,
    search: Search,
) -> Result<Conclusion, RecoveryError> {
    let mut places = Places {
        stored: provision.managers.clone(),
        network: network.clone(),
        wanted: provision.network.clone(),
        rounds: 0,
    };
    let listening = Listening { port: provision.listen_port, is_ipv6: None, bound: true };
    let rescue = Rescue::search(elapsed(started), search, seed()?);
    let (places, flash) = (&mut places, &provision.flash);
    let around = Surroundings { platform, flash, started, network, screen, places };
    Ok(Stay::begin(around, rescue, listening)?.run())
}

fn conclude(provision: &Provision, screen: &mut Screen, conclusion: Conclusion) -> Course {
    match conclusion {
        Conclusion::Told | Conclusion::Returned(_) => {
            screen.tell("booting on", "");
            Course::BootOn
        }
        Conclusion::Repaired { end, changed, known_good } => {
            info!("the firmware is repaired: {}", end.ending.reason);
            tell_agent(provision, &end, known_good.as_ref());
            screen.tell(
                "the firmware is repaired and verified",
                "Nothing to do: this computer starts now.",
            );
            if changed { Course::Repaired } else { Course::BootOn }
        }
    }
}

/// The agent renews its record of good firmware when the normal OS is up again.
fn tell_agent(provision: &Provision, end: &End, known_good: Option<&KnownGood>) {
    let text = known_good.and_then(|good| serde_json::to_string(good).ok()).unwrap_or_default();
    if text.len() > mailbox::TEXT_LENGTH_MAX {
        warn!(
            "the record of the new firmware is too long for the mailbox: run firmcastd rescue-archive --renew"
        );
        return;
    }
    let record = mailbox::Record { text, ..mailbox::Record::of(end.campaign, &end.ending) };
    leave_word(provision.result_mailbox.as_ref(), &record);
}

fn cut(text: &str) -> String {
    let end = (0..=DETAIL_SIZE_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}
