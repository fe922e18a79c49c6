//! An agent sent this host here for one campaign.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::error;

use super::conclude::conclude;
use super::drive::{Listening, Surroundings, drive, elapsed, seed};
use super::error::EnvironmentError;
use super::host::{Host, find_flash};
use super::sources::Places;
use super::stay::{Conclusion, Patient, Stay};
use crate::dmi::Dmi;
use crate::handover::Handoff;
use crate::platform::Platform;
use crate::reason::{Ending, FlashState, Reason, Refusal, with_causes};
use crate::recovery::machine::{Mission, Recovery};
use crate::rescue::search::SearchEnd;
use crate::wire::answer::End;
use crate::wire::help::{Finding, HelpRequest};

/// How long a drill looks for a manager by itself.
const SEARCH_PATIENCE: Duration = Duration::from_secs(30);

/// Does what the agent was instructed for, and leaves word of it.
pub(super) fn run(started: Instant, platform: &mut Platform, handoff: &Handoff) {
    platform.arm_watchdogs();
    let conclusion = take_part(started, platform, handoff)
        .unwrap_or_else(|error| Conclusion::Returned(failure(handoff, &error)));
    // However it ended, the way home is the reboot that the agent has announced.
    conclude(platform, handoff.result_mailbox.as_ref(), &conclusion);
}

fn take_part(
    started: Instant,
    platform: &mut Platform,
    handoff: &Handoff,
) -> Result<Conclusion, EnvironmentError> {
    let patience = Duration::from_secs(handoff.deadlines.reach_manager_s.into());
    let network = platform.network(&handoff.network, patience)?;
    let manager = network.scoped(handoff.manager.address);
    // The agent has said where the manager is; a drill looks for one all the same.
    let stored = handoff.drill.as_ref().map(|drill| drill.managers.clone());
    let mut places = Places::new(network, handoff.network.clone(), stored.unwrap_or_default());
    let host = host(platform, handoff)?;
    let now = elapsed(started);
    let mut recovery = Recovery::new(now, mission(handoff, manager, &host)?, seed()?);
    if host.flash.is_none() {
        recovery.give_up(now, &Refusal::new(Reason::FlashNotFound, &handoff.flash));
    }
    let listening = Listening {
        port: handoff.listen_port,
        is_ipv6: Some(handoff.manager.address.is_ipv6()),
        bound: false,
    };
    let flash = handoff.flash.as_str();
    let around = Surroundings { platform, flash, started, places: &mut places, screen: None };
    let conclusion = drive(around, Stay::sent(recovery), listening)?;
    Ok(match conclusion {
        Conclusion::Returned(end) if end.ending.reason == Reason::Drilled => {
            let patient = seeker(handoff, &host)?;
            let stay = Stay::by_itself(elapsed(started), patient, seed()?);
            let listening = Listening { is_ipv6: None, bound: true, ..listening };
            let around =
                Surroundings { platform, flash, started, places: &mut places, screen: None };
            Conclusion::Returned(with_search(end, &drive(around, stay, listening)?))
        }
        conclusion => conclusion,
    })
}

/// The host as it would look for help if nobody had sent it: it only tells what this is about, and
/// takes no image.
fn seeker(handoff: &Handoff, host: &Host) -> Result<Patient, EnvironmentError> {
    let managers = handoff.trusted_managers.iter().map(|key| key.parse());
    let identity = host.identity(handoff.firmware, "");
    Ok(Patient {
        host_key: host.key.clone(),
        managers: managers.collect::<Result<_, _>>().map_err(EnvironmentError::Key)?,
        releases: Vec::new(),
        board: host.board(),
        request: HelpRequest {
            wants_image: false,
            finding: Finding::Valid,
            offset_bytes: 0,
            why: "a drill".into(),
            identity,
            rescues: None,
        },
        flash: untouched(handoff),
        patience: Some(SEARCH_PATIENCE),
    })
}

