//! Nobody sent this host here: look at the firmware, find help if it needs any, go on.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::conclude::{Boot, conclude, record_of_last_repair};
use super::drive::{Listening, Surroundings, drive, elapsed, seed};
use super::error::EnvironmentError;
use super::host::{Host, find_flash};
use super::intent::{Intent, Way};
use super::options::{Options, Then};
use super::screen::{Facts, Screen};
use super::sources::{NETWORK_PATIENCE, Places};
use super::stay::{Conclusion, Patient, Stay};
use super::vain::Vain;
use crate::dmi::Dmi;
use crate::handover::{PROVISION_PATH, Provision};
use crate::image::validity::{Verdict, validate_contents};
use crate::image::{KnownGood, assess, closed_note, left_out};
use crate::mtd::{ChipInfo, read_chip};
use crate::platform::{self, Ending, NetworkUp, Platform, PlatformError};
use crate::reason::{Condition, FlashState, with_causes};
use crate::rescue::search::SearchEnd;
use crate::tpm::Kept;
use crate::wire::answer::DETAIL_SIZE_MAX;
use crate::wire::help::{Finding, HelpRequest};

/// Pause before the network is tried again after an error of the kernel's.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Runs the dedicated recovery image, as PID 1, and says how to end.
///
/// # Errors
/// [`EnvironmentError`] when it cannot even begin.
pub(super) fn run(started: Instant, platform: &mut Platform) -> Result<Ending, EnvironmentError> {
    let options = Options::of_this_boot();
    let provision = provision(&options)?;
    let way = Way::Dedicated(options.recover.unwrap_or_default());
    platform.settle()?;
    look_after(started, platform, &provision, way)?;
    Ok(match options.then {
        Then::Reboot => Ending::Restart,
        Then::PowerOff => Ending::PowerOff,
    })
}

/// Runs the hook of the distribution's initramfs: returns when the boot must go on, and restarts
/// the machine after a repair. Does nothing unless the kernel's command line has
/// `firmcast.recover`.
///
/// # Errors
/// [`EnvironmentError`]; the boot must go on then, too.
pub fn hook() -> Result<(), EnvironmentError> {
    let started = Instant::now();
    let options = Options::of_this_boot();
    let Some(when) = options.recover else { return Ok(()) };
    platform::log_to_kernel();
    let provision = provision(&options)?;
    let mut platform = Platform::start()?;
    platform.settle()?;
    match look_after(started, &mut platform, &provision, Way::Hook(when))? {
        Boot::On => Ok(()),
        Boot::Anew => match super::end(Ending::Restart)? {},
    }
}

fn provision(options: &Options) -> Result<Provision, EnvironmentError> {
    let mut provision = Provision::read(Path::new(PROVISION_PATH))?;
    options.apply(&mut provision);
    Ok(provision)
}

/// Looks at the firmware, and does about it what [`Intent`] says.
fn look_after(
    started: Instant,
    platform: &mut Platform,
    provision: &Provision,
    way: Way,
) -> Result<Boot, EnvironmentError> {
    let host = host(platform, provision)?;
    let found = look_at_chip(platform, provision, &host, way);
    info!("this computer's firmware is {}", found.verdict);
    let (finding, is_doubtful) = (found.finding(), found.is_doubtful);
    let intent = Intent::new(way, finding, is_doubtful, provision.on_unknown);
    let intent = if_possible(intent, way, platform);
    let vain = Vain::of(platform, provision, intent);
    let intent = vain.limit(intent, way);
    if intent == Intent::BootOn {
        info!("booting on");
        return Ok(Boot::On);
    }
    // The distribution's initramfs goes on to its operating system, which has its own idea of the
    // watchdog.
    match way {
        Way::Dedicated(_) => platform.arm_watchdogs(),
        Way::Hook(_) => platform.tend_bmc_watchdog(),
    }
    let patient = |intent, note: Option<String>| {
        let mut patient = patient(provision, &host, &found, intent, note)?;
        patient.request.rescues = vain.told();
        Ok::<_, EnvironmentError>(patient)
    };
    let asking = patient(intent, vain.why())?;
    let floor = host.security_version_floor;
    info!(
        "security version floor {floor}, as provision and TPM have it; a manager may know a higher \
         one"
    );
    let mut screen = Screen::open(facts(&host, &found));
    let patience = intent.patience();
    let Some(network) = wait_for_network(platform, provision, &mut screen, patience)? else {
        return Ok(Boot::On);
    };
    let managers = provision.managers.clone();
    let mut places = Places::new(network, provision.network.clone(), managers);
    if let Way::Dedicated(_) = way {
        vain.wait(platform, &mut screen, |platform, screen, why| {
            let told = patient(Intent::Tell, Some(why)).and_then(|patient| {
                seek_help(started, platform, provision, &mut places, screen, patient)
            });
            told.err().iter().for_each(|error| warn!("{}", with_causes(error)));
        });
    }
    let boot = seek_help(started, platform, provision, &mut places, &mut screen, asking)?;
    if let (Way::Hook(_), Boot::On) = (way, boot)
        && let Err(error) = platform.leave_network(places.network())
    {
        warn!("the network stays as it is: {}", with_causes(&error));
    }
    Ok(boot)
}

