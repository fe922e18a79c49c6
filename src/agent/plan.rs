//! What a bundle would change on this machine: `firmcastd plan`. Nothing is changed to find out.

use std::fmt;

use super::doubt;
use super::local_machine::LocalMachine;
use crate::flash::{Flash as _, PlanReport};
use crate::image::{Bundle, VerifiedImage, VerifiedManifest};
use crate::mtd::{Access, Chip};
use crate::reason::{Reason, Refusal, with_causes};

/// Looks at `bundle` and at the chip of `machine`.
///
/// # Errors
/// Why an update with this bundle would be refused.
pub fn plan(machine: &LocalMachine, bundle: &[u8]) -> Result<PlanReport, Refusal> {
    let (manifest, image) = open(machine, bundle)?;
    let mut flash = Chip::open(&machine.flash(), Access::ReadOnly)
        .map_err(|error| Refusal::new(Reason::FlashUnsupported, with_causes(&error)))?;
    let size_bytes = flash.geometry().size_bytes();
    let floor = machine.security_version_floor().unwrap_or(u64::MAX);
    let board = machine.board(size_bytes, machine.host_key().ok().as_ref(), floor);
    board.admit(&manifest)?;
    let good = machine.state.known_good().ok().flatten();
    let device = flash.info().to_string();
    PlanReport::new(&image, &mut flash, device, |contents| {
        doubt::of(contents, good.as_ref(), &board.bios_version)
    })
}

fn open(
    machine: &LocalMachine,
    bytes: &[u8],
) -> Result<(VerifiedManifest, VerifiedImage), Refusal> {
    let malformed = |error: &dyn fmt::Display| Refusal::new(Reason::ManifestMalformed, error);
    let bundle = Bundle::parse(bytes).map_err(|error| malformed(&error))?;
    let manifest = VerifiedManifest::verify(bundle.manifest, &machine.trust.releases)
        .map_err(|error| Refusal::from(&error))?;
    let image = manifest
        .open_payload(bundle.payload)
        .map_err(|error| Refusal::new(Reason::PayloadInvalid, error))?;
    Ok((manifest, image))
}