/// Adds what the search for help came to.
fn with_search(end: End, search: &Conclusion) -> End {
    let found = match search {
        Conclusion::Unchanged(SearchEnd::Told { manager }) => {
            format!("by itself it found the manager at {manager}")
        }
        _ => {
            let seconds = SEARCH_PATIENCE.as_secs();
            format!("by itself it found NO manager that answers within {seconds} s")
        }
    };
    let End { campaign, ending: Ending { reason, flash, detail } } = end;
    End { campaign, ending: Ending::new(reason, flash, format!("{detail}; {found}")) }
}

fn host(platform: &mut Platform, handoff: &Handoff) -> Result<Host, EnvironmentError> {
    Ok(Host {
        name: handoff.host_name.clone(),
        key: handoff.host_key.expose().parse().map_err(EnvironmentError::Key)?,
        security_version_floor: handoff.security_version_floor,
        dmi: Dmi::read("/".as_ref()),
        flash: find_flash(platform, &handoff.flash)?,
    })
}

fn mission(
    handoff: &Handoff,
    manager_address: SocketAddr,
    host: &Host,
) -> Result<Mission, EnvironmentError> {
    let releases = handoff.trusted_releases.iter().map(|key| key.parse());
    Ok(Mission {
        campaign: handoff.campaign,
        manager: handoff.manager.public_key.parse().map_err(EnvironmentError::Key)?,
        manager_address,
        host_key: host.key.clone(),
        releases: releases.collect::<Result<_, _>>().map_err(EnvironmentError::Key)?,
        identity: host.identity(handoff.firmware, &handoff.doubt),
        board: host.board(),
        reach_timeout: Duration::from_secs(handoff.deadlines.reach_manager_s.into()),
        transfer_timeout: Duration::from_secs(handoff.deadlines.transfer_s.into()),
        rescue: false,
        drill: handoff.drill.is_some(),
        flash: untouched(handoff),
    })
}

/// Nothing has been done yet to the chip that the agent has read.
fn untouched(handoff: &Handoff) -> FlashState {
    FlashState::Untouched(handoff.firmware)
}

/// An error before the campaign is an end too: nothing was flashed.
fn failure(handoff: &Handoff, error: &EnvironmentError) -> End {
    let reason = match error {
        EnvironmentError::Platform(error) => error.reason(),
        _ => Reason::RecoveryFailed,
    };
    let detail = with_causes(error);
    let ending = Ending::new(reason, untouched(handoff), detail);
    error!("{ending}");
    End { campaign: handoff.campaign, ending }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handover::{SecretText, handoff_example};
    use crate::keys::{HostSecretKey, ManagerSecretKey, SecretKey as _};
    use crate::platform::PlatformError;
    use crate::reason::Condition;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    #[test]
    fn what_the_agent_found_about_the_chip_is_what_the_host_says_of_it() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let key = HostSecretKey::generate(&mut rng);
        let manager = ManagerSecretKey::generate(&mut rng).public().to_string();
        for (firmware, doubt) in [(Condition::Whole, ""), (Condition::Doubtful, "at 0x10: why")] {
            let mut handoff = handoff_example();
            handoff.host_key = SecretText::new(key.to_text().to_string());
            handoff.manager.public_key.clone_from(&manager);
            handoff.trusted_releases.clear();
            (handoff.firmware, handoff.doubt) = (firmware, doubt.to_owned());
            let host = Host {
                name: "node17".into(),
                key: key.clone(),
                security_version_floor: 7,
                dmi: Dmi::default(),
                flash: None,
            };
            let mission = mission(&handoff, handoff.manager.address, &host).unwrap();
            assert_eq!(mission.flash, FlashState::Untouched(firmware));
            assert_eq!(
                (mission.identity.firmware, mission.identity.doubt.as_str()),
                (firmware, doubt)
            );
            let no_network = EnvironmentError::Platform(PlatformError::NoNetwork {
                waited_s: 300,
                state: String::new(),
            });
            let end = failure(&handoff, &no_network);
            assert_eq!(end.ending.reason, Reason::NetworkUnavailable);
            assert_eq!(end.ending.flash, FlashState::Untouched(firmware));
        }
    }
}