fn host(platform: &mut Platform, provision: &Provision) -> Result<Host, EnvironmentError> {
    Ok(Host {
        name: provision.host_name.clone(),
        key: provision.host_key.expose().parse().map_err(EnvironmentError::Key)?,
        security_version_floor: floor(provision.security_version_floor, Kept::read(Path::new("/"))),
        dmi: Dmi::read(Path::new("/")),
        flash: find_flash(platform, &provision.flash)?,
    })
}

/// The floor of security versions: the provision's is as old as its image, the TPM's is not.
fn floor(provided: u64, kept: io::Result<Option<Kept>>) -> u64 {
    let kept = kept.unwrap_or_else(|error| {
        warn!("the TPM does not tell its security version floor: {error}");
        None
    });
    kept.map_or(provided, |kept| kept.floor.max(provided))
}

/// A doubt that only the record gives rise to may come from its age: then the last repair's own
/// record decides.
fn look_at_chip(platform: &mut Platform, provision: &Provision, host: &Host, way: Way) -> Found {
    let found = Found::on_chip(provision, provision.known_good.as_ref(), host, way);
    let place = provision.result_mailbox.as_ref().filter(|_| found.is_doubtful);
    let newer = place
        .and_then(|place| record_of_last_repair(platform, place))
        .map(|good| Found::on_chip(provision, Some(&good), host, way));
    newer.filter(|newer| newer.finding() == Finding::Valid).unwrap_or(found)
}

/// What cannot be repaired in this boot must not keep the operating system from starting.
fn if_possible(intent: Intent, way: Way, platform: &Platform) -> Intent {
    match (way, platform.may_flash()) {
        (Way::Hook(_), Err(error)) if intent.wants_image() => {
            error!("{}; booting on when a manager has been told", with_causes(&error));
            Intent::Tell
        }
        _ => intent,
    }
}

/// What was found on the chip.
struct Found {
    verdict: Verdict,
    /// Nothing proves damage: its structure only deviates, or nothing but the record of good
    /// firmware says that it is invalid.
    is_doubtful: bool,
}

impl Found {
    fn on_chip(provision: &Provision, good: Option<&KnownGood>, host: &Host, way: Way) -> Self {
        let bios_version = match way {
            // What runs is another firmware than the one in the chip, or it would not be asked.
            Way::Dedicated(_) => "",
            Way::Hook(_) => &host.dmi.bios_version,
        };
        Self::assess(&provision.flash, good, host.flash.as_ref(), bios_version)
    }

    /// A chip that cannot be read is as good as one with wrong bytes; one that is not there says
    /// nothing.
    fn assess(
        name: &str,
        good: Option<&KnownGood>,
        flash: Option<&ChipInfo>,
        bios_version: &str,
    ) -> Self {
        if flash.is_none() {
            let why = format!("the flash chip {name} was not found");
            return Self { verdict: Verdict::Unknown { why }, is_doubtful: false };
        }
        match read_chip(name, &left_out(good)) {
            Ok(contents) => {
                if !contents.closed().is_empty() {
                    info!("{}", closed_note(contents.closed()));
                }
                let verdict = assess(&contents, good, bios_version);
                let is_doubtful = match &verdict {
                    Verdict::Valid { .. } | Verdict::Unknown { .. } => false,
                    Verdict::Doubtful { .. } => true,
                    Verdict::Invalid { .. } => {
                        !matches!(validate_contents(&contents), Verdict::Invalid { .. })
                    }
                };
                Self { verdict, is_doubtful }
            }
            // What the host may not read is no error, so this is a fault; yet the machine has
            // started with this chip.
            Err(error) => {
                let why = with_causes(&error);
                Self { verdict: Verdict::Invalid { offset_bytes: 0, why }, is_doubtful: true }
            }
        }
    }

    fn finding(&self) -> Finding {
        match self.verdict {
            Verdict::Valid { .. } => Finding::Valid,
            Verdict::Doubtful { .. } | Verdict::Invalid { .. } => Finding::Invalid,
            Verdict::Unknown { .. } => Finding::Unknown,
        }
    }

