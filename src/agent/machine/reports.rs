//! The agent's reports: the host is in no campaign, on its way into one, or refuses it.

use log::{info, warn};

use crate::reason::{FlashState, Reason, Refusal};
use crate::wire::answer::{Answer, Measurement, Phase, Report};
use crate::wire::excerpt::PieceSet;

/// Returns the report of a host that is in no campaign.
pub(super) fn idle(campaign: u64) -> Answer {
    report(campaign, Phase::Idle, nothing(), None)
}

/// Returns the report of a host that is about to enter the recovery environment, and whose chip
/// lacks these pieces of the image.
pub(super) fn accepted(campaign: u64, lacking: Option<PieceSet>) -> Answer {
    report(campaign, Phase::Accepted, nothing(), lacking)
}

/// Returns the report of a host that refuses.
pub(super) fn refused(campaign: u64, refusal: &Refusal) -> Answer {
    report(campaign, Phase::Refused, refusal.clone(), None)
}

/// Returns the refusal of a command for the recovery environment.
pub(super) fn only_in_recovery(campaign: u64) -> Answer {
    let detail = "the host runs its normal OS, this command is for the recovery environment";
    refused(campaign, &Refusal::new(Reason::NotPossibleNow, detail))
}

/// Logs what a measurement found.
pub(super) fn log_measurement(measurement: &Measurement) {
    let campaign = measurement.campaign;
    match (measurement.matches, measurement.detail.as_str()) {
        (true, _) => info!("campaign {campaign:016x}: the flash holds its image"),
        (false, "") => warn!("campaign {campaign:016x}: the flash holds another image"),
        (false, detail) => warn!("campaign {campaign:016x}: the flash was not measured: {detail}"),
    }
}

/// The agent changes no flash; what its contents look like is in the identity.
fn report(campaign: u64, phase: Phase, refusal: Refusal, lacking: Option<PieceSet>) -> Answer {
    let ending = refusal.ending(FlashState::UNTOUCHED);
    Answer::Report(Report { campaign, phase, ending, done: 0, total: 0, digests: None, lacking })
}

fn nothing() -> Refusal {
    Refusal::new(Reason::None, "")
}
