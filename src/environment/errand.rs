//! An agent sent this host here for one campaign.

use std::time::{Duration, Instant};

use log::error;

use super::conclude::conclude;
use super::drive::{Listening, Surroundings, drive, elapsed, seed};
use super::error::EnvironmentError;
use super::host::{Host, find_flash};
use super::sources::Places;
use super::stay::{Conclusion, Stay};
use crate::dmi::Dmi;
use crate::handover::Handoff;
use crate::platform::{Platform, PlatformError};
use crate::reason::{Condition, Ending, FlashState, Reason, Refusal, with_causes};
use crate::recovery::machine::{Mission, Recovery};
use crate::wire::answer::End;

/// Does what the agent was instructed for, and leaves word of it.
pub(super) fn run(started: Instant, platform: &mut Platform, handoff: &Handoff) {
    platform.arm_watchdog();
    let conclusion = take_part(started, platform, handoff)
        .unwrap_or_else(|error| Conclusion::Returned(failure(handoff, &error)));
    // However it ended, the way home is the reboot that the agent has announced.
    conclude(handoff.result_mailbox.as_ref(), &conclusion);
}

fn take_part(
    started: Instant,
    platform: &mut Platform,
    handoff: &Handoff,
) -> Result<Conclusion, EnvironmentError> {
    let patience = Duration::from_secs(handoff.deadlines.reach_manager_s.into());
    let network = platform.network(&handoff.network, patience)?;
    // The agent has said where the manager is.
    let mut places = Places::new(network, handoff.network.clone(), Vec::new());
    let host = host(platform, handoff)?;
    let now = elapsed(started);
    let mut recovery = Recovery::new(now, mission(handoff, &host)?, seed()?);
    if host.flash.is_none() {
        recovery.give_up(now, &Refusal::new(Reason::FlashNotFound, &handoff.flash));
    }
    let listening = Listening {
        port: handoff.listen_port,
        is_ipv6: Some(handoff.manager.address.is_ipv6()),
        bound: false,
    };
    let (places, flash) = (&mut places, handoff.flash.as_str());
    let around = Surroundings { platform, flash, started, places, screen: None };
    drive(around, Stay::sent(recovery), listening)
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

fn mission(handoff: &Handoff, host: &Host) -> Result<Mission, EnvironmentError> {
    let releases = handoff.trusted_releases.iter().map(|key| key.parse());
    Ok(Mission {
        campaign: handoff.campaign,
        manager: handoff.manager.public_key.parse().map_err(EnvironmentError::Key)?,
        manager_address: handoff.manager.address,
        host_key: host.key.clone(),
        releases: releases.collect::<Result<_, _>>().map_err(EnvironmentError::Key)?,
        identity: host.identity(Condition::Whole, ""),
        board: host.board(),
        reach_timeout: Duration::from_secs(handoff.deadlines.reach_manager_s.into()),
        transfer_timeout: Duration::from_secs(handoff.deadlines.transfer_s.into()),
        rescue: false,
        flash: FlashState::UNTOUCHED,
    })
}

/// An error before the campaign is an end too: nothing was flashed.
fn failure(handoff: &Handoff, error: &EnvironmentError) -> End {
    let reason = match error {
        EnvironmentError::Platform(PlatformError::NoNetwork { .. }) => Reason::NetworkUnavailable,
        _ => Reason::RecoveryFailed,
    };
    let detail = with_causes(error);
    error!("{reason}: {detail}; the flash is untouched");
    let ending = Ending::new(reason, FlashState::UNTOUCHED, detail);
    End { campaign: handoff.campaign, ending }
}