    /// Where it is invalid, and why it is not valid.
    fn why(&self) -> (u64, &str) {
        match &self.verdict {
            Verdict::Valid { .. } => (0, ""),
            Verdict::Doubtful { offset_bytes, why } | Verdict::Invalid { offset_bytes, why } => {
                (*offset_bytes, why)
            }
            Verdict::Unknown { why } => (0, why),
        }
    }
}

fn patient(
    provision: &Provision,
    host: &Host,
    found: &Found,
    intent: Intent,
    note: Option<String>,
) -> Result<Patient, EnvironmentError> {
    let finding = found.finding();
    let (offset_bytes, why) = found.why();
    let why = note.into_iter().chain([why.to_owned()]).collect::<Vec<_>>().join("; ");
    let why = cut(&why);
    let condition = intent.condition(finding, found.is_doubtful);
    let doubt = if condition == Condition::Whole { "" } else { why };
    let identity = host.identity(condition, doubt);
    let wants_image = intent.wants_image();
    let managers = provision.trusted_managers.iter().map(|key| key.parse());
    let releases = provision.trusted_releases.iter().map(|key| key.parse());
    let why = why.into();
    Ok(Patient {
        host_key: host.key.clone(),
        managers: managers.collect::<Result<_, _>>().map_err(EnvironmentError::Key)?,
        releases: releases.collect::<Result<_, _>>().map_err(EnvironmentError::Key)?,
        board: host.board(),
        request: HelpRequest { wants_image, finding, offset_bytes, why, identity, rescues: None },
        flash: FlashState::Untouched(condition),
        patience: intent.patience(),
    })
}

fn facts(host: &Host, found: &Found) -> Facts {
    Facts {
        host: host.name.clone(),
        fingerprint: host.fingerprint().to_string(),
        finding: found.verdict.to_string(),
        addresses: String::new(),
    }
}

/// Brings the network up. Tries for ever when there is no limit to `patience`; else returns none
/// when it is over.
fn wait_for_network(
    platform: &mut Platform,
    provision: &Provision,
    screen: &mut Screen,
    patience: Option<Duration>,
) -> Result<Option<NetworkUp>, EnvironmentError> {
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
                screen.tell(
                    "no network, so no manager was asked; booting on",
                    "Check cable, switch port and DHCP server, then restart this computer.",
                );
                return Ok(None);
            }
            Err(error) if patience.is_none() => {
                error!("no network yet: {}", with_causes(&error));
                screen.tell(
                    &format!("no network: {}", with_causes(&error)),
                    "Check that the NIC's driver is in this environment. This computer keeps \
                    trying.",
                );
                std::thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Finds a manager, and lets it repair the firmware.
fn seek_help(
    started: Instant,
    platform: &mut Platform,
    provision: &Provision,
    places: &mut Places,
    screen: &mut Screen,
    patient: Patient,
) -> Result<Boot, EnvironmentError> {
    let stay = Stay::by_itself(elapsed(started), patient, seed()?);
    let listening = Listening { port: provision.listen_port, is_ipv6: None, bound: true };
    let flash = provision.flash.as_str();
    let around = Surroundings { platform, flash, started, places, screen: Some(screen) };
    let conclusion = drive(around, stay, listening)?;
    let boot = conclude(platform, provision.result_mailbox.as_ref(), &conclusion);
    let (what, advice) = word(&conclusion);
    screen.tell(what, advice);
    Ok(boot)
}

/// What a person reads at the end, and what to do next.
fn word(conclusion: &Conclusion) -> (&'static str, &'static str) {
    match conclusion {
        Conclusion::Repaired { .. } => {
            ("the firmware is repaired and verified", "Nothing to do: this computer starts now.")
        }
        Conclusion::Returned(_) => ("booting on", "On the manager: firmcast history."),
        Conclusion::Unchanged(SearchEnd::Told { .. }) => {
            ("booting on: a manager has been told", "On the manager: firmcast status.")
        }
        Conclusion::Unchanged(SearchEnd::NotHelped) => (
            "booting on: no manager has helped in time",
            "On the manager: firmcast serve. Then restart this computer.",
        ),
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=DETAIL_SIZE_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_floor_counts_and_a_silent_tpm_lowers_none() {
        let kept = |floor| Ok(Some(Kept { floor, digest: [0; 32] }));
        assert_eq!([floor(3, kept(5)), floor(3, kept(2)), floor(3, Ok(None))], [5, 3, 3]);
        assert_eq!(floor(3, Err(io::ErrorKind::TimedOut.into())), 3);
    }
}
