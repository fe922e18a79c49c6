//! What is foretold of an update before a host leaves its operating system is what it comes to.

use firmcast::agent::outlook::{check_layout, check_shared_eraseblocks};
use firmcast::flash::{
    DumpFacts, Flash as _, PlanReport, SimulatedFlash, WriteRule, read_contents, refusal_json,
};
use firmcast::image::{Board, VerifiedImage};
use firmcast::reason::{Reason, Refusal};

use crate::engine::Violation;

/// Checks that a dump of the chip foretells the plan of the host, but for its locks; and that the
/// manifest alone foretells no refusal that does not come.
pub(crate) fn check(image: &VerifiedImage, chip: &SimulatedFlash) -> Result<(), Violation> {
    let geometry = chip.geometry();
    // Of NAND a dump has the good blocks only.
    if geometry.rule() == WriteRule::PageOnce {
        return Ok(());
    }
    // As `firmcastd backup` reads it.
    let all = std::iter::once(0..geometry.size_bytes()).collect();
    let contents = read_contents(&mut chip.clone(), &all).map_err(|error| error.to_string())?;
    let facts = DumpFacts::of(&Board::default(), geometry, contents.closed());
    let dump = contents.bytes().to_vec();
    let mut tried = facts.chip(dump).map_err(|error| error.to_string())?;
    let plan = |chip: &mut SimulatedFlash| PlanReport::new(image, chip, "chip".into(), |_| None);
    let told = |report: &Result<PlanReport, Refusal>| match report {
        Ok(report) => {
            let mut told = report.to_json();
            told["locked_eraseblocks"] = 0.into();
            told
        }
        Err(refusal) => refusal_json(refusal),
    };
    let (foretold, found) = (plan(&mut tried), plan(&mut chip.clone()));
    if told(&foretold) != told(&found) {
        let (foretold, found) = (told(&foretold), told(&found));
        return Err(format!("a dump foretells {foretold}, the chip has {found}"));
    }
    let manifest = image.manifest();
    let foreseen = check_layout(&contents, manifest)
        .and_then(|fitting| check_shared_eraseblocks(&contents, manifest, &fitting, geometry));
    let is_true = match (&foreseen, &found) {
        (Err(foreseen), Err(found)) => foreseen.reason == found.reason,
        (Err(_), Ok(_)) => false,
        (Ok(unknown), Err(found)) => {
            found.reason != Reason::FlashUnsupported || !unknown.is_empty()
        }
        (Ok(_), Ok(_)) => true,
    };
    match is_true {
        true => Ok(()),
        false => Err(format!("the agent foresees {foreseen:?}, the chip has {}", told(&found))),
    }
}
