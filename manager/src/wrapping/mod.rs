//! Makers' files: what an operator's file is, and the image in it.
//!
//! A maker's file is seldom what the chip holds. [`unwrap`] takes off layer by layer: an archive or
//! updater around it, the header of a capsule, what else stands around the image. Whatever is cut
//! is told, and bytes are cut only where something shows what the image is. What the operator has
//! to decide needs an option; else a sentence says what the file is, and what to do.
//!
//! | file | what it is about |
//! | --- | --- |
//! | `foreign.rs` | files that are no image |
//! | `capsule.rs`, `fmp.rs` | capsules of UEFI, and of the firmware management protocol |
//! | `chip.rs` | sizes of chips; where an image lies in a larger file |
//! | `zip_archive.rs`, `cabinet.rs`, `cabinet_tables.rs`, `metainfo.rs` | archives |
//! | `members.rs` | which member of an archive is the image |
//! | `executable.rs` | updaters |
//!
//! Memory: the file, and one member of it. No path of an archive is ever used.

mod cabinet;
mod cabinet_tables;
mod capsule;
mod chip;
mod error;
mod executable;
mod fields;
mod fmp;
mod foreign;
mod members;
mod metainfo;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod zip_archive;

use std::ops::Range;

pub use cabinet_tables::CabinetError;
pub use capsule::CapsuleError;
pub use chip::is_chip_size;
pub use error::{Refusal, WrappingError};
pub use fmp::FmpError;
pub use metainfo::{Metainfo, MetainfoError, Release};

use capsule::{Capsule, Maker};
use chip::Found;
use foreign::Program;

/// Most archives in one another.
const ARCHIVES_MAX: usize = 2;
/// Most layers of all kinds.
const LAYERS_MAX: usize = 6;

/// What the operator decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Cut the headers of capsules.
    pub strip_capsule: bool,
    /// Cut what stands around the image.
    pub strip_extra: bool,
    /// Take this member of an archive.
    pub member: Option<String>,
    /// The image is of a part of the chip, so its size says nothing.
    pub is_part: bool,
}

/// An image, and what was done to come to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwrapped {
    /// What is left of the file.
    pub image: Vec<u8>,
    /// What was cut, chosen, compared or left unchecked, for the operator.
    pub notes: Vec<String>,
    /// What the maker says of it.
    pub metainfo: Option<Metainfo>,
}

/// What is done with the outermost layer.
enum Layer {
    /// There is none.
    Bare,
    /// The rest is left out.
    Part { range: Range<usize>, note: String },
    /// This was unpacked.
    Member { contents: Vec<u8>, metainfo: Option<Metainfo>, notes: Vec<String> },
}

/// Takes the image out of `file`.
///
/// # Errors
/// [`Refusal`], which says what the file is and what to do.
pub fn unwrap(file: Vec<u8>, options: &Options) -> Result<Unwrapped, Refusal> {
    let mut unwrapped = Unwrapped { image: file, ..Unwrapped::default() };
    match take_off_layers(&mut unwrapped, options) {
        Ok(()) => Ok(unwrapped),
        Err(why) => Err(Refusal { why, metainfo: unwrapped.metainfo.map(Box::new) }),
    }
}

fn take_off_layers(unwrapped: &mut Unwrapped, options: &Options) -> Result<(), WrappingError> {
    let (mut member, mut archives) = (options.member.as_deref(), 0);
    for _ in 0..LAYERS_MAX {
        match outermost(&unwrapped.image, options, member)? {
            Layer::Bare => {
                return match member {
                    Some(name) => Err(WrappingError::NotAnArchive(name.to_owned())),
                    None => Ok(()),
                };
            }
            Layer::Part { range, note } => {
                unwrapped.image.truncate(range.end);
                unwrapped.image.drain(..range.start);
                unwrapped.notes.push(note);
            }
            Layer::Member { contents, metainfo, notes } => {
                archives += 1;
                if archives > ARCHIVES_MAX {
                    return Err(WrappingError::TooDeep { max: ARCHIVES_MAX });
                }
                // The operator named a member of the outermost archive.
                member = None;
                unwrapped.image = contents;
                unwrapped.notes.extend(notes);
                unwrapped.metainfo = metainfo.or_else(|| unwrapped.metainfo.take());
            }
        }
    }
    Err(WrappingError::TooDeep { max: LAYERS_MAX })
}

fn outermost(
    bytes: &[u8],
    options: &Options,
    member: Option<&str>,
) -> Result<Layer, WrappingError> {
    if let Some(sentence) = foreign::sentence(bytes) {
        return Err(WrappingError::NoImage(sentence));
    }
    let program = foreign::program(bytes);
    if cabinet::begins(bytes) {
        return Ok(of_cabinet(cabinet::unpack(bytes, member)?, "the cabinet"));
    }
    if is_archive(bytes) || (program.is_some() && zip_archive::has_end(bytes)) {
        match zip_archive::unpack(bytes, member) {
            // A program that unpacks archives has their marks in its code.
            Err(WrappingError::Archive { .. }) if program.is_some() => {}
            unpacked => {
                let (name, contents) = unpacked?;
                let notes = vec![format!("took {name:?} out of the ZIP archive")];
                return Ok(Layer::Member { contents, metainfo: None, notes });
            }
        }
    }
    if let Some(program) = program {
        return of_program(bytes, program, member);
    }
    if let Some(capsule) = Capsule::find(bytes)? {
        return cut_capsule(bytes, capsule, options);
    }
    if options.is_part || chip::is_chip_size(bytes.len()) {
        return Ok(Layer::Bare);
    }
    cut_extra(bytes, options)
}

