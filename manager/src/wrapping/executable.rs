//! Updaters: programs for Windows or for the firmware with an image inside.

use std::ops::Range;

use super::WrappingError;
use super::cabinet::{self, Unpacked};
use super::capsule::{self, Capsule};
use super::chip::{self, Found};
use super::foreign::Program;

/// Most places at which a capsule may begin.
const PLACES_MAX: usize = 64;

/// What updaters of known makers have in them, and how their image comes out.
const MAKERS: &[(&[u8], &str)] = &[
    (
        // The start of a compressed section of Dell's containers.
        b"\xaa\xee\xaa\x76\x1b\xec\xbb\x20\xf1\xe6\x51",
        "Dell's, with a packed container (PFS): older ones write their image with /writehdrfile on \
         Windows, others are unpacked with uefi-firmware-parser; or take the .cab of LVFS",
    ),
    (
        b"Inno Setup Setup Data",
        "one of Inno Setup, as Lenovo's are: run it on Windows with /VERYSILENT /DIR=FOLDER \
         /EXTRACT=YES, or unpack it with innoextract, and give the image in the folder",
    ),
    (
        b"S\0o\0f\0t\0P\0a\0q\0",
        "a SoftPaq of HP: run it on Windows with /s /e /f FOLDER, or unpack it with 7z x, and give \
         the image in the folder",
    ),
];

/// Unpacks the only cabinet in the program that has an image, and returns where that begins; `None`
/// where no cabinet is in it.
///
/// # Errors
/// [`WrappingError`] where several have one, or none of those that are there.
pub(super) fn from_cabinet(
    bytes: &[u8],
    program: Program,
    wanted: Option<&str>,
) -> Result<Option<(usize, Unpacked)>, WrappingError> {
    let (mut found, mut first_refusal) = (None, None);
    for start in cabinet::inside(bytes) {
        match (cabinet::unpack(&bytes[start..], wanted), &found) {
            (Ok(_), Some((first, _))) => {
                let all = format!("in the cabinets at 0x{first:x} and 0x{start:x}");
                return Err(WrappingError::SeveralImages { all });
            }
            (Ok(unpacked), None) => found = Some((start, unpacked)),
            (Err(why), _) => {
                first_refusal.get_or_insert((start, why));
            }
        }
    }
    match (found, first_refusal) {
        (None, Some((offset_bytes, why))) => Err(WrappingError::ProgramWithCabinet {
            kind: name(program),
            offset_bytes,
            why: Box::new(why),
        }),
        (found, _) => Ok(found),
    }
}

fn name(program: Program) -> &'static str {
    match program {
        Program::Windows => "Windows",
        Program::Efi => "UEFI",
    }
}

/// Returns where in `bytes` the only image or capsule lies.
///
/// # Errors
/// [`WrappingError`] where there is none, or where several are.
pub(super) fn find(bytes: &[u8], program: Program) -> Result<Found, WrappingError> {
    let mut found = chip::find(bytes);
    if found.is_empty() {
        found = capsules(bytes);
    }
    if found.is_empty() {
        found = chip::runs_of_volumes(bytes);
    }
    match <[Found; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(none) if none.is_empty() => {
            let maker = MAKERS.iter().find(|(mark, _)| memchr::memmem::find(bytes, mark).is_some());
            Err(WrappingError::Program {
                kind: name(program),
                what: maker.map_or(
                    "of no maker known here: unpack it as its maker says, and give the image",
                    |(_, what)| what,
                ),
            })
        }
        Err(several) => Err(WrappingError::SeveralImages {
            all: places(several.iter().map(|found| &found.range)),
        }),
    }
}

/// Returns ranges as a message shows them.
pub(super) fn places<'a>(ranges: impl Iterator<Item = &'a Range<usize>>) -> String {
    let places: Vec<String> =
        ranges.map(|range| format!("0x{:x} bytes at 0x{:x}", range.len(), range.start)).collect();
    places.join(", ")
}

fn capsules(bytes: &[u8]) -> Vec<Found> {
    let found = capsule::places(bytes).take(PLACES_MAX).filter_map(|start| {
        let end = start.checked_add(capsule::stated_bytes(&bytes[start..])?)?;
        let is_whole = matches!(Capsule::find(bytes.get(start..end)?), Ok(Some(_)));
        is_whole.then_some(Found { range: start..end, why: "a whole capsule is in it" })
    });
    found.collect()
}