fn of_cabinet(unpacked: cabinet::Unpacked, place: &str) -> Layer {
    let cabinet::Unpacked { name, contents, metainfo, notes } = unpacked;
    let notes = [vec![format!("took {name:?} out of {place}")], notes].concat();
    Layer::Member { contents, metainfo, notes }
}

/// Takes what a cabinet in the program holds, else what can be seen in the program itself.
fn of_program(
    bytes: &[u8],
    program: Program,
    member: Option<&str>,
) -> Result<Layer, WrappingError> {
    let refusal = match executable::from_cabinet(bytes, program, member) {
        Ok(Some((start, unpacked))) => {
            let place = format!("the cabinet at 0x{start:x} in the program");
            return Ok(of_cabinet(unpacked, &place));
        }
        Ok(None) => None,
        Err(refusal) if member.is_some() => return Err(refusal),
        Err(refusal) => Some(refusal),
    };
    let Found { range, why } = match (executable::find(bytes, program), refusal) {
        (Err(WrappingError::Program { .. }), Some(refusal)) => return Err(refusal),
        (found, _) => found?,
    };
    let (length_bytes, start) = (range.len(), range.start);
    let note = format!("took 0x{length_bytes:x} bytes at 0x{start:x} out of the program: {why}");
    Ok(Layer::Part { range, note })
}

/// Returns whether an archive begins here.
fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") || cabinet::begins(bytes)
}

fn cut_capsule(bytes: &[u8], capsule: Capsule, options: &Options) -> Result<Layer, WrappingError> {
    let range = match capsule.maker {
        Maker::Fmp => fmp_image(bytes, capsule)?,
        _ => capsule.contents(bytes.len()),
    };
    let (maker, guid) = (capsule.maker.to_string(), capsule.guid.to_string());
    let (header_bytes, rest_bytes) = (range.start, range.len());
    if !options.strip_capsule {
        return Err(WrappingError::Capsule { maker, guid, header_bytes, rest_bytes });
    }
    let note = format!(
        "cut the 0x{header_bytes:x} bytes of a capsule's header ({maker}, GUID {guid}); the \
         capsule's own signature is not checked"
    );
    Ok(Layer::Part { range, note })
}

/// Returns where the only image lies that a capsule of the firmware management protocol carries.
fn fmp_image(bytes: &[u8], capsule: Capsule) -> Result<Range<usize>, WrappingError> {
    let table = &bytes[capsule.header_bytes..];
    let contents = fmp::Contents::read(table)?;
    if let [payload] = &contents.payloads[..] {
        let image = payload.image(table);
        if chip::looks_whole(&table[image.clone()]) {
            return Ok(image.start + capsule.header_bytes..image.end + capsule.header_bytes);
        }
    }
    Err(WrappingError::Fmp { contents: contents.to_string() })
}

fn cut_extra(bytes: &[u8], options: &Options) -> Result<Layer, WrappingError> {
    let found = chip::around(bytes);
    let Found { range, why } = match &found[..] {
        [] => return Ok(Layer::Bare),
        [one] => one.clone(),
        several => {
            let all = executable::places(several.iter().map(|found| &found.range));
            return Err(WrappingError::SeveralImages { all });
        }
    };
    let (before, behind) = (&bytes[..range.start], &bytes[range.end..]);
    let (before_bytes, behind_bytes) = (before.len(), behind.len());
    let (before, behind) = (what_is(before), what_is(behind));
    let (offset_bytes, image_bytes, file_bytes) = (range.start, range.len(), bytes.len());
    if !options.strip_extra {
        return Err(WrappingError::Extra {
            file_bytes,
            image_bytes,
            offset_bytes,
            why,
            before_bytes,
            before,
            behind_bytes,
            behind,
        });
    }
    let note = format!(
        "cut 0x{before_bytes:x} bytes before the image ({before}) and 0x{behind_bytes:x} behind it \
         ({behind}): {why}"
    );
    Ok(Layer::Part { range, note })
}

/// Says what stands beside an image.
fn what_is(bytes: &[u8]) -> &'static str {
    match bytes.first() {
        None => "nothing",
        Some(0xff) if bytes.iter().all(|byte| *byte == 0xff) => "padding of FFh",
        Some(0) if bytes.iter().all(|byte| *byte == 0) => "padding of 00h",
        Some(_) => "other bytes, such as an embedded controller's firmware",
    }
}
